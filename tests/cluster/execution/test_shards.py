"""Runs that are cut into shards of hosts: the same tables, and nothing done twice but what was lost."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coldfleet.cluster.execution import batching
from coldfleet.cluster.execution.batching import Batches
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.interrupt import StoppedError, StopRequest
from coldfleet.cluster.execution.progress import Silent
from coldfleet.cluster.execution.ray_executor import RayExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.execution.trials import Trial, Trials
from coldfleet.cluster.execution.work import Batch, simulate_run
from coldfleet.cluster.results.compact import compact
from coldfleet.cluster.results.journal import BatchReceipt, RunReceipt, Shard, read_journal, signed_line
from coldfleet.cluster.results.parts import parquet_bytes
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.run_status import ShardedRun
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.results.storage import Storage, open_storage
from coldfleet.cluster.results.verify import verify
from coldfleet.cluster.study.fleet import build_hosts, host_work, run_work
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.host_spec import HostResult, HostSpec

ALIKE = {
    "policy": "six-steps",
    "ticks": 4,
    "overcommit": 1.5,
    "replicates": 2,
    "fleet": {"hosts": 5, "guests_per_host": 2},
    "guest": {"memory": "4 MiB", "accesses_per_tick": 2048},
    "nested": {"l2_only_share": 0.25},
    "grid": {"nested_ratio": [0, 0.5]},
}
TIMED = {
    **ALIKE,
    "replicates": 1,
    "clock": {"mode": "timed"},
    "host": {"sample": "1/2"},
    "guest": {"memory": "64 MiB", "accesses_per_tick": 512},
    "output": {"epochs": "on"},
    "grid": {"nested_ratio": [0.5]},
}
CLASSES = {
    "ticks": 3,
    "overcommit": 1.5,
    "guest": {"memory": "4 MiB", "accesses_per_tick": 2048},
    "fleet": {
        "placement": "random",
        "host": {
            "old": {"memory": "8 MiB", "cpus": 8, "count": 4},
            "new": {"memory": "16 MiB", "cpus": 16, "count": 3},
        },
        "guest": {
            "web": {"count": 7},
            "db": {"memory": "8 MiB", "count": 2, "nested_ratio": 0.5, "accesses_per_tick": 4096},
        },
    },
    "grid": {"policy": ["evict-only", "lockless-6.15"]},
}


@pytest.fixture
def single_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run is cut, and each of its hosts is a shard."""
    for name in ("_FIRST_S", "TARGET_S", "LEAST_S"):
        monkeypatch.setattr(batching, name, 1e-12)


@pytest.fixture
def plan(plan: Plan) -> Plan:
    """Six runs of two hosts each."""
    return replace(plan, replicates=1)


@pytest.fixture
def shards(plan: Plan, tmp_path: Path, fake_engine: list[HostSpec], single_hosts: None) -> Results:
    """A finished sweep of the plan in which each host was a shard."""
    return sweep(plan, tmp_path / "out", SerialExecutor())


def assert_same_tables(left: Results, right: Results) -> None:
    for table in TABLES:
        assert left.table(table).equals(right.table(table), check_metadata=True)


def receipts(results: Results) -> list[BatchReceipt]:
    return list(read_journal(results.storage))


def rewrite(results: Results, change: Callable[[dict[str, object]], object]) -> None:
    """Changes the receipts and signs them again."""
    path = Path(results.storage.root) / "journal.jsonl"
    lines = []
    for line in path.read_text().splitlines():
        data = json.loads(line)
        del data["sum"]
        change(data)
        lines.append(signed_line(data))
    path.write_bytes(b"".join(lines))


