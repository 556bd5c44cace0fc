"""Pressure stall information of memory and of io, as kernel/sched/psi.c computes it.

A task is stalled on memory while it reclaims directly, and while it waits for a page of its working set to be swapped
in or read from its file (psi_memstall_enter in mm/memcontrol.c, in mm/page_io.c swap_read_folio and in mm/filemap.c
folio_wait_bit_common if folio_test_workingset). It is stalled on io while it waits for any page of a device
(io_schedule); zram is none: the CPU itself does the work. Of the tasks of one CPU, "some" is the time in which at least
one is stalled, "full" that in which one is and none runs productively; a task that waits for the CPU counts as running,
and one that waits for a device doesn't. CPUs are weighted by the time in which they weren't
idle (collect_percpu_times). Within a tick the stalls of different tasks are taken as independent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.counters.timing import KINDS, WINDOWS
from coldfleet.hostsim.engine.jit import compiled, inlined, spliced
from coldfleet.hostsim.engine.state import Record

PSI_FREQ_NS = 2_000_000_000  # 2 s: how often the averages move (the kernel's 2*HZ+1 jiffies)
FIXED_SHIFT = 11  # include/linux/sched/loadavg.h
FIXED_1 = 1 << FIXED_SHIFT
EXPS = (1677, 1981, 2034)  # for each of WINDOWS: FIXED_1 / exp(2 s / window)
SOME, FULL, NONIDLE, NEITHER = range(4)  # columns of what the tasks of a CPU make: shares of a tick; scratch

PSI = np.dtype(
    [
        ("total_ns", np.int64, (len(KINDS),)),  # time under pressure
        ("averages", np.int64, (len(KINDS), len(WINDOWS))),  # fixed point: FIXED_1 * 100 is all of the time
        ("now_ns", np.int64),
        ("updated_ns", np.int64),
        ("total_at_update", np.int64, (len(KINDS),)),
        ("asked_ns", np.int64),  # when somebody asked for the pressure since he last did, ...
        ("total_when_asked", np.int64),  # ... and "some" until then
    ],
    align=True,
)
"""One group: /proc/pressure/memory or io of the host, memory.pressure or io.pressure of a guest's memcg."""


@inlined
def span_of(cpus: npt.NDArray[np.int64]) -> tuple[int, int]:
    """The least of some CPUs, and the one after the greatest."""
    first, last = cpus[0], cpus[0]
    for cpu in cpus:
        first, last = min(first, cpu), max(last, cpu)
    return first, last + 1


@compiled
def pressure_of_cpus(
    pressure: npt.NDArray[np.float64], tasks: npt.NDArray[np.int64], cpus: npt.NDArray[np.int64], tick_ns: int
) -> None:
    """What tasks do to their CPUs in a tick: fills ``pressure``, float64 (CPUs, 4), columns SOME, FULL and NONIDLE.

    ``tasks``: int64 (tasks, 3), the ns for which each was stalled, for which it ran productively or waited for its CPU,
    and for which it did anything but sleep. ``cpus``: int64, the CPU of each; the least is the first of ``pressure``.
    """
    pressure[:] = 1.0
    first, _ = span_of(cpus)
    for task in range(len(tasks)):
        none = pressure[cpus[task] - first]  # for now: the shares in which none is stalled, runs, does anything
        stalled, running = tasks[task, 0] / tick_ns, tasks[task, 1] / tick_ns
        none[SOME] *= 1 - stalled
        none[FULL] *= 1 - running
        none[NONIDLE] *= 1 - tasks[task, 2] / tick_ns
        none[NEITHER] *= 1 - (stalled + running)
    for cpu in range(len(pressure)):
        none = pressure[cpu]
        none[SOME] = 1 - none[SOME]
        none[FULL] = min(none[FULL] - none[NEITHER], none[SOME])  # it can be more by a rounding error
        none[NONIDLE] = 1 - none[NONIDLE]


