"""The PID controller: which type to evict, and which tiers of it to protect (mm/vmscan.c, class A and B)."""

from __future__ import annotations

from hostsim.jit import inlined
from hostsim.state import ANON, FILE, MAX_NR_TIERS, MIN_LRU_BATCH, Record

MAX_SWAPPINESS = 200
FILE_TIER_GAIN = 2  # a tier must refault twice as much as tier 0 to be protected (get_tier_idx)


@inlined
def _refaults(lruvec: Record, kind: int, tier: int) -> int:
    return lruvec.avg_refaulted[kind, tier] + lruvec.refaulted[kind, tier]


@inlined
def _total(lruvec: Record, kind: int, tier: int) -> int:
    total = lruvec.avg_total[kind, tier] + lruvec.evicted[kind, tier]
    if tier > 0:
        total += lruvec.protected[kind, tier]
    return total


@inlined
def _may_evict(lruvec: Record, sp_kind: int, sp_gain: int, kind: int, tier: int, gain: int) -> bool:
    """positive_ctrl_err: the tier refaults no more, in proportion, than the set point (tier 0 of sp_kind)."""
    refaulted = _refaults(lruvec, kind, tier)
    return refaulted < MIN_LRU_BATCH or (
        refaulted * (_total(lruvec, sp_kind, 0) + MIN_LRU_BATCH) * sp_gain
        <= (_refaults(lruvec, sp_kind, 0) + 1) * _total(lruvec, kind, tier) * gain
    )


@inlined
def tier_limit(lruvec: Record, sp_kind: int, sp_gain: int, kind: int, gain: int) -> int:
    """The highest tier of a type that may be evicted, judged against tier 0 of ``sp_kind``."""
    tier = 1
    while tier < MAX_NR_TIERS and _may_evict(lruvec, sp_kind, sp_gain, kind, tier, gain):
        tier += 1
    return tier - 1


@inlined
def choose_type(lruvec: Record, swappiness: int) -> tuple[int, int]:
    """get_type_to_scan: the type to evict from, and the highest tier of it that is not protected."""
    if swappiness == 0:
        return FILE, tier_limit(lruvec, FILE, 1, FILE, FILE_TIER_GAIN)
    if lruvec.min_seq[ANON] < lruvec.min_seq[FILE]:
        return ANON, tier_limit(lruvec, ANON, 1, ANON, FILE_TIER_GAIN)
    if swappiness == 1:
        return FILE, tier_limit(lruvec, FILE, 1, FILE, FILE_TIER_GAIN)
    if swappiness >= MAX_SWAPPINESS:
        return ANON, tier_limit(lruvec, ANON, 1, ANON, FILE_TIER_GAIN)
    anon_gain = swappiness
    file_gain = MAX_SWAPPINESS - swappiness
    if _may_evict(lruvec, ANON, anon_gain, FILE, 0, file_gain):
        return FILE, tier_limit(lruvec, ANON, anon_gain, FILE, file_gain)
    return ANON, tier_limit(lruvec, FILE, file_gain, ANON, anon_gain)
