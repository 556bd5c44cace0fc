"""What work costs a thread: the engine's counters times the constants of hostsim.costs, in whole ps, summed in ns.

Integers make the bill the same on every machine, and exact however often it is taken.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hostsim import costs
from hostsim.calibration import DEFAULT, Calibration
from hostsim.counters import EVENTS
from hostsim.machine import HostMemory
from hostsim.notifier import CALLS, FLUSHES, LOCKS, SITE_COLUMNS
from hostsim.state import CALLER
from policies import Lock, Site

PS = 1000  # in a ns
ACCESS_TRACK_FAULT_NS = 1000.0  # assumed: an EPT violation that fast_page_fault repairs without mmu_lock

# columns of a bill beside the causes FAULT and RECLAIM, which are ps: counts
_FAULT, _RECLAIM, _SWAPPED_IN, _SWAPPED_OUT, _RESTORED, _READS, _WRITES, _AGING_WRITES = range(8)

_EVENT_NS = {
    _FAULT: {
        "access_track_faults": ACCESS_TRACK_FAULT_NS,
        "file_reads": costs.IO_NS,
    },
    _RECLAIM: {
        "walk_ptes": costs.PTE_NS,
        "pgscan": costs.SCAN_NS,
        "pgrefill": costs.SORT_NS,
        "pgactivate": costs.SORT_NS,
    },
}
"""ns of one of each. A fault of the primary MMU and the violation of the TDP or shadow MMU that led to it are one
fault, and one without the other costs as much (hostsim.costs): they are priced apart."""


class Bill(NamedTuple):
    """What was done since the last bill: work in ns, and counts of what takes a time that changes.

    ``swapped_in``, ``swapped_out``: pages; ``restored``: of those read, pages of the working set. ``reads``,
    ``writes``: times that faults took mmu_lock; ``aging_writes``: times that aging took it for write.
    """

    fault_ns: int
    reclaim_ns: int
    swapped_in: int
    swapped_out: int
    restored: int
    reads: int
    writes: int
    aging_writes: int


class Meter:
    """Reads the counters of all guests of a host: whoever worked since the last reading has the bill.

    ``scale``: what one page of the simulation stands for. ``free``: all prices are 0.
    """

    def __init__(
        self,
        memory: HostMemory,
        *,
        write_cpu_ns: float,
        scale: float = 1.0,
        free: bool = False,
        calibration: Calibration = DEFAULT,
    ) -> None:
        machine = memory.machine
        self._machine = machine
        self._fault_ps = 0 if free else round(calibration.fault_ns * scale * PS)
        self._events = machine.events.view(np.int64).reshape(len(machine.events), -1)
        self._sites = machine.sites.reshape(len(machine.sites), -1)
        self._event_prices, self._site_prices = _prices(write_cpu_ns, scale, free, calibration)
        self._last = self._totals()

    def read(self) -> Bill:
        """The bill since the last reading."""
        totals = self._totals()
        work = [int(now // PS - last // PS) for now, last in zip(totals[:2], self._last[:2], strict=True)]
        counts = totals[2:] - self._last[2:]
        self._last = totals
        return Bill(*work, *(int(count) for count in counts))

    def _totals(self) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = (
            self._events.sum(axis=0) @ self._event_prices + self._sites.sum(axis=0) @ self._site_prices
        )
        events = self._machine.events
        violations = events["tdp_faults"] + events["shadow_faults"]
        found[_FAULT] += np.maximum(violations, events["pgfault"]).sum() * self._fault_ps
        return found


def _prices(
    write_cpu_ns: float, scale: float, free: bool, calibration: Calibration
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """int64 (events, columns of a bill) and (sites x their columns, columns of a bill)."""
    names = list(EVENTS.names or ())
    events = np.zeros((len(names), len(Bill._fields)), np.int64)
    sites = np.zeros((CALLER + 1, SITE_COLUMNS, len(Bill._fields)), np.int64)
    for column, prices in _EVENT_NS.items():
        for name, ns in prices.items():
            events[names.index(name), column] = round(ns * scale * PS)
    events[names.index("pswpout"), _RECLAIM] = round(write_cpu_ns * scale * PS)
    sites[:, CALLS, _RECLAIM] = round(costs.notifier_call_ns(calibration) * scale * PS)
    sites[:, FLUSHES, _RECLAIM] = round(costs.TLB_FLUSH_NS * scale * PS)
    for lock in (Lock.MMU_READ, Lock.MMU_WRITE):
        sites[:, LOCKS + lock, _RECLAIM] = round(costs.MMU_LOCK_NS * scale * PS)
    sites[:, LOCKS + Lock.RMAP, _RECLAIM] = round(costs.RMAP_LOCK_NS * scale * PS)
    if free:
        events[:] = 0
        sites[:] = 0
    for name, column in (
        ("pswpin", _SWAPPED_IN),
        ("pswpout", _SWAPPED_OUT),
        ("workingset_restore_anon", _RESTORED),
        ("tdp_faults", _READS),
        ("shadow_faults", _WRITES),
    ):
        events[names.index(name), column] = 1
    sites[: len(Site), LOCKS + Lock.MMU_WRITE, _AGING_WRITES] = 1
    return events, sites.reshape(-1, len(Bill._fields))
