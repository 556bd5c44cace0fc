"""The sweep command: what it writes, refuses, continues, and says."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coldfleet.cluster.commands.output import WIDTH
from coldfleet.cluster.execution.batching import MAX_RUNS, Batches
from coldfleet.cluster.execution.estimate import FEW_S, START_S, guess_s
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.interrupt import StopRequest
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.execution.work import Batch, warm_up_shapes
from coldfleet.cluster.results.journal import BatchReceipt, RunReceipt
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.storage import Storage
from coldfleet.cluster.stats.metrics import SUMMARY
from coldfleet.cluster.study.plan import Plan
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import HostResult, HostSpec
from tests.cluster.conftest import Said

Command = Callable[..., Said]


@pytest.fixture
def serial(coldfleet: Command, study_file: Path, tmp_path: Path, fake_engine: list[HostSpec]) -> Callable[..., Said]:
    return lambda *more: coldfleet("sweep", study_file, "--out", tmp_path / "out", "--executor", "serial", *more)


def test_summary_fits_the_terminal_and_has_every_cell(serial: Command) -> None:
    said = serial()
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0] == "a small study"
    assert max(map(len, lines)) <= WIDTH
    assert sum("±" in line for line in lines) == 6
    assert "evict-only" in said.out
    assert said.err.startswith("18 runs = 6 cells x 3 replicates\non serial, 1 worker\n")


def test_a_few_seconds_of_work_are_done_without_ray(
    coldfleet: Command, study_file: Path, tmp_path: Path, fake_engine: list[HostSpec]
) -> None:
    said = coldfleet("sweep", study_file, "--out", tmp_path / "out")
    assert said.code == 0
    assert "\non serial, 1 worker: it is a few seconds of work (executor ray uses all cores)\n" in said.err


@pytest.mark.parametrize("ticks", [4, 10**6])
def test_plan_says_what_sweep_will_do(
    ticks: int, coldfleet: Command, study_file: Path, fake_engine: list[HostSpec]
) -> None:
    """A few seconds of work are done without Ray, so that its start is no part of the time, unless Ray is asked for."""
    study_file.write_text(study_file.read_text().replace("ticks = 4", f"ticks = {ticks}"))
    said = json.loads(coldfleet("plan", study_file, "--sample", 2, "--json").out)["estimate"]
    assert said["executor"] == ("serial" if ticks == 4 else "ray")
    assert (said["wall_s"] < START_S) == (ticks == 4)
    asked = json.loads(coldfleet("plan", study_file, "--sample", 2, "--json", "--workers", 3).out)["estimate"]
    assert (asked["executor"], asked["workers"]) == ("ray", 3)
    assert asked["wall_s"] >= START_S


def test_work_is_guessed_by_the_accesses(plan: Plan) -> None:
    seconds = guess_s(plan, range(len(plan)))
    assert guess_s(plan, range(0, len(plan), 3)) == pytest.approx(seconds / 3)
    longer = replace(plan, base={**plan.base, "ticks": 10**5})
    assert seconds < FEW_S < guess_s(longer, range(len(plan)))


def test_summary_as_json_agrees_with_the_table(serial: Command, tmp_path: Path) -> None:
    said = serial("--json")
    data = json.loads(said.out)
    assert (data["runs"], data["done"], data["failed"], data["missing"]) == (18, 18, [], 0)
    assert len(data["summary"]) == 6
    cells = Results.open(tmp_path / "out").table("cells").to_pylist()
    row = data["summary"][-1]
    assert (row["policy"], row["nested_ratio"], row["replicates"]) == ("six-steps", 1.0, 3)
    mine = [cell for cell in cells if cell["policy"] == "six-steps" and cell["nested_ratio"] == 1.0]
    for metric in SUMMARY:
        assert row[metric.key]["mean"] == pytest.approx(sum(map(metric.value, mine)) / 3)
        assert row[metric.key]["ci95"] >= 0


def test_other_axes_get_tables_of_their_own(
    coldfleet: Command, study_text: str, tmp_path: Path, fake_engine: list[HostSpec]
) -> None:
    study = tmp_path / "axes.toml"
    text = study_text.replace('memory = "4 MiB"\n', "").replace("nested_ratio = [0, 0.5, 1]", "nested_ratio = [0.5]")
    study.write_text(text + 'guest.memory = ["4 MiB", "8 MiB"]\n"guest.workload.skew" = [0.5, 1]\n')
    said = coldfleet("sweep", study, "--out", tmp_path / "out", "--executor", "serial")
    assert said.out.count("six-steps") == 4
    assert "guest.memory = 8 MiB, guest.workload.skew = 0.5" in said.out


def test_finished_sweep_is_not_run_again(serial: Command, fake_engine: list[HostSpec]) -> None:
    first = serial()
    fake_engine.clear()
    again = serial()
    assert (again.code, again.out) == (0, first.out)
    assert "is complete" in again.err
    assert fake_engine == []


def test_failing_cell_is_a_receipt_and_the_others_go_on(
    serial: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from coldfleet.hostsim import host

    simulate = host.simulate_host

    def fail_sometimes(spec: HostSpec, policy: object, *, seed: int, replicate: int, host: int) -> HostResult:
        if replicate == 1 and policy.name == "six-steps":  # type: ignore[attr-defined]
            raise ValueError("a bug\nin two lines")
        return simulate(spec, policy, seed=seed, replicate=replicate, host=host)  # type: ignore[arg-type]

    monkeypatch.setattr(host, "simulate_host", fail_sometimes)
    said = serial()
    assert said.code == 1
    assert "ValueError: a bug in two lines" in said.err
    assert "3 of 18 runs failed; to see one: coldfleet run" in said.err
    results = Results.open(tmp_path / "out")
    assert not results.missing
    assert len(results.failed) == 3
    assert results.table("cells").num_rows == 15
    assert json.loads(serial("--json").out)["failed"][0]["error"] == "ValueError: a bug in two lines"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [("seed = 7", "seed = 8", "seed is 7 there, 8 here"),
     ("replicates = 3", "replicates = 4", "replicates is 3 there, 4 here"),
     ("[0, 0.5, 1]", "[0, 1]", "nested_ratio is [0.0, 0.5, 1.0] there, [0.0, 1.0] here")],
)  # fmt: skip
def test_out_with_another_study_is_refused(
    old: str, new: str, expected: str, serial: Command, study_file: Path, tmp_path: Path
) -> None:
    serial()
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    study_file.write_text(study_file.read_text().replace(old, new))
    said = serial()
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "holds another study" in said.err
    assert expected in said.err
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_out_with_other_files_is_refused(serial: Command, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    said = serial()
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "holds files that are not a sweep's" in said.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_out_that_is_a_file_is_refused(serial: Command, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    said = serial()
    assert (said.code, said.err.count("\n")) == (2, 1)


def test_title_and_formatting_do_not_make_another_study(serial: Command, study_file: Path) -> None:
    serial()
    text = study_file.read_text().replace('"a small study"', '"a title"').replace('"4 MiB"', '"4096 KiB"')
    study_file.write_text("# a comment\n" + text)
    assert serial().code == 0


def test_unfinished_sweep_of_another_simulator_is_refused(serial: Command, tmp_path: Path) -> None:
    serial()
    head = tmp_path / "out" / "study.json"
    head.write_text(head.read_text().replace('"engine": "', '"engine": "0'))
    assert serial().code == 0  # it is complete: nothing would be mixed
    (tmp_path / "out" / "journal.jsonl").unlink()
    said = serial()
    assert said.code == 2
    assert "begun by another version of the simulator" in said.err


class InterruptedExecutor(SerialExecutor):
    """Gets a Ctrl-C after so many batches."""

    def __init__(self, after: int) -> None:
        self._after = after

    def run(self, batches: Iterator[Batch], storage: Storage, stop: StopRequest) -> Iterator[BatchReceipt]:
        for number, receipt in enumerate(super().run(batches, storage, stop)):
            if number == self._after:
                os.kill(os.getpid(), signal.SIGINT)
            yield receipt


@pytest.mark.parametrize("after", [0, 3])
def test_interrupted_sweep_keeps_what_came_back_and_goes_on(
    after: int, plan: Plan, serial: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldfleet.cluster.execution.batching.MAX_RUNS", 1)
    monkeypatch.setattr("coldfleet.cluster.execution.executor.SerialExecutor", lambda: InterruptedExecutor(after))
    said = serial()
    left = len(plan) - after - 1
    assert said.code == 130
    assert f"with {left} of {len(plan)} runs to do; continue with: coldfleet resume {tmp_path / 'out'}" in said.err
    assert len(Results.open(tmp_path / "out").missing) == left
    monkeypatch.setattr("coldfleet.cluster.execution.executor.SerialExecutor", SerialExecutor)
    said = serial()
    assert said.code == 0
    assert f"continuing after {after + 1} run" in said.err


def test_interrupt_in_the_middle_of_a_run_loses_only_its_batch(
    plan: Plan, serial: Command, tmp_path: Path, fake_engine: list[HostSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    from coldfleet.hostsim import host

    simulate = host.simulate_host

    def interrupted(*args: object, **kwargs: object) -> HostResult:
        if len(fake_engine) == 9:
            fake_engine.append(None)  # type: ignore[arg-type]
            os.kill(os.getpid(), signal.SIGINT)
        return simulate(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("coldfleet.cluster.execution.batching.MAX_RUNS", 1)
    monkeypatch.setattr(host, "simulate_host", interrupted)
    assert serial().code == 130
    assert 0 < len(Results.open(tmp_path / "out").missing) < len(plan)
    assert serial().code == 0


def test_warm_up_covers_every_kind_of_work(plan: Plan) -> None:
    axes = {**plan.axes, "guest.workload.kind": ("zipf", "scan"), "reclaim.mode": ("limit", "debugfs")}
    base = {path: value for path, value in plan.base.items() if path not in axes}
    shapes = warm_up_shapes(Plan("", "", 1, 1, base, axes))
    assert {shape.mode for shape in shapes} == {"limit", "debugfs"}
    assert {(guest.workload.kind, guest.nested is None) for shape in shapes for guest in shape.guests} == {
        (kind, nested) for kind in ("zipf", "scan") for nested in (True, False)
    }
    assert max(guest.memory_pages for shape in shapes for guest in shape.guests) <= 1024


def took(plan: Plan, seconds: float, runs: int = 1) -> BatchReceipt:
    receipts = (RunReceipt(plan.cell_ids[n % 6], n // 6, "done", {"cells": 1}, seconds) for n in range(runs))
    return BatchReceipt("b", (), tuple(receipts))


def test_batches_grow_for_short_runs_and_shrink_at_the_end(plan: Plan) -> None:
    batches = Batches(plan, [0] * 10_000, slots=2)
    assert len(next(batches).runs) == 1  # nothing is known yet
    batches.observe(took(plan, 0.05, 12))
    sizes = [len(batch.runs) for batch in batches]
    assert sizes[0] == 100  # 5 s of 50 ms
    assert max(sizes) <= MAX_RUNS
    assert sizes[-1] == 1
    assert sum(sizes) == 9_999


def test_long_runs_of_one_host_travel_alone(plan: Plan) -> None:
    plan = replace(plan, base={**plan.base, "fleet.hosts": 1})
    batches = Batches(plan, list(range(len(plan))), slots=1)
    next(batches)
    batches.observe(took(plan, 8.0))
    assert [(batch.runs, batch.hosts) for batch in batches] == [((n,), None) for n in range(1, len(plan))]


def test_sweep_in_a_thread_needs_no_signals(plan: Plan, tmp_path: Path, fake_engine: list[HostSpec]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(sweep, plan, tmp_path / "out", SerialExecutor()).result().missing


def test_part_that_is_lost_during_the_sweep_is_made_again(
    plan: Plan, tmp_path: Path, fake_engine: list[HostSpec]
) -> None:
    class Losing(SerialExecutor):
        lost = False

        def run(self, batches: Iterator[Batch], storage: Storage, stop: StopRequest) -> Iterator[BatchReceipt]:
            for receipt in super().run(batches, storage, stop):
                yield receipt
                if not self.lost:
                    storage.delete(f"parts/{receipt.parts[0].name}")
                    self.lost = True

    whole = sweep(plan, tmp_path / "whole", SerialExecutor())
    results = sweep(plan, tmp_path / "out", Losing())
    assert not results.missing
    assert results.table("cells").equals(whole.table("cells"))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file of the results was read to check it."""
    counts: Counter[str] = Counter()
    sha256 = Storage.sha256

    def count(storage: Storage, name: str) -> str:
        counts[name] += 1
        return sha256(storage, name)

    monkeypatch.setattr(Storage, "sha256", count)
    return counts


