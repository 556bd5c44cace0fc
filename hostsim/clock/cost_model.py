"""What work costs a thread: the engine's counters times hostsim.costs.constants, in whole ps, summed in ns.

Integers make the costs the same on every machine, and exact however often they are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.costs import constants
from coldfleet.hostsim.counters.counters import EVENTS
from coldfleet.hostsim.engine.jit import compiled, inlined
from coldfleet.hostsim.engine.state import CALLS, FLUSHES, LOCKS, MONITOR, SITE_COLUMNS, Machine
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.spec.calibration import DEFAULT, Calibration
from coldfleet.policies import Lock

PS = 1000  # in a ns
ACCESS_TRACK_FAULT_NS = 1000.0  # assumed: an EPT violation that fast_page_fault repairs without mmu_lock

# columns of the costs: ns of work, then counts of what takes a time that changes
FAULT, RECLAIM = range(2)
SWAPPED_IN = 2  # pages
RESTORED = 3  # of those read, pages of the working set
READS, WRITES = 4, 5  # times that faults took mmu_lock
AGING_WRITES = 6  # times that aging took it for write
FAULTS = 7  # of the primary MMU, and violations of the TDP and shadow MMU; their time is in FAULT
WRITE_WAITS = 8  # pages for whose write to end a reclaim waited, ...
FILE_WRITE_WAITS = 9  # ... and of these, pages of files
FILE_PAGES, FILE_REQUESTS = 10, 11  # read from files
AHEAD_PAGES, AHEAD_REQUESTS = 12, 13  # of these, before somebody needed them
THRASHING = 14  # of the requests, those for a page of the working set
SWAP_AHEAD = 15  # of the pages SWAPPED_IN, those that nobody waited for
COSTS = 16  # how many columns there are

_EVENT_NS = {
    FAULT: {
        "access_track_faults": ACCESS_TRACK_FAULT_NS,
        "file_reads": constants.IO_NS,
        "thp_fault_alloc": constants.HUGE_ZERO_NS,
    },
    RECLAIM: {
        "walk_ptes": constants.PTE_NS,
        "pgscan": constants.SCAN_NS,
        "damos_applied": constants.SCAN_NS,
        "pgrefill": constants.SORT_NS,
        "pgactivate": constants.SORT_NS,
        "rmap_walks": constants.RMAP_WALK_NS,
        "thp_split_page": constants.THP_SPLIT_NS,
        "thp_collapse_alloc": constants.COLLAPSE_NS,
        "khugepaged_ptes": constants.PTE_NS,
        "split_sptes": constants.PTE_NS,
        "high_delay_ns": 1.0,
    },
}
"""ns of one of each. A fault of the primary MMU and the violation of the TDP or shadow MMU that led to it are one
fault, and one without the other costs as much (hostsim.costs.constants): their cost is computed separately."""

_COUNTED = {
    SWAPPED_IN: "pswpin",
    SWAP_AHEAD: "swap_ra",
    RESTORED: "workingset_restore_anon",
    READS: "tdp_faults",
    WRITES: "shadow_faults",
    WRITE_WAITS: "reclaim_write_waits",
    FILE_WRITE_WAITS: "reclaim_file_write_waits",
    FILE_PAGES: "file_reads",
    FILE_REQUESTS: "file_read_requests",
    AHEAD_PAGES: "file_readahead_pages",
    AHEAD_REQUESTS: "file_readahead_requests",
    THRASHING: "thrashing_waits",
}
_MMU_WRITE, _RMAP = int(Lock.MMU_WRITE), int(Lock.RMAP)
_NAMES = EVENTS.names or ()
_PGFAULT, _TDP, _SHADOW = (_NAMES.index(name) for name in ("pgfault", "tdp_faults", "shadow_faults"))


class CostModel(NamedTuple):
    """Reads the counters of all guests of a memory: how much they rose since the last reading is what was done.

    ``events``: int64 (guests, EVENTS), ``sites``: int64 (guests, sites x their columns): the memory's own. ``online``:
    int64 (guests,), whose counters may rise; ``absent``: int64 (COSTS,), the totals of the others.
    ``event_costs``, ``site_costs``: int64 (n, 3), rows of a column there, a column of the costs, and ps or a count for
    each. ``fault_ps``: int64 (2,), what a fault costs now, and the rest below a ns of the last reading. ``totals``:
    int64 (COSTS,), ps and counts at the last reading; ``latest``: int64 (COSTS,), ns and counts since the one before.
    """

    events: npt.NDArray[np.int64]
    sites: npt.NDArray[np.int64]
    online: npt.NDArray[np.int64]
    absent: npt.NDArray[np.int64]
    event_costs: npt.NDArray[np.int64]
    site_costs: npt.NDArray[np.int64]
    fault_ps: npt.NDArray[np.int64]
    totals: npt.NDArray[np.int64]
    latest: npt.NDArray[np.int64]


def new_cost_model(
    memory: HostMemory,
    *,
    write_cpu_ns: float,
    scale: float = 1.0,
    free: bool = False,
    calibration: Calibration = DEFAULT,
) -> CostModel:
    """A model that starts to read now. ``scale``: pages that a simulated one stands for. ``free``: all costs are 0."""
    machine = memory.machine
    events, sites = _cost_tables(write_cpu_ns, 0.0 if free else scale, calibration)
    model = CostModel(
        machine.events.view(np.int64).reshape(len(machine.events), -1),
        machine.sites.reshape(len(machine.sites), -1),
        np.ones(len(machine.events), np.int64),
        np.zeros(COSTS, np.int64),
        _rows(events),
        _rows(sites),
        np.array([0 if free else round(calibration.fault_ns * scale * PS), 0]),
        np.zeros(COSTS, np.int64),
        np.zeros(COSTS, np.int64),
    )
    read_costs(model)
    return model


@compiled
def read_costs(model: CostModel) -> None:
    """Fills ``latest`` with the costs of what was done since the last reading."""
    totals, costs = model.totals, model.latest
    for column in range(COSTS):
        costs[column] = -(totals[column] // PS if column <= RECLAIM else totals[column])
        totals[column] = model.absent[column]
    for g in range(len(model.events)):
        if model.online[g]:
            _add_costs(model, g, totals)
    for column in range(COSTS):
        costs[column] += totals[column] // PS if column <= RECLAIM else totals[column]
    fault_ps = costs[FAULTS] * model.fault_ps[0] + model.fault_ps[1]
    costs[FAULT] += fault_ps // PS
    model.fault_ps[1] = fault_ps % PS


@compiled
def _add_costs(model: CostModel, g: int, totals: npt.NDArray[np.int64]) -> None:
    events, sites = model.events[g], model.sites[g]
    totals[FAULTS] += max(events[_TDP] + events[_SHADOW], events[_PGFAULT])
    for i in range(len(model.event_costs)):
        row = model.event_costs[i]
        totals[row[1]] += events[row[0]] * row[2]
    for i in range(len(model.site_costs)):
        row = model.site_costs[i]
        totals[row[1]] += sites[row[0]] * row[2]


@inlined
def aging_locks(m: Machine, g: int) -> tuple[int, int]:
    """How often aging a guest has taken its mmu_lock for write, and locks of its rmaps."""
    writes = rmaps = 0
    for site in range(MONITOR + 1):
        writes += m.sites[g, site, LOCKS + _MMU_WRITE]
        rmaps += m.sites[g, site, LOCKS + _RMAP]
    return writes, rmaps


@compiled
def turn_over(model: CostModel, online: npt.NDArray[np.int64]) -> None:
    """Guests have come or gone, and what was done for that is left out."""
    model.absent[:] = 0
    for g in range(len(online)):
        model.online[g] = online[g]
        if not online[g]:
            _add_costs(model, g, model.absent)
    read_costs(model)


def _cost_tables(
    write_cpu_ns: float, scale: float, calibration: Calibration
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """What one of each counter costs: int64 (events, COSTS) and (sites x their columns, COSTS)."""
    events = np.zeros((len(_NAMES), COSTS), np.int64)
    sites = np.zeros((MONITOR + 1, SITE_COLUMNS, COSTS), np.int64)
    for column, costs in _EVENT_NS.items():
        for name, ns in costs.items():
            events[_NAMES.index(name), column] = round(ns * scale * PS)
    events[_NAMES.index("nested_faults"), FAULT] = round(calibration.nested_fault_ns * scale * PS)
    events[_NAMES.index("pswpout"), RECLAIM] = round(write_cpu_ns * scale * PS)
    sites[:, CALLS, RECLAIM] = round(constants.notifier_call_ns(calibration) * scale * PS)
    sites[:, FLUSHES, RECLAIM] = round(constants.TLB_FLUSH_NS * scale * PS)
    for lock in (Lock.MMU_READ, Lock.MMU_WRITE):
        sites[:, LOCKS + lock, RECLAIM] = round(constants.MMU_LOCK_NS * scale * PS)
    sites[:, LOCKS + Lock.RMAP, RECLAIM] = round(constants.RMAP_LOCK_NS * scale * PS)
    for column, name in _COUNTED.items():
        events[_NAMES.index(name), column] = 1
    sites[:, LOCKS + Lock.MMU_WRITE, AGING_WRITES] = 1
    return events, sites.reshape(-1, COSTS)


def _rows(costs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The costs that are not 0, as rows of a model."""
    where: Sequence[Any] = np.nonzero(costs)
    return np.stack([*where, costs[tuple(where)]], axis=1).astype(np.int64)
