"""The line about guests that come and go: every life is counted once, and the fullest moment is that of the table."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow.dataset import dataset

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.over_time import rows_over_time
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.report.epochs import read_fleet
from coldfleet.cluster.report.figures import read_figures
from coldfleet.cluster.report.lessons import busiest_hours
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
def test_every_life_is_placed_or_refused_or_moved_or_lost_and_the_peak_is_the_fullest_moment(
    change: dict[str, Any],
) -> None:
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
    counted = summary.placed + sum(summary.refused.values()) + summary.moved + sum(summary.lost.values())
    assert counted * len(plan) == pytest.approx(len(rows))
    new = [row for row in rows if row["refused"] and not row["again"]]
    assert sum(summary.refused.values()) * len(plan) == pytest.approx(len(new))
    hours = Counter(max(math.ceil(row["start_s"] / 3600), 1) for row in new)
    assert hours.get(summary.refusals_hour or 0, 0) == max(hours.values(), default=0)
    assert summary.moved * len(plan) == pytest.approx(sum(row["again"] > 0 and not row["refused"] for row in rows))
    for why, many in summary.lost.items():
        assert many * len(plan) == pytest.approx(sum(row["again"] > 0 and row["refused"] == why for row in rows))
    assert summary.hosts_out == (2 if "outage" in change.get("fleet", {}) else 0)
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
    words = " ".join(said.out.split())
    assert "guests of a run, on average: " in words
    assert " lost their host and " in words
    assert "% of the memory and " in words
    assert "up to 2 hosts out of service at a time" in words
    monkeypatch.setattr("coldfleet.cluster.report.page._watch", lambda *_: None)  # the engine is a fake
    assert coldfleet("report", tmp_path / "out", "--out", tmp_path / "report.html").code == 0
    assert f'<p id="fleet-line">{summary.text}.</p>' in (tmp_path / "report.html").read_text()


def hour(life: dict[str, Any]) -> int:
    return max(math.ceil(life["start_s"] / 3600), 1)


@pytest.mark.parametrize("tick_min", [25, 40, 60, 150])
@pytest.mark.parametrize("every_ticks", [1, 3])
def test_the_hours_of_the_report_are_those_of_the_lives_wherever_rows_end(
    tick_min: int, every_ticks: int, tmp_path: Path, fake_engine: list[HostSpec]
) -> None:
    change = {"ticks": 700 // tick_min, "output": {"epochs": "on", "every_ticks": every_ticks},
              "fleet": {"tick": f"{tick_min} min"}}  # fmt: skip
    plan = read_study(merge(STUDY, merge(BUSY, change)))
    results = sweep(plan, tmp_path / "out", SerialExecutor())
    fleet, lives = results.table("fleet").to_pylist(), results.table("lives").to_pylist()
    runs, hours = len(plan) / 2, range(1, math.ceil(700 // tick_min * tick_min / 60) + 1)
    found = {each.title: each.rows for each in read_fleet(results, read_figures(results))}

    def by_hour(title: str, policy: str = "evict-only") -> dict[int, float]:
        return {row["x"]: row["mean"] for row in found.get(title, []) if row["policy"] == policy}

    def counted(which: Callable[[dict[str, Any]], bool]) -> dict[int, float]:
        many = Counter(hour(row) for row in lives if row["policy"] == "evict-only" and which(row))
        return {each: many[each] / runs for each in hours} if many else {}

    come = by_hour("guests that arrive in an hour and get a place")
    assert come == counted(lambda row: not row["again"] and not row["refused"] and row["start_s"] > 0)
    assert come == by_hour("guests that arrive in an hour and get a place", "six-steps")
    refused = 0.0
    for why in ("memory", "vcpus", "both", "outage"):
        of_why = by_hour(f"guests refused in an hour: {why}")
        assert of_why == counted(lambda row, why=why: not row["again"] and row["refused"] == why)  # type: ignore[misc]
        refused += sum(of_why.values())
    lost = by_hour("guests that lose their host in an hour and find no other")
    assert lost == counted(lambda row: bool(row["again"] and row["refused"]))
    summary = fleet_summary(results)
    assert summary is not None
    there = sum(row["start_s"] <= 0 and not row["refused"] for row in lives) / len(plan)
    assert sum(come.values()) == pytest.approx(summary.placed - there)
    assert 0 < refused == pytest.approx(sum(summary.refused.values()))
    assert sum(lost.values()) == pytest.approx(sum(summary.lost.values()))
    for title, column, scale in (("refaults in an hour", "refaults", 1),
                                 ("memory pressure in an hour, some (s)", "psi_some_ns", 1e-9)):  # fmt: skip
        total = sum(row[column] for row in fleet if row["policy"] == "evict-only") * scale / runs
        assert sum(by_hour(title).values()) == pytest.approx(total)
        assert not total or set(by_hour(title)) == set(hours)
    dram, ended = by_hour("DRAM used (GiB)"), [row for row in fleet if row["policy"] == "evict-only"]
    if dram:
        used = min(row["dram_used_pages"] for row in ended), max(row["dram_used_pages"] for row in ended)
        assert set(dram) == set(hours)
        assert used[0] / 2**18 - 1e-9 <= min(dram.values()) <= max(dram.values()) <= used[1] / 2**18 + 1e-9


def test_what_rows_count_is_spread_over_the_hours_that_they_cover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_engine: list[HostSpec]
) -> None:
    plan = read_study(merge(STUDY, {"ticks": 3, "output": {"epochs": "on"}, "fleet": {"tick": "40 min"}}))
    results = sweep(plan, tmp_path / "out", SerialExecutor())
    table = results.table("fleet")
    assert table["time_s"].to_pylist()[:3] == [2400, 4800, 7200]
    for name, values in (("refaults", [40, 20, 80]), ("dram_used_pages", [3 << 18, 6 << 18, 9 << 18])):
        place = table.column_names.index(name)
        table = table.set_column(place, table.field(name), pa.array(values * len(plan), table.field(name).type))
    whole = results.dataset
    monkeypatch.setattr(type(results), "dataset", lambda self, name: dataset(table) if name == "fleet" else whole(name))
    rows = {each.title: each.rows for each in read_fleet(results, read_figures(results))}
    assert [row["mean"] for row in rows["refaults in an hour"]][:2] == [40 + 10, 10 + 80]
    assert [row["mean"] for row in rows["DRAM used (GiB)"]][:2] == [(2 * 3 + 6) / 3, (6 + 2 * 9) / 3]


def test_an_outage_after_the_end_of_the_run_puts_no_host_out_of_service() -> None:
    for at, out in (("24 h", 1), ("25 h", 0)):
        plan = read_study(merge(STUDY, {"fleet": {"outage": {"late": {"at": at}}}}))
        rows = rows_over_time(plan.run(0), lambda name: [])["lives"]
        summary = FleetSummary.of(pa.Table.from_pylist(rows), {plan.cell_ids[0]: plan.cell(0).spec})
        assert summary is not None
        assert summary.hosts_out == out
        assert ("out of service" in summary.text) == bool(out)


def test_the_report_says_in_which_hour_most_guests_live_and_are_refused(
    tmp_path: Path, fake_engine: list[HostSpec]
) -> None:
    plan = read_study(merge(STUDY, {**BUSY, "output": {"epochs": "on", "every_ticks": 2}}))
    results = sweep(plan, tmp_path / "out", SerialExecutor())
    series = read_fleet(results, read_figures(results))
    rows = results.table("fleet").to_pylist()
    policies, runs = {row["policy"] for row in rows}, len(plan) / 2
    assert len(policies) == 2
    for each in series:
        assert {row["policy"] for row in each.rows} == policies
    said = busiest_hours(series)
    lives = [row for row in results.table("lives").to_pylist() if row["policy"] == "evict-only"]
    refused = Counter(hour(row) for row in lives if row["refused"] == "memory" and not row["again"])
    living = Counter[int]()
    for row in rows:
        living[math.ceil(row["time_s"] / 3600)] += row["guests"] if row["policy"] == "evict-only" else 0
    for by_hour, pattern in ((refused, r"most are refused \(memory\) on day (\d+), (\d+):00 to \d+:00: (\S+)"),
                             (living, r"Most guests live on day (\d+), (\d+):00 to \d+:00: (\S+)")):  # fmt: skip
        found = re.search(pattern, said)
        assert found is not None
        assert by_hour[24 * (int(found[1]) - 1) + int(found[2]) + 1] == max(by_hour.values())
        assert float(found[3]) == pytest.approx(max(by_hour.values()) / runs, rel=0.01)
    assert not any(policy in said for policy in policies)


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
