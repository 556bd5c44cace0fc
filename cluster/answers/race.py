"""Which of many settings is best: a race in which settings that are clearly worse are dropped after few replicates.

All settings make the same replicates, on identical accesses, and their number doubles from look to look. After each,
a setting is out if one of its SLOs is surely broken, or if it is surely worse than the best of those that surely meet
theirs. Who is left after the last look, and can't be told from the best, ties with it.

The confidence is that of the whole answer: the chance that the best is dropped, or that what breaks an SLO isn't, is
shared out among all settings and looks (Bonferroni's inequality).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from coldfleet.cluster.stats.statistics import Interval, t_interval

FIRST_LOOK = 5
"""Replicates of every setting."""


class Place(StrEnum):
    """Where a setting came in."""

    WINS = "wins"
    TIES = "ties"
    OPEN = "open"  # whether it meets its SLOs isn't sure
    WORSE = "worse"
    BREAKS = "breaks"


@dataclass
class Racer:
    """A setting. ``values``: its figure in each replicate, less is better; ``excesses``: how far each SLO is exceeded
    there (met: 0 or less)."""

    values: list[float] = field(default_factory=list)
    excesses: list[Sequence[float]] = field(default_factory=list)
    place: Place | None = None  # None: still in

    @property
    def mean(self) -> float:
        """The mean of its figure."""
        return statistics.fmean(self.values)

    def meets(self, risk: float) -> bool:
        """Whether every SLO is surely met."""
        return all(_interval(some, risk).high <= 0 for some in zip(*self.excesses, strict=True))

    def breaks(self, risk: float) -> bool:
        """Whether an SLO is surely broken."""
        by_slo = list(zip(*self.excesses, strict=True))
        return any(_interval(some, risk / len(by_slo)).low > 0 for some in by_slo)

    def is_worse(self, best: Racer, risk: float) -> bool:
        """Whether it is surely worse than another, by the replicates that both have."""
        return _interval([a - b for a, b in zip(self.values, best.values, strict=False)], risk).low > 0


RunSettings = Callable[[Mapping[int, range]], Mapping[int, list[tuple[float, Sequence[float]]]]]
"""Runs replicates of settings, all at once: of each the figure, and how far every SLO is exceeded."""


def looks(replicates: int) -> Iterator[tuple[int, int]]:
    """The numbers of replicates before and after each look."""
    done, look = 0, min(FIRST_LOOK, replicates)
    while done < replicates:
        yield done, look
        done, look = look, min(2 * look, replicates)


def race(
    settings: int,
    replicates: int,
    evaluate: RunSettings,
    *,
    confidence: float,
    runs_left: Callable[[], int | None],
) -> list[Racer]:
    """Each setting with its place: at most one wins. ``replicates``: of those that stay in to the end, at least two.

    ``runs_left``: of the budget; None: not known yet. The first look is made in any case.
    """
    racers = [Racer() for _ in range(settings)]
    rounds = list(looks(replicates))
    risk = (1 - confidence / 100) / (settings * len(rounds))
    for done, look in rounds:
        racing = [number for number, racer in enumerate(racers) if racer.place is None]
        left = runs_left()
        if done and (not racing or (left is not None and left < len(racing) * (look - done))):
            break
        for number, some in evaluate(dict.fromkeys(racing, range(done, look))).items():
            racers[number].values += [value for value, _ in some]
            racers[number].excesses += [excess for _, excess in some]
        _drop([racers[number] for number in racing], risk)
    racing = [number for number, racer in enumerate(racers) if racer.place is None]
    good = [number for number in racing if racers[number].meets(risk)]
    best = min(good, key=lambda number: racers[number].mean, default=None)
    for number in racing:
        racers[number].place = Place.WINS if number == best else Place.TIES if number in good else Place.OPEN
    return racers


def _drop(racers: Sequence[Racer], risk: float) -> None:
    """Says of settings that are out why they are."""
    for racer in racers:
        if racer.breaks(risk):
            racer.place = Place.BREAKS
    good = [racer for racer in racers if racer.place is None and racer.meets(risk)]
    best = min(good, key=lambda racer: racer.mean, default=None)
    for racer in racers:
        if best is not None and racer.place is None and racer.is_worse(best, risk):
            racer.place = Place.WORSE


def _interval(values: Sequence[float], risk: float) -> Interval:
    """Beyond either end of it lies the true mean with that risk."""
    return t_interval(values, 100 * (1 - 2 * risk))
