"""User space ages guests and reclaims their memory: after each tick of a guest, as the host's mode says.

What it does to a guest in a tick is a job of some steps, and :func:`next_step` says which. On a clock the aging thread
takes them (hostsim.clock.aging_thread), and may stop between two of them; without one they are taken at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.clock import psi
from coldfleet.hostsim.engine.jit import compiled, spliced
from coldfleet.hostsim.engine.state import MIN_NR_GENS, PARENT_MEMCG, Machine, Record
from coldfleet.hostsim.memory.ground_truth import resident_pages
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.mm import classic, reclaim
from coldfleet.hostsim.spec.host_spec import RECLAIM_MODES, HostSpec

AGE_SWAPPINESS, EVICT_SWAPPINESS = 1, 200  # of the debugfs `+`; of `-`: anonymous memory only
PART_TABLES = 64  # page tables (128 MiB) that an aging walks before it looks at its budget: about 1 ms
SENPAI_RATIO = 0.0005  # of the memory, in a period without pressure (TMO, Weiner et al., ASPLOS 2022, section 3.3)
_DEBUGFS, _AGE, _PRESSURE = (RECLAIM_MODES.index(mode) for mode in ("debugfs", "age", "pressure"))
_FIRST, _BEFORE, _TO_LIMIT, _AT_LIMIT, _AGE_COLD, _TAKE_COLD, _AFTER, _END = range(8)

AGING, RECLAIM, COLD, STATS = 1, 2, 4, 8
"""What a job may have to do: the aging of ``aging_every_ticks``, what the host's mode does in each tick, what it does
in each period, and no more than to read memory.stat, which is part of every job."""

NOTHING, AGE, READ_STATS, EVICT, MEMORY_RECLAIM = range(5)
"""The steps: the job is done; `+` of the debugfs file; memory.stat; `-` of the debugfs file; memory.reclaim, of the
memcg above all guests if that has a limit."""

RULES = np.dtype(
    [
        ("mode", np.int64),  # of RECLAIM_MODES
        ("psi_target", np.float64),  # percent
        ("parent_pages", np.int64),
        ("drains", np.int64),  # what waits in the CPUs' batches goes to its lists before memory.stat is read
        ("part_tables", np.int64),  # page tables that an aging walks at a time; 0: all
    ],
    align=True,
)
"""What stays as it is; hostsim.spec.host_spec.HostSpec has most of it."""

JOB = np.dtype(
    [
        ("due", np.int64),  # what there is to do, of AGING and those after it; 0: there is no job
        ("step", np.int64),  # how far it is, of _FIRST and those after it
        ("limit_pages", np.int64),
        ("force_scan", np.int64),  # of its aging, ...
        ("walks", np.int64),  # ... which is under way, in parts, ...
        ("began_ns", np.int64),  # ... since then, or NOT_BEGUN
        ("pages", np.int64),  # to evict or to reclaim
    ],
    align=True,
)
"""What user space does to one guest."""
NOT_BEGUN = -1
NO_PRESSURE = np.zeros(1, psi.PSI)[0]


class UserSpace(NamedTuple):
    """``rules``: RULES (1,). ``due``: uint8, what is due in each tick of the host. ``jobs``: JOB of each guest.

    ``line``: int64 (guests,), the guests whose jobs wait for the aging thread, a ring; ``waiting``: int64 (2,), where
    it begins, and how many they are.
    """

    rules: npt.NDArray[Any]
    due: npt.NDArray[np.uint8]
    jobs: npt.NDArray[Any]
    line: npt.NDArray[np.int64]
    waiting: npt.NDArray[np.int64]


def new_user_space(spec: HostSpec) -> UserSpace:
    """What user space does to the guests of a host, with nothing done yet."""
    part_tables = PART_TABLES if spec.clock else 0
    rules = RECLAIM_MODES.index(spec.mode), spec.psi_target, spec.parent_pages, spec.scenario, part_tables
    jobs = np.zeros(len(spec.guests), JOB)
    jobs["limit_pages"] = [guest.limit_pages for guest in spec.guests]
    jobs["began_ns"] = NOT_BEGUN
    line = np.zeros(len(jobs), np.int64)
    return UserSpace(np.array([rules], RULES), _due(spec), jobs, line, np.zeros(2, np.int64))


def _due(spec: HostSpec) -> npt.NDArray[np.uint8]:
    """What is due in each tick. In the first, which populates, that is only to bring all guests together to a limit."""
    due = np.zeros(spec.ticks + 1, np.uint8)
    if spec.aging_every_ticks:
        due[spec.aging_every_ticks :: spec.aging_every_ticks] |= AGING
    if spec.mode in ("proactive", "debugfs"):
        due[1:] |= STATS if spec.parent_pages and spec.mode == "debugfs" else RECLAIM
        due[0] |= RECLAIM if spec.parent_pages and spec.mode == "proactive" else 0
    elif spec.mode in ("age", "pressure"):
        due[spec.period_ticks :: spec.period_ticks] |= STATS if spec.parent_pages else COLD
    if spec.scenario:
        due |= STATS
    return due


def act(memory: HostMemory, u: UserSpace, g: int, tick: int) -> None:
    """All that user space does to a guest after a tick, where nothing takes time and so makes no pressure."""
    if not u.due[tick]:
        memory.flush_stats()
        return
    u.jobs[g]["due"] = u.due[tick]
    while (step := next_step(memory.machine, u, g, NO_PRESSURE)) != NOTHING:
        take_step_outside(memory, u, g, step)


@compiled
def next_step(m: Machine, u: UserSpace, g: int, pressure: Record) -> int:
    """The next step of a guest's job. ``pressure``: PSI of its memory.

    Nobody ages a guest that was killed, or reclaims its memory.
    """
    rules, job = u.rules[0], u.jobs[g]
    if job.walks:
        return AGE
    while True:
        step = job.step
        job.step += 1
        if step == _FIRST:
            if m.mms[g].exited:
                job.due &= STATS | (RECLAIM if rules.parent_pages else 0)
            if not (job.limit_pages or rules.parent_pages):
                job.due &= ~RECLAIM
            if job.due & AGING:
                job.force_scan = 0
                return AGE
        elif step in (_BEFORE, _AFTER):
            return READ_STATS
        elif step == _TO_LIMIT and job.due & RECLAIM:
            job.pages = _surplus(m, rules, job, g)
            if rules.mode == _DEBUGFS:
                job.force_scan = 1
                return AGE
        elif step == _AT_LIMIT and job.due & RECLAIM and job.pages > 0:
            return EVICT if rules.mode == _DEBUGFS else MEMORY_RECLAIM
        elif step == _AGE_COLD and job.due & COLD and rules.mode == _AGE:
            job.force_scan = 1
            return AGE
        elif step == _TAKE_COLD and job.due & COLD:
            job.pages = in_memory(m, g)
            if rules.mode == _PRESSURE:
                calm = 1 - psi.some_since_last(pressure) / rules.psi_target
                job.pages = int(np.rint(job.pages * SENPAI_RATIO * calm))
            if job.pages > 0:
                return MEMORY_RECLAIM if rules.mode == _PRESSURE else EVICT
        elif step == _END:
            job.due = job.step = 0
            return NOTHING


@compiled
def in_memory(m: Machine, g: int) -> int:
    """Pages of a guest's memslot and of its file that are in memory."""
    return resident_pages(m, g) + m.events[g].cached_pages


