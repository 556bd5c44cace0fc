"""The pool of actors: what it does when workers die, on a fake Ray; and that real Ray changes no number."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coldfleet.cluster.execution import ray_cluster, ray_executor
from coldfleet.cluster.execution.batching import IN_FLIGHT
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.host_actor import Hello, HostActor
from coldfleet.cluster.execution.interrupt import StoppedError, StopRequest
from coldfleet.cluster.execution.ray_executor import MAX_ATTEMPTS, RayExecutor, _Slot
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.execution.work import Batch
from coldfleet.cluster.results.journal import BatchReceipt
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.results.storage import Storage
from coldfleet.cluster.results.versions import engine_digest
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import HostSpec
from tests.cluster.conftest import Said
from tests.cluster.fake_ray import Actor, ActorDiedError, FakeRay


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch, fake_engine: list[HostSpec]) -> FakeRay:
    ray = FakeRay()

    def start(self: ray_cluster.OwnRay, workers: int | None) -> FakeRay:
        self._ray = ray
        return ray

    monkeypatch.setattr(ray_cluster.OwnRay, "start", start)
    return ray


@pytest.fixture
def expected(plan: Plan, tmp_path: Path) -> Results:
    """What the serial executor makes of the plan."""
    return sweep(plan, tmp_path / "serial", SerialExecutor())


def assert_same_tables(left: Results, right: Results) -> None:
    for table in TABLES:
        assert left.table(table).equals(right.table(table), check_metadata=True)


def test_pool_gives_the_same_tables_within_its_window(
    fake_ray: FakeRay, expected: Results, plan: Plan, tmp_path: Path
) -> None:
    results = sweep(plan, tmp_path / "out", RayExecutor())
    assert_same_tables(results, expected)
    assert len(fake_ray.actors) == 2
    assert fake_ray.most_in_flight <= IN_FLIGHT
    assert fake_ray.shut_down


@pytest.mark.parametrize(
    ("ticks", "more", "by_ray"),
    [(4, [], False), (10**6, [], True), (4, ["--executor", "ray"], True), (4, ["--workers", "1"], True)],
)
def test_ray_is_for_what_takes_longer_or_who_wants_it(
    ticks: int,
    more: list[str],
    by_ray: bool,
    fake_ray: FakeRay,
    study_file: Path,
    tmp_path: Path,
    coldfleet: Callable[..., Said],
) -> None:
    study_file.write_text(study_file.read_text().replace("ticks = 4", f"ticks = {ticks}"))
    said = coldfleet("sweep", study_file, "--out", tmp_path / "out", *more)
    assert said.code == 0
    assert bool(fake_ray.actors) == by_ray
    assert f"\non {'ray' if by_ray else 'serial'}, " in said.err


def test_batches_of_a_dead_worker_are_done_by_another(
    fake_ray: FakeRay, expected: Results, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = HostActor.run
    deaths = []

    def die_sometimes(self: HostActor, batch: Batch, where: str) -> BatchReceipt:
        if batch.runs[0] in (3, 4, 11) and batch.attempt == 0:
            deaths.append(batch)
            raise ActorDiedError("killed")
        return run(self, batch, where)

    monkeypatch.setattr(HostActor, "run", die_sometimes)
    results = sweep(plan, tmp_path / "out", RayExecutor())
    assert deaths
    assert not results.failed
    assert_same_tables(results, expected)
    assert len(fake_ray.actors) == 2 + len(deaths)


@pytest.mark.parametrize("end", ["never", "late", "dead"])
def test_work_of_a_slow_worker_is_done_by_an_idle_one_too(
    end: str, fake_ray: FakeRay, expected: Results, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never answers, answers when that doesn't count any more, or dies.

    Of ten batches the slow worker does one, and the other does eight before it is given those that are late.
    """
    run = HostActor.run
    done: list[tuple[Batch, bool]] = []

    def stop_the_first(self: HostActor, batch: Batch, where: str) -> BatchReceipt:
        slow, all_but_one = fake_ray.actors[0], len(done) == 8
        slow.stopped = self is not slow.real and not (end == "late" and all_but_one)
        slow.dead |= end == "dead" and all_but_one
        done.append((batch, self is slow.real))
        return run(self, batch, where)

    monkeypatch.setattr("coldfleet.cluster.execution.batching.Batches.__next__", _pairs)
    monkeypatch.setattr(ray_executor, "LATE_S", 0)
    monkeypatch.setattr(ray_executor, "LATE", 0)
    monkeypatch.setattr(HostActor, "run", stop_the_first)
    results = sweep(plan, tmp_path / "out", RayExecutor())
    assert_same_tables(results, expected)
    assert results.status.repeats == 0
    assert results.status.batches == len({batch for batch, _ in done}) == 10  # one receipt for each
    assert len(done) - 10 == (end == "late")
    assert [batch for batch, by_slow in done if by_slow][1:] == ([done[8][0]] if end == "late" else [])
    assert {part.name for part in results.parts} == results.storage.sizes("parts").keys()