@pytest.mark.parametrize("study", [ALIKE, TIMED, CLASSES])
def test_tables_are_those_of_whole_runs(
    study: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = read_study(study)
    whole = sweep(plan, tmp_path / "whole", SerialExecutor())
    for name in ("_FIRST_S", "TARGET_S", "LEAST_S"):
        monkeypatch.setattr(batching, name, 1e-12)
    cut = sweep(plan, tmp_path / "cut", SerialExecutor(), audit=True)
    assert all(batch.shard is None for batch in receipts(whole))
    hosts = [batch.shard for batch in receipts(cut) if batch.shard]
    assert len(hosts) == whole.table("hosts").num_rows
    assert any(shard.latencies for shard in hosts) == (study is TIMED)
    assert_same_tables(cut, whole)
    assert list(verify(cut)) == []
    before, after = compact(open_storage(tmp_path / "cut"))
    assert after < before
    assert_same_tables(Results.open(tmp_path / "cut"), whole)
    assert list(verify(Results.open(tmp_path / "cut"))) == []


@pytest.mark.parametrize("study", [ALIKE, TIMED, CLASSES])
def test_work_of_a_run_is_that_of_its_hosts(study: dict[str, object]) -> None:
    run = read_study(study).run(0)
    assert sum(host_work(run)) == pytest.approx(run_work(run))
    work = [
        sum(guest.accesses_per_tick for guest in host.guests) * host.ticks / host.sample for host in build_hosts(run)
    ]
    assert host_work(run) == pytest.approx(work)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seconds=st.lists(st.sampled_from([1e-3, 0.2, 3.0, 40.0, 1e3]), min_size=1, max_size=30),
    slots=st.integers(1, 8),
    chosen=st.sets(st.integers(0, 17), min_size=1),
    gone=st.dictionaries(st.integers(0, 17), st.integers(0, 6)),
)
def test_every_host_is_handed_out_once(
    seconds: list[float], slots: int, chosen: set[int], gone: dict[int, int], study_text: str
) -> None:
    plan = read_study({**tomllib.loads(study_text), "fleet": {"hosts": 7, "guests_per_host": 2}})
    sharded = {}
    for index, host in gone.items():
        sharded[index] = ShardedRun()
        sharded[index].add(BatchReceipt("b", (), (), shard=Shard(host, host + 1, 7)))
    batches = Batches(plan, sorted(chosen), slots, sharded=sharded)
    handed: Counter[tuple[int, int]] = Counter()
    for number, batch in enumerate(batches):
        first, end, of = batch.hosts or (0, 7, 7)
        assert of == 7
        assert batch.hosts is None or len(batch.runs) == 1
        handed.update((index, host) for index in batch.runs for host in range(first, end))
        took = seconds[number % len(seconds)]
        status, shard = ("shard", Shard(first, end, 7)) if batch.hosts else ("done", None)
        runs = [plan.run(index) for index in batch.runs]
        rows = {"hosts": end - first} if shard else {"cells": 1}
        runs_ = tuple(RunReceipt(run.cell.cell_id, run.replicate, status, rows, took) for run in runs)
        batches.observe(BatchReceipt("b", (), runs_, shard=shard))
    left = {(index, host) for index in chosen for host in range(7) if gone.get(index) != host}
    assert handed == dict.fromkeys(left, 1)


def test_a_long_run_is_cut_to_seconds_and_finer_at_the_end() -> None:
    study = {**ALIKE, "replicates": 1, "fleet": {"hosts": 100, "guests_per_host": 2}, "grid": {"nested_ratio": [0]}}
    plan = read_study(study)
    batches = Batches(plan, [0], slots=2, access_s=50.0 / run_work(plan.run(0)))  # half a second a host
    sizes = [batch.hosts[1] - batch.hosts[0] for batch in batches if batch.hosts]
    assert sizes[0] == 10  # 5 s
    assert sizes[-1] == 1
    assert sum(sizes) == 100
    assert sizes == sorted(sizes, reverse=True)


def test_a_lost_shard_alone_is_done_again(shards: Results, plan: Plan, fake_engine: list[HostSpec]) -> None:
    before = {table: shards.table(table) for table in TABLES}
    lost = next(part for part in shards.parts if part.table == "hosts")
    shards.storage.delete(f"parts/{lost.name}")
    fake_engine.clear()
    again = Results.open(shards.storage)
    old = len(receipts(again))
    assert len(again.missing) == 1
    assert again.table("cells").num_rows == again.status.done == 5
    assert (
        again.table("hosts").num_rows == again.table("guests").num_rows / 2 == 10
    )  # of the other host nothing is shown
    mended = sweep(plan, shards.storage, SerialExecutor())
    assert fake_engine.count(build_hosts(plan.run(again.missing[0]))[0]) >= 1
    assert {table: mended.table(table) for table in TABLES} == before
    assert list(verify(mended)) == []
    new = receipts(mended)[old:]
    assert [batch.runs[0].status for batch in new] == ["shard", "merged"]


