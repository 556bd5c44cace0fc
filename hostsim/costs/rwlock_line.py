"""The line in front of a fair rwlock, from one release by a writer to the next: the chain of
hostsim.costs.rwlock_mixed.

Its state, as a writer leaves, is how many readers (r) and writers (w) stand in line, and whether the ager, who is one
writer more with times of its own, does. The readers before the first writer enter; the writer waits until they have
left (it drains them), and holds the lock; meanwhile others come. If no writer stands in line, readers come and go until
one arrives.

How many readers stand before the first writer isn't part of the state. The gaps between writers are taken as
Dirichlet-multinomial, so the first is beta-binomial, with a parameter that is 1 if every order is equally likely. It
follows from mean and variance of the gaps that writers close: small where writers come in a row, and where many readers
come during a drain at which all writers stand in line already. The tail, those behind the last writer, has a mean of
its own in each state.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled, inlined

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]

UNLIKELY = 3e-7
"""What is less likely is left out."""

_TOLERANCE = 3e-3  # change of the distribution that is still to come, summed over its states
_MOST_CYCLES = 3_000
_STEADY = 0.1  # a round's change shrinks as the last one's did, if their ratios differ by so much of the way to 1
_SETTLE = 4  # rounds from one leap to the next
_LEAST_EVEN, _MOST_EVEN = 0.02, 20.0
_EDGE = 0.01  # the tail has at least so much of the readers in line, and leaves as much to the gaps

_WRITER, _WRITER_AGER_WAITS, _AGER = range(3)  # who is the first writer; with a writer: and the ager stands in line
_CYCLE, _FREE = range(2)  # times, of a cycle
_QUEUED, _WAITED, _AGER_WAITED = range(2, 5)  # sums of the time in line
_READS, _WRITES, _AGINGS = range(5, 8)  # how often the lock was taken
_GAPS, _IN_GAPS, _SQUARES = range(8, 11)  # that writers closed: how many, the readers in them, the sum of squares
SUMS = 11


class Times(NamedTuple):
    """How many threads there are of each kind, and what they do for how long, ns. ``agers``: 0 or 1."""

    readers: int
    think: float
    hold: float
    writers: int
    writer_think: float
    writer_hold: float
    agers: int
    ager_think: float
    ager_hold: float


class Room(NamedTuple):
    """What the chain works with; k is the stage of a drain (0: it is over).

    ``released``: (2, r, w), the chance of a line at a release, without and with the ager in it; ``change``: to it in
    the last round. ``flow``: (3 of _WRITER.., k, r, w), arrivals in a state, then the time in it, which isn't 0 from
    ``first`` up to ``end``, (3, k, r). ``tail``, ``released_tail``: the same times the readers behind the last writer.
    ``alone``, ``lower``: (readers + 1), no writer is there. ``stage``, ``share``: where b readers start to drain, and
    how many of them there instead of a stage below. ``inside``, ``leave``: a stage's mean readers, and its end's rate.
    """

    released: _Floats
    released_tail: _Floats
    change: _Floats
    flow: _Floats
    tail: _Floats
    first: _Ints
    end: _Ints
    alone: _Floats
    lower: _Floats
    stage: _Ints
    share: _Floats
    inside: _Floats
    leave: _Floats


@compiled
def follow_line(room: Room, times: Times, sums: _Floats) -> None:
    """From release to release, until the line's distribution stays as it is; ``sums``: of the last cycle.

    Where each round's change is the same share of the last one's, what is left is leapt over, as the rest of a
    geometric series.
    """
    room.released[0, 0, 0] = 1.0
    evenness = 1.0
    last_square = last_ratio = 0.0
    rounds = 0
    for _ in range(_MOST_CYCLES):
        sums[:] = 0.0
        _nobody_writes(room, times, sums)
        _let_readers_in(room, times, sums, evenness)
        for k in range(len(room.leave) - 1, -1, -1):
            for head in range(_AGER * times.agers + 1):
                _pass_stage(room, times, sums, k, head)
                _clear_stage(room, times, k + 1, head)
        moved, square, product = _release(room, times, sums)
        ratio = product / last_square if last_square > 0 else 0.0
        to_come = ratio / (1 - ratio) if 0 < ratio < 1 else 1.0
        if moved * max(to_come, 1.0) < _TOLERANCE:
            break
        rounds += 1
        if rounds >= _SETTLE and 0 < ratio < 1 and abs(ratio - last_ratio) < _STEADY * (1 - ratio):
            _leap(room, to_come)
            rounds, square = 0, 0.0
        last_square, last_ratio = square, ratio
        evenness = math.sqrt(evenness * _evenness(sums))  # half of the way, lest they swing


@inlined
def _nobody_writes(room: Room, times: Times, sums: _Floats) -> None:
    """Readers come and go until a writer arrives (tridiagonal equations, by elimination)."""
    n, alone, lower = times.readers, room.alone, room.lower
    writers_come = times.writers / times.writer_think
    comes = writers_come + times.agers / times.ager_think
    for a in range(n + 1):
        up = (n - a + 1) / times.think if a else 0.0
        pivot = (n - a) / times.think + a / times.hold + comes - up * (lower[a - 1] if a else 0.0)
        lower[a] = (a + 1) / times.hold / pivot
        alone[a] = (room.released[0, a, 0] + up * (alone[a - 1] if a else 0.0)) / pivot
    for a in range(n, -1, -1):
        if a < n:
            alone[a] += lower[a] * alone[a + 1]
        sums[_CYCLE] += alone[a]
        sums[_READS] += a * alone[a] / times.hold
        _drain(room, sums, _WRITER, a, 0, 0, alone[a] * writers_come, 0.0)
        _drain(room, sums, _AGER, a, 0, 0, alone[a] * (comes - writers_come), 0.0)
    sums[_FREE] = alone[0]


@inlined
def _let_readers_in(room: Room, times: Times, sums: _Floats, evenness: float) -> None:
    """A writer has left, and others stand in line: the readers before the first of them enter, b of r."""
    for ager in range(times.agers + 1):
        for w in range(1 - ager, times.writers + 1):
            for r in range(times.readers + 1):
                line = room.released[ager, r, w]
                if line < UNLIKELY:
                    continue
                writers = w + ager
                behind = min(max(room.released_tail[ager, r, w] / line, _EDGE * r), (1 - _EDGE) * r)
                of_tail = evenness * writers * behind / (r - behind) if r else evenness
                others = of_tail + (writers - 1) * evenness
                chance, left = line * _none_first(r, evenness, others), line
                for b in range(r + 1):
                    if left < UNLIKELY:
                        break
                    tail = (r - b) * of_tail / others
                    if w:
                        _drain(room, sums, ager, b, r - b, w - 1, chance * w / writers, tail)
                    if ager:
                        _drain(room, sums, _AGER, b, r - b, w, chance / writers, tail)
                    left -= chance
                    if b < r:
                        chance *= (r - b) * (evenness + b) / ((b + 1) * (others + r - b - 1))


@inlined
def _none_first(r: int, first: float, others: float) -> float:
    """The chance that none of r readers is in the first gap (beta-binomial)."""
    lost = math.lgamma(others + r) - math.lgamma(others)
    return math.exp(lost + math.lgamma(first + others) - math.lgamma(first + others + r))


@inlined
def _drain(room: Room, sums: _Floats, head: int, b: int, r: int, w: int, chance: float, tail: float) -> None:
    """With this chance b readers are in before a writer, with r readers and w writers in line behind it."""
    if chance < UNLIKELY:
        return
    sums[_READS] += b * chance
    k = room.stage[b]
    for at, part in ((k, room.share[b]), (k - 1, 1 - room.share[b])):
        if part > 0:
            room.flow[head, at, r, w] += chance * part
            room.tail[head, at, r, w] += chance * part * tail
            room.first[head, at, r] = min(room.first[head, at, r], w)
            room.end[head, at, r] = max(room.end[head, at, r], w + 1)


@inlined
def _pass_stage(room: Room, times: Times, sums: _Floats, k: int, head: int) -> None:
    """A stage of the drain, or (0) the first writer's hold: others come until it ends."""
    flow, tail, first, end = room.flow, room.tail, room.first, room.end
    drained = k + 1 < len(room.leave)
    ends = room.leave[k] if k else 1 / (times.ager_hold if head == _AGER else times.writer_hold)
    others = times.writers - int(head != _AGER)
    ager_comes = times.agers / times.ager_think if head == _WRITER else 0.0
    for r in range(times.readers + 1):
        low, high = first[head, k, r], end[head, k, r]
        if drained:
            low, high = min(low, first[head, k + 1, r]), max(high, end[head, k + 1, r])
        if r:
            low, high = min(low, first[head, k, r - 1]), max(high, end[head, k, r - 1])
        if head == _WRITER_AGER_WAITS:
            low, high = min(low, first[_WRITER, k, r]), max(high, end[_WRITER, k, r])
        thinking = times.readers - room.inside[k] - r
        readers_come, reader_came = max(thinking, 0.0) / times.think, max(thinking + 1, 0.0) / times.think
        first[head, k, r], end[head, k, r] = times.writers + 1, 0
        last = 0.0
        for w in range(low, others + 1):
            time, behind = flow[head, k, r, w] + last * (others - w + 1) / times.writer_think, tail[head, k, r, w]
            if drained:
                time += flow[head, k + 1, r, w] * room.leave[k + 1]
                behind += tail[head, k + 1, r, w] * room.leave[k + 1]
            if r:
                time += flow[head, k, r - 1, w] * reader_came
                behind += (tail[head, k, r - 1, w] + flow[head, k, r - 1, w]) * reader_came
            if head == _WRITER_AGER_WAITS:
                time += flow[_WRITER, k, r, w] / times.ager_think
            if time < UNLIKELY:
                last = flow[head, k, r, w] = tail[head, k, r, w] = 0.0
                if w >= high:
                    break
                continue
            writers_come = (others - w) / times.writer_think + ager_comes
            last = time / (ends + readers_come + writers_come)
            behind *= last / time
            flow[head, k, r, w], tail[head, k, r, w] = last, behind
            first[head, k, r], end[head, k, r] = min(first[head, k, r], w), w + 1
            sums[_CYCLE] += last
            sums[_QUEUED] += r * last
            sums[_WAITED] += (w + int(k > 0 and head != _AGER)) * last
            sums[_AGER_WAITED] += int(head == _WRITER_AGER_WAITS or (k > 0 and head == _AGER)) * last
            sums[_GAPS] += writers_come * last
            sums[_IN_GAPS] += writers_come * behind
            sums[_SQUARES] += readers_come * (2 * behind + last)


