"""Means and differences with confidence intervals over a few replicates: all statistics of the project.

scipy is imported where it is used: it takes a while, and ``--help`` has no need of it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CONFIDENCE = 95.0  # percent, of every interval that names no other
_RESAMPLES = 4999  # of a bootstrap

_LARGE = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_SMALL = ((1e-6, "µ"), (1e-9, "n"))


class Mean(NamedTuple):
    """A mean and half the width of its 95 % interval, which is None for a single value."""

    mean: float
    half_width: float | None

    def __str__(self) -> str:
        """The mean in three digits, the half width in two, or as far as the mean's decimals go if both are about 1."""
        return self._text(zeros=False)

    @property
    def in_column(self) -> str:
        """The same below others: always in three digits, "33.0 ±0.0" and not "33 ±0", unless all is 0."""
        return self._text(zeros=True)

    def _text(self, zeros: bool) -> str:
        mean = short(self.mean, zeros=zeros)
        if self.half_width is None or (self.half_width == 0 and self.mean == 0):
            return mean
        if self.half_width >= 1 or abs(self.mean) < 0.001:
            return f"{mean} ±{short(self.half_width, 2)}"
        decimals = len(mean.partition(".")[2]) if abs(self.mean) < 100 else 0
        return f"{mean} ±{self.half_width:.{decimals}f}"


def signed_percent(mean: Mean) -> str:
    """A change in percent with its sign, in as many decimals as show the half width, one to four: "+12.3 ±0.4 %".

    It has up to six where mean and half width would else look alike, and none could tell which is larger. Without a
    half width the mean itself is shown so. What is rounded to 0 has no sign.
    """
    change, half = mean
    smallest = half or abs(change)
    decimals = min(max(-math.floor(math.log10(smallest)), 1), 4) if smallest else 1
    while half and decimals < 6 and half != abs(change) and f"{half:.{decimals}f}" == f"{abs(change):.{decimals}f}":
        decimals += 1
    interval = "" if half is None else f" ±{half:,.{decimals}f}"
    sign = "+" if round(change, decimals) else ""
    return f"{round(change, decimals) + 0.0:{sign},.{decimals}f}{interval} %".replace("-", "−")


def mean_interval(values: Sequence[float]) -> Mean:
    """The mean of at least one value, with its interval by Student's t."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Mean(mean, None)
    return Mean(mean, t_point(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values)))


def welch_interval(a: Sequence[float], b: Sequence[float]) -> Mean:
    """The difference of the means of independent samples, b - a, with its 95 % interval; None if one has one value.

    Source: B. L. Welch, "The generalization of 'Student's' problem when several different population variances are
    involved", Biometrika 34 (1947); their variances may differ.
    """
    difference = statistics.fmean(b) - statistics.fmean(a)
    if min(len(a), len(b)) < 2:
        return Mean(difference, None)
    errors = [statistics.variance(each) / len(each) for each in (a, b)]
    if not sum(errors):
        return Mean(difference, 0.0)
    shares = [(error / sum(errors)) ** 2 / (len(each) - 1) for error, each in zip(errors, (a, b), strict=True)]
    return Mean(difference, t_point(1 / sum(shares)) * math.sqrt(sum(errors)))


def t_point(degrees: float, confidence: float = CONFIDENCE) -> float:
    """The two-sided point of Student's t at a confidence in percent: 2.262 for 9 degrees of freedom and 95 %."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + confidence / 100) / 2))