def test_an_interrupted_run_goes_on_with_its_missing_hosts(
    plan: Plan, tmp_path: Path, fake_engine: list[HostSpec], single_hosts: None
) -> None:
    class Interrupted(SerialExecutor):
        def run(self, batches: Iterator[Batch], storage: Storage, stop: StopRequest) -> Iterator[BatchReceipt]:
            for number, receipt in enumerate(super().run(batches, storage, stop)):
                yield receipt
                if number == 2:
                    stop.ask("interrupted", 130)

    with pytest.raises(StoppedError, match="with 5 of 6 runs to do"):
        sweep(plan, tmp_path / "out", Interrupted())
    half = Results.open(tmp_path / "out")
    assert half.table("hosts").num_rows == 2
    assert compact(half.storage)[1] == 3 + 2  # a run, and the shard of another
    results = sweep(plan, tmp_path / "out", SerialExecutor())
    assert sum(batch.shard is not None for batch in receipts(results)) == 10
    assert_same_tables(results, sweep(plan, tmp_path / "whole", SerialExecutor()))
    assert list(verify(results)) == []


def test_a_row_of_cells_that_a_crash_left_out_is_made_without_simulating(
    shards: Results, plan: Plan, fake_engine: list[HostSpec]
) -> None:
    path = Path(shards.storage.root) / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    before = {table: shards.table(table) for table in TABLES}
    path.write_bytes(b"".join(lines[:-1]))
    assert len(Results.open(shards.storage).missing) == 1
    again = sweep(plan, shards.storage, SerialExecutor())
    assert {table: again.table(table) for table in TABLES} == before
    assert [batch.runs[0].status for batch in receipts(again)[-2:]] == ["shard", "merged"]
    assert len(receipts(again)) == len(lines)


@pytest.mark.parametrize("damage", [None, b"no part", "other rows"])
def test_a_shard_that_is_lost_before_its_run_is_whole_is_done_again(
    damage: bytes | str | None, plan: Plan, tmp_path: Path, fake_engine: list[HostSpec], single_hosts: None
) -> None:
    """Also one that was changed, and can be read: no row of cells is made of it."""

    class Losing(SerialExecutor):
        lost = ""

        def run(self, batches: Iterator[Batch], storage: Storage, stop: StopRequest) -> Iterator[BatchReceipt]:
            for receipt in super().run(batches, storage, stop):
                yield receipt
                if receipt.shard and not self.lost:
                    part = next(part for part in receipt.parts if part.table == "hosts")
                    self.lost = f"parts/{part.name}"
                    if damage is None:
                        storage.delete(self.lost)
                    elif isinstance(damage, bytes):
                        storage.write(self.lost, damage)
                    else:
                        with storage.open(self.lost) as file:
                            rows = pq.read_table(file).to_pylist()
                        changed = [{**row, "pgmajfault": row["pgmajfault"] + 1} for row in rows]
                        storage.write(self.lost, parquet_bytes("hosts", [changed]))

    executor = Losing()
    results = sweep(plan, tmp_path / "out", executor)
    assert executor.lost
    assert not results.missing
    assert_same_tables(results, sweep(plan, tmp_path / "whole", SerialExecutor()))
    assert list(verify(Results.open(results.storage))) == []


