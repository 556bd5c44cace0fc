"""Waits for mmu_lock from the rates of a tick: the plain form of hostsim.costs.mmu_lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

RMAP_LOCK_NS = 10.0
DIGITS = 2  # of a rate that count


class Waits(NamedTuple):
    """Mean waits, ns, of a TDP fault, of a shadow fault, and of an aging step."""

    tdp_fault_ns: float = 0.0
    shadow_fault_ns: float = 0.0
    aging_ns: float = 0.0


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
    rmaps: float,
) -> Waits:
    """The mean waits at these rates."""
    if not aging_writes and not (shadow_faults and (vcpus > 1 or rmap_locks)):
        return Waits()
    tdp, shadow = (rounded(vcpus * tick_ns / faults) if faults else 0.0 for faults in (tdp_faults, shadow_faults))
    calm = solve(vcpus, tdp, shadow, False) if shadow and vcpus > 1 else Waits()
    spin = min(rmap_locks / tick_ns * RMAP_LOCK_NS, 1.0) / max(rmaps, 1.0) * RMAP_LOCK_NS if shadow_faults else 0.0
    calm = calm._replace(shadow_fault_ns=calm.shadow_fault_ns + spin)
    if not aging_writes:
        return calm
    beside = solve(vcpus, tdp, shadow, True)
    pass_ns = aging_writes * (aging_page_ns + beside.aging_ns)
    share = min(pass_ns / tick_ns, 1.0)
    return Waits(
        share * beside.tdp_fault_ns + (1 - share) * calm.tdp_fault_ns,
        share * (beside.shadow_fault_ns + spin) + (1 - share) * calm.shadow_fault_ns,
        beside.aging_ns,
    )
