"""Fleets as Azure's, from a small made-up file with the columns of its packing trace, and from published sizes."""

from __future__ import annotations

import shutil
import sqlite3
import tomllib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from coldfleet.cluster.study.azure import A_SERIES, draw, guest_pages, read_trace
from coldfleet.cluster.study.reader import read_study
from tests.cluster.conftest import Said

REST = 'seed = 1\nreplicates = 5\nticks = 2\npolicy = "six-steps"\n'
GUEST = '\n[guest]\nmemory = "2 MiB"\n'


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Three types on two kinds of machine; the requests begin and end at all sides of day 2."""
    path = tmp_path / "trace.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE vmType (id, vmTypeId, machineId, core, memory, hdd, ssd, nic)")
        types = [(1, 10, 0, 0.25, 0.125), (2, 11, 0, 0.0625, 0.03125), (3, 11, 1, 0.125, 0.0625), (4, 12, 1, 1.0, 1.0)]
        db.executemany("INSERT INTO vmType VALUES (?, ?, ?, ?, ?, 0, 0.1, 0.1)", types)
        db.execute("CREATE TABLE vm (vmId, tenantId, vmTypeId, priority, starttime, endtime)")
        times = [(10, -3.0, None), (10, 1.0, 1.9), (10, 2.5, 3.0), (11, 0.5, 2.5), (11, 2.0, 90.0), (12, 0.0, None)]
        db.executemany("INSERT INTO vm VALUES (?, 7, ?, 0, ?, ?)", [(n, *time) for n, time in enumerate(times)])
    db.close()
    return path


def test_trace_tells_who_is_alive_and_how_large(trace: Path) -> None:
    sizes = {size.name: size for size in read_trace(trace, at_day=2.0, machine=0, cpus=16)}
    assert {name: size.weight for name, size in sizes.items()} == {"type10": 1, "type11": 2}
    assert (sizes["type10"].memory_share, sizes["type10"].vcpus) == (0.125, 4)
    assert (sizes["type11"].memory_share, sizes["type11"].vcpus) == (0.03125, 1)
    assert guest_pages(sizes["type10"], 1 << 18) == 1 << 15


def test_published_figures_hold_for_the_sizes() -> None:
    assert sum(size.weight for size in A_SERIES) == pytest.approx(1)
    assert sum(size.weight for size in A_SERIES if size.vcpus <= 2) == pytest.approx(0.8)
    assert sum(size.weight for size in A_SERIES if size.memory_share * 112 < 4) == pytest.approx(0.7)
    drawn = draw(list(A_SERIES), 20_000, seed=1)
    assert sum(drawn.values()) == 20_000
    assert sum(count for size, count in drawn.items() if size.vcpus <= 2) / 20_000 == pytest.approx(0.8, abs=0.01)
    assert draw(list(A_SERIES), 50, seed=1) == draw(list(A_SERIES), 50, seed=1) != draw(list(A_SERIES), 50, seed=2)


@pytest.mark.parametrize(
    ("change", "asked", "said"),
    [
        ("starttime = '0.5'", [], "table vm: starttime is '0.5', not a number"),
        ("starttime = NULL", [], "table vm: starttime is None, not a number"),
        ("priority = 0.5", [], "table vm: priority is 0.5, not a whole number from 0 on"),
        ("priority = -1", [], "table vm: priority is -1, not a whole number from 0 on"),
        ("vmId = 4", ["--cpus", 8, "--vcpus-per-cpu", 0.2], "can't take a guest of 128 MiB and 2 vCPUs"),
    ],
)
def test_what_is_wrong_with_vms_that_come_and_go_is_said_and_nothing_is_written(
    change: str, asked: list[object], said: str, trace: Path, tmp_path: Path, coldfleet: Callable[..., Said]
) -> None:
    with closing(sqlite3.connect(trace)) as db, db:
        db.execute(f"UPDATE vm SET {change} WHERE vmId = 4")
    found = coldfleet("fleet", trace, "--at", 0, "--arrivals", tmp_path / "vms.parquet", *asked)
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert said in found.err
    assert not (tmp_path / "vms.parquet").exists()


@pytest.mark.parametrize("guests", [1, 7, 60])
@pytest.mark.parametrize("source", ["published", "trace"])
def test_printed_fleet_is_a_study_that_fits(
    source: str, guests: int, trace: Path, tmp_path: Path, coldfleet: Callable[..., Said]
) -> None:
    more = [trace, "--at", 2] if source == "trace" else []
    said = coldfleet("fleet", *more, "--guests", guests, "--memory", "256 MiB", "--overcommit", 1.5)
    assert said.code == 0
    path = tmp_path / "azure.toml"
    path.write_text(REST + said.out + GUEST)
    plan = read_study(path)  # places the guests of every replicate
    classes = tomllib.loads(said.out)["fleet"]["guest"]
    assert sum(each["count"] for each in classes.values()) == guests
    assert plan.cell(0).spec.fleet.host["node"].memory == 65536


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["nowhere.sqlite"], "nowhere.sqlite: no such file"), (["TEXT"], "not a packing trace"),
     (["TRACE", "--machine", 9], "has no machine 9: one of 0, 1"), (["TRACE", "--at", -20], "is alive on day -20"),
     (["EMPTY"], "table vm has no column"), (["--memory", "1 GB"], "did you mean 'GiB'"),
     (["--cpus", 1, "--vcpus-per-cpu", 1, "--seed", 3], "can't take a guest of"),
     (["--cpus", 9_999], "less than or equal to 8192"), (["--overcommit", "inf"], "less than or equal to 100"),
     (["TRACE", "--at", "nan"], "--at nan: it should be a number"), (["--memory", "9 TiB"], "to less than 8 TiB"),
     (["--guests", 1_000_000, "--memory", "4 MiB", "--cpus", 8, "--vcpus-per-cpu", 1], "at most 100,000 are"),
     (["TWICE"], "vmType has vmTypeId 11 twice for machine 0")],
)  # fmt: skip
def test_mistake_is_one_line(
    arguments: list[object], expected: str, trace: Path, tmp_path: Path, coldfleet: Callable[..., Said]
) -> None:
    (tmp_path / "TEXT").write_text("hello, " * 100)
    sqlite3.connect(tmp_path / "EMPTY").execute("CREATE TABLE x (y)").connection.close()
    shutil.copy(trace, tmp_path / "TWICE")
    with closing(sqlite3.connect(tmp_path / "TWICE")) as db, db:
        db.execute("INSERT INTO vmType VALUES (5, 11, 0, 0.5, 0.5, 0, 0, 0)")
    places = {name: tmp_path / name for name in ("TEXT", "EMPTY", "TWICE")} | {"TRACE": trace}
    said = coldfleet("fleet", *(places.get(str(argument), argument) for argument in arguments))
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert expected in said.err