def sweep_with_bad_hosts(plan: Plan, out: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    """A sweep in which the second host of each run fails, where its guests are nested."""
    from coldfleet.hostsim import host

    simulate = host.simulate_host

    def fail(*args: object, **kwargs: object) -> HostResult:
        if kwargs["host"] == 1 and args[0].guests[0].nested:  # type: ignore[attr-defined]
            raise ArithmeticError("no luck")
        return simulate(*args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(host, "simulate_host", fail)
        return sweep(plan, out, SerialExecutor())


def test_retry_leaves_runs_alone_that_did_not_fail(
    plan: Plan, tmp_path: Path, fake_engine: list[HostSpec], single_hosts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that lacks nothing but its row of cells."""
    results = sweep_with_bad_hosts(plan, tmp_path / "out", monkeypatch)
    path = Path(results.storage.root) / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    merged = [number for number, batch in enumerate(receipts(results)) if batch.runs[0].status == "merged"]
    path.write_bytes(b"".join(line for number, line in enumerate(lines) if number != merged[0]))
    mended = sweep(plan, tmp_path / "out", SerialExecutor(), retry_failed=True)
    assert (len(mended.failed), len(mended.missing)) == (0, 1)
    assert_same_tables(sweep(plan, tmp_path / "out", SerialExecutor()), sweep(plan, tmp_path / "o", SerialExecutor()))


def test_a_failed_host_fails_the_run_and_the_others_are_kept(
    plan: Plan, tmp_path: Path, fake_engine: list[HostSpec], single_hosts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = sweep_with_bad_hosts(plan, tmp_path / "out", monkeypatch)
    assert (len(results.failed), results.status.done, results.missing) == (2, 4, [])
    assert results.table("hosts").num_rows == 8
    assert list(verify(results)) == []
    mended = sweep(plan, tmp_path / "out", SerialExecutor(), retry_failed=True)
    assert sum(batch.shard is not None for batch in receipts(mended)) == 12  # the good ones weren't made again
    assert not mended.failed
    assert_same_tables(mended, sweep(plan, tmp_path / "whole", SerialExecutor()))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda shard: shard.update(of=3), "hasn't 3 hosts"),
        (lambda shard: shard.update(first=2, end=3, of=3), "hasn't 3 hosts"),
        (lambda shard: shard.update(end=7), "no shard of a run"),
        (lambda shard: shard.update(first=-1), "no shard of a run"),
        (lambda shard: shard.update(first=True), "no shard of a run"),
        (lambda shard: shard.update(latencies=[[1 << 20, 1]]), "latencies can't be"),
        (lambda shard: shard.update(latencies=7), "not a receipt"),
        (lambda shard: shard.update(more=7), "not a receipt"),
        (lambda shard: shard.clear(), "not a receipt"),
    ],
)
def test_a_receipt_of_no_shard_of_the_plan_is_damage(
    change: Callable[[dict[str, object]], None], why: str, shards: Results, plan: Plan
) -> None:
    def damage(data: dict[str, object]) -> None:
        if isinstance(data["shard"], dict):
            change(data["shard"])

    rewrite(shards, damage)
    bad = Results.open(shards.storage)
    assert len(bad.missing) == 6
    assert len(bad.damage) == 12
    assert why in bad.damage[0]
    assert_same_tables(
        sweep(plan, shards.storage, SerialExecutor()), sweep(plan, Path(f"{shards.storage}2"), SerialExecutor())
    )


def test_shards_that_overlap_count_once(shards: Results, plan: Plan) -> None:
    path = Path(shards.storage.root) / "journal.jsonl"
    path.write_bytes(path.read_bytes() * 2)
    twice = Results.open(shards.storage)
    assert_same_tables(twice, shards)
    assert twice.status.repeats == 0
    assert_same_tables(sweep(plan, shards.storage, SerialExecutor()), shards)


def test_a_run_done_in_both_ways_is_there_once(shards: Results, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shards.storage.root) / "journal.jsonl"
    monkeypatch.setattr(batching, "_FIRST_S", 1e9)
    monkeypatch.setattr(batching, "TARGET_S", 1e9)
    other = sweep(plan, Path(f"{shards.storage}2"), SerialExecutor())
    for part in other.parts:
        shards.storage.write(f"parts/{part.name}", other.storage.read(f"parts/{part.name}"))
    path.write_bytes(path.read_bytes() + other.storage.read("journal.jsonl"))
    both = Results.open(shards.storage)
    assert_same_tables(both, other)
    compact(both.storage)
    assert_same_tables(Results.open(both.storage), other)


def test_runs_on_demand_are_cut_too(plan: Plan, fake_engine: list[HostSpec], single_hosts: None) -> None:
    with Trials(plan, SerialExecutor(), Silent(), {"cells": ["pgmajfault"], "guests": ["pgmajfault"]}) as some:
        some.run([Trial(4, 0)])
        rows = simulate_run(plan.run(4))
        assert some.runs == 1
        for table in ("cells", "guests"):
            asked = some.rows(table, Trial(4, 0))
            assert [row["pgmajfault"] for row in asked] == [row["pgmajfault"] for row in rows[table]]


@pytest.mark.cluster
def test_one_run_keeps_all_workers_busy(tmp_path: Path, two_nodes: str) -> None:
    plan = read_study(
        {
            **ALIKE,
            "ticks": 60,
            "replicates": 1,
            "fleet": {"hosts": 24, "guests_per_host": 4},
            "grid": {"nested_ratio": [0.5]},
        }
        | {"guest": {"memory": "16 MiB", "accesses_per_tick": 16384}}
    )
    results = sweep(plan, tmp_path / "two", RayExecutor(2, two_nodes))
    workers = Counter(batch.worker for batch in receipts(results) if batch.shard)
    assert len(workers) == 2
    assert min(workers.values()) >= 2
    assert_same_tables(results, sweep(plan, tmp_path / "one", SerialExecutor()))


def test_latencies_of_a_receipt_have_the_buckets_of_a_host() -> None:
    from coldfleet.cluster.results import journal
    from coldfleet.hostsim.clock import latency

    assert journal._BUCKETS == latency.BUCKETS
