"""Intervals and how figures are printed."""

from __future__ import annotations

import pytest

from cluster.statistics import Mean, mean_interval, short, t95


def test_interval_of_three_values_by_hand() -> None:
    # standard deviation 1, so 4.303 / sqrt(3)
    mean = mean_interval([1.0, 2.0, 3.0])
    assert mean.mean == 2
    assert mean.half_width == pytest.approx(2.4843, abs=1e-4)


def test_one_value_has_no_interval() -> None:
    assert mean_interval([5.0]) == Mean(5.0, None)
    assert str(mean_interval([5.0])) == "5"


@pytest.mark.parametrize(
    ("degrees", "value"), [(1, 12.706), (4, 2.776), (30, 2.042), (31, 2.040), (60, 2.000), (120, 1.980), (1000, 1.962)]
)
def test_t_is_that_of_the_tables(degrees: int, value: float) -> None:
    assert t95(degrees) == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7"), (999, "999"), (1000, "1k"), (1234, "1.23k"), (999_600, "1M"), (1_234_567, "1.23M"),
     (5.6e10, "56G"), (0.13, "0.130"), (0.0421, "0.0421"), (12.34, "12.3"), (-1234, "-1.23k"), (4.21e-5, "42.1µ")],
)  # fmt: skip
def test_short(value: float, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(
    ("mean", "text"),
    [(Mean(0, 0), "0"), (Mean(52100, 496.9), "52.1k ±500"), (Mean(0.478, 0.00127), "0.478 ±0.001"),
     (Mean(5.8213, 0.0123), "5.82 ±0.01"), (Mean(4.2e-6, 2.3e-8), "4.20µ ±23n"), (Mean(1.23e6, 1540), "1.23M ±1.5k")],
)  # fmt: skip
def test_mean_as_text(mean: Mean, text: str) -> None:
    assert str(mean) == text
