"""Means with 95 % confidence intervals over a few replicates."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

# Two-sided 95 % points of Student's t for 1..30 degrees of freedom (any table of the distribution has them).
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_Z95 = 1.959964
_LARGE = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_SMALL = ((1e-6, "µ"), (1e-9, "n"))


class Mean(NamedTuple):
    """A mean and half the width of its 95 % interval, which is None for a single value."""

    mean: float
    half_width: float | None

    def __str__(self) -> str:
        """The mean in three digits, the half width in two, or as far as the mean's decimals go if both are about 1."""
        if self.half_width is None or (self.half_width == 0 and self.mean == 0):
            return short(self.mean)
        if self.half_width >= 1 or abs(self.mean) < 0.001:
            return f"{short(self.mean)} ±{short(self.half_width, 2)}"
        decimals = len(short(self.mean).partition(".")[2]) if abs(self.mean) < 100 else 0
        return f"{short(self.mean)} ±{self.half_width:.{decimals}f}"


def mean_interval(values: Sequence[float]) -> Mean:
    """The mean of at least one value, with its interval by Student's t."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Mean(mean, None)
    return Mean(mean, t95(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values)))


def t95(degrees: int) -> float:
    """The two-sided 95 % point of Student's t, to three decimals.

    Beyond the table by the Cornish-Fisher expansion around the normal distribution, to second order.
    """
    if degrees <= len(_T95):
        return _T95[degrees - 1]
    z = _Z95
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def short(value: float, digits: int = 3) -> str:
    """So many digits and a prefix: 1234567 -> "1.23M", 0.0421 -> "0.0421", 0.0000421 -> "42.1µ", 0 -> "0"."""
    rounded = float(f"{value:.{digits}g}")
    small = 0 < abs(rounded) < 0.001
    for factor, prefix in _SMALL if small else _LARGE:
        if abs(rounded) >= factor:
            return _plain(rounded / factor, digits) + prefix
    return _plain(rounded, digits)


def _plain(value: float, digits: int) -> str:
    if abs(value - round(value)) < 1e-9 or abs(value) >= 10 ** (digits - 1):
        return f"{value:.0f}"
    return f"{value:#.{digits}g}"