def test_sweep_opens_results_once_and_checks_each_part_once(
    serial: Command, tmp_path: Path, hashed: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(Results, "open", _counting(Results.open, opened))
    assert serial().code == 0
    parts = {f"parts/{name}" for name in os.listdir(tmp_path / "out" / "parts")}
    assert (hashed, len(opened)) == (Counter(parts), 1)
    hashed.clear()
    assert serial().code == 0  # nothing is left to do
    assert (hashed, len(opened)) == (Counter(parts), 2)


@pytest.mark.parametrize("command", ["sweep", "resume"])
def test_half_a_sweep_goes_on_with_results_that_are_opened_once(
    command: str,
    serial: Command,
    coldfleet: Command,
    tmp_path: Path,
    hashed: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serial()
    out = tmp_path / "out"
    victim = next(line for line in (out / "journal.jsonl").read_text().splitlines())
    for part in json.loads(victim)["parts"]:
        (out / "parts" / part["name"]).unlink()
    hashed.clear()
    opened: list[object] = []
    monkeypatch.setattr(Results, "open", _counting(Results.open, opened))
    said = serial() if command == "sweep" else coldfleet("resume", out, "--executor", "serial")
    assert said.code == 0
    assert len(opened) == 1
    parts = {f"parts/{name}" for name in os.listdir(out / "parts")}
    assert Counter({name: count for name, count in hashed.items() if name in parts}) == Counter(parts)


def _counting(method: Any, calls: list[object]) -> Callable[..., Results]:
    def call(*arguments: Any, **options: Any) -> Results:
        calls.append(arguments)
        return method(*arguments, **options)

    return call


def test_parts_that_change_after_they_were_checked_are_made_again(
    plan: Plan, tmp_path: Path, fake_engine: list[HostSpec]
) -> None:
    """An old part vanishes, and another is cut short, while the rest of the sweep runs."""
    whole = sweep(plan, tmp_path / "out", SerialExecutor())
    storage, expected = whole.storage, whole.table("cells")
    first, second, third = [part.name for part in whole.parts if part.table == "cells"][:3]
    storage.delete(f"parts/{first}")

    class Losing(SerialExecutor):
        lost = False

        def run(self, batches: Iterator[Batch], storage: Storage, stop: StopRequest) -> Iterator[BatchReceipt]:
            for receipt in super().run(batches, storage, stop):
                yield receipt
                if not self.lost:
                    storage.delete(f"parts/{second}")
                    storage.write(f"parts/{third}", b"short")
                    self.lost = True

    results = sweep(plan, tmp_path / "out", Losing())
    assert not results.missing
    assert results.table("cells").equals(expected)


def test_sweep_that_another_one_finished_meanwhile_repeats_nothing(
    plan: Plan, tmp_path: Path, fake_engine: list[HostSpec]
) -> None:
    """Another sweep does the work while ours gets ready: what ours found before is out of date by then."""

    class Slow(SerialExecutor):
        def start(self, plan: Plan) -> None:
            sweep(plan, tmp_path / "out", SerialExecutor())
            super().start(plan)
            fake_engine.clear()

    results = sweep(plan, tmp_path / "out", Slow())
    assert not results.missing
    assert results.status.repeats == 0
    assert fake_engine == []


def test_file_system_that_keeps_nothing_is_one_line(
    plan: Plan, tmp_path: Path, fake_engine: list[HostSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldfleet.cluster.results.storage.Storage.sha256", lambda storage, name: "")
    with pytest.raises(UserError, match="parts are lost as fast as they are written"):
        sweep(plan, tmp_path / "out", SerialExecutor())
