"""Intervals and how figures are printed."""

from __future__ import annotations

import numpy as np
import pytest

from coldfleet.cluster.stats.statistics import (
    Interval,
    Mean,
    mean_interval,
    percent,
    sample_size,
    short,
    t_interval,
    t_point,
    two_stage_bootstrap,
    two_stage_interval,
)


def test_interval_of_three_values_by_hand() -> None:
    # standard deviation 1, so 4.3027 / sqrt(3)
    mean = mean_interval([1.0, 2.0, 3.0])
    assert mean.mean == 2
    assert mean.half_width == pytest.approx(2.4841, abs=1e-4)


def test_one_value_has_no_interval() -> None:
    assert mean_interval([5.0]) == Mean(5.0, None)
    assert str(mean_interval([5.0])) == "5"


@pytest.mark.parametrize(
    ("degrees", "value"), [(1, 12.706), (4, 2.776), (30, 2.042), (31, 2.040), (60, 2.000), (120, 1.980), (1000, 1.962)]
)
def test_t_is_that_of_the_tables(degrees: int, value: float) -> None:
    assert t_point(degrees) == pytest.approx(value, abs=1e-3)


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
     (Mean(5.8213, 0.0123), "5.82 ±0.01"),
     (Mean(33, 0), "33 ±0"), (Mean(4.2e-6, 2.3e-8), "4.20µ ±23n"), (Mean(1.23e6, 1540), "1.23M ±1.5k")],
)  # fmt: skip
def test_mean_as_text(mean: Mean, text: str) -> None:
    assert str(mean) == text


def test_t_interval_is_that_of_the_mean() -> None:
    mean = mean_interval([1.0, 2.0, 4.0])
    interval = t_interval([1.0, 2.0, 4.0])
    assert (interval.high + interval.low) / 2 == pytest.approx(mean.mean)
    assert interval.half_width == pytest.approx(mean.half_width)
    assert mean.mean in interval
    assert interval.high + 0.1 not in interval


def test_the_pilot_says_how_many_values_are_enough() -> None:
    pilot = [1.0, 2.0, 3.0]  # deviation 1
    assert sample_size(pilot, 1.0) == 19  # 4.303^2 = 18.5
    assert sample_size(pilot, 10.0) == 3
    assert sample_size(pilot, 0.0) == np.inf
    assert sample_size([2.0, 2.0, 2.0], 0.0) == 3


def test_values_that_are_all_equal_have_no_width() -> None:
    for make in (two_stage_interval, two_stage_bootstrap):
        assert make([7.0] * 5, 3) == Interval(7, 7)
        assert make([7.0] * 3 + [8.0], 3).half_width > 0, "a pilot of equal values is not believed"


def covered(draw: str, trials: int) -> dict[str, float]:
    """How often each interval has the true mean, 0, if a pilot of ten decides about the number of values."""
    rng = np.random.default_rng(1)
    names = {"t": two_stage_interval, "bootstrap": two_stage_bootstrap, "naive": lambda values, _: t_interval(values)}
    found = dict.fromkeys(names, 0)
    for _ in range(trials):
        values = (rng.normal(size=60) if draw == "normal" else rng.exponential(size=60) - 1).tolist()
        values = values[: int(min(sample_size(values[:10], 0.5), 60))]
        for name, interval in names.items():
            found[name] += 0 in interval(values, 10)
    return {name: hits / trials for name, hits in found.items()}


def test_two_stages_keep_the_confidence() -> None:
    found = covered("normal", 1000)
    assert found["t"] == pytest.approx(0.95, abs=0.014)  # two standard errors
    assert found["bootstrap"] == pytest.approx(0.95, abs=0.014)
    assert found["naive"] < found["t"], "stopping when it looks good costs confidence"


def test_the_bootstrap_bears_skewed_values() -> None:
    found = covered("exponential", 1000)
    assert found["bootstrap"] > found["t"] + 0.02
    assert found["bootstrap"] == pytest.approx(0.95, abs=0.03)


def test_a_column_has_one_rule_for_digits() -> None:
    means = [Mean(0, 0), Mean(33, 0), Mean(35.8, 0.01), Mean(1e6, 4900), Mean(1.08e6, 2800), Mean(84000, 1700)]
    shown = ["0", "33.0 ±0.0", "35.8 ±0.0", "1.00M ±4.9k", "1.08M ±2.8k", "84.0k ±1.7k"]
    assert [mean.in_column for mean in means] == shown


def test_nothing_has_no_sign() -> None:
    assert [percent(share, signed=True) for share in (-0.001, 0.0, 0.001, 0.123, -0.5)] == [
        "0%",
        "0%",
        "0%",
        "+12%",
        "-50%",
    ]
    assert [percent(share) for share in (-0.004, 0.5)] == ["0%", "50%"]
    assert [short(value) for value in (-0.0, 0.0)] == ["0", "0"]
