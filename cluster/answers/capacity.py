"""How much load a fleet can take: the largest at which every SLO is met, and how sure that is.

Loads are levels in ascending order. A level is judged by replicates, which are added in fixed numbers until its SLOs
are seen to be met or broken, so that levels far from the border cost little. First a few levels over the whole range
are judged, to see whether more load is worse at all; then the border is halved in from both sides.

The confidence is that of the whole answer: the chance of a wrong judgement is shared out evenly among all judgements
that there may be (Bonferroni's inequality), so looking often and stopping early do no harm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from coldfleet.cluster.stats.statistics import t_interval

LOOKS = (5, 10, 20, 40)
"""Numbers of replicates at which a level is judged."""

COARSE = 5  # levels over the whole range that are judged first


class SloStatus(StrEnum):
    """What the replicates say of a level."""

    MEETS = "meets"
    FAILS = "fails"
    OPEN = "open"


class Probe(NamedTuple):
    """A level of whatever is searched: a policy."""

    who: Hashable
    level: int


RunLevels = Callable[[Mapping[Probe, range]], Mapping[Probe, list[Sequence[float]]]]
"""Runs replicates of some levels, all at once: for each replicate how far every SLO is exceeded (met: 0 or less)."""


@dataclass(frozen=True)
class Capacity:
    """What a search found. ``statuses``: of every level that was judged."""

    levels: int
    statuses: Mapping[int, SloStatus]

    @property
    def broken(self) -> int | None:
        """The lowest level that fails; None: none does."""
        return min((n for n, status in self.statuses.items() if status is SloStatus.FAILS), default=None)

    @property
    def best(self) -> int | None:
        """The answer: the highest level that meets every SLO, below all that fail; None: there is none."""
        top = self.levels if self.broken is None else self.broken
        return max((n for n, status in self.statuses.items() if status is SloStatus.MEETS and n < top), default=None)

    @property
    def unreachable(self) -> bool:
        """Whether even the lowest level fails."""
        return self.broken == 0

    @property
    def always_met(self) -> bool:
        """Whether even the highest level meets every SLO."""
        return self.best == self.levels - 1

    @property
    def met_above(self) -> int | None:
        """A level that meets every SLO though a lower one fails: more load is not always worse. None: there is none."""
        above = [n for n, status in self.statuses.items() if status is SloStatus.MEETS and n > (self.broken or 0)]
        return min(above, default=None) if self.broken is not None else None

    @property
    def met_from_there_on(self) -> bool:
        """Whether every level that was judged from ``met_above`` on meets every SLO."""
        since = self.met_above
        return since is not None and all(s is SloStatus.MEETS for n, s in self.statuses.items() if n >= since)

    def next_lower(self, level: int) -> int | None:
        """The next level below that was judged and meets every SLO; None: there is none."""
        below = (n for n, status in self.statuses.items() if status is SloStatus.MEETS and n < level)
        return max(below, default=None)

    def gaps(self) -> list[int]:
        """The levels to judge next: in the middle of what isn't known on either side of the border."""
        low = -1 if self.best is None else self.best
        high = self.levels if self.broken is None else self.broken
        known = [low, *sorted(n for n in self.statuses if low < n < high), high]
        middles = [(a + b) // 2 for a, b in (known[:2], known[-2:]) if b - a > 1]
        return list(dict.fromkeys(middles))


def coarse(levels: int) -> list[int]:
    """The levels that are judged first."""
    return sorted({round(n * (levels - 1) / (COARSE - 1)) for n in range(COARSE)})


def search(levels: int) -> Generator[list[int], Mapping[int, SloStatus], Capacity]:
    """Asks for levels to be judged, and returns the capacity."""
    wanted = coarse(levels)
    statuses: dict[int, SloStatus] = {}
    while wanted:
        statuses.update((yield wanted))
        found = Capacity(levels, statuses)
        wanted = found.gaps()
    return Capacity(levels, statuses)


def most_judged(levels: int) -> int:
    """No search judges more levels than that."""
    return COARSE + 2 * math.ceil(math.log2(max(levels / (COARSE - 1), 1)) + 1)


def find_capacities(
    who: Iterable[Hashable],
    levels: int,
    evaluate: RunLevels,
    *,
    confidence: float,
    runs_left: Callable[[], int | None],
) -> dict[Hashable, Capacity]:
    """Searches for all of them side by side; each answer has the confidence (in percent) of its own.

    ``runs_left``: of the budget; None: not known yet. Once it is spent, what isn't decided is open.
    """
    judge = _Judge(evaluate, (1 - confidence / 100) / (most_judged(levels) * len(LOOKS)), runs_left)
    searches = {each: search(levels) for each in who}
    wanted = {each: next(one) for each, one in searches.items()}
    found: dict[Hashable, Capacity] = {}
    while wanted:
        statuses = judge([Probe(each, level) for each, some in wanted.items() for level in some])
        for each, some in list(wanted.items()):
            try:
                wanted[each] = searches[each].send({level: statuses[Probe(each, level)] for level in some})
            except StopIteration as end:
                found[each] = end.value
                del wanted[each]
    return found


class _Judge:
    """Adds replicates until a level is decided. ``risk``: of one wrong judgement."""

    def __init__(self, evaluate: RunLevels, risk: float, runs_left: Callable[[], int | None]) -> None:
        self._evaluate = evaluate
        self._risk = risk
        self._runs_left = runs_left

    def __call__(self, probes: list[Probe]) -> dict[Probe, SloStatus]:
        statuses = dict.fromkeys(probes, SloStatus.OPEN)
        values: dict[Probe, list[Sequence[float]]] = {probe: [] for probe in probes}
        for done, look in zip((0, *LOOKS), LOOKS, strict=False):
            undecided = [probe for probe in probes if statuses[probe] is SloStatus.OPEN]
            left = self._runs_left()
            if left is not None and left < len(undecided) * (look - done):
                break
            if not undecided:
                break
            for probe, more in self._evaluate(dict.fromkeys(undecided, range(done, look))).items():
                values[probe] += more
                statuses[probe] = self._status(values[probe])
        return statuses

    def _status(self, values: list[Sequence[float]]) -> SloStatus:
        """A level fails if one of its SLOs is surely broken, and meets if all are surely met."""
        by_slo = list(zip(*values, strict=True))
        met, broken = (
            [t_interval(some, 100 * (1 - 2 * risk)) for some in by_slo]
            for risk in (self._risk, self._risk / len(by_slo))
        )
        if any(interval.low > 0 for interval in broken):
            return SloStatus.FAILS
        return SloStatus.MEETS if all(interval.high <= 0 for interval in met) else SloStatus.OPEN
