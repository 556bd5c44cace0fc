"""Data that a study names: found by name, known by hash, in the results from then on; mistakes are one line."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.ray_executor import RayExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.execution.worker_memory import worker_bytes
from coldfleet.cluster.results.journal import read_journal
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.results.storage import open_storage
from coldfleet.cluster.results.verify import verify
from coldfleet.cluster.study import download
from coldfleet.cluster.study.data import DATA_DIRECTORY
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import DataFile
from tests.cluster.conftest import STUDY, Said
from tests.cluster.ray_node import Head, Node, command, mounted, wait_for
from tests.hostsim.workload.traces import local_accesses, write_heat, write_trace

TRACED = STUDY.replace('kind = "zipf"', 'kind = "trace"\nfile = "web.parquet"').replace(
    "replicates = 3", "replicates = 2"
)


@pytest.fixture
def data(tmp_path: Path) -> DataFile:
    pages = local_accesses("drifting zipf", 20_000, 500)
    return write_trace(tmp_path / "web.parquet", pages, process=np.where(pages % 3, 1, 2), time=np.arange(20_000) ** 2)


@pytest.fixture
def traced(tmp_path: Path, data: DataFile) -> Path:
    path = tmp_path / "traced.toml"
    path.write_text(TRACED)
    return path


def done(study: Path | Plan, where: Path) -> Results:
    return sweep(study, where, SerialExecutor())


@pytest.mark.cluster
def test_tables_are_equal_on_ray_and_serial(two_nodes: str, traced: Path, tmp_path: Path) -> None:
    axes = '"guest.workload.kind" = ["trace", "clone"]\n"clock.mode" = ["replay", "timed"]\n'
    traced.write_text(TRACED.replace('kind = "trace"\n', "").replace("replicates = 2", "replicates = 1") + axes)
    plan = read_study(traced)
    one = done(plan, tmp_path / "serial")
    other = sweep(plan, tmp_path / "ray", RayExecutor(2, two_nodes))
    assert all(one.table(name).equals(other.table(name)) for name in TABLES)


@pytest.mark.slow
@pytest.mark.cluster
def test_tables_are_equal_on_two_nodes_one_of_which_has_the_data_from_the_results_only(
    cluster: Head, traced: Path, tmp_path: Path
) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("makes a mount namespace with `unshare`, which takes root")
    (tmp_path / "study").mkdir()
    (tmp_path / "empty").mkdir()
    for file in (traced, traced.with_name("web.parquet")):
        shutil.move(file, tmp_path / "study" / file.name)
    study = tmp_path / "study" / traced.name
    kinds = '"guest.workload.kind" = ["trace", "clone", "profile"]\n'
    text = TRACED.replace('kind = "trace"\n', "").replace("replicates = 2", "replicates = 20") + kinds
    study.write_text(text)
    far = Node(
        cluster.joining, cluster.token, tmp_path / "far.log", mounted("far", tmp_path / "empty", tmp_path / "study")
    )
    try:
        wait_for("Ray runtime started", far.log, within_s=120)
        done_there = command(cluster, cluster.token, "sweep", study, "--out", tmp_path / "two")
        _, said = done_there.communicate(timeout=600)
    finally:
        far.stop()
    assert done_there.returncode == 0, said
    assert "far" in {batch.worker.split(":")[0] for batch in read_journal(open_storage(str(tmp_path / "two")))}
    two, one = Results.open(tmp_path / "two"), done(study, tmp_path / "one")
    assert all(two.table(name).equals(one.table(name), check_metadata=True) for name in TABLES)


def test_results_have_the_data_and_its_hash_and_need_no_study(traced: Path, data: DataFile, tmp_path: Path) -> None:
    results = done(traced, tmp_path / "r")
    head = json.loads((tmp_path / "r" / "study.json").read_text())
    assert head["study"]["data"]["web.parquet"]["sha256"] == data.sha256
    kept = tmp_path / "r" / "data" / f"{data.sha256}.parquet"
    assert kept.read_bytes() == Path(data.path).read_bytes()
    assert set(results.table("cells", ["guest_workload_file"])["guest_workload_file"].to_pylist()) == {"web.parquet"}
    before = results.table("guests")
    Path(data.path).unlink()
    next((tmp_path / "r" / "parts").glob("cells-*")).unlink()
    moved = shutil.move(tmp_path / "r", tmp_path / "elsewhere")
    again = done(Results.open(moved).plan, Path(moved))
    assert again.table("guests").equals(before)


def test_data_that_is_lost_or_changed_in_the_results_is_one_line_and_put_back_by_the_study(
    traced: Path, data: DataFile, tmp_path: Path, coldfleet: Callable[..., Said]
) -> None:
    out = tmp_path / "r"
    done(traced, out)
    kept = out / "data" / f"{data.sha256}.parquet"
    for damage, why in ((lambda: kept.write_bytes(b"x"), "changed: its sha256 is"), (kept.unlink, "No such file")):
        next((out / "parts").glob("cells-*")).unlink()
        damage()
        assert any("missing or changed" in line for line in verify(Results.open(out)))
        said = coldfleet("resume", out, "--executor", "serial")
        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
        assert why in said.err
        assert done(traced, out).missing == []
        assert list(verify(Results.open(out))) == []


def test_a_cells_id_depends_on_what_is_in_its_file(traced: Path, data: DataFile, tmp_path: Path) -> None:
    first = read_study(traced)
    shutil.copy(data.path, tmp_path / "kept")
    Path(data.path).unlink()
    write_trace(tmp_path / "web.parquet", np.arange(1024))
    second = read_study(traced)
    assert not set(first.cell_ids) & set(second.cell_ids)
    assert "sha256" in first.difference(second)
    shutil.move(tmp_path / "kept", data.path)
    assert read_study(traced).cell_ids == first.cell_ids


def test_names_are_looked_for_beside_the_study_in_the_data_directory_and_as_uris(
    traced: Path, data: DataFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read_study(traced).data["web.parquet"].sha256
    (tmp_path / "far").mkdir()
    shutil.move(data.path, tmp_path / "far" / "web.parquet")
    with pytest.raises(UserError, match=r":17: guest.workload.file: no file 'web.parquet' in .*COLDFLEET_DATA"):
        read_study(traced)
    monkeypatch.setenv(DATA_DIRECTORY, str(tmp_path / "far"))
    assert read_study(traced).data["web.parquet"].sha256 == found
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    uri = f"file://{tmp_path}/far/web.parquet"
    traced.write_text(TRACED.replace("web.parquet", uri))
    plan = read_study(traced)
    assert plan.data[uri].sha256 == found
    assert Path(plan.data[uri].fetch().path).parent == tmp_path / "cache" / "coldfleet" / "data"
    traced.write_text(TRACED.replace("web.parquet", uri.replace("web", "none")))
    with pytest.raises(UserError, match=r"none\.parquet: can't be read"):
        read_study(traced)


def test_a_server_that_does_not_answer_is_one_line_after_a_while(
    traced: Path, tmp_path: Path, coldfleet: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 1.5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"endpoint_override=127.0.0.1:{silent.getsockname()[1]}&scheme=http&region=us-east-1"
        traced.write_text(TRACED.replace("web.parquet", f"s3://name:secret@bucket/web.parquet?{place}"))
        start = time.monotonic()
        said = coldfleet("sweep", traced, "--out", tmp_path / "r", "--executor", "serial")
    assert time.monotonic() - start < 20
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "can't be read: nothing came for 1.5 s: is its server up?" in said.err
    assert not any(path.is_file() for path in (tmp_path / "cache" / "coldfleet" / "data").rglob("*"))


def test_programs_that_were_recorded_have_names(traced: Path, tmp_path: Path, coldfleet: Callable[..., Said]) -> None:
    traced.write_text(TRACED.replace("web.parquet", "builtin:sqlite").replace("4 MiB", "64 MiB"))
    results = done(traced, tmp_path / "r")
    data = results.plan.data["builtin:sqlite"]
    assert (tmp_path / "r" / data.stored_name).exists()
    assert data.rows > data.pages > 512
    traced.write_text(TRACED.replace("web.parquet", "builtin:sqlit"))
    said = coldfleet("sweep", traced, "--out", tmp_path / "s", "--executor", "serial")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "'builtin:sqlit': there is no such trace: did you mean 'sqlite'?" in said.err


def test_a_directory_of_results_may_have_any_name(traced: Path, tmp_path: Path) -> None:
    assert not list(verify(done(traced, tmp_path / "r?x=1 #%20")))


def test_a_burst_on_a_clock_breaks_no_law(traced: Path, tmp_path: Path) -> None:
    write_trace(tmp_path / "day.parquet", np.arange(51), time=np.array([0] * 50 + [86_400 * 10**9]))
    traced.write_text(TRACED.replace("web.parquet", "day.parquet") + '"clock.mode" = ["timed"]\n')
    results = sweep(read_study(traced), tmp_path / "r", SerialExecutor(), audit=True)
    assert not results.failed


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('memory = "4 MiB"', 'memory = "2 MiB"', "distinct pages, a guest 512: give it 3 MiB or more, or use kind"),
        ('kind = "trace"', 'kind = "zipf"', "which reads no file: set kind ="),
        ('file = "web.parquet"', "", 'kind = "trace" reads a file: set file = "NAME.parquet" beside it'),
        ('file = "web.parquet"', 'file = "web.parquet"\nl2_process = 9', "has no process 9: it has 1, 2"),
        ('file = "web.parquet"', 'file = "web.parquet"\nstart = "first"', "it should be 'drawn' or 'same'"),
        ('file = "web.parquet"', 'file = "heat.parquet"', 'has heat, which has no order of accesses: use it with kind'),
        ('file = "web.parquet"', 'file = "empty.parquet"', "an empty trace"),
        ('file = "web.parquet"', 'file = "traced.toml"', "not a trace"),
        ('file = "web.parquet"', 'file = "."', "a directory, not a regular file"),
        ('file = "web.parquet"', 'file = "file:///dev/zero"', "a FIFO, socket or device, not a regular file"),
        ('"trace"\nfile = "web.parquet"', '"profile"', "reads heat = [[share, weight], ...] or a file: give one"),
        ('"trace"\nfile = "web.parquet"', '"profile"\nheat = [[0.5, 1], [0.7, 2]]', "the shares of heat add up to 1.2"),
        ('"trace"\nfile = "web.parquet"', '"profile"\nheat = [[0.5]]', "not a pair of numbers"),
        ('"trace"\nfile = "web.parquet"', '"profile"\nheat = 7', "guest.workload.heat = 7 is not a text"),
        ("replicates = 2", 'replicates = 2\nhost.sample = "1/4"', 'knows no workload of kind "trace"'),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    old: str, new: str, why: str, traced: Path, tmp_path: Path, coldfleet: Callable[..., Said]
) -> None:
    write_heat(tmp_path / "heat.parquet", [{"page": 1, "pages": 4, "heat": 1.0}])
    write_trace(tmp_path / "empty.parquet", [])
    traced.write_text(TRACED.replace(old, new))
    said = coldfleet("sweep", traced, "--out", tmp_path / "r", "--executor", "serial")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert why in said.err
    assert not (tmp_path / "r").exists()


def test_a_profile_is_a_list_and_can_vary(traced: Path, tmp_path: Path) -> None:
    write_heat(tmp_path / "heat.parquet", [{"page": 1, "pages": 4, "heat": 1.0}, {"page": 9, "pages": 4, "heat": 0.0}])
    traced.write_text(
        TRACED.replace('"trace"\nfile = "web.parquet"', '"profile"')
        + '[zip]\n"guest.workload.heat" = [[[0.1, 9], [0.9, 1]], "0.5:1", ""]\n'
        + '"guest.workload.file" = ["", "", "heat.parquet"]\n'
    )
    plan = read_study(traced)
    assert plan.values("guest.workload.heat") == ("0.1:9.0, 0.9:1.0", "0.5:1.0", "")
    assert Plan.thaw(json.loads(json.dumps(plan.frozen()))) == plan
    assert len(done(plan, tmp_path / "r").table("guests")) == len(plan) * 4


def test_classes_have_files_of_their_own(tmp_path: Path, data: DataFile) -> None:
    (tmp_path / "s.toml").write_text("""\
