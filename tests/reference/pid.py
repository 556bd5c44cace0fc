"""The PID controller that compares refault rates of types and tiers (section 7.4.1)."""

from __future__ import annotations

from .constants import MAX_NR_TIERS, MIN_LRU_BATCH


class TypeStats:
    """Refault statistics of one page type; index = tier."""

    def __init__(self) -> None:
        self.avg_refaulted = [0] * MAX_NR_TIERS
        self.avg_total = [0] * MAX_NR_TIERS
        self.refaulted = [0] * MAX_NR_TIERS
        self.evicted = [0] * MAX_NR_TIERS
        self.protected = [0] * MAX_NR_TIERS

    def carry_over(self) -> None:
        """The oldest generation is gone: halve the history, start counting afresh."""
        for tier in range(MAX_NR_TIERS):
            self.avg_refaulted[tier] = (self.avg_refaulted[tier] + self.refaulted[tier]) // 2
            self.avg_total[tier] = (self.avg_total[tier] + self.evicted[tier] + self.protected[tier]) // 2
            self.refaulted[tier] = self.evicted[tier] = self.protected[tier] = 0

    def position(self, tiers: range, gain: int) -> tuple[int, int, int]:
        """(refaulted, total, gain) summed over tiers."""
        refaulted = sum(self.avg_refaulted[t] + self.refaulted[t] for t in tiers)
        total = sum(self.avg_total[t] + self.evicted[t] + self.protected[t] for t in tiers)
        return refaulted, total, gain


def positive(setpoint: tuple[int, int, int], variable: tuple[int, int, int]) -> bool:
    """True when the process variable refaults no more than the set point allows."""
    sp_refaulted, sp_total, sp_gain = setpoint
    pv_refaulted, pv_total, pv_gain = variable
    return (
        pv_refaulted < MIN_LRU_BATCH
        or pv_refaulted * (sp_total + MIN_LRU_BATCH) * sp_gain <= (sp_refaulted + 1) * pv_total * pv_gain
    )


def tier_limit(stats: TypeStats, setpoint: tuple[int, int, int], gain: int) -> int:
    """The highest tier that is not protected."""
    for tier in range(1, MAX_NR_TIERS):
        if not positive(setpoint, stats.position(range(tier, tier + 1), gain)):
            return tier - 1
    return MAX_NR_TIERS - 1
