"""What waiting for mmu_lock costs a VM's vCPUs and the thread that ages it, from the rates of the last tick.

TDP faults read, shadow faults write, and so does an aging step under ``W()``. An aging pass takes the lock for page
after page, so there are two kinds of time: while a pass is under way, and the rest. Each is a steady state of
hostsim.rwlock; the means of a tick are weighted with how long each lasts. Aging without mmu_lock takes the locks of
rmaps instead, at which shadow faults can meet it (hostsim.rmap_lock).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hostsim.calibration import DEFAULT, Calibration
from hostsim.costs import PTE_NS, RMAP_LOCK_NS, SHADOW_FAULT_HOLD_NS, notifier_call_ns
from hostsim.machine import HostMemory
from hostsim.notifier import LOCKS
from hostsim.rmap_lock import spin_ns
from hostsim.rwlock import Threads, solve
from hostsim.state import SHADOW_MAPPED
from policies import Lock, Site

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
        if not self.shadow_faults and not self.aging_writes:
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
    """The waits while an aging pass takes the lock again and again, or while none does."""
    if not shadow_think_ns and not aging:
        return LockWaits()
    tdp = Threads(vcpus if tdp_think_ns else 0, tdp_think_ns or 1.0, calibration.read_hold_ns)
    shadow = Threads(vcpus if shadow_think_ns else 0, shadow_think_ns or 1.0, SHADOW_FAULT_HOLD_NS)
    waits = solve(tdp, shadow, Threads(int(aging), PTE_NS, aging_hold_ns(calibration)))
    return LockWaits(waits.reader_wait_ns, waits.writer_wait_ns, waits.ager_wait_ns)


class MmuLocks:
    """The locks of a host's VMs: how long everybody waits at the rates of the last tick.

    ``scale``: what one event of the simulation stands for.
    """

    def __init__(
        self, memory: HostMemory, vcpus: list[int], scale: float = 1.0, calibration: Calibration = DEFAULT
    ) -> None:
        self._scale = scale
        self._calibration = calibration
        self.aging_hold_ns = aging_hold_ns(calibration)
        self._memory = memory
        self._vcpus = vcpus
        self._before = self._counts()
        self.waits = [LockWaits()] * len(vcpus)
        self.aging_writes = [0] * len(vcpus)

    def start(self) -> None:
        """Time begins."""
        self._before = self._counts()

    def end_tick(self, tick_ns: int) -> None:
        """The rates of the tick that ends are those of the next."""
        counts = self._counts()
        for g, taken in enumerate((counts - self._before).tolist()):
            tdp, shadow, aging, rmap_locks = (count * self._scale for count in taken)
            rmaps = self._rmaps(g) if rmap_locks and shadow else 0.0
            rates = LockRates(
                self._vcpus[g], tick_ns, tdp, shadow, aging, rmap_locks, rmaps, calibration=self._calibration
            )
            self.waits[g] = rates.waits()
            self.aging_writes[g] = taken[2]
        self._before = counts

    def _rmaps(self, guest: int) -> float:
        """Of a guest, those that have an SPTE."""
        words = self._memory.machine.bits[self._memory.words(guest), SHADOW_MAPPED]
        return float(np.bitwise_count(words).sum()) * self._scale

    def _counts(self) -> npt.NDArray[np.int64]:
        """int64 (guests, 4): TDP faults, shadow faults, and locks that aging took: mmu_lock for write, rmaps'."""
        events = self._memory.machine.events
        locks = self._memory.machine.sites[:, : len(Site), LOCKS:].sum(axis=1)
        return np.stack(
            [events["tdp_faults"], events["shadow_faults"], locks[:, Lock.MMU_WRITE], locks[:, Lock.RMAP]], axis=1
        )