@inlined
def _clear_stage(room: Room, times: Times, k: int, head: int) -> None:
    if k < len(room.leave):
        for r in range(times.readers + 1):
            low, high = room.first[head, k, r], room.end[head, k, r]
            if low < high:
                room.flow[head, k, r, low:high] = 0.0
                room.tail[head, k, r, low:high] = 0.0
            room.first[head, k, r], room.end[head, k, r] = times.writers + 1, 0


@inlined
def _release(room: Room, times: Times, sums: _Floats) -> tuple[float, float, float]:
    """The writer leaves: the line behind it, and its change: the sum of its parts, of their squares, times the last."""
    flow, tail = room.flow, room.tail
    for r in range(times.readers + 1):
        for w in range(times.writers + 1):
            sums[_WRITES] += (flow[_WRITER, 0, r, w] + flow[_WRITER_AGER_WAITS, 0, r, w]) / times.writer_hold
            sums[_AGINGS] += flow[_AGER, 0, r, w] / times.ager_hold
    total = sums[_WRITES] + sums[_AGINGS]
    moved = square = product = 0.0
    for ager in range(times.agers + 1):
        for r in range(times.readers + 1):
            for w in range(times.writers + 1):
                chance = flow[ager, 0, r, w] / times.writer_hold / total
                behind = tail[ager, 0, r, w] / times.writer_hold / total
                if not ager:
                    chance += flow[_AGER, 0, r, w] / times.ager_hold / total
                    behind += tail[_AGER, 0, r, w] / times.ager_hold / total
                step = chance - room.released[ager, r, w]
                moved += abs(step)
                square += step * step
                product += step * room.change[ager, r, w]
                room.change[ager, r, w] = step
                room.released[ager, r, w], room.released_tail[ager, r, w] = chance, behind
    for r in range(times.readers + 1):
        sums[_SQUARES] -= room.released[0, r, 0] * total * r * r  # no writer closes this gap
    for head in range(_AGER * times.agers + 1):
        _clear_stage(room, times, 0, head)
    return moved, square, product


@inlined
def _evenness(sums: _Floats) -> float:
    """Of gaps with this mean and variance, the parameter of the negative binomial."""
    if sums[_IN_GAPS] < UNLIKELY:
        return 1.0
    mean = sums[_IN_GAPS] / sums[_GAPS]
    spread = sums[_SQUARES] / sums[_GAPS] - mean * mean - mean
    return min(max(mean * mean / max(spread, mean * mean / _MOST_EVEN), _LEAST_EVEN), _MOST_EVEN)


@inlined
def _leap(room: Room, share: float) -> None:
    """Goes so many times the last change further; no chance falls below 0, and their sum stays 1."""
    chances: Any = room.released  # numpy's types don't know that an index of ndindex leads to one number
    change: Any = room.change
    tail: Any = room.released_tail
    total = 0.0
    for line in np.ndindex(chances.shape):
        step: float = share * change[line]
        before: float = chances[line]
        after = max(before + step, 0.0)
        chances[line] = after
        tail[line] *= after / before if before > 0 else 0.0
        total += after
    for line in np.ndindex(chances.shape):
        chances[line] /= total
        tail[line] /= total
