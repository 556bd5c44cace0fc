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

from coldfleet.hostsim.costs.constants import LOCKED_SHARE, MMU_LOCK_NS, RMAP_LOCK_NS, SHADOW_FAULT_HOLD_NS
from coldfleet.hostsim.costs.qrwlock import Threads
from coldfleet.hostsim.costs.rwlock import solve
from coldfleet.hostsim.spec.calibration import DEFAULT, Calibration

DIGITS = 2  # of a rate that count: rates that differ less share a solution
MOST_HOLD = 0.9  # of a fault's time: a lock can't be held for longer than the fault lasts
# Assumed: of the holders that one more makes of those after it, by longer holds. Beyond, the waits of a tick would go
# up and down, since they follow from the rates of the one before, which they lower.
MOST_LONGER = 0.75


def aging_hold_ns(calibration: Calibration) -> float:
    """How long aging a page holds the lock."""
    return ager(1, calibration.aging_page_ns).hold_ns


def ager(count: int, page_ns: float) -> Threads:
    """Whoever ages page after page under the lock, each in ``page_ns``: part of them before it takes it, part within.

    ``count``: 0 if nobody does.
    """
    return Threads(count, max((1 - LOCKED_SHARE) * page_ns, 1.0), LOCKED_SHARE * page_ns + MMU_LOCK_NS)


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
        tdp_ns, shadow_ns = self._every_ns(self.tdp_faults), self._every_ns(self.shadow_faults)
        calm = _solve(self.vcpus, tdp_ns, shadow_ns, False, self.calibration)
        spin = spin_ns(self.rmaps, self.rmap_locks / self.tick_ns, RMAP_LOCK_NS) if self.shadow_faults else 0.0
        calm = calm._replace(shadow_fault_ns=calm.shadow_fault_ns + spin)
        if not self.aging_writes:
            return calm
        beside = _solve(self.vcpus, tdp_ns, shadow_ns, True, self.calibration)
        page_ns = self.calibration.aging_page_ns + MMU_LOCK_NS
        pass_ns = self.aging_writes * (page_ns + beside.aging_ns)
        share = min(pass_ns / self.tick_ns, 1.0)
        return LockWaits(
            share * beside.tdp_fault_ns + (1 - share) * calm.tdp_fault_ns,
            share * (beside.shadow_fault_ns + spin) + (1 - share) * calm.shadow_fault_ns,
            beside.aging_ns,
        )

    def _every_ns(self, faults: float) -> float:
        """A vCPU's time from one of its faults to the next; 0: it has none."""
        if not faults:
            return 0.0
        return max(float(f"{self.vcpus * self.tick_ns / faults:.{DIGITS}g}"), 1.0)


@lru_cache(maxsize=4096)
def _solve(vcpus: int, tdp_ns: float, shadow_ns: float, aging: bool, calibration: Calibration) -> LockWaits:
    """The waits while an aging pass takes the lock again and again, or while none does.

    A lone vCPU has its TDP faults and its shadow faults one after the other: it does not wait for itself.
    """
    if not aging and (not shadow_ns or vcpus == 1):
        return LockWaits()
    waits = solve(*_sharers(vcpus, tdp_ns, shadow_ns, aging, calibration))
    return LockWaits(waits.reader_wait_ns, waits.writer_wait_ns, waits.ager_wait_ns)


def _sharers(
    vcpus: int, tdp_ns: float, shadow_ns: float, aging: bool, calibration: Calibration
) -> tuple[Threads, Threads, Threads]:
    """Who shares the lock: vCPUs that read, vCPUs that write, and whoever ages.

    ``tdp_ns``, ``shadow_ns``: a vCPU's time from one such fault to the next; 0: it has none. Each other holder makes a
    hold longer, and longer holds make more holders, which is one equation for their number. Only vCPUs count in it: the
    ager is one among many. hostsim.published.access_tracking finds rates and waits together instead, without ticks.
    """
    kinds = [(tdp_ns, calibration.read_hold_ns), (shadow_ns, SHADOW_FAULT_HOLD_NS)]
    others = (vcpus - 1) * sum(hold_ns / every_ns for every_ns, hold_ns in kinds if every_ns)
    longer = (vcpus - 1) * sum(calibration.lock_transfer_ns / every_ns for every_ns, _ in kinds if every_ns)
    others = min(others / (1 - min(longer, MOST_LONGER)), vcpus - 1)
    faulting = []
    for every_ns, alone_ns in kinds:
        hold_ns = min(alone_ns + calibration.lock_transfer_ns * others, MOST_HOLD * (every_ns or 1.0))
        faulting.append(Threads(vcpus if every_ns else 0, (every_ns or 1.0) - hold_ns, hold_ns))
    return faulting[0], faulting[1], ager(int(aging), calibration.aging_page_ns)


def spin_ns(rmaps: float, rate_per_ns: float, hold_ns: float) -> float:
    """Mean ns to wait for an rmap's lock, for whoever shares all of them with one other who holds them for a while.

    That one takes a lock at this rate, any of so many, and holds it for an exponential time: so it has this one with
    the probability rate x hold / rmaps, and will have it for another ``hold_ns``.

    The lock is KVM_RMAP_LOCKED (arch/x86/kvm/mmu/mmu.c since 6.15). Aging without mmu_lock takes it for each gfn that
    the shadow MMU maps, and a shadow fault as it adds an SPTE. Shadow faults exclude each other by mmu_lock, so at most
    one of them meets the one ager, and only at the same of many rmaps.
    """
    return min(rate_per_ns * hold_ns, 1.0) / max(rmaps, 1.0) * hold_ns