class Compiler:
    """Stands for an actor: it compiles what it isn't given, or can't."""

    def __init__(self, cache: str, works: bool = True) -> None:
        self.cache = cache
        self.works = works
        self.given: list[object] = []

    def warm_up(self, code: str | None) -> str | None:
        self.given.append(code)
        if not self.works:
            raise ActorDiedError("killed")
        return f"made in {self.cache}" if code is None else None


def test_one_machine_compiles_and_the_others_take_it_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers share each cache; the first to compile dies of it."""
    ray, executor = FakeRay(), RayExecutor(address="head:6379")
    compilers = [Compiler("a", works=False), *(Compiler(cache) for cache in "aabbcc")]
    ray.actors = [Actor(each, ray) for each in compilers]
    monkeypatch.setattr(executor, "_ray", ray)
    monkeypatch.setattr(executor, "_watch", SimpleNamespace(ended=str))
    monkeypatch.setattr(executor, "_replace", lambda slot, error: executor._pool.remove(slot))
    executor._pool = [_Slot(actor, None, actor.real.cache) for actor in ray.actors]
    for _ in range(6):
        executor._compile(1.0)
    assert executor._warm == {"a", "b", "c"}
    assert [each.given for each in compilers] == [[None], [None], [], ["made in a"], [], ["made in a"], []]


def test_machines_of_another_kind_compile_once_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kinds of CPUs: the first machine of each compiles, at the same time, and the others wait for their kind."""
    ray, executor = FakeRay(), RayExecutor(address="head:6379")
    compilers = [Compiler(cache) for cache in "abcde"]
    ray.actors = [Actor(each, ray) for each in compilers]
    monkeypatch.setattr(executor, "_ray", ray)
    monkeypatch.setattr(executor, "_watch", SimpleNamespace(ended=str))
    pool = zip(ray.actors, ("old", "new", "new", "old", "new"), strict=True)
    executor._pool = [_Slot(actor, None, actor.real.cache, kind) for actor, kind in pool]
    executor._compile(1.0)
    assert [slot.compiling is not None for slot in executor._pool] == [True, True, False, False, False]
    for _ in range(6):
        executor._compile(1.0)
    assert executor._warm == set("abcde")
    assert [each.given for each in compilers] == [[None], [None], ["made in b"], ["made in a"], ["made in b"]]


