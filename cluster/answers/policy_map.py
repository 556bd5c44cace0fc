"""Which policy wins where: a map over two keys of a study, finer where the winner changes.

The map is a lattice. First a coarse one is simulated, with every policy. Then each square whose corners have different
winners is cut in four, and in its middle and on its edges the winners of its corners compete. Points of a square whose
corners agree are taken to be like the nearest one that was simulated.

At a point the policies race on identical accesses: after :data:`LOOKS` replicates those stay in whose difference to the
best can't be told from 0. Who is still in after the last look has tied.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from coldfleet.cluster.stats.statistics import t_interval

LOOKS = (3, 6)
"""Numbers of replicates after which policies drop out."""

COARSE = 4  # squares in a row or column before any is cut
_CHUNK = 8  # points that are begun at a time, so that a budget is kept

Winners = tuple[str, ...]
"""The policies that tie for the best; mostly one."""


class Point(NamedTuple):
    """A place on the lattice, from its lower left."""

    x: int
    y: int


class Entry(NamedTuple):
    """A policy at a point."""

    point: Point
    policy: str


RunEntries = Callable[[Mapping[Entry, range]], Mapping[Entry, Sequence[float]]]
"""Runs replicates, all at once: the metric in each of them. Lower is better."""


@dataclass(frozen=True)
class Found:
    """What was found at a point that was simulated. ``values``: the metric of each policy in each replicate."""

    winners: Winners
    values: Mapping[str, Sequence[float]]

    @property
    def means(self) -> dict[str, float]:
        """The mean of each policy that raced here."""
        return {policy: statistics.fmean(values) for policy, values in self.values.items()}


@dataclass(frozen=True)
class PolicyMap:
    """``size`` points along either side; ``found``: those that were simulated; ``possible``: those that can be."""

    size: int
    possible: Collection[Point]
    found: Mapping[Point, Found]

    def winners(self, point: Point) -> Winners:
        """Who wins there, maybe by what is known of the nearest point; () if the point can't be."""
        if point not in self.possible:
            return ()
        return self.found[min(self.found, key=lambda other: (_distance(point, other), other))].winners

    def regions(self) -> dict[Winners, int]:
        """Who wins somewhere, and at how many points; the largest region first."""
        points = (Point(x, y) for y in range(self.size) for x in range(self.size))
        counts: dict[Winners, int] = {}
        for winners in map(self.winners, points):
            if winners:
                counts[winners] = counts.get(winners, 0) + 1
        return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def side(depth: int) -> int:
    """Points along a side if squares are cut so often."""
    return COARSE * (1 << depth) + 1


def draw_map(
    possible: Mapping[Point, Collection[str]],
    depth: int,
    evaluate: RunEntries,
    *,
    confidence: float,
    runs_left: Callable[[], int | None],
) -> PolicyMap:
    """The map of a lattice with :func:`side` points along each side.

    ``possible``: the points that can be, and the policies there. ``runs_left``: of the budget; None: not known yet. The
    coarse map is made in any case; squares are cut as long as the budget pays for it.
    """
    step = 1 << depth
    found: dict[Point, Found] = {}
    race = _Race(evaluate, confidence)
    coarse = {point: list(policies) for point, policies in possible.items() if not (point.x % step or point.y % step)}
    found.update(race(coarse or {point: list(policies) for point, policies in possible.items()}))
    while step > 1:
        wanted = _middles(found, step, possible)
        step //= 2
        points = list(wanted)
        for start in range(0, len(points), _CHUNK):
            chunk = {point: wanted[point] for point in points[start : start + _CHUNK]}
            left = runs_left()
            if left is not None and left < LOOKS[0] * sum(map(len, chunk.values())):
                return PolicyMap(side(depth), possible, found)
            found.update(race(chunk))
    return PolicyMap(side(depth), possible, found)


def _middles(
    found: Mapping[Point, Found], step: int, possible: Mapping[Point, Collection[str]]
) -> dict[Point, list[str]]:
    """The points to simulate in squares whose corners disagree, with the policies that win at these corners."""
    wanted: dict[Point, list[str]] = {}
    for lower_left in _lower_lefts(possible, step):
        corners = [Point(lower_left.x + i * step, lower_left.y + j * step) for i in (0, 1) for j in (0, 1)]
        known = [found[corner].winners for corner in corners if corner in found]
        if len(set(known)) < 2:
            continue
        contenders = {policy for winners in known for policy in winners}
        half = step // 2
        for i, j in ((1, 1), (1, 0), (0, 1), (2, 1), (1, 2)):
            point = Point(lower_left.x + i * half, lower_left.y + j * half)
            if point in possible and point not in found:
                mine = wanted.setdefault(point, [])
                mine += [policy for policy in possible[point] if policy in contenders and policy not in mine]
    return wanted


def _lower_lefts(possible: Collection[Point], step: int) -> Iterator[Point]:
    for x in range(0, max(point.x for point in possible), step):
        for y in range(0, max(point.y for point in possible), step):
            yield Point(x, y)


def _distance(a: Point, b: Point) -> int:
    return (a.x - b.x) * (a.x - b.x) + (a.y - b.y) * (a.y - b.y)


class _Race:
    """Finds the winners at some points. Each look has its part of the risk of calling a tie a win."""

    def __init__(self, evaluate: RunEntries, confidence: float) -> None:
        self._evaluate = evaluate
        self._confidence = 100 - (100 - confidence) / len(LOOKS)

    def __call__(self, points: Mapping[Point, Sequence[str]]) -> dict[Point, Found]:
        values: dict[Entry, list[float]] = {Entry(point, each): [] for point, some in points.items() for each in some}
        inside = {point: list(policies) for point, policies in points.items()}
        racing = list(points)
        for done, look in zip((0, *LOOKS), LOOKS, strict=False):
            entries = [Entry(point, policy) for point in racing for policy in inside[point]]
            for entry, more in self._evaluate(dict.fromkeys(entries, range(done, look))).items():
                values[entry] += more
            for point in racing:
                inside[point] = self._still_in({policy: values[Entry(point, policy)] for policy in inside[point]})
            racing = [
                point for point in racing if not _equal([values[Entry(point, policy)] for policy in inside[point]])
            ]
            if not racing:
                break
        return {
            point: Found(tuple(inside[point]), {policy: values[Entry(point, policy)] for policy in policies})
            for point, policies in points.items()
        }

    def _still_in(self, values: Mapping[str, Sequence[float]]) -> list[str]:
        best = min(values, key=lambda policy: statistics.fmean(values[policy]))
        differences = {
            policy: [a - b for a, b in zip(mine, values[best], strict=True)] for policy, mine in values.items()
        }
        return [policy for policy, some in differences.items() if 0 in t_interval(some, self._confidence)]


def _equal(values: Sequence[Sequence[float]]) -> bool:
    """Whether all have the same figures, so that more replicates decide nothing; also if there is only one."""
    return all(each == values[0] for each in values)