class Interval(NamedTuple):
    """Where a true value lies, with a confidence that is said elsewhere."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of its width."""
        return (self.high - self.low) / 2

    def __contains__(self, value: object) -> bool:
        """Whether a number lies in it, ends included."""
        return isinstance(value, int | float) and self.low <= value <= self.high


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The interval of a mean by Student's t, of at least two values whose number doesn't depend on them."""
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    half = t_point(len(values) - 1, confidence) * deviation / math.sqrt(len(values))
    return Interval(mean - half, mean + half)


def sample_size(pilot: Sequence[float], half_width: float, confidence: float = CONFIDENCE) -> float:
    """How many values make the interval of :func:`two_stage_interval` no wider than that; infinite if none do."""
    spread = t_point(len(pilot) - 1, confidence) * statistics.stdev(pilot)
    if not spread:
        return len(pilot)
    return max(len(pilot), math.ceil((spread / half_width) ** 2)) if half_width else math.inf


def two_stage_interval(values: Sequence[float], pilot: int, confidence: float = CONFIDENCE) -> Interval:
    """The interval of a mean, if the first ``pilot`` values decided how many there are.

    Adding values until an ordinary interval is narrow enough stops too early too often: when the values happen to lie
    close together. Here the deviation is that of the pilot, and the mean that of all values. The deviation of normal
    values says nothing about their mean, so the confidence is what it says, whatever number the pilot asked for.

    Source: C. Stein, "A two-sample test for a linear hypothesis whose power is independent of the variance", Annals of
    Mathematical Statistics 16 (1945).
    """
    deviation = statistics.stdev(values[:pilot])
    if not deviation:  # a pilot of equal values says nothing about those that differ
        return t_interval(values, confidence)
    mean = statistics.fmean(values)
    half = t_point(pilot - 1, confidence) * deviation / math.sqrt(len(values))
    return Interval(mean - half, mean + half)


def two_stage_bootstrap(values: Sequence[float], pilot: int, confidence: float = CONFIDENCE) -> Interval:
    """The same interval without taking the values for normal: both stages are drawn anew from the values, many times.

    What Student's t says of normal values, the draws say of these: how far their mean is from the true one, in units of
    the pilot's deviation (a studentized bootstrap). Equal each time.
    """
    import numpy as np

    data = np.asarray(values, float)
    deviation = float(data[:pilot].std(ddof=1))
    if not deviation:
        return t_interval(values, confidence)
    drawn = np.random.default_rng(len(data)).choice(data, (_RESAMPLES, len(data)))
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw of equal values
        distances = (drawn.mean(axis=1) - data.mean()) / drawn[:, :pilot].std(axis=1, ddof=1)
    tail = (1 - confidence / 100) / 2
    low, high = np.quantile(distances[np.isfinite(distances)], [tail, 1 - tail])
    return Interval(float(data.mean() - high * deviation), float(data.mean() - low * deviation))


def percent(share: float, *, signed: bool = False) -> str:
    """A share in whole percent, without the sign of a 0: 0.123 -> "12%", signed "+12%", -0.001 -> "0%"."""
    if not math.isfinite(share):
        return f"{share:.0%}"
    number = round(100 * share)
    return f"{number:+}%" if signed and number else f"{number}%"


def short(value: float, digits: int = 3, *, zeros: bool = False) -> str:
    """So many digits and a prefix: 1234567 -> "1.23M", 0.0421 -> "0.0421", 0.0000421 -> "42.1µ", 0 -> "0".

    Whole numbers have no decimals, unless ``zeros`` asks for all digits: 2000000 -> "2M" or "2.00M".
    """
    rounded = float(f"{value:.{digits}g}") + 0.0  # which is never -0
    if not rounded:
        return "0"
    small = 0 < abs(rounded) < 0.001
    for factor, prefix in _SMALL if small else _LARGE:
        if abs(rounded) >= factor:
            return _plain(rounded / factor, digits, zeros) + prefix
    return _plain(rounded, digits, zeros)


def _plain(value: float, digits: int, zeros: bool) -> str:
    if (not zeros and abs(value - round(value)) < 1e-9) or abs(value) >= 10 ** (digits - 1):
        return f"{value:.0f}"
    return f"{value:#.{digits}g}"


def grouped_means(
    groups: npt.NDArray[np.int64], values: npt.NDArray[np.float64], count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """For each of ``count`` groups the mean of its values and half the width of the mean's 95 % interval.

    ``groups``: the group of each value. A group without values has NaN, one with a single value NaN as its half width.
    """
    import numpy as np
    from scipy.special import stdtrit

    sizes = np.bincount(groups, minlength=count).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.bincount(groups, values, count) / sizes
        variances = np.bincount(groups, (values - means[groups]) ** 2, count) / (sizes - 1)
        half_widths = stdtrit(np.maximum(sizes - 1, 1), (1 + CONFIDENCE / 100) / 2) * np.sqrt(variances / sizes)
    return means, np.where(sizes > 1, half_widths, np.nan)
