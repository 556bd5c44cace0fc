"""The queue of hostsim.costs.rwlock, event by event: what its fast model is judged by.

Nothing is averaged or assumed but the distributions: requests stand in one line in the order of their arrival, readers
at its head enter together as long as no writer is in, a writer enters when nobody is (kernel/locking/qrwlock.c).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled


@dataclass(frozen=True)
class Threads:
    """``count`` threads that think for ``think_ns`` and then hold the lock for ``hold_ns``, on average, for ever."""

    count: int
    think_ns: float
    hold_ns: float

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"{self}: there can't be fewer than 0 threads")
        if not (0 < self.think_ns < math.inf and 0 < self.hold_ns < math.inf):
            raise ValueError(f"{self}: times must be above 0 ns, and finite")


@dataclass(frozen=True)
class Waits:
    """Means over a long time. Rates are per ns; ``reading`` and ``writing`` are shares of the time.

    ``holders``: threads that have the lock; ``waiters``: threads that stand in line for it. The writers' figures
    are without the ager's.
    """

    reader_wait_ns: float
    writer_wait_ns: float
    reader_rate: float
    writer_rate: float
    reading: float
    writing: float
    holders: float
    waiters: float
    ager_wait_ns: float = 0.0
    ager_rate: float = 0.0


_THINKS, _WAITS, _HOLDS = range(3)
_WARM_UP = 0.1  # share of the requests that come before, and only fill the queue
_SERVED, _WAITED, _BUSY, _HOLDING, _WAITING = range(5)  # of each kind: how often, and sums of ns
_SUMS = 5

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


def simulate(
    readers: Threads,
    writers: Threads,
    ager: Threads | None = None,
    *,
    requests: int,
    seed: int,
    constant_holds: bool = False,
) -> Waits:
    """Means over a time in which each kind of threads that there is makes at least ``requests`` requests.

    ``ager``: threads that write, with times of their own. ``constant_holds``: each hold lasts exactly ``hold_ns``, else
    it is exponential; thinking always is. Some 5 million events a second with few threads, 1 million with
    128.
    """
    kinds = [readers, writers, ager or Threads(0, 1.0, 1.0)]
    counts = np.array([kind.count for kind in kinds])
    total = int(counts.sum())
    sums = np.zeros((_SUMS, len(kinds)))
    length = _run(
        sums,
        np.zeros(total),
        np.zeros(total),
        np.zeros(total, np.int64),
        np.zeros(total, np.int64),
        np.repeat(np.arange(len(kinds)), counts),
        counts,
        np.array([[kind.think_ns for kind in kinds], [kind.hold_ns for kind in kinds]]),
        requests,
        seed,
        constant_holds,
    )
    waits = (sums[_WAITED] / np.maximum(sums[_SERVED], 1)).tolist()
    rates = (sums[_SERVED] / length).tolist()
    return Waits(
        reader_wait_ns=waits[0],
        writer_wait_ns=waits[1],
        reader_rate=rates[0],
        writer_rate=rates[1],
        reading=float(sums[_BUSY, 0] / length),
        writing=float(sums[_BUSY, 1:].sum() / length),
        holders=float(sums[_HOLDING].sum() / length),
        waiters=float(sums[_WAITING, 0] / length),
        ager_wait_ns=waits[2],
        ager_rate=rates[2],
    )


@compiled
def _run(
    sums: _Floats,
    until: _Floats,
    since: _Floats,
    state: _Ints,
    line: _Ints,
    kinds: _Ints,
    counts: _Ints,
    times: _Floats,
    requests: int,
    seed: int,
    constant_holds: bool,
) -> float:
    """Adds up ``sums`` (see _SERVED and those after it) and returns the time that they cover, ns.

    Thread t, of the kind ``kinds[t]`` (0: it reads), does what ``state[t]`` says until ``until[t]``, and waits since
    ``since[t]``. ``line`` is a ring. ``times``: thinking and holding, of each kind.
    """
    np.random.seed(seed)
    total = len(state)
    for t in range(total):
        until[t] = times[0, kinds[t]] * -np.log(1 - np.random.random())
    now = start = 0.0
    head = waiting = inside = holder = 0  # holder: the kind of those inside
    warm = False
    while True:
        t = 0
        for other in range(1, total):
            if until[other] < until[t]:
                t = other
        step = until[t] - now
        sums[_BUSY, holder] += step * (inside > 0)
        sums[_HOLDING, holder] += step * inside
        sums[_WAITING, 0] += step * waiting
        now = until[t]
        if state[t] == _THINKS:
            state[t] = _WAITS
            since[t] = now
            until[t] = np.inf
            line[(head + waiting) % total] = t
            waiting += 1
        else:
            state[t] = _THINKS
            until[t] = now + times[0, kinds[t]] * -np.log(1 - np.random.random())
            inside -= 1
        while waiting and not (inside and holder):
            t = line[head]
            kind = kinds[t]
            if kind and inside:
                break
            head = (head + 1) % total
            waiting -= 1
            holder = kind
            inside += 1
            state[t] = _HOLDS
            until[t] = now + times[1, kind] * (1.0 if constant_holds else -np.log(1 - np.random.random()))
            sums[_SERVED, kind] += 1
            sums[_WAITED, kind] += now - since[t]
        least = np.inf
        for kind in range(len(counts)):
            if counts[kind]:
                least = min(least, sums[_SERVED, kind])
        if not warm and least >= requests * _WARM_UP:
            warm = True
            start = now
            sums[:] = 0.0
        elif warm and least >= requests:
            return now - start
