"""Fifty accidents, and a table at the end that is right to the last byte."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from coldfleet.cluster.commands.cli import run_command
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.results.verify import verify
from coldfleet.cluster.study.reader import read_study

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

HITS = 50
TMPFS_BYTES = 64 << 20
STUDY = """\
title = "chaos"
seed = 11
replicates = 1
ticks = 40

[fleet]
hosts = 1
guests_per_host = 4

[guest]
memory = "16 MiB"
accesses_per_tick = 16384

[grid]
policy = ["evict-only", "fast-only-v5", "was-fast", "six-steps", "locked-6.12", "lockless-6.15"]
nested_ratio = [0, 0.25, 0.5, 0.75, 1]
overcommit = [1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0]
"""


class Scene:
    """A cluster of three nodes, a results directory on a small disk, and a sweep that goes on there."""

    def __init__(self, cluster: Any, study: Path, out: Path, seed: int) -> None:
        self.cluster = cluster
        self.nodes = [self.new_node(), self.new_node()]
        self.cluster.wait_for_nodes()
        self.study = study
        self.out = out
        self.chance = random.Random(seed)
        self.counts: dict[str, int] = {}
        self.exits: list[int] = []
        self.driver = self.start()

    def new_node(self) -> Any:
        return self.cluster.add_node(num_cpus=1, object_store_memory=100 << 20)

    def start(self) -> subprocess.Popen[str]:
        """The sweep, or its continuation."""
        begun = (self.out / "study.json").exists()
        what = ["resume", self.out] if begun else ["sweep", self.study, "--out", self.out]
        command = [sys.executable, "-m", "tests.cluster.chaos_driver", *what, "--address", self.cluster.address]
        return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)

    def works(self) -> bool:
        """Whether a sweep has begun to work; false if there is nothing left to do."""
        deadline = time.monotonic() + 180
        before = self.receipts()
        while time.monotonic() < deadline:
            if self.driver.poll() is not None:
                if self.driver.stderr is not None and not self.driver.stderr.closed:
                    self.reap()
                return False
            if self.receipts() > before:
                return True
            time.sleep(0.1)
        raise AssertionError("the sweep doesn't move")

    def receipts(self) -> int:
        journal = self.out / "journal.jsonl"
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    def reap(self, timeout_s: float = 180) -> str:
        """Waits for the sweep; what it said last."""
        _, said = self.driver.communicate(timeout=timeout_s)
        self.exits.append(self.driver.returncode)
        assert "Traceback" not in said
        assert self.driver.returncode in (0, 1, 2, -signal.SIGKILL), said
        return said.splitlines()[-1] if said else ""

    def kill_driver(self) -> None:
        self.driver.kill()
        self.reap()

    def hit(self, kind: str) -> None:
        getattr(self, kind)()
        self.counts[kind] = self.counts.get(kind, 0) + 1

    # Accidents of a sweep that works

    def actor_killed(self) -> None:
        self.driver.send_signal(signal.SIGUSR1)

    def worker_killed(self) -> None:
        ours = [child for node in self.cluster.list_all_nodes() for child in _children(node)]
        workers = [process for process in ours if "HostActor" in " ".join(process.cmdline()[:1])]
        if workers:
            self.chance.choice(workers).kill()

    def raylet_killed(self) -> None:
        node = self.nodes.pop(self.chance.randrange(len(self.nodes)))
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes.append(self.new_node())

    def driver_killed(self) -> None:
        self.kill_driver()
        self.driver = self.start()

    def disk_full(self) -> None:
        ballast = self.out.parent / "ballast"
        with open(ballast, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                pass
        said = self.reap()
        ballast.unlink()
        assert "No space left on device" in said or self.exits[-1] != 2, said
        self.driver = self.start()

    # Accidents of the files of a sweep that was killed, or is over

    def part_truncated(self) -> None:
        self.stop()
        parts = sorted((self.out / "parts").iterdir())
        part = self.chance.choice(parts)
        os.truncate(part, self.chance.randrange(part.stat().st_size))
        self.driver = self.start()

    def journal_torn(self) -> None:
        self.stop()
        journal = self.out / "journal.jsonl"
        last = len(journal.read_bytes().splitlines()[-1])
        os.truncate(journal, journal.stat().st_size - self.chance.randrange(1, last + 1))
        self.driver = self.start()

    def finish(self) -> None:
        """Goes on until the sweep says that it is done."""
        while True:
            self.reap(timeout_s=600)
            if self.exits[-1] == 0:
                return
            if Results.open(self.out).failed:  # three accidents hit the same run
                assert run_command(["retry", str(self.out), "--failed", "--executor", "serial"]) == 0
            self.driver = self.start()

    def stop(self) -> None:
        if self.driver.returncode is None:
            self.kill_driver()


def _children(node: Any) -> list[psutil.Process]:
    try:
        return psutil.Process(node.all_processes["raylet"][0].process.pid).children(recursive=True)
    except (psutil.NoSuchProcess, KeyError):
        return []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs: the test fills it."""
    if os.geteuid() != 0:
        pytest.skip("mounts a small tmpfs, which takes root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.fixture
def ray_cluster(ray_token: str) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False},
    )
    try:
        yield cluster
    finally:
        cluster.shutdown()


def test_fifty_accidents_leave_the_same_tables(ray_cluster: Any, small_disk: Path, tmp_path: Path) -> None:
    study = tmp_path / "chaos.toml"
    study.write_text(STUDY)
    plan = read_study(study)
    assert len(plan) == 300
    out = small_disk / "out"
    scene = Scene(ray_cluster, study, out, seed=int(os.environ.get("CHAOS_SEED", "1")))
    alive = ["actor_killed", "worker_killed", "raylet_killed", "driver_killed", "disk_full"]
    files = ["part_truncated", "journal_torn"]
    begun = time.monotonic()
    kinds = (alive + files) * (HITS // len(alive + files) + 1)
    scene.chance.shuffle(kinds)
    for number in range(HITS):
        working = scene.works()
        kind = kinds[number] if working else scene.chance.choice(files)
        scene.hit(kind)
        print(f"{time.monotonic() - begun:5.0f} s  {number + 1:2}  {kind}, {scene.receipts()} receipts", flush=True)
        time.sleep(scene.chance.random())
    scene.finish()
    print(f"{time.monotonic() - begun:.0f} s, {sum(scene.counts.values())} hits: {scene.counts}, exits {scene.exits}")
    assert sum(scene.counts.values()) == HITS

    results = Results.open(out)
    whole = sweep(plan, tmp_path / "whole", SerialExecutor())
    assert not results.missing
    assert not results.failed
    assert list(verify(results)) == []
    for table in TABLES:
        assert _bytes_of(results.table(table)) == _bytes_of(whole.table(table))
    raw = ds.dataset([str(path) for path in (out / "parts").glob("cells-*")]).to_table(["cell_id"])
    assert sorted(raw["cell_id"].to_pylist()) == sorted(plan.cell_ids)


def _bytes_of(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
