"""A fair queued rwlock in steady state: how long its readers and writers wait. The model of a VM's mmu_lock.

The queue is that of kernel/locking/qrwlock.c: requests stand in one line in the order in which they arrive; readers at
its head share the lock; a writer has it alone, and a reader that comes behind a waiting writer waits as well. It is
closed: each thread does something else for a while (it thinks), takes the lock, holds it, and thinks again. Times of
thinking and holding are exponential. hostsim.costs.qrwlock simulates the same queue event by event.

* One writer and any number of readers (an aging pass beside vCPUs that fault): exact, from the writer's cycle.
* Writers alone (no TDP MMU, all faults write): exact, by mean-value analysis.
* Several writers beside readers (shadow faults in a VM that has TDP faults too), or an ager beside several writers: an
  approximation, hostsim.costs.rwlock_mixed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.costs.qrwlock import Threads, Waits
from coldfleet.hostsim.costs.rwlock_mixed import solve_mixed
from coldfleet.hostsim.engine.jit import compiled

_Array = npt.NDArray[np.float64]

_TOLERANCE = 1e-9  # change of a distribution from cycle to cycle, summed over its states
_MOST_CYCLES = 20_000
_CYCLE, _DRAINING, _WRITING, _QUEUED, _ACTIVE, _FREE = range(6)  # mean times in one cycle of the writer


def solve(readers: Threads, writers: Threads, ager: Threads | None = None) -> Waits:
    """The steady state of one lock; takes 0.1 ms with 16 threads, with 128 up to 30 ms (an ager beside them: 0.2 s).

    ``ager``: one thread more that writes, with times of its own: an aging pass beside faults of both kinds.
    """
    ager = ager or Threads(0, 1.0, 1.0)
    if ager.count > 1:
        raise ValueError(f"{ager}: there is one ager at most")
    if ager.count and not writers.count:
        return _as_ager(solve(readers, ager))
    if not writers.count:
        return _readers_alone(readers)
    if not readers.count and not ager.count:
        return _writers_alone(writers)
    if writers.count == 1 and not ager.count:
        return _one_writer(readers, writers)
    return solve_mixed(readers, writers, ager)


def _as_ager(waits: Waits) -> Waits:
    """The only writer is the ager."""
    return replace(
        waits,
        writer_wait_ns=0.0,
        writer_rate=0.0,
        ager_wait_ns=waits.writer_wait_ns,
        ager_rate=waits.writer_rate,
    )


def _writers_alone(writers: Threads) -> Waits:
    """Mean-value analysis (Reiser and Lavenberg): a thread meets the line that the others make without it."""
    wait = present = 0.0
    for count in range(1, writers.count + 1):
        wait = present * writers.hold_ns
        present = count * (wait + writers.hold_ns) / (writers.think_ns + wait + writers.hold_ns)
    rate = writers.count / (writers.think_ns + wait + writers.hold_ns)
    writing = rate * writers.hold_ns
    return Waits(0.0, wait, 0.0, rate, 0.0, writing, writing, rate * wait)


def _readers_alone(readers: Threads) -> Waits:
    """Nobody waits."""
    period = readers.think_ns + readers.hold_ns
    reading = 1.0 - (readers.think_ns / period) ** readers.count
    return Waits(0.0, 0.0, readers.count / period, 0.0, reading, 0.0, readers.count * readers.hold_ns / period, 0.0)


def _one_writer(readers: Threads, writer: Threads) -> Waits:
    room = np.zeros((4, readers.count + 1))
    times = np.zeros(6)
    _follow_writer(room, times, readers.count, readers.think_ns, readers.hold_ns, writer.think_ns, writer.hold_ns)
    cycle, draining, writing, queued, active, free = map(float, times)
    reader_rate = active / cycle / readers.hold_ns
    return Waits(
        reader_wait_ns=queued / cycle / reader_rate,
        writer_wait_ns=draining,
        reader_rate=reader_rate,
        writer_rate=1 / cycle,
        reading=max(0.0, 1 - (writing + free) / cycle),
        writing=writing / cycle,
        holders=(active + writing) / cycle,
        waiters=(queued + draining) / cycle,
    )


@compiled
def _follow_writer(
    room: _Array, times: _Array, n: int, think: float, hold: float, writer_think: float, writer_hold: float
) -> None:
    """Follows the writer's cycle from release to release, until as many of the n readers stand in line at its end.

    While the writer thinks, a of the readers are in. When it has come, they drain, and q others stand behind it. While
    it holds the lock, more come. As it leaves, all of them enter. The mean time in every state of a cycle follows from
    those before it. ``room``: (4, n + 1) numbers to work with. ``times``: the results, see _CYCLE and those after it.
    """
    present, lower, drain, entering = room[0], room[1], room[2], room[3]
    for q in range(n + 1):
        entering[q] = 0.0
    entering[0] = 1.0
    for _ in range(_MOST_CYCLES):
        # the writer thinks: readers come and go, until it arrives (tridiagonal equations, by elimination)
        for a in range(n + 1):
            up = (n - a + 1) / think if a else 0.0
            pivot = (n - a) / think + a / hold + 1 / writer_think - up * (lower[a - 1] if a else 0.0)
            lower[a] = (a + 1) / hold / pivot
            present[a] = (entering[a] + up * (present[a - 1] if a else 0.0)) / pivot
        cycle = active = present[n]
        active *= n
        for a in range(n - 1, -1, -1):
            present[a] += lower[a] * present[a + 1]
            cycle += present[a]
            active += a * present[a]
        # it waits: a falls, q grows; drain[q] is the mean time with the present a
        draining = queued = 0.0
        for q in range(n + 1):
            drain[q] = 0.0
        for a in range(n, 0, -1):
            before = 0.0
            for q in range(n - a + 1):
                entered = drain[q] * (a + 1) / hold + before * (n - a - q + 1) / think
                if q == 0:
                    entered += present[a] / writer_think
                before = entered / (a / hold + (n - a - q) / think)
                drain[q] = before
                draining += before
                active += a * before
                queued += q * before
        # it holds the lock: only q grows
        writing = before = change = 0.0
        for q in range(n + 1):
            entered = drain[q] / hold + before * (n - q + 1) / think
            if q == 0:
                entered += present[0] / writer_think
            before = entered / ((n - q) / think + 1 / writer_hold)
            writing += before
            queued += q * before
            change += abs(before / writer_hold - entering[q])
            entering[q] = before / writer_hold
        times[_CYCLE], times[_DRAINING], times[_WRITING] = cycle + draining + writing, draining, writing
        times[_QUEUED], times[_ACTIVE], times[_FREE] = queued, active, present[0]
        if change < _TOLERANCE:
            return
