"""Several writers beside readers on one fair rwlock, and an ager among them: an approximation (see
hostsim.costs.rwlock).

The line in front of the lock is a Markov chain if one knows who stands where. hostsim.costs.rwlock_line follows how
many readers and writers stand in it, and estimates the order: how many readers stand behind the last writer, on
average, is followed too, and how unevenly the others lie between the writers is found from the gaps that close. That is
an approximation: of 300 waits at random locks 97 % were within 15 % of the events' (docs/time.md has the others).
"""

from __future__ import annotations

import numpy as np

from coldfleet.hostsim.costs.qrwlock import Threads, Waits
from coldfleet.hostsim.costs.rwlock_line import SUMS, UNLIKELY, Room, Times, follow_line

_GROWTH = 5 / 3  # of the number of readers, from a stage of a drain to the one before
_ROUNDS = 100
_RARE = 1e4  # who comes once in more of the others' requests waits as if it came so often


def solve_mixed(readers: Threads, writers: Threads, ager: Threads) -> Waits:
    """The steady state; needs at least one writer. ``ager``: one thread more that writes, or none."""
    kinds = [readers, writers, ager]
    fastest = min(kind.think_ns / kind.count + kind.hold_ns for kind in kinds if kind.count)
    thinks = [min(kind.think_ns, _RARE * max(fastest, kind.hold_ns)) for kind in kinds]
    each = [(kind.count, think, kind.hold_ns) for kind, think in zip(kinds, thinks, strict=True)]
    sums = np.zeros(SUMS)
    follow_line(_make_room(readers, writers.count), Times(*each[0], *each[1], *each[2]), sums)
    cycle, free, *of_kinds = sums.tolist()
    waits = [waited / max(served, UNLIKELY) for waited, served in zip(of_kinds[:3], of_kinds[3:6], strict=True)]
    return _from_waits(kinds, waits, free / cycle)


def _from_waits(kinds: list[Threads], waits: list[float], free: float) -> Waits:
    """The rates follow from the waits, so that no thread is lost to what was left out; ``free``: share of the time."""
    for _ in range(_ROUNDS):
        rates = [kind.count / (kind.think_ns + kind.hold_ns + wait) for kind, wait in zip(kinds, waits, strict=True)]
        writing = rates[1] * kinds[1].hold_ns + rates[2] * kinds[2].hold_ns
        if writing <= 1:
            break
        # by what was left out the waits are too short for one writer at a time
        longer = 2 * (writing - 1)
        waits = [wait + longer * (wait + kind.hold_ns) for kind, wait in zip(kinds, waits, strict=True)]
    holding = rates[0] * kinds[0].hold_ns
    return Waits(
        reader_wait_ns=waits[0],
        writer_wait_ns=waits[1],
        reader_rate=rates[0],
        writer_rate=rates[1],
        reading=min(max(0.0, 1 - writing - free), holding),
        writing=writing,
        holders=holding + writing,
        waiters=sum(rate * wait for rate, wait in zip(rates, waits, strict=True)),
        ager_wait_ns=waits[2],
        ager_rate=rates[2],
    )


def _make_room(readers: Threads, writers: int) -> Room:
    """Readers leave one by one at the end of a drain, and by groups before: 128 of them in 11 stages."""
    n = readers.count
    tops = [0]
    while tops[-1] < n:
        tops.append(min(n, max(tops[-1] + 1, int(tops[-1] * _GROWTH))))
    last = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n + 1))])  # of b readers leaves after so many holds
    stage = np.searchsorted(tops, np.arange(n + 1))
    spans = np.diff(last[tops])
    share = np.ones(n + 1)
    share[1:] = (last[1:] - last[tops][stage[1:] - 1]) / spans[stage[1:] - 1]
    shape = (3, len(tops), n + 1)
    return Room(
        released=np.zeros((2, n + 1, writers + 1)),
        released_tail=np.zeros((2, n + 1, writers + 1)),
        change=np.zeros((2, n + 1, writers + 1)),
        flow=np.zeros((*shape, writers + 1)),
        tail=np.zeros((*shape, writers + 1)),
        first=np.full(shape, writers + 1),
        end=np.zeros(shape, np.int64),
        alone=np.zeros(n + 1),
        lower=np.zeros(n + 1),
        stage=stage,
        share=share,
        inside=np.concatenate([[0.0], np.diff(tops) / spans]),
        leave=np.concatenate([[0.0], 1 / spans / readers.hold_ns]),
    )
