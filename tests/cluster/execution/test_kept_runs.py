"""What questions simulate is kept: they go on where they were killed, and take what others left, to the same answer."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coldfleet.cluster.execution import batching
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.interrupt import StopRequest
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.execution.work import Batch
from coldfleet.cluster.results.journal import BatchReceipt
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.storage import Storage
from coldfleet.cluster.results.verify import verify
from coldfleet.cluster.study.gathering import Gathered
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import HostSpec
from tests.cluster.conftest import STUDY, Said
from tests.cluster.ray_node import Node, environment, free_port, wait_for

Command = Callable[..., Said]
SERIAL = ("--executor", "serial", "--json")
ROOT = Path(__file__).parents[3]
BUDGET = ("--budget", "120")  # of runs: a time would be spent differently on each machine

Question = Callable[[Path], tuple[object, ...]]
QUESTIONS: dict[str, Question] = {
    "compare": lambda study: ("compare", "evict-only", "six-steps", study, *BUDGET),
    "capacity": lambda study: (
        *("capacity", study, "--slo", "pgmajfault<100000", "--at", "nested_ratio=0.5"),
        *("--from", "1.2", "--to", "2", "--step", "0.1", *BUDGET),
    ),
    "map": lambda study: (
        *("map", study, "--x", "nested_ratio", "--y", "overcommit", "--y-range", "1.2:2", "--depth", "0", *BUDGET),
    ),
    "search": lambda study: ("search", study, "--metric", "refaults", "--slo", "pgmajfault<100000", *BUDGET),
}


class Interrupted(SerialExecutor):
    """Is interrupted after so many batches."""

    def __init__(self, after: int) -> None:
        self.after = after

    def run(self, batches: Iterator[Batch], storage: Storage, stop: StopRequest) -> Iterator[BatchReceipt]:
        for receipt in super().run(batches, storage, stop):
            yield receipt
            self.after -= 1
            if not self.after:
                stop.ask("interrupted", 130)


def reused(said: Said) -> tuple[int, int]:
    """How many runs a command says that it reused, and of how many."""
    words = said.err.splitlines()[-1].split()
    assert (words[0], words[2]) == ("reused", "of"), said.err
    return int(words[1]), int(words[3])


def runs_in(out: Path) -> set[tuple[str, int]]:
    """The runs of a results directory, all of them done."""
    results = Results.open(out)
    assert (results.missing, results.failed, list(verify(results))) == ([], [], [])
    cells = results.table("cells", ["cell_id", "replicate"]).to_pylist()
    assert len(cells) == len(results.plan)
    return {(row["cell_id"], row["replicate"]) for row in cells}


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_answer_is_the_same_and_nothing_is_simulated_twice(
    name: str, study_file: Path, tmp_path: Path, coldfleet: Command, fake_engine: list[HostSpec]
) -> None:
    question, out = QUESTIONS[name](study_file), tmp_path / "out"
    alone = coldfleet(*question, *SERIAL)
    assert alone.code == 0, alone.err
    first = coldfleet(*question, *SERIAL, "--out", out)
    fake_engine.clear()
    again = coldfleet(*question, *SERIAL, "--out", out)
    assert first.out == again.out == alone.out
    runs = json.loads(alone.out)["runs"]
    assert reused(first) == (0, runs)
    assert reused(again) == (runs, runs)
    assert len(runs_in(out)) == runs
    assert len(fake_engine) <= (4 if name == "capacity" else 0)  # the hosts that check an answer


@pytest.mark.parametrize(("name", "cut"), [*((name, False) for name in QUESTIONS), ("compare", True)])
def test_a_question_goes_on_where_it_was_interrupted(
    name: str,
    cut: bool,
    study_file: Path,
    tmp_path: Path,
    coldfleet: Command,
    fake_engine: list[HostSpec],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    question, out = QUESTIONS[name](study_file), tmp_path / "out"
    whole = coldfleet(*question, *SERIAL)
    if cut:  # every run, and each of its hosts is a shard
        for limit in ("_FIRST_S", "TARGET_S", "LEAST_S"):
            monkeypatch.setattr(batching, limit, 1e-12)
    with monkeypatch.context() as patch:
        patch.setattr("coldfleet.cluster.execution.executor.SerialExecutor", lambda: Interrupted(3))
        stopped = coldfleet(*question, *SERIAL, "--out", out)
    assert (stopped.code, stopped.out) == (130, "")
    assert stopped.err.splitlines()[-1] == "coldfleet: interrupted; run the same command again"
    left = Results.open(out)
    assert left.missing
    assert list(verify(left)) == []
    done = left.status.done
    fake_engine.clear()
    on = coldfleet(*question, *SERIAL, "--out", out)
    assert on.out == whole.out
    assert reused(on)[0] == done > 0
    runs_in(out)


def test_the_next_question_takes_what_is_there(
    study_file: Path, tmp_path: Path, coldfleet: Command, fake_engine: list[HostSpec]
) -> None:
    out = tmp_path / "out"
    both = coldfleet("compare", "evict-only", "six-steps", study_file, *BUDGET, *SERIAL, "--out", out)
    mine = runs_in(out)
    other = coldfleet("compare", "evict-only", "lockless-6.15", study_file, *BUDGET, *SERIAL, "--out", out)
    assert reused(both)[0] == 0
    shared, asked = reused(other)
    assert 0 < shared < asked
    assert mine < runs_in(out)
    assert len(runs_in(out)) == len(mine) + asked - shared
    alone = coldfleet("compare", "evict-only", "lockless-6.15", study_file, *BUDGET, *SERIAL)
    assert other.out == alone.out


def test_studies_of_two_seeds_are_kept_side_by_side(
    study_file: Path, tmp_path: Path, coldfleet: Command, fake_engine: list[HostSpec]
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(STUDY.replace("seed = 7", "seed = 8"))
    for number, study in enumerate((study_file, other, study_file)):
        said = coldfleet(*QUESTIONS["compare"](study), *SERIAL, "--out", tmp_path / "out")
        assert said.out == coldfleet(*QUESTIONS["compare"](study), *SERIAL).out
        assert (reused(said)[0] > 0) == (number == 2)
    assert {row["seed"] for row in Results.open(tmp_path / "out").table("cells", ["seed"]).to_pylist()} == {7, 8}


def test_claims_and_ablations_are_kept_too(tmp_path: Path, coldfleet: Command) -> None:
    finding = ROOT / "configs" / "findings" / "refault-counter.toml"
    ablate = ("ablate", finding, "--from", "6.12", "--to", "6.18", *SERIAL)
    for question in (("argue", "C5", "C9", "--quick", *SERIAL), ablate):
        out = tmp_path / question[0]
        alone, first, again = coldfleet(*question), *(coldfleet(*question, "--out", out) for _ in range(2))
        assert alone.code == 0, alone.err
        assert first.out == again.out == alone.out
        assert reused(first) == (0, len(runs_in(out)))
        assert reused(again) == (len(runs_in(out)),) * 2


def test_a_run_that_failed_is_said_and_retried_by_its_own_command(
    study_file: Path, tmp_path: Path, coldfleet: Command, monkeypatch: pytest.MonkeyPatch, fake_engine: list[HostSpec]
) -> None:
    out = tmp_path / "out"

    def broken(*_: object, **__: object) -> None:
        raise ValueError("no such page")

    with monkeypatch.context() as patch:
        patch.setattr("coldfleet.cluster.execution.executor.warm_up", lambda plan: None)
        patch.setattr("coldfleet.hostsim.host.simulate_host", broken)
        for _ in range(2):
            said = coldfleet(*QUESTIONS["compare"](study_file), *SERIAL, "--out", out)
            assert (said.code, said.out) == (2, "")
            assert said.err.splitlines()[-1].endswith(
                f"ValueError: no such page; once that is mended: coldfleet retry {out} --failed"
            )
    assert coldfleet("retry", out, "--failed", "--executor", "serial").code == 0
    assert coldfleet(*QUESTIONS["compare"](study_file), *SERIAL, "--out", out).code == 0
    runs_in(out)


def test_a_directory_that_can_t_be_used_is_one_line_and_left_alone(
    study_file: Path, plan: Plan, tmp_path: Path, coldfleet: Command, fake_engine: list[HostSpec]
) -> None:
    question = QUESTIONS["compare"](study_file)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    sweep(plan, tmp_path / "sweep", SerialExecutor())
    assert coldfleet(*question, *SERIAL, "--out", tmp_path / "older").code == 0
    head = tmp_path / "older" / "study.json"
    head.write_text(head.read_text().replace('"engine": "', '"engine": "0'))
    for name, why in (
        ("file", "is a file, not a directory for results"),
        ("mine", "holds files that are not a sweep's: give another --out"),
        ("sweep", "holds a sweep, and a question's runs don't go with it: give another --out"),
        ("older", "was begun by another version of the simulator: give another --out"),
        ("file/below", "Not a directory"),
        ("", "is not the name of a directory for results"),
    ):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        said = coldfleet(*question, *SERIAL, "--out", tmp_path / name if name else " ")
        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1), (name, said.err)
        assert why in said.err
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    said = coldfleet(*question, "--address", "127.0.0.1:1")
    assert (said.code, "give --out too, where all machines of the cluster can write" in said.err) == (2, True)
    said = coldfleet("sweep", study_file, "--out", tmp_path / "older", "--executor", "serial")
    assert (said.code, "another study" in said.err) == (2, True)


def test_a_directory_without_permission_is_one_line(
    study_file: Path, tmp_path: Path, coldfleet: Command, fake_engine: list[HostSpec]
) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "closed").mkdir(mode=0o555)
    said = coldfleet(*QUESTIONS["compare"](study_file), *SERIAL, "--out", tmp_path / "closed" / "out")
    assert (said.code, said.out) == (2, "")
    assert "no directory can be made there: Permission denied" in said.err.splitlines()[-1]


def test_two_questions_at_once_are_kept_apart(
    study_file: Path, tmp_path: Path, coldfleet: Command, fake_engine: list[HostSpec]
) -> None:
    from coldfleet.cluster.results.growing import GrowingResults
    from coldfleet.cluster.results.storage import open_storage

    out = tmp_path / "out"
    assert coldfleet(*QUESTIONS["compare"](study_file), *SERIAL, "--out", out).code == 0
    with GrowingResults(open_storage(out), read_study(study_file)):
        said = coldfleet(*QUESTIONS["compare"](study_file), *SERIAL, "--out", out)
        assert (said.code, said.out) == (2, "")
        assert "another sweep is writing there: wait for it, or stop it" in said.err


def test_a_gathered_plan_is_read_as_it_was_written(plan: Plan) -> None:
    other = read_study(ROOT / "configs" / "arguments" / "c09.toml")
    gathered = Gathered(plan)
    for study in (plan, other):
        gathered.adopt(study)
        assert gathered.add(study.run(index) for index in range(0, len(study), 5))
        assert not gathered.add([study.run(5)])
    made = gathered.plan()
    again = Plan.thaw(json.loads(json.dumps(made.frozen())))
    assert again == made == Gathered.of(made).plan()
    assert again.cell_ids == made.cell_ids  # built from their parameters, and as they were gathered
    assert [again.index_of(*again.name_of(index)) for index in range(len(again))] == list(range(len(again)))
    names = {study.name_of(index) for study in (plan, other) for index in range(0, len(study), 5)}
    assert {again.name_of(index) for index in range(len(again))} == names
    assert again.index_of(again.cell_ids[0], 99) == again.index_of("no such cell", 0) == -1
    for key, value in (("asked", []), ("asked", [[0, 99]]), ("asked", [[0, 1], [0, 0]]), ("seeds", [1]), ("seeds", [])):
        with pytest.raises(ValueError, match=r"asked for|a seed for each"):
            Plan.thaw({**json.loads(json.dumps(made.frozen())), key: value})


def test_policies_of_one_name_and_fleets_of_other_classes_are_not_mixed(plan: Plan) -> None:
    own = read_study(ROOT / "configs" / "questions" / "own-policy.toml")
    gathered = Gathered(own)
    gathered.adopt(own)
    (name,) = own.policies
    changed = Plan.thaw({**own.frozen(), "policies": {name: {**own.policies[name], "source": "elsewhere"}}})
    with pytest.raises(UserError, match=f"the policy {name} is another one there"):
        gathered.adopt(changed)
    gathered.add([plan.run(0)])
    with pytest.raises(UserError, match="is a key of some of these fleets and not of others"):
        gathered.add([read_study(ROOT / "configs" / "questions" / "fleet.toml").run(0)])


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A head with one CPU and a second node with another: the address, and what a client needs."""
    token, port = secrets.token_hex(32), free_port()
    with tempfile.TemporaryDirectory(prefix="cf", dir="/tmp") as short:  # sockets have short paths
        first = ["--head", "--port", str(port), "--include-dashboard", "false", "--temp-dir", short]
        second = ["--address", f"127.0.0.1:{port}"]
        nodes: list[Node] = []
        try:
            for name, place in (("head", first), ("second", second)):
                arguments = [*place, "--num-cpus", "1", "--node-ip-address", "127.0.0.1"]
                nodes.append(Node(arguments, token, tmp_path / f"{name}.log"))
                wait_for("Ray runtime started", nodes[-1].log, within_s=120)
            yield f"127.0.0.1:{port}", environment(token)
        finally:
            for node in reversed(nodes):
                node.stop()