@compiled
def add_pressure(psi: Record, pressure: npt.NDArray[np.float64], tick_ns: int) -> None:
    """A tick has passed on the CPUs, with :func:`pressure_of_cpus`; within it, pressure is even."""
    some = full = weight = 0.0
    for cpu in range(len(pressure)):
        some += pressure[cpu, SOME] * pressure[cpu, NONIDLE]
        full += pressure[cpu, FULL] * pressure[cpu, NONIDLE]
        weight += pressure[cpu, NONIDLE]
    if weight:
        some /= weight
        full /= weight
    some_before, full_before = psi.total_ns[SOME], psi.total_ns[FULL]
    pieces = max(1, tick_ns // PSI_FREQ_NS)
    if _stays_calm(psi, max(some, full), tick_ns, pieces):
        psi.now_ns += tick_ns
        psi.total_ns[SOME] += np.int64(np.rint(some * tick_ns))
        psi.total_ns[FULL] += np.int64(np.rint(full * tick_ns))
        _note_update(psi)
        return
    passed = 0
    for piece in range(1, pieces + 1):
        before = passed
        passed = tick_ns * piece // pieces
        psi.now_ns += passed - before
        psi.total_ns[SOME] = some_before + np.int64(np.rint(some * passed))
        psi.total_ns[FULL] = full_before + np.int64(np.rint(full * passed))
        if psi.now_ns - psi.updated_ns >= PSI_FREQ_NS:
            _update_averages(psi)


@spliced
def _stays_calm(psi: Record, share: float, tick_ns: int, pieces: int) -> bool:
    """Whether all averages are 0 and stay so, as in no piece of a long tick a whole percent of it is under pressure."""
    if tick_ns < PSI_FREQ_NS or (share * (tick_ns // pieces + 1) + 2) * 100 >= tick_ns // pieces:
        return False
    calm = True
    for kind in range(2):
        calm = calm and psi.total_ns[kind] == psi.total_at_update[kind]
        for window in range(3):
            calm = calm and psi.averages[kind, window] == 0
    return calm


@spliced
def _update_averages(psi: Record) -> None:
    """update_averages: the pressure since the last update, in percent without fractions."""
    period = psi.now_ns - psi.updated_ns
    for kind in range(2):
        stalled = min(psi.total_ns[kind] - psi.total_at_update[kind], period)
        percent = stalled * 100 // period * FIXED_1
        for window in range(3):
            psi.averages[kind, window] = calc_load(psi.averages[kind, window], EXPS[window], percent)
    _note_update(psi)


@inlined
def _note_update(psi: Record) -> None:
    psi.total_at_update[SOME], psi.total_at_update[FULL] = psi.total_ns[SOME], psi.total_ns[FULL]
    psi.updated_ns = psi.now_ns


@compiled
def calc_load(load: int, exp: int, active: int) -> int:
    """calc_load of include/linux/sched/loadavg.h: an exponentially damped mean, rounded up while it grows."""
    new = load * exp + active * (FIXED_1 - exp)
    if active >= load:
        new += FIXED_1 - 1
    return new >> FIXED_SHIFT


@compiled
def some_since_last(psi: Record) -> float:
    """Percent of the time since the last call under "some" pressure, by the total: averages know whole percents."""
    passed_ns = psi.now_ns - psi.asked_ns
    stalled_ns = psi.total_ns[SOME] - psi.total_when_asked
    psi.asked_ns, psi.total_when_asked = psi.now_ns, psi.total_ns[SOME]
    return 100 * stalled_ns / passed_ns if passed_ns else 0.0


class Psi:
    """A group by its record: an element of PSI."""

    def __init__(self, record: Any) -> None:
        self.record = record

    def average(self, kind: str, window: int) -> float:
        """avg10, avg60 or avg300, percent."""
        return float(self.record["averages"][KINDS.index(kind), WINDOWS.index(window)]) / FIXED_1