def test_cache_is_known_by_its_folder(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes in containers can have one name, and nodes of one machine can have one cache."""
    caches = []
    for folder in (tmp_path / "a", tmp_path / "b", tmp_path / "a"):
        folder.mkdir(exist_ok=True)
        monkeypatch.setattr("coldfleet.hostsim.engine.shipping.OWN_CACHE", folder)
        caches.append(HostActor(plan).hello().cache)
    assert caches[0] == caches[2] != caches[1]
    monkeypatch.setattr("coldfleet.hostsim.engine.shipping.OWN_CACHE", None)
    assert HostActor(plan).hello().cache.endswith(f"process {os.getpid()}")


def test_a_worker_says_hello_where_its_engine_is_broken(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong there is told with the machine's name as it compiles: a hello that fails looks like a death."""
    monkeypatch.setitem(sys.modules, "coldfleet.hostsim.engine.shipping", None)
    found = HostActor(plan).hello()
    assert (found.machine, found.engine) == (socket.gethostname(), engine_digest())


def test_first_batch_of_a_worker_is_one_run(
    fake_ray: FakeRay, expected: Results, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever joins late has its first result soon; the other runs of its batch go to the next one that is free."""
    run = HostActor.run
    done: dict[HostActor, list[int]] = {}

    def note(self: HostActor, batch: Batch, where: str) -> BatchReceipt:
        done.setdefault(self, []).append(len(batch.runs))
        return run(self, batch, where)

    monkeypatch.setattr(HostActor, "run", note)
    monkeypatch.setattr("coldfleet.cluster.execution.batching.Batches.__next__", _pairs)
    results = sweep(plan, tmp_path / "out", RayExecutor())
    assert_same_tables(results, expected)
    assert len(done) == 2
    for sizes in done.values():
        assert sizes[0] == 1
        assert 2 in sizes


@pytest.mark.cluster
def test_a_stopped_worker_holds_nothing_up(
    plan: Plan, tmp_path: Path, ray_token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "LATE_S", 1.0)

    class Stopping(RayExecutor):
        stopped = ""

        def run(self, batches: Iterator[Batch], storage: Storage, stop: StopRequest) -> Iterator[BatchReceipt]:
            for receipt in super().run(batches, storage, stop):
                if not self.stopped:
                    self.stopped = receipt.worker
                    os.kill(int(receipt.worker.rpartition(":")[2]), signal.SIGSTOP)
                yield receipt

    executor = Stopping(2)
    results = sweep(plan, tmp_path / "out", executor)
    assert executor.stopped
    assert not results.missing
    assert_same_tables(results, sweep(plan, tmp_path / "serial", SerialExecutor()))


def test_run_that_kills_every_worker_fails_alone(
    fake_ray: FakeRay, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = HostActor.run
    attempts = []

    def die_of_one(self: HostActor, batch: Batch, where: str) -> BatchReceipt:
        if 9 in batch.runs:
            attempts.append(len(batch.runs))
            raise ActorDiedError("out of memory")
        return run(self, batch, where)

    monkeypatch.setattr(HostActor, "run", die_of_one)
    monkeypatch.setattr("coldfleet.cluster.execution.batching.Batches.__next__", _pairs)
    results = sweep(plan, tmp_path / "out", RayExecutor())
    assert attempts == [2, 1, 1]
    assert not results.missing
    assert [results.plan.index_of(r.cell_id, r.replicate) for r in results.failed] == [9]
    assert f"{MAX_ATTEMPTS} workers died of it" in results.failed[0].error
    assert "\n" not in results.failed[0].error


def _pairs(batches: Any) -> Batch:
    """Cuts batches of two, whatever was measured."""
    start = batches._next
    if start >= len(batches._indices):
        raise StopIteration
    batches._next += 2
    return Batch(start, tuple(batches._indices[start : start + 2]))


def test_workers_that_never_live_end_the_sweep(
    fake_ray: FakeRay, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(self: HostActor, batch: Batch, where: str) -> BatchReceipt:
        raise ActorDiedError("no luck")

    monkeypatch.setattr(HostActor, "run", die)
    with pytest.raises(UserError, match="workers die as fast as they start"):
        sweep(plan, tmp_path / "out", RayExecutor())
    assert fake_ray.shut_down


def test_worker_that_cannot_write_ends_the_sweep_in_one_line(
    fake_ray: FakeRay, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("coldfleet.cluster.execution.work.write_part", full)
    with pytest.raises(UserError, match=r"can't write its results: .*No space left on device"):
        sweep(plan, tmp_path / "out", RayExecutor())


def test_worker_with_another_simulator_is_refused_before_anything_is_written(
    fake_ray: FakeRay, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HostActor, "hello", lambda self: Hello("node7", 1, "0123", "here"))
    with pytest.raises(UserError, match="node7: it has another version of coldfleet"):
        sweep(plan, tmp_path / "out", RayExecutor())
    assert not (tmp_path / "out").exists()


def test_busy_cluster_is_one_line(
    fake_ray: FakeRay, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "START_WITHIN_S", 0.0)
    with pytest.raises(UserError, match=r"Ray gave no worker of 1 CPU and \d+ MiB within 0 s"):
        sweep(plan, tmp_path / "out", RayExecutor())
    assert not (tmp_path / "out").exists()


def test_machine_that_leaves_while_its_workers_start_is_done_without(
    fake_ray: FakeRay, expected: Results, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four workers three die as they start, and by then their machine is gone: two CPUs are left."""
    fake_ray.cpus = 4.0

    def hello(self: HostActor) -> Hello:
        if self is not fake_ray.actors[0].real and len(fake_ray.actors) == 4:
            fake_ray.cpus = 2.0
            raise ActorDiedError("the machine left")
        return Hello("node1", 1, engine_digest(), "here")

    monkeypatch.setattr(HostActor, "hello", hello)
    results = sweep(plan, tmp_path / "out", RayExecutor())
    assert not results.missing
    assert not results.failed
    assert_same_tables(results, expected)


def test_stop_request_keeps_what_came_back(
    fake_ray: FakeRay, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = HostActor.run

    def interrupt(self: HostActor, batch: Batch, where: str) -> BatchReceipt:
        if batch.runs[0] == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return run(self, batch, where)

    monkeypatch.setattr("coldfleet.cluster.execution.batching.MAX_RUNS", 1)
    monkeypatch.setattr(HostActor, "run", interrupt)
    with pytest.raises(StoppedError, match=r"interrupted with \d+ of 18 runs to do; continue with: coldfleet resume"):
        sweep(plan, tmp_path / "out", RayExecutor())
    assert 6 <= Results.open(tmp_path / "out").status.done < len(plan)


@pytest.mark.parametrize("receipts", [0, 3])
def test_end_of_a_process_of_rays_own_is_one_line(
    receipts: int,
    fake_ray: FakeRay,
    expected: Results,
    study_file: Path,
    coldfleet: Callable[..., Said],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    journal = tmp_path / "out" / "journal.jsonl"

    def look(self: ray_cluster.OwnRay) -> str:
        written = journal.read_bytes().count(b"\n") if journal.exists() else 0
        return "raylet" if written >= receipts else ""

    monkeypatch.setattr("coldfleet.cluster.execution.batching.MAX_RUNS", 1)
    monkeypatch.setattr(ray_cluster.OwnRay, "_look", look)
    said = coldfleet("sweep", study_file, "--out", tmp_path / "out", "--executor", "ray")
    assert (said.code, said.out) == (4, "")
    last = said.err.splitlines()[-1]
    assert last.startswith("coldfleet: Ray's process raylet has ended unexpectedly")
    assert (f"coldfleet resume {tmp_path / 'out'}" if receipts else "run the same command again") in last
    assert_same_tables(sweep(expected.plan, tmp_path / "out", SerialExecutor()), expected)


def test_ray_without_tokens_is_refused(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.__version__", "2.51.2")
    monkeypatch.delattr("ray._raylet.AuthenticationTokenLoader")  # which came with tokens
    with pytest.raises(UserError, match=r"Ray 2.51.2 lets everybody in: pip install 'ray\[default\]>=2.52'"):
        sweep(plan, tmp_path / "out", RayExecutor())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1:9", "no Ray cluster answers at 127.0.0.1:9 within 4 s"), ("ray://head:10001", "HOST:PORT"),
     ("nonsense", "'nonsense': not an address of a Ray cluster")],
)  # fmt: skip
def test_unreachable_address_is_one_line_and_nothing_is_written(
    address: str,
    expected: str,
    coldfleet: Callable[..., Said],
    study_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ray_cluster.ANSWER_WITHIN_S < 18  # the promise is 20 s in all
    if "within" in expected:
        monkeypatch.setattr(ray_cluster, "ANSWER_WITHIN_S", 4.0)
    said = coldfleet("sweep", study_file, "--out", tmp_path / "out", "--address", address)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert expected in said.err
    assert not (tmp_path / "out").exists()


class KillingExecutor(RayExecutor):
    """Kills the process of a busy worker after the first batch."""

    def run(self, batches: Iterator[Batch], storage: Storage, stop: StopRequest) -> Iterator[BatchReceipt]:
        for number, receipt in enumerate(super().run(batches, storage, stop)):
            if number == 0:
                victim = next(slot for slot in self._pool if slot.batches)
                os.kill(self._ray.get(victim.hello).pid, signal.SIGKILL)
            yield receipt


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("kind", "workers"), [(RayExecutor, 1), (RayExecutor, 2), (KillingExecutor, 2)], ids=["one", "two", "killed"]
)
def test_ray_gives_the_tables_of_the_serial_executor(
    kind: type[RayExecutor], workers: int, two_nodes: str, expected: Results, plan: Plan, tmp_path: Path
) -> None:
    results = sweep(plan, tmp_path / "out", kind(workers, two_nodes))
    assert not results.missing
    assert not results.failed
    assert_same_tables(results, expected)


@pytest.mark.cluster
def test_command_starts_a_ray_of_its_own(ray_token: str, expected: Results, study_file: Path, tmp_path: Path) -> None:
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "coldfleet",
        "sweep",
        study_file,
        "--out",
        tmp_path / "out",
        "--workers",
        "2",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "on ray, 2 workers" in done.stderr
    assert "Traceback" not in done.stderr
    assert_same_tables(Results.open(tmp_path / "out"), expected)
    assert read_study(study_file) == expected.plan


@pytest.mark.parametrize("address", ["", "local", "x", ":", "a:b", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536"])
def test_what_is_no_address_of_a_cluster_is_refused_at_once(address: str) -> None:
    with pytest.raises(UserError, match="not an address of a Ray cluster: give the head's HOST:PORT"):
        ray_cluster.join(address)
