"""The queue of hostsim.rwlock, event by event: what its fast model is judged by.

Nothing is averaged or assumed but the distributions: requests stand in one line in the order of their arrival, readers
at its head enter together as long as no writer is in, a writer enters when nobody is (kernel/locking/qrwlock.c).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hostsim.jit import compiled
from hostsim.rwlock import Threads, Waits

_THINKS, _WAITS, _HOLDS = range(3)
_WARM_UP = 0.1  # share of the requests that come before, and only fill the queue
_SERVED, _WAITED, _BUSY, _HOLDING, _WAITING = range(5)  # of readers and of writers: how often, and sums of ns
_SUMS = 5

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


def simulate(readers: Threads, writers: Threads, *, requests: int, seed: int, constant_holds: bool = False) -> Waits:
    """Means over a time in which each kind of threads that there is makes at least ``requests`` requests.

    ``constant_holds``: each hold lasts exactly ``hold_ns``, else it is exponential; thinking always is.
    Some 5 million events a second with few threads, 1 million with 128.
    """
    total = readers.count + writers.count
    sums = np.zeros((_SUMS, 2))
    length = _run(
        sums,
        np.zeros(total),
        np.zeros(total),
        np.zeros(total, np.int64),
        np.zeros(total, np.int64),
        np.array([readers.count, writers.count]),
        np.array([[readers.think_ns, writers.think_ns], [readers.hold_ns, writers.hold_ns]]),
        requests,
        seed,
        constant_holds,
    )
    return Waits(
        reader_wait_ns=float(sums[_WAITED, 0] / max(sums[_SERVED, 0], 1)),
        writer_wait_ns=float(sums[_WAITED, 1] / max(sums[_SERVED, 1], 1)),
        reader_rate=float(sums[_SERVED, 0] / length),
        writer_rate=float(sums[_SERVED, 1] / length),
        reading=float(sums[_BUSY, 0] / length),
        writing=float(sums[_BUSY, 1] / length),
        holders=float(sums[_HOLDING].sum() / length),
        waiters=float(sums[_WAITING].sum() / length),
    )


@compiled
def _run(
    sums: _Floats,
    until: _Floats,
    since: _Floats,
    state: _Ints,
    line: _Ints,
    counts: _Ints,
    times: _Floats,
    requests: int,
    seed: int,
    constant_holds: bool,
) -> float:
    """Adds up ``sums`` (see _SERVED and those after it) and returns the time that they cover, ns.

    Thread t does what ``state[t]`` says until ``until[t]``, and waits since ``since[t]``. ``line`` is a ring.
    ``times``: thinking and holding, of readers and writers.
    """
    np.random.seed(seed)
    n = counts[0]
    total = len(state)
    for t in range(total):
        until[t] = times[0, int(t >= n)] * -np.log(1 - np.random.random())
    now = start = 0.0
    head = waiting = inside = waiting_writers = 0
    writing = False
    warm = False
    while True:
        t = 0
        for other in range(1, total):
            if until[other] < until[t]:
                t = other
        step = until[t] - now
        sums[_BUSY, int(writing)] += step * (inside > 0)
        sums[_HOLDING, int(writing)] += step * inside
        sums[_WAITING, 0] += step * (waiting - waiting_writers)
        sums[_WAITING, 1] += step * waiting_writers
        now = until[t]
        if state[t] == _THINKS:
            state[t] = _WAITS
            since[t] = now
            until[t] = np.inf
            line[(head + waiting) % total] = t
            waiting += 1
            waiting_writers += int(t >= n)
        else:
            state[t] = _THINKS
            until[t] = now + times[0, int(t >= n)] * -np.log(1 - np.random.random())
            inside -= 1
            writing = False
        while waiting and not writing:
            t = line[head]
            writes = int(t >= n)
            if writes and inside:
                break
            head = (head + 1) % total
            waiting -= 1
            waiting_writers -= writes
            writing = writes == 1
            inside += 1
            state[t] = _HOLDS
            until[t] = now + times[1, writes] * (1.0 if constant_holds else -np.log(1 - np.random.random()))
            sums[_SERVED, writes] += 1
            sums[_WAITED, writes] += now - since[t]
        least = np.inf
        for kind in range(2):
            if counts[kind]:
                least = min(least, sums[_SERVED, kind])
        if not warm and least >= requests * _WARM_UP:
            warm = True
            start = now
            sums[:] = 0.0
        elif warm and least >= requests:
            return now - start
