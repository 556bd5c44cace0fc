"""Two policies, or two other settings, on identical accesses: the difference, and as many replicates as that takes.

A pilot of :data:`PILOT` replicates says how many there have to be, and then they are all run: two stages, so that the
confidence is kept (:func:`cluster.stats.statistics.two_stage_interval`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from coldfleet.cluster.stats.metrics import Metric
from coldfleet.cluster.stats.statistics import Interval, sample_size, short, two_stage_bootstrap, two_stage_interval
from coldfleet.hostsim.spec.errors import UserError

PILOT = 10
_MOST = 10_000  # replicates

Pair = tuple[float, float]
"""A figure of the one and of the other, in the same replicate."""

Draw = Callable[[Mapping[int, range]], dict[int, list[list[Pair]]]]
"""Runs replicates of some settings, all at once: for each setting and metric the pairs."""


@dataclass(frozen=True)
class Precision:
    """How narrow an interval has to be: half of it, in units of the metric, or of the larger of the two means."""

    value: float
    relative: bool

    @classmethod
    def parse(cls, text: str) -> Precision:
        """ "2%" or a number in the metric's units; raises UserError."""
        number = text.strip().removesuffix("%")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not 0 < value < math.inf:
            raise UserError(f"precision {text}: write a share, such as 2%, or a number in the metric's units")
        return cls(value / 100, True) if text.strip().endswith("%") else cls(value, False)

    def half_width(self, pairs: Sequence[Pair]) -> float:
        """The half width that it asks for, from the pilot."""
        if not self.relative:
            return self.value
        return self.value * max(abs(statistics.fmean(side)) for side in zip(*pairs, strict=True))


@dataclass(frozen=True)
class Comparison:
    """One metric of two values of a key, all else equal. The difference is b - a, with an interval by Student's t.

    ``same_accesses``: whether the guests of both make the same accesses in every replicate. Where guests come and go,
    a key may decide who finds a place.
    """

    metric: Metric
    names: tuple[str, str]
    pairs: Sequence[Pair]
    confidence: float
    precision: Precision
    same_accesses: bool = True

    @property
    def means(self) -> Pair:
        """The means of both."""
        a, b = (statistics.fmean(side) for side in zip(*self.pairs, strict=True))
        return a, b

    @property
    def difference(self) -> float:
        """The mean difference."""
        return statistics.fmean(self._differences)

    @property
    def interval(self) -> Interval:
        """That of the difference."""
        return two_stage_interval(self._differences, PILOT, self.confidence)

    @property
    def bootstrap(self) -> Interval:
        """That of the difference, if it needn't be normal."""
        return two_stage_bootstrap(self._differences, PILOT, self.confidence)

    @property
    def narrow_enough(self) -> bool:
        """Whether the interval is as narrow as asked."""
        return self.interval.half_width <= self.precision.half_width(self.pairs[:PILOT]) * (1 + 1e-9)

    @property
    def sentence(self) -> str:
        """What a human can quote."""
        a, b = self.names
        what = self.metric.title
        on = "on identical accesses" if self.same_accesses else "whose guests don't make the same accesses"
        sure = f"{self.confidence:g} % confidence, {len(self.pairs)} replicates {on}"
        low, high = self.interval
        if low == high == 0:
            return f"{a} and {b} don't differ in {what}: {short(self.means[0])} in each of {len(self.pairs)} replicates"
        if low <= 0 <= high:
            most = self._share(max(-low, high))
            return f"{a} and {b} can't be told apart by {what}: they differ by {most} at most ({sure})"
        ends = " and ".join(map(self._share, sorted((abs(low), abs(high)))))
        return f"{b} {self.change} against {a}, between {ends} ({sure})"

    @property
    def sign(self) -> int:
        """1: the second certainly has more, -1: less, 0: they can't be told apart."""
        low, high = self.interval
        return (low > 0) - (high < 0)

    @property
    def change(self) -> str:
        """What the second does to it: "lowers refaults by 4.44 %"."""
        verb = "raises" if self.difference > 0 else "lowers"
        return f"{verb} {self.metric.title} by {self._share(abs(self.difference))}"

    @property
    def _differences(self) -> list[float]:
        return [b - a for a, b in self.pairs]

    def _share(self, value: float) -> str:
        """A difference as a share of the first policy's figure, if that isn't 0."""
        base = abs(self.means[0])
        return f"{short(100 * value / base)} %" if base else short(value)


def compare(
    names: tuple[str, str],
    settings: int,
    metrics: Sequence[Metric],
    draw: Draw,
    *,
    confidence: float,
    precision: Precision,
    runs_left: Callable[[], int],
) -> list[list[Comparison]]:
    """For each setting and metric the comparison.

    ``runs_left``: of the budget, asked after the pilot, which is run in any case.
    """
    pairs = draw(dict.fromkeys(range(settings), range(PILOT)))
    more = {}
    for setting, of_metrics in pairs.items():
        sizes = [sample_size([b - a for a, b in some], precision.half_width(some), confidence) for some in of_metrics]
        more[setting] = int(min(max(sizes), _MOST)) - PILOT
    share = min(1.0, runs_left() / max(2 * sum(more.values()), 1))
    ranges = {setting: range(PILOT, PILOT + math.floor(n * share)) for setting, n in more.items() if n * share >= 1}
    for setting, of_metrics in draw(ranges).items() if ranges else ():
        for some, others in zip(pairs[setting], of_metrics, strict=True):
            some += others
    return [
        [
            Comparison(metric, names, some, confidence, precision)
            for metric, some in zip(metrics, pairs[setting], strict=True)
        ]
        for setting in range(settings)
    ]
