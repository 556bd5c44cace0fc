"""What users write on the command line and in studies, a text each: read, or refused in one line."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfleet.cluster.answers.cell_choice import find_cell
from coldfleet.cluster.answers.comparison import Precision
from coldfleet.cluster.answers.hybrid_runs import GuestMetric
from coldfleet.cluster.answers.question import Budget, range_of, set_keys
from coldfleet.cluster.answers.slo import parse_slo
from coldfleet.cluster.commands.execution import settings
from coldfleet.cluster.commands.explain import _number
from coldfleet.cluster.commands.map import _range
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.metrics import find_metric
from coldfleet.cluster.results.query import run_query
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.study.argument import Check
from coldfleet.cluster.study.constraint import read_constraint
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.engine.hybrids import get_kernel
from coldfleet.hostsim.spec.calibration import parse_calibration
from coldfleet.hostsim.spec.units import MEMORY, TIME
from coldfleet.hostsim.workload.scenario import parse_scenario
from coldfleet.policies import get_policy
from tests.cluster.conftest import Said
from tests.fuzzing import BOUNDED, LONG, check_said, outcome, phrases

WORDS = [
    "ticks", "overcommit", "nested_ratio", "guest.memory", "kernel", "policy", "clock.mode", "share", "vm", "scan",
    "pgmajfault", "refaults", "pgsteal", "fault_rate", "promotion_rate", "slowdown_p99", "_mean", "_p95", "p100",
    "mean", "+", "-", "*", "/", "<", "<=", ">", "==", "=", "(", ")", "[", "]", "{", "}", ",", ";", ".", ":", "and",
    "or", "not", "in", "if", "is", "with", "of", "two_touch", "6.12", "6.18", "evict-only", "locked-6.12", "zipf",
    "hotcold", "write", "0", "1", "1.5", "2%", "5m", "600", "1e300", "64 MiB", "4 KiB", "250 ms", "1 us", "KiB",
    "min", "tick", "0x4d2", "'a'", "\"4 MiB\"", "True", "None", "lambda", "x", "fault_ns=1", "mine",
]  # fmt: skip
SQL = [
    "SELECT", "FROM", "cells", "guests", "hosts", "epochs", "WHERE", "GROUP BY", "ORDER BY", "*", "count(*)",
    "policy", "pgmajfault", "step_pages", "cell_id", "replicate", "(", ")", ",", "=", "1", "0", "'[/x]'", "'=1+1'",
    "chr(27)", "NULL", "AS", "x", "TIMESTAMP '290000-01-01'", "DATE '5877642-06-25 (BC)'", "INTERVAL 1 DAY",
    "[1, 2]", "{'a': 1}", "MAP {1: 2}", "'\\x00'::BLOB", "1::DECIMAL(38, 2)", "'infinity'::DOUBLE", "uuid()",
    "range(3)", "TIME '24:00:00'", "LIMIT 2", "UNION", "1::HUGEINT << 100", "'1'::BIT", "read_csv('/etc/passwd')",
    "COPY", "ATTACH", "PRAGMA", ";", "--", "WITH", "unnest",
]  # fmt: skip
TEXTS = phrases(WORDS)


def read_metric(text: str) -> None:
    metric = find_metric(text)
    row = dict.fromkeys(metric.needs, 2)
    assert math.isfinite(metric.value(row))


def read_where(text: str) -> None:
    study = read_study_with({"where": [text]})
    assert 1 <= study.cell_count <= study.combination_count


def read_study_with(changes: dict[str, Any]) -> Plan:
    base = {"ticks": 4, "fleet": {"hosts": 1, "guests_per_host": 1}, "guest": {"memory": "4 MiB"}}
    grid = {"policy": ["evict-only", "locked-6.12"], "overcommit": [1.5, 2]}
    return read_study({**base, "grid": grid, **changes})


def read_budget(text: str) -> None:
    budget = Budget.parse(text)
    for runs, seconds in ((0, 0.0), (10, 0.5), (10**6, 1e6)):
        left = budget.runs_left(runs, seconds, runs / seconds if runs else None, 3)
        assert left is None if budget.runs is None and not runs else left is not None and left >= 0


def read_at(text: str) -> None:
    set_keys(read_study_with({}), settings([text]))


def read_map_range(text: str) -> None:
    low, high = range_of("overcommit", *_range(text), read_study_with({}))
    assert low < high


def read_slo(text: str) -> None:
    slo = parse_slo(text, 1.0)
    rows = [dict.fromkeys(slo.metric.needs, number) for number in (1, 2, 3)]
    assert math.isfinite(slo.value(rows))
    assert not math.isnan(slo.excess(rows))
    assert slo.show(slo.value(rows))


def read_check(text: str) -> None:
    argument: dict[str, Any] = {"number": 1, "claim": "", "by": "", "decides": ""}
    check: dict[str, Any] = {"says": "", "measure": "pgmajfault", "bound": text}
    read_study_with({"argument": {**argument, "checks": [check]}})
    Check(**check).holds(1.0)


PARSERS: dict[str, Callable[[str], object]] = {
    "memory": lambda text: MEMORY.format(MEMORY.parse(text)),
    "time": lambda text: TIME.format(TIME.parse(text)),
    "metric": read_metric,
    "metric of guests": lambda text: find_metric(text, "guests"),
    "guest metric": lambda text: GuestMetric.parse(text, None),
    "where": read_where,
    "constraint": lambda text: read_constraint(text, ["ticks", "policy"])({"ticks": 4, "policy": "evict-only"}),
    "budget": read_budget,
    "precision": Precision.parse,
    "at": read_at,
    "at a key": lambda text: read_at(f"overcommit={text}"),
    "at a time": lambda text: read_at(f"clock.tick={text}"),
    "at a name": lambda text: read_at(f"kernel={text}"),
    "at a count": lambda text: read_at(f"ticks={text}"),
    "range": read_map_range,
    "slo": read_slo,
    "bound": read_check,
    "kernel": get_kernel,
    "policy": get_policy,
    "scenario": parse_scenario,
    "calibration": parse_calibration,
    "sample": lambda text: read_study_with({"host": {"sample": text}}),
    "subscribers": lambda text: read_study_with({"vm": {"subscribers": text}}),
    "title": lambda text: read_study_with({"title": text}),
    "cell": lambda text: find_cell(read_study_with({}), text),
    "page": _number,
}


def test_the_words_of_parsers_are_words() -> None:
    """Some of what is made of them is accepted."""
    assert outcome(lambda: read_metric("pgsteal / pgmajfault + pgsteal")) == ""
    assert outcome(lambda: read_where("overcommit > 1.5 and policy in ['evict-only']")) == ""
    assert outcome(lambda: read_slo("slowdown_p99<5%")) == ""


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize(
    "text", [" " * 5000, " " * 5000 + "x", "9" * 5000, "1" + " " * 5000 + "<", "a" * 100_000, "\0"]
)
def test_a_long_text_is_read_at_once(name: str, text: str) -> None:
    outcome(lambda: PARSERS[name](text))


@BOUNDED
@given(st.sampled_from(sorted(PARSERS)), TEXTS)
def test_any_text_is_read_or_one_line(name: str, text: str) -> None:
    outcome(lambda: PARSERS[name](text))


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_fuzz_texts(name: str) -> None:
    @LONG
    @given(TEXTS)
    def check(text: str) -> None:
        outcome(lambda: PARSERS[name](text))

    check()


@pytest.fixture
def done(tmp_path: Path, fake_engine: object) -> Path:
    """The directory of a finished sweep."""
    sweep(read_study_with({"output": {"epochs": "on"}}), tmp_path / "out", SerialExecutor())
    return tmp_path / "out"


QUERIES = phrases(SQL, 10).map(lambda text: f"SELECT {text}") | phrases(SQL, 12)
Command = Callable[..., Said]


@BOUNDED
@given(QUERIES, st.sampled_from([(), ("--json",), ("--csv",)]))
def test_any_query_is_answered_or_one_line(done: Path, coldfleet: Command, sql: str, how: tuple[str, ...]) -> None:
    check_said(*coldfleet("query", done, sql, *how))


@pytest.mark.slow
@LONG
@given(QUERIES)
def test_fuzz_queries(done: Path, sql: str) -> None:
    results = Results.open(done)
    outcome(lambda: run_query(results, sql).nbytes)
