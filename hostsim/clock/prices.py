"""What work costs a thread: the engine's counters times hostsim.costs.constants, in whole ps, summed in ns.

Integers make the bill the same on every machine, and exact however often it is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.costs import constants
from coldfleet.hostsim.counters.counters import EVENTS
from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.engine.state import CALLER, CALLS, FLUSHES, LOCKS, SITE_COLUMNS
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.spec.calibration import DEFAULT, Calibration
from coldfleet.policies import Lock

PS = 1000  # in a ns
ACCESS_TRACK_FAULT_NS = 1000.0  # assumed: an EPT violation that fast_page_fault repairs without mmu_lock

# of a bill: ns of work, then counts of what takes a time that changes
FAULT, RECLAIM = range(2)
SWAPPED_IN = 2  # pages
RESTORED = 3  # of those read, pages of the working set
READS, WRITES = 4, 5  # times that faults took mmu_lock
AGING_WRITES = 6  # times that aging took it for write
FAULTS = 7  # of the primary MMU, and violations of the TDP and shadow MMU; their time is in FAULT
WRITE_WAITS = 8  # pages for whose write to end a reclaim waited
BILL = 9

_EVENT_NS = {
    FAULT: {
        "access_track_faults": ACCESS_TRACK_FAULT_NS,
        "file_reads": constants.IO_NS,
    },
    RECLAIM: {
        "walk_ptes": constants.PTE_NS,
        "pgscan": constants.SCAN_NS,
        "pgrefill": constants.SORT_NS,
        "pgactivate": constants.SORT_NS,
    },
}
"""ns of one of each. A fault of the primary MMU and the violation of the TDP or shadow MMU that led to it are one
fault, and one without the other costs as much (hostsim.costs.constants): they are priced apart."""

_COUNTED = {
    SWAPPED_IN: "pswpin",
    RESTORED: "workingset_restore_anon",
    READS: "tdp_faults",
    WRITES: "shadow_faults",
    WRITE_WAITS: "reclaim_write_waits",
}
_NAMES = EVENTS.names or ()
_PGFAULT, _TDP, _SHADOW = (_NAMES.index(name) for name in ("pgfault", "tdp_faults", "shadow_faults"))


class Meter(NamedTuple):
    """Reads the counters of all guests of a memory: whoever worked since the last reading has the bill.

    ``events``: int64 (guests, EVENTS), ``sites``: int64 (guests, sites x their columns): the memory's own.
    ``event_prices``, ``site_prices``: int64 (n, 3) rows of a column there, one of the bill, and ps or a count for each.
    ``fault_ps``: int64 (2,), what a fault costs now, and what is left over of the last bill. ``totals``: int64 (BILL,)
    at the last reading, ps and counts; ``bill``: what it read.
    """

    events: npt.NDArray[np.int64]
    sites: npt.NDArray[np.int64]
    event_prices: npt.NDArray[np.int64]
    site_prices: npt.NDArray[np.int64]
    fault_ps: npt.NDArray[np.int64]
    totals: npt.NDArray[np.int64]
    bill: npt.NDArray[np.int64]


def new_meter(
    memory: HostMemory,
    *,
    write_cpu_ns: float,
    scale: float = 1.0,
    free: bool = False,
    calibration: Calibration = DEFAULT,
) -> Meter:
    """A meter that starts to read now. ``scale``: what one page of the simulation stands for. ``free``: all is free."""
    machine = memory.machine
    events, sites = _prices(write_cpu_ns, 0.0 if free else scale, calibration)
    meter = Meter(
        machine.events.view(np.int64).reshape(len(machine.events), -1),
        machine.sites.reshape(len(machine.sites), -1),
        _rows(events),
        _rows(sites),
        np.array([0 if free else round(calibration.fault_ns * scale * PS), 0]),
        np.zeros(BILL, np.int64),
        np.zeros(BILL, np.int64),
    )
    read_meter(meter)
    return meter


@compiled
def read_meter(meter: Meter) -> None:
    """Fills ``bill`` with what was done since the last reading."""
    totals, bill = meter.totals, meter.bill
    for column in range(BILL):
        bill[column] = -(totals[column] // PS if column <= RECLAIM else totals[column])
        totals[column] = 0
    for g in range(len(meter.events)):
        events, sites = meter.events[g], meter.sites[g]
        totals[FAULTS] += max(events[_TDP] + events[_SHADOW], events[_PGFAULT])
        for i in range(len(meter.event_prices)):
            price = meter.event_prices[i]
            totals[price[1]] += events[price[0]] * price[2]
        for i in range(len(meter.site_prices)):
            price = meter.site_prices[i]
            totals[price[1]] += sites[price[0]] * price[2]
    for column in range(BILL):
        bill[column] += totals[column] // PS if column <= RECLAIM else totals[column]
    fault_ps = bill[FAULTS] * meter.fault_ps[0] + meter.fault_ps[1]
    bill[FAULT] += fault_ps // PS
    meter.fault_ps[1] = fault_ps % PS


def _prices(
    write_cpu_ns: float, scale: float, calibration: Calibration
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """int64 (events, columns of a bill) and (sites x their columns, columns of a bill)."""
    events = np.zeros((len(_NAMES), BILL), np.int64)
    sites = np.zeros((CALLER + 1, SITE_COLUMNS, BILL), np.int64)
    for column, prices in _EVENT_NS.items():
        for name, ns in prices.items():
            events[_NAMES.index(name), column] = round(ns * scale * PS)
    events[_NAMES.index("pswpout"), RECLAIM] = round(write_cpu_ns * scale * PS)
    sites[:, CALLS, RECLAIM] = round(constants.notifier_call_ns(calibration) * scale * PS)
    sites[:, FLUSHES, RECLAIM] = round(constants.TLB_FLUSH_NS * scale * PS)
    for lock in (Lock.MMU_READ, Lock.MMU_WRITE):
        sites[:, LOCKS + lock, RECLAIM] = round(constants.MMU_LOCK_NS * scale * PS)
    sites[:, LOCKS + Lock.RMAP, RECLAIM] = round(constants.RMAP_LOCK_NS * scale * PS)
    for column, name in _COUNTED.items():
        events[_NAMES.index(name), column] = 1
    sites[:, LOCKS + Lock.MMU_WRITE, AGING_WRITES] = 1
    return events, sites.reshape(-1, BILL)


def _rows(prices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The prices that are not 0, as rows of a meter."""
    where: Sequence[Any] = np.nonzero(prices)
    return np.stack([*where, prices[tuple(where)]], axis=1).astype(np.int64)