def killed_in_the_middle(question: tuple[object, ...], out: Path, env: dict[str, str]) -> int:
    """Asks, kills the command once it has worked for a while, and returns how many runs are done."""
    journal = out / "journal.jsonl"

    def receipts() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    before, deadline = receipts(), time.monotonic() + 600  # nodes may have to compile first
    words = [sys.executable, "-m", "coldfleet", *map(str, question)]
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            while receipts() < before + 4:
                assert process.poll() is None, process.stdout and process.stdout.read()
                assert time.monotonic() < deadline, "the question doesn't move"
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGKILL)
    return Results.open(out).status.done


@pytest.mark.slow
@pytest.mark.cluster
def test_on_two_nodes_killed_questions_go_on_and_take_what_is_there(
    two_nodes: tuple[str, dict[str, str]], tmp_path: Path, coldfleet: Command
) -> None:
    address, env = two_nodes
    study, out = tmp_path / "asked.toml", tmp_path / "out"
    text = STUDY.replace("ticks = 4", "ticks = 40").replace("4 MiB", "16 MiB").replace("2048", "16384")
    study.write_text(text)
    there: set[tuple[str, int]] = set()
    told = []
    for name, shares in (("compare", False), ("capacity", False), ("map", True)):
        question = (*QUESTIONS[name](study), "--json")
        joined = (*question, "--address", address, "--out", out)
        done = killed_in_the_middle(joined, out, env)
        assert done > len(there)
        words = [sys.executable, "-m", "coldfleet", *map(str, joined)]
        finished = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=600)
        assert finished.returncode == 0, finished.stderr
        on = Said(finished.returncode, finished.stdout, finished.stderr)
        alone = coldfleet(*question, "--executor", "serial")
        assert on.out == alone.out
        now, (taken, asked) = runs_in(out), reused(on)
        told.append(f"{name}: {len(there)} runs before, {done} when killed, {len(now)} at the end, {taken} of {asked}")
        assert asked == json.loads(on.out)["runs"]
        assert taken >= done - len(there)
        assert (len(there) + asked > len(now)) == shares
        there = now
    print(*told, sep="\n")