@spliced
def _surplus(m: Machine, rules: Record, job: Record, g: int) -> int:
    """Pages in memory beyond the limit, of the guest or of all together."""
    if not rules.parent_pages:
        return in_memory(m, g) - job.limit_pages
    pages = -rules.parent_pages
    for guest in range(len(m.mms)):
        pages += in_memory(m, guest)
    return pages


@spliced
def take_step(m: Machine, u: UserSpace, g: int, step: int) -> None:
    """Takes a step that :func:`next_step` has named, an aging at once."""
    rules, job = u.rules[0], u.jobs[g]
    if step == AGE:
        reclaim.debugfs_age(m, g, AGE_SWAPPINESS, job.force_scan != 0)
    elif step == READ_STATS:
        if rules.drains:
            for cpu in range(len(m.cpus)):
                classic.lru_add_drain(m, cpu)
        if not m.features[0].lru_gen:
            classic.flush_stats(m)
    elif step == EVICT:
        reclaim.debugfs_evict(m, g, m.lruvecs[g].max_seq - MIN_NR_GENS, EVICT_SWAPPINESS, job.pages)
    elif step == MEMORY_RECLAIM:
        reclaim.memory_reclaim(m, PARENT_MEMCG if rules.parent_pages else g, job.pages)


def take_step_outside(memory: HostMemory, u: UserSpace, g: int, step: int) -> None:
    """The same from Python, which may watch."""
    rules, job = u.rules[0], u.jobs[g]
    pages = int(job["pages"])
    if step == AGE:
        memory.age(g, AGE_SWAPPINESS, bool(job["force_scan"]))
    elif step == READ_STATS:
        if rules["drains"]:
            memory.drain()
        memory.flush_stats()
    elif step == EVICT:
        memory.evict(g, int(memory.lruvec(g)["max_seq"]) - MIN_NR_GENS, EVICT_SWAPPINESS, pages)
    elif rules["parent_pages"]:
        memory.memory_reclaim_parent(pages)
    else:
        memory.memory_reclaim(g, pages)
