"""Laws over whole runs: no study breaks one, each can be broken, and a broken one is a failed run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from coldfleet.cluster.execution.work import simulate_run
from coldfleet.cluster.results.parts import Rows
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.row_laws import ROW_LAWS, check_rows
from coldfleet.cluster.study.fleet import build_fleet
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.laws import LawBrokenError
from tests.cluster.conftest import Said
from tests.drawn_studies import huge_studies, studies

QUIET = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


def run_audited(study: dict[str, Any]) -> None:
    """Runs all of a study; one that contradicts itself is another example's turn."""
    try:
        plan = read_study(study)
    except UserError:
        assume(False)
    for run in plan.runs():
        simulate_run(run, audit=True)


@settings(QUIET, max_examples=16, derandomize=True)
@given(study=studies())
def test_no_study_breaks_a_law(study: dict[str, Any]) -> None:
    run_audited(study)


@pytest.mark.slow
@settings(QUIET, max_examples=2000)
@given(study=studies())
def test_no_study_of_many_breaks_a_law(study: dict[str, Any]) -> None:
    run_audited(study)


@settings(QUIET, max_examples=8, derandomize=True)
@given(study=huge_studies())
def test_no_study_with_huge_pages_breaks_a_law(study: dict[str, Any]) -> None:
    run_audited(study)


@pytest.mark.slow
@settings(QUIET, max_examples=500)
@given(study=huge_studies())
def test_no_study_of_many_with_huge_pages_breaks_a_law(study: dict[str, Any]) -> None:
    run_audited(study)


def run_with_turnover(study: dict[str, Any], lives: list[tuple[int, int]]) -> None:
    """The hosts of a study, whose guests come and go at these times, as far as it has as many ticks."""
    try:
        run = read_study(study).run(0)
        for number, (_, spec, _) in enumerate(build_fleet(run, slice(None))):
            ends = [(min(come, spec.ticks), min(come + stay, spec.ticks)) for come, stay in lives]
            guests = tuple(
                replace(guest, arrives=come, leaves=gone if gone > come else 0)
                for guest, (come, gone) in zip(spec.guests, cycle(ends), strict=False)
            )
            own = replace(spec, guests=guests)
            simulate_host(own, run.cell.policy, seed=run.cell.seed, replicate=0, host=number, audit=True)
    except UserError:
        assume(False)


LIVES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=4)


@settings(QUIET, max_examples=20, derandomize=True)
@given(study=studies(), lives=LIVES)
def test_no_guests_that_come_and_go_break_a_law(study: dict[str, Any], lives: list[tuple[int, int]]) -> None:
    run_with_turnover(study, lives)


@pytest.mark.slow
@settings(QUIET, max_examples=1000)
@given(study=st.one_of(studies(), huge_studies()), lives=LIVES)
def test_no_guests_of_many_that_come_and_go_break_a_law(study: dict[str, Any], lives: list[tuple[int, int]]) -> None:
    run_with_turnover(study, lives)


KILLED: dict[str, Any] = {
    "replicates": 1,
    "seed": 1,
    "ticks": 2,
    "kernel": "7.3",
    "policy": "six-steps",
    "overcommit": 1.0,
    "truth": "on",
    "output": {"epochs": "on"},
    "guest": {"memory": "2500 KiB", "accesses_per_tick": 1500, "workload": {}},
    "reclaim": {"psi_target": 50.0, "mode": "pressure"},
    "swap": {"device": "async", "size": "1500 pages"},
    "vm": {},
    "clock": {"mode": "timed", "pcpus": 1, "vcpus": 2},
    "host": {"memory": "6 MiB", "sample": "1/4"},
    "fleet": {
        "placement": "first-fit",
        "host": {"small": {"count": 1, "memory": "16 MiB", "cpus": 2}},
        "guest": {
            "web": {
                "count": 2,
                "memory": "2500 KiB",
                "workload": {
                    "skew": 0.9,
                    "write_share": 0.25,
                    "hot_access_share": 0.5,
                    "kind": "hotcold",
                    "hot_share": 0.0,
                    "phase_ticks": 2,
                    "layout": "shuffled",
                },
                "vcpus": 1,
                "accesses_per_tick": 1500,
                "nested": {},
                "nested_ratio": 0.1,
                "page_cache": {"memory": "1 pages"},
            },
            "db": {"count": 2},
        },
    },
    "nested_ratio": 0.0,
    "nested": {},
}


def test_the_fault_that_kills_a_guest_is_no_refault() -> None:
    """Studies drawn at random found one more wrong eviction than refaults."""
    run_audited(KILLED)


@pytest.mark.parametrize("mode", ["limit", "host", "pressure"])
def test_the_classic_lru_runs_wherever_mglru_does(mode: str) -> None:
    """With files, kswapd and an asynchronous swap device, on a clock and by a sample."""
    run_audited({**KILLED, "reclaim": {"lru": "classic", "mode": mode}})


def test_audited_rows_are_the_same(plan: Plan) -> None:
    run = plan.run(2)
    assert simulate_run(run, audit=True) == simulate_run(run)


def count_a_fault_twice(rows: Rows) -> None:
    rows["hosts"][1]["pgfault"] += 1


def lose_a_guest(rows: Rows) -> None:
    rows["guests"][0]["guest"] = 9


def refault_without_access(rows: Rows) -> None:
    for table in ("guests", "hosts", "cells"):
        rows[table][0]["refaults"] += 10**9


def press_on_the_cell(rows: Rows) -> None:
    rows["cells"][0]["psi_some_ns"] += 1.0


@pytest.mark.parametrize(
    ("breach", "law"),
    [
        (count_a_fault_twice, "sums"),
        (lose_a_guest, "one row each"),
        (refault_without_access, "shares"),
        (press_on_the_cell, "means"),
    ],
)
def test_every_law_of_rows_can_be_broken(breach: Callable[[Rows], None], law: str, plan: Plan) -> None:
    rows = simulate_run(plan.run(0))
    check_rows(rows)
    breach(rows)
    with pytest.raises(LawBrokenError, match="shares|sums" if law == "shares" else f"^{law}, "):
        check_rows(rows)
    assert any(True for _ in ROW_LAWS[law](rows))


@pytest.fixture
def leaky(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that loses a page of guest 1's charges in tick 3."""
    count_tick = HostMemory.count_tick

    def lose(memory: HostMemory) -> None:
        count_tick(memory)
        if memory.tick == 3:
            memory.machine.mms["charged"][-1] += 1

    monkeypatch.setattr(HostMemory, "count_tick", lose)


@pytest.mark.usefixtures("leaky")
def test_a_broken_law_is_a_failed_run(study_file: Path, tmp_path: Path, coldfleet: Callable[..., Said]) -> None:
    """It names the law, and where it was broken; without --audit nobody looks."""
    said = coldfleet("sweep", study_file, "--executor", "serial", "--out", tmp_path / "audited", "--audit")
    assert said.code == 1
    assert "LawBrokenError: limits, host 0, after tick 3: guest 1 has " in said.err
    assert "18 of 18 runs failed" in said.err
    assert len(Results.open(tmp_path / "audited").failed) == 18
    assert coldfleet("sweep", study_file, "--executor", "serial", "--out", tmp_path / "blind").code == 0
    cell = read_study(study_file).cell_ids[0]
    said = coldfleet("run", study_file, "--cell", cell, "--audit")
    assert (said.code, said.out) == (3, "")
    assert "LawBrokenError: limits, host 0, after tick 3: guest 1 has " in said.err
    assert coldfleet("run", study_file, "--cell", cell).code == 0