policy = "lockless-6.15"
overcommit = 1.5
ticks = 2
replicates = 1
fleet.hosts = 1
[fleet.guest.web]
count = 1
memory = "4 MiB"
workload.file = "web.parquet"
workload.kind = "clone"
[fleet.guest.other]
count = 1
[guest]
memory = "4 MiB"
""")
    plan = read_study(tmp_path / "s.toml")
    assert list(plan.cell(0).data) == ["web.parquet"]
    assert done(plan, tmp_path / "r").table("guests").num_rows == 2


ARRIVING = """\
policy = "evict-only"
overcommit = 1.5
ticks = 4
guest = { memory = "4 MiB", accesses_per_page = 1.0 }
[fleet]
tick = "1 h"
arrivals = "guests.csv"
guest.web = { vcpus = 2 }
host.node = { count = 1, memory = "64 MiB" }
"""


@pytest.mark.parametrize("study", [TRACED, ARRIVING], ids=["trace", "guests"])
def test_data_is_its_content_wherever_it_is(study: str, traced: Path) -> None:
    (traced.parent / "guests.csv").write_text("class,start_s,end_s\nweb,1,\nweb,2,3600\n")
    traced.write_text(study)
    plan = read_study(traced)
    found, made_up = plan.run(0), plan.without_files().run(0)
    for moved in (plan.with_data_at("elsewhere"), Plan.thaw(json.loads(json.dumps(plan.frozen())))):
        assert moved == plan
        assert hash(moved.run(0)) == hash(found)
        assert moved.run(0) == found
    assert plan.without_files() != plan
    assert made_up != found
    assert made_up.cell.cell_id != found.cell.cell_id, "the same id, the same numbers"
    assert hash(made_up) != hash(found)


def test_data_that_nobody_has_found_yet_is_not_made_up(traced: Path) -> None:
    (data,) = Plan.thaw(json.loads(json.dumps(read_study(traced).frozen()))).data.values()
    with pytest.raises(UserError, match=f"{data.stored_name}: it is not known where this file is"):
        data.fetch()
    assert data.made_up().fetch() == DataFile("", "")


def test_workers_ask_for_the_memory_of_their_traces(traced: Path, study_file: Path) -> None:
    assert worker_bytes(read_study(traced)) == worker_bytes(read_study(study_file)) + 20_000 * (4 + 24)


@pytest.mark.parametrize("change", [{"sha256": "../x"}, {"kind": "code"}, {"processes": ["a"]}, {"rows": None}])
def test_a_receipt_of_data_that_can_not_be_is_refused(change: dict[str, object], traced: Path) -> None:
    frozen = read_study(traced).frozen()
    frozen["data"]["web.parquet"].update(change)
    with pytest.raises((ValueError, TypeError, KeyError)):
        Plan.thaw(frozen)
