"""What waiting for mmu_lock costs a VM's vCPUs and the thread that ages it, from the rates of the last tick.

TDP faults read, shadow faults write, and so does an aging step under ``W()``. An aging pass takes the lock for page
after page, so there are two kinds of time: while a pass is under way, and the rest. Each is a steady state of
hostsim.costs.rwlock; the means of a tick are weighted with how long each lasts. Aging without mmu_lock takes the locks
of rmaps instead, at which shadow faults can meet it (hostsim.costs.mmu_lock).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from coldfleet.hostsim.costs.constants import PTE_NS, RMAP_LOCK_NS, SHADOW_FAULT_HOLD_NS, notifier_call_ns
from coldfleet.hostsim.costs.qrwlock import Threads
from coldfleet.hostsim.costs.rwlock import solve
from coldfleet.hostsim.spec.calibration import DEFAULT, Calibration

DIGITS = 2  # of a rate that count: rates that differ less share a solution


def aging_hold_ns(calibration: Calibration) -> float:
    """How long aging a page holds the lock: for its look-up."""
    return max(notifier_call_ns(calibration), 1.0)


class LockWaits(NamedTuple):
    """Mean waits, ns, of a TDP fault, of a shadow fault, and of an aging step."""

    tdp_fault_ns: float = 0.0
    shadow_fault_ns: float = 0.0
    aging_ns: float = 0.0


@dataclass(frozen=True)
class LockRates:
    """How often a VM's ``vcpus`` and an aging pass took its mmu_lock in a tick of ``tick_ns``.

    ``rmap_locks``: times that aging took the lock of one of the VM's ``rmaps``.
    """

    vcpus: int
    tick_ns: int
    tdp_faults: float
    shadow_faults: float
    aging_writes: float
    rmap_locks: float = 0.0
    rmaps: float = 0.0
    calibration: Calibration = DEFAULT

    def waits(self) -> LockWaits:
        """The mean waits at these rates."""
        if not self.aging_writes and not (self.shadow_faults and (self.vcpus > 1 or self.rmap_locks)):
            return LockWaits()
        tdp_think_ns = self._think_ns(self.tdp_faults)
        shadow_think_ns = self._think_ns(self.shadow_faults)
        calm = _solve(self.vcpus, tdp_think_ns, shadow_think_ns, False, self.calibration)
        spin = spin_ns(self.rmaps, self.rmap_locks / self.tick_ns, RMAP_LOCK_NS) if self.shadow_faults else 0.0
        calm = calm._replace(shadow_fault_ns=calm.shadow_fault_ns + spin)
        if not self.aging_writes:
            return calm
        beside = _solve(self.vcpus, tdp_think_ns, shadow_think_ns, True, self.calibration)
        pass_ns = self.aging_writes * (PTE_NS + aging_hold_ns(self.calibration) + beside.aging_ns)
        share = min(pass_ns / self.tick_ns, 1.0)
        return LockWaits(
            share * beside.tdp_fault_ns + (1 - share) * calm.tdp_fault_ns,
            share * (beside.shadow_fault_ns + spin) + (1 - share) * calm.shadow_fault_ns,
            beside.aging_ns,
        )

    def _think_ns(self, faults: float) -> float:
        """A vCPU's time between two of its faults; 0: it has none."""
        if not faults:
            return 0.0
        return max(float(f"{self.vcpus * self.tick_ns / faults:.{DIGITS}g}"), 1.0)


@lru_cache(maxsize=4096)
def _solve(vcpus: int, tdp_think_ns: float, shadow_think_ns: float, aging: bool, calibration: Calibration) -> LockWaits:
    """The waits while an aging pass takes the lock again and again, or while none does.

    A lone vCPU has its TDP faults and its shadow faults one after the other: it does not wait for itself.
    """
    if not aging and (not shadow_think_ns or vcpus == 1):
        return LockWaits()
    tdp = Threads(vcpus if tdp_think_ns else 0, tdp_think_ns or 1.0, calibration.read_hold_ns)
    shadow = Threads(vcpus if shadow_think_ns else 0, shadow_think_ns or 1.0, SHADOW_FAULT_HOLD_NS)
    waits = solve(tdp, shadow, Threads(int(aging), PTE_NS, aging_hold_ns(calibration)))
    return LockWaits(waits.reader_wait_ns, waits.writer_wait_ns, waits.ager_wait_ns)


def spin_ns(rmaps: float, rate_per_ns: float, hold_ns: float) -> float:
    """Mean ns to wait for an rmap's lock, for whoever shares all of them with one other who holds them for a while.

    That one takes a lock at this rate, any of so many, and holds it for an exponential time: so it has this one with
    the probability rate x hold / rmaps, and will have it for another ``hold_ns``.

    The lock is KVM_RMAP_LOCKED (arch/x86/kvm/mmu/mmu.c since 6.15). Aging without mmu_lock takes it for each gfn that
    the shadow MMU maps, and a shadow fault as it adds an SPTE. Shadow faults exclude each other by mmu_lock, so at most
    one of them meets the one ager, and only at the same of many rmaps.
    """
    return min(rate_per_ns * hold_ns, 1.0) / max(rmaps, 1.0) * hold_ns
