"""The line about guests that come and go: every life is counted once, and the fullest moment is that of the table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.over_time import rows_over_time
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.fleet_summary import FleetSummary, fleet_summary
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.study.lives import room_of
from coldfleet.cluster.study.model import merge
from coldfleet.cluster.study.placement import most_at_once
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.host_spec import HostSpec
from tests.cluster.conftest import Said
from tests.cluster.study.test_over_time import STUDY

BUSY: dict[str, Any] = {
    "overcommit": 1.0,
    "fleet": {
        "outage": {"a": {"host": 1, "count": 2, "at": "5 h", "back": "9 h"}},
        "guest": {"web": {"arrivals": {"per_hour": 6.0}}},
    },
}


@pytest.mark.parametrize("change", [{}, BUSY, {**BUSY, "fleet": {**BUSY["fleet"], "placement": "random"}}])
def test_every_life_is_placed_or_moved_or_refused_and_the_peak_is_the_fullest_moment(change: dict[str, Any]) -> None:
    plan = read_study(merge(STUDY, change))
    rows, most = [], []
    for run in plan.runs():
        found = rows_over_time(run, lambda name: [])
        rows += found["lives"]
        housed = [row for row in found["lives"] if not row["refused"]]
        lives = ((row["start_s"], row["end_s"], row["memory_pages"], row["vcpus"]) for row in housed)
        _, pages, vcpus = most_at_once(lives)
        room = room_of(run.cell.spec)
        most.append((pages / room.memory_pages, vcpus / room.vcpus))
    summary = FleetSummary.of(pa.Table.from_pylist(rows), {cell_id: plan.cell(0).spec for cell_id in plan.cell_ids})
    assert summary is not None
    counted = (summary.placed + summary.moved + sum(summary.refused.values())) * len(plan)
    assert counted == pytest.approx(len(rows))
    assert summary.moved * len(plan) == pytest.approx(sum(row["again"] > 0 and not row["refused"] for row in rows))
    assert summary.memory_share == max(memory for memory, _ in most) <= 1
    assert summary.vcpu_share == max(vcpus for _, vcpus in most) <= 1
    assert ("outage" in change.get("fleet", {})) == (summary.moved > 0)


def test_the_line_stands_below_the_summary_in_its_json_in_the_report_and_after_a_run(
    tmp_path: Path, fake_engine: list[HostSpec], coldfleet: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = read_study(merge(STUDY, {**BUSY, "output": {"epochs": "on"}}))
    results = sweep(plan, tmp_path / "out", SerialExecutor())
    summary = fleet_summary(results)
    assert summary is not None
    fleet = results.table("fleet")
    assert summary.memory_share is not None
    assert summary.memory_share >= max(fleet["memory_share"].to_pylist())
    assert sum(fleet["moved"].to_pylist()) == pytest.approx(summary.moved * len(plan))
    said = coldfleet("resume", tmp_path / "out")
    assert summary.text in " ".join(said.out.split())
    data = json.loads(coldfleet("resume", tmp_path / "out", "--json").out)["fleet"]
    assert (data["placed"], data["refused"]) == (summary.placed, dict(summary.refused))
    said = coldfleet("run", tmp_path / "out", "--cell", plan.cell_ids[0])
    assert "guests of a run: " in said.out
    assert "moved to another host; at the fullest" in " ".join(said.out.split())
    monkeypatch.setattr("coldfleet.cluster.report.page._watch", lambda *_: None)  # the engine is a fake
    assert coldfleet("report", tmp_path / "out", "--out", tmp_path / "report.html").code == 0
    assert f'<p id="fleet-line">{summary.text}.</p>' in (tmp_path / "report.html").read_text()


def test_a_study_of_guests_that_stay_has_no_such_line(study_text: str, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(study_text)
    plan = read_study(tmp_path / "study.toml")
    assert FleetSummary.of(pa.table({}), {plan.cell_ids[0]: plan.cell(0).spec}) is None


def test_an_empty_table_says_what_it_takes(
    tmp_path: Path, fake_engine: list[HostSpec], coldfleet: Callable[..., Said]
) -> None:
    sweep(read_study(STUDY), tmp_path / "out", SerialExecutor())
    said = coldfleet("query", tmp_path / "out", "SELECT count(*) FROM fleet JOIN lives USING (cell_id)")
    assert said.err.splitlines() == [
        'coldfleet: the table fleet is empty: it takes epochs = "on" in [output], and a study whose guests come and '
        "go: [fleet.guest.NAME.arrivals], fleet.arrivals or [fleet.outage.NAME]"
    ]
    assert coldfleet("query", tmp_path / "out", "SELECT count(*) FROM lives").err == ""


def test_help_names_every_table(coldfleet: Callable[..., Said]) -> None:
    said = " ".join(coldfleet("query", "--help").out.split())
    assert all(table in said for table in TABLES)
