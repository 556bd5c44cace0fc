"""Runs on demand: each once, whatever asks for it; what goes wrong is one line."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from coldfleet.cluster.answers.question import vary, vary_together
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.progress import Silent
from coldfleet.cluster.execution.trials import Trial, Trials
from coldfleet.cluster.execution.work import simulate_run, warm_up_shapes
from coldfleet.cluster.study.plan import Plan
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import HostResult, HostSpec
from tests.cluster.conftest import Said

COLUMNS = {"cells": ["pgmajfault"], "guests": ["guest", "pgmajfault"]}


def trials(plan: Plan) -> Trials:
    return Trials(plan, SerialExecutor(), Silent(), COLUMNS)


def test_rows_are_those_of_a_sweep(plan: Plan, fake_engine: list[HostSpec]) -> None:
    with trials(plan) as some:
        some.run([Trial(4, 1), Trial(0, 0)])
        rows = simulate_run(plan.run(1 * plan.cell_count + 4))
        (cell,) = some.rows("cells", Trial(4, 1))
        assert cell["pgmajfault"] == rows["cells"][0]["pgmajfault"]
        assert [row["pgmajfault"] for row in some.rows("guests", Trial(4, 1))] == [
            row["pgmajfault"] for row in rows["guests"]
        ]
        assert some.runs == 2


def test_a_run_is_done_once(plan: Plan, fake_engine: list[HostSpec]) -> None:
    with trials(plan) as some:
        for _ in range(2):
            some.run([Trial(0, 0), Trial(0, 0), Trial(3, 0)])
        assert some.runs == 2
    hosts = plan.cell(0).spec.fleet.hosts
    assert len(fake_engine) == 2 * hosts + len(warm_up_shapes(plan))


def test_what_simulates_the_same_hosts_is_done_once(plan: Plan, fake_engine: list[HostSpec]) -> None:
    same = vary(plan, "nested_ratio", [0.25, 0.3])  # one of four guests, both
    other = vary(plan, "nested_ratio", [0.25, 0.5])
    for varied, runs in ((same, 1), (other, 2)):
        with trials(varied) as some:
            some.run([Trial(0, 0), Trial(1, 0)])
            assert some.runs == runs
            assert len(some.rows("guests", Trial(1, 0))) == 4


def test_a_failed_run_is_one_line(
    study_file: Path, coldfleet: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(spec: HostSpec, *_: object, **__: object) -> HostResult:
        if spec.ticks == 4:
            raise ValueError("no such page")
        return HostResult(())

    monkeypatch.setattr("coldfleet.hostsim.host.simulate_host", broken)
    said = coldfleet("compare", "evict-only", "six-steps", study_file, "--executor", "serial")
    assert (said.code, said.out) == (2, "")
    assert "a run failed: cell " in said.err.splitlines()[-1]
    assert "ValueError: no such page" in said.err.splitlines()[-1]


def test_an_interrupt_ends_it(
    study_file: Path, coldfleet: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, fake_engine: list[HostSpec]
) -> None:
    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("coldfleet.cluster.execution.executor.run_batch", interrupted)
    said = coldfleet("compare", "evict-only", "six-steps", study_file, "--executor", "serial")
    assert (said.code, said.out, said.err.splitlines()[-1]) == (
        130,
        "",
        "coldfleet: interrupted; run the same command again",
    )


def test_keys_vary_together_or_alone(plan: Plan) -> None:
    points = vary_together(plan, ("nested_ratio", "overcommit"), [(0.25, 1.5), (0.5, 2.0)])
    assert points.cell_count == 2 * len(plan.values("policy"))
    specs = [points.cell(number).spec for number in range(points.cell_count)]
    assert {(spec.nested_ratio, spec.overcommit) for spec in specs} == {(0.25, 1.5), (0.5, 2.0)}
    with pytest.raises(UserError, match="overcommit varies together with nested_ratio in this study"):
        vary(points, "overcommit", [2.0])
