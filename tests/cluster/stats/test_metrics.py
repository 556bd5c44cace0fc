"""Metrics: one grammar for all commands and studies, and the same figure of a row as of columns."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from coldfleet.cluster.answers.hybrid_runs import GuestMetric
from coldfleet.cluster.answers.slo import parse_slo
from coldfleet.cluster.results.metrics import columns, find_metric
from coldfleet.cluster.results.schemas import schema
from coldfleet.cluster.stats.metrics import DERIVED, SUMMARY, parse_metric
from coldfleet.cluster.study.argument import Check
from coldfleet.hostsim.spec.errors import UserError

UNITS = {"a": "pages", "b": "pages", "c": "calls"}
ROW = {"a": 6, "b": 2, "c": 4}


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("a", 6, "pages"),
        ("a + b", 8, "pages"),
        ("a+c", 10, ""),
        ("a / c", 1.5, ""),
        (" a + b / b + c ", 8 / 6, ""),
        ("a - b", 4, "pages"),
        ("a - b + c / a - c", 4, ""),
    ],
)
def test_metrics_are_columns_sums_and_ratios_of_sums(text: str, value: float, unit: str) -> None:
    metric = parse_metric(text, UNITS)
    assert (metric.value(ROW), metric.unit) == (value, unit)


@pytest.mark.parametrize("text", ["", "d", "a - d", "a / refaults", "refaults"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"^unknown (metric|column) "):
        parse_metric(text, UNITS)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a +", "a column is missing after '+'"),
        ("a -", "a column is missing after '-'"),
        ("- a", "a column is missing at the beginning"),
        ("/ a", "a column is missing at the beginning"),
        ("a / ", "a column is missing after '/'"),
        ("a + / b", "a column is missing after '+'"),
        ("a / b / c", "has 2 signs '/': a ratio has one"),
    ],
)
def test_what_is_missing_or_too_much_is_said(text: str, what: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_metric(text, UNITS)
    assert str(caught.value).startswith(f"metric {text!r}")
    assert what in str(caught.value)


def test_sums_that_have_a_name_are_parts_of_others() -> None:
    rng = np.random.default_rng(3)
    row = {name: int(rng.integers(1, 100)) for name in columns("cells")}
    refaults, missed, false = (find_metric(key).value(row) for key in ("refaults", "missed_young", "false_young"))
    assert find_metric("false_young / refaults").value(row) == false / refaults
    assert find_metric("missed_young - false_young").value(row) == missed - false
    assert find_metric("refaults / missed_young + pgsteal").value(row) == refaults / (missed + row["pgsteal"])


@pytest.mark.parametrize("text", ["fault_rate / pgsteal", "pgsteal + reclaim_cpu_s", "pgsteal / recall"])
def test_a_metric_that_is_no_sum_is_told_from_an_unknown_word(text: str) -> None:
    with pytest.raises(UserError, match="is no sum of columns; take columns, such as ") as caught:
        find_metric(text)
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("text", ["refalts", "pgsteal / refalts", "recal / pgsteal", "pgsteal / pgscam + pgscan"])
def test_what_is_suggested_is_accepted_in_its_place(text: str) -> None:
    with pytest.raises(UserError, match="did you mean") as caught:
        find_metric(text)
    wrong, *suggested = (
        each for each in re.findall(r"'([^']*)'", str(caught.value)) if each != text or "/" not in text
    )
    assert suggested
    for name in suggested:
        assert find_metric(text.replace(wrong, name)) is not None


@pytest.mark.parametrize(
    "text", ["refaults", "pgsteal", "pgsteal + pgrotated / pgscan", "fault_rate", "damon_hot_error"]
)
def test_every_use_reads_the_same_metric(text: str) -> None:
    metric = find_metric(text)
    assert find_metric(text, "guests") == metric
    assert GuestMetric.parse(text, None).metric == metric
    assert _check(text).metric == metric
    assert parse_slo(f"{text}<1").metric == metric


def _check(text: str) -> Check:
    return Check(says="x", measure=text, bound="> 1")


@pytest.mark.parametrize("use", [find_metric, lambda text: GuestMetric.parse(text, 0), _check])
def test_every_use_refuses_an_unknown_column_by_its_name(use: Any) -> None:
    with pytest.raises(ValueError, match="unknown column 'pgscam' in 'pgsteal / pgscam': did you mean 'pgscan'"):
        use("pgsteal / pgscam")


def test_nothing_over_nothing_is_nothing() -> None:
    assert parse_metric("a / b", UNITS).value({"a": 0, "b": 0}) == 0


def test_residency_is_the_mean_over_the_ticks_where_a_table_has_them() -> None:
    assert find_metric("residency").value({"resident_page_ticks": 30, "ticks": 10}) == 3
    assert "ticks" in schema("cells").names
    with pytest.raises(UserError, match="unknown metric 'residency'"):
        find_metric("residency", "guests")


def test_columns_as_arrays_give_the_figures_of_their_rows() -> None:
    rng = np.random.default_rng(1)
    data = {name: rng.integers(1, 100, 5) for name in [*columns("cells"), "ticks"]}
    for metric in (*SUMMARY, *DERIVED):
        above, below = metric.amounts(data)
        expected = [metric.value({name: int(each[row]) for name, each in data.items()}) for row in range(5)]
        assert (above / below).tolist() == expected
