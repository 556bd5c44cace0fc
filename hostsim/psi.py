"""Pressure stall information of memory, as kernel/sched/psi.c computes it.

A task is stalled on memory while it reclaims directly, and while it waits for a page of its working set to be swapped
in (psi_memstall_enter in mm/memcontrol.c, and in mm/page_io.c swap_read_folio if folio_test_workingset). Of the tasks
of one CPU, "some" is the time in which at least one is stalled, "full" that in which one is and none runs
productively; a task that waits for the CPU counts as running. CPUs are weighted by the time in which they weren't
idle (collect_percpu_times). Within a tick the stalls of different tasks are taken as independent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

PSI_FREQ_NS = 2_000_000_000  # 2 s: how often the averages move (the kernel's 2*HZ+1 jiffies)
FIXED_SHIFT = 11  # include/linux/sched/loadavg.h
FIXED_1 = 1 << FIXED_SHIFT
EXPS = {10: 1677, 60: 1981, 300: 2034}  # window in s -> FIXED_1 / exp(2 s / window)
KINDS = ("some", "full")


class Share(NamedTuple):
    """What a task did in a tick, ns: it was stalled on memory, or it ran (or waited for its CPU); the rest it slept."""

    stalled_ns: int
    running_ns: int


def pressure_of_cpu(tasks: Iterable[Share], tick_ns: int) -> tuple[float, float, float]:
    """The shares of a tick in which one CPU's tasks made "some" and "full" pressure, and in which it wasn't idle."""
    none_stalled = none_running = all_asleep = 1.0
    for task in tasks:
        none_stalled *= 1 - task.stalled_ns / tick_ns
        none_running *= 1 - task.running_ns / tick_ns
        all_asleep *= 1 - (task.stalled_ns + task.running_ns) / tick_ns
    return 1 - none_stalled, none_running - all_asleep, 1 - all_asleep


class Psi:
    """One group: /proc/pressure/memory of the host, or memory.pressure of a guest's memcg.

    ``total_ns``: time under "some" and "full" pressure. ``averages``: [some, full] of each window of EXPS, as fixed
    point numbers of which FIXED_1 * 100 is all of the time.
    """

    def __init__(self) -> None:
        self.total_ns = [0, 0]
        self.averages = {window: [0, 0] for window in EXPS}
        self.now_ns = 0
        self.updated_ns = 0
        self.total_at_update = [0, 0]
        self._asked = (0, 0)

    def add(self, cpus: Sequence[Iterable[Share]], tick_ns: int) -> None:
        """A tick has passed on the CPUs, each given as the tasks that share it; within it, pressure is even."""
        shares = [pressure_of_cpu(tasks, tick_ns) for tasks in cpus]
        weight = sum(nonidle for _, _, nonidle in shares)
        if weight:
            pressure = [sum(each[kind] * each[2] for each in shares) / weight for kind in range(len(KINDS))]
        else:
            pressure = [0.0, 0.0]
        before = list(self.total_ns)
        pieces = max(1, tick_ns // PSI_FREQ_NS)
        for piece in range(1, pieces + 1):
            passed = tick_ns * piece // pieces
            self.now_ns += passed - tick_ns * (piece - 1) // pieces
            for kind in range(len(KINDS)):
                self.total_ns[kind] = before[kind] + round(pressure[kind] * passed)
            if self.now_ns - self.updated_ns >= PSI_FREQ_NS:
                self._update()

    def average(self, kind: str, window: int) -> float:
        """avg10, avg60 or avg300, percent."""
        return self.averages[window][KINDS.index(kind)] / FIXED_1

    def some_since_last(self) -> float:
        """Percent of the time since the last call under "some" pressure, by the total: averages know whole percents."""
        passed_ns = self.now_ns - self._asked[0]
        stalled_ns = self.total_ns[0] - self._asked[1]
        self._asked = (self.now_ns, self.total_ns[0])
        return 100 * stalled_ns / passed_ns if passed_ns else 0.0

    def _update(self) -> None:
        """update_averages: the pressure since the last update, in percent without fractions."""
        period = self.now_ns - self.updated_ns
        for kind in range(len(KINDS)):
            sample = min(self.total_ns[kind] - self.total_at_update[kind], period)
            percent = sample * 100 // period * FIXED_1
            for window, exp in EXPS.items():
                self.averages[window][kind] = calc_load(self.averages[window][kind], exp, percent)
        self.total_at_update = list(self.total_ns)
        self.updated_ns = self.now_ns


def calc_load(load: int, exp: int, active: int) -> int:
    """calc_load of include/linux/sched/loadavg.h: an exponentially damped mean, rounded up while it grows."""
    new = load * exp + active * (FIXED_1 - exp)
    if active >= load:
        new += FIXED_1 - 1
    return new >> FIXED_SHIFT
