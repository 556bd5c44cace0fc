"""Waits for mmu_lock from the rates of a tick: the plain form of hostsim.costs.mmu_lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

RMAP_LOCK_NS = 10.0
DIGITS = 2  # of a rate that count


class Waits(NamedTuple):
    """Mean waits, ns, of a TDP fault, of a shadow fault, and of an aging step, by others or by a vCPU that reclaims."""

    tdp_fault_ns: float = 0.0
    shadow_fault_ns: float = 0.0
    aging_ns: float = 0.0
    own_aging_ns: float = 0.0


Solve = Callable[[int, float, float, bool], Waits]
"""The waits of so many vCPUs, by the times from a TDP fault and from a shadow fault to the next (0: they have none),
with an aging pass beside them or without."""


def rounded(ns: float) -> float:
    """To the digits that count, and at least 1 ns."""
    return max(float(f"{ns:.{DIGITS}g}"), 1.0)


def waits(
    solve: Solve,
    *,
    vcpus: int,
    tick_ns: int,
    aging_page_ns: float,
    tdp_faults: float,
    shadow_faults: float,
    aging_writes: float,
    rmap_locks: float,
    own_writes: float,
    own_rmap_locks: float,
    rmaps: float,
) -> Waits:
    """The mean waits at these rates: what the VM's own vCPUs do counts for what all but one of them do."""
    to_others = (vcpus - 1) / vcpus
    tdp, shadow = (rounded(vcpus * tick_ns / faults) if faults else 0.0 for faults in (tdp_faults, shadow_faults))
    spin = 0.0
    if shadow:
        rate = (rmap_locks + to_others * own_rmap_locks) / tick_ns
        spin = min(rate * RMAP_LOCK_NS, 1.0) / max(rmaps, 1.0) * RMAP_LOCK_NS
    calm = solve(vcpus, tdp, shadow, False) if shadow and vcpus > 1 else Waits()
    beside = solve(vcpus, tdp, shadow, True) if aging_writes else Waits()
    own = solve(vcpus - 1, tdp, shadow, True) if own_writes and vcpus > 1 else Waits()
    share = min(aging_writes * (aging_page_ns + beside.aging_ns) / tick_ns, 1.0)
    own_share = min(to_others * own_writes * (aging_page_ns + own.aging_ns) / tick_ns, 1.0 - share)
    parts = (share, beside), (own_share, own), (1 - share - own_share, calm)
    return Waits(
        sum(part * waits.tdp_fault_ns for part, waits in parts),
        sum(part * (waits.shadow_fault_ns + spin) for part, waits in parts),
        beside.aging_ns,
        own.aging_ns,
    )
