"""Whether a node that has to compile first holds a sweep up: ``python -m tests.benchmarks.bench_cold_node``, as root.

A sweep on a head with one CPU, alone, and with a second node that joins when a third of the runs are done and whose
compile cache is empty. In turn, three times each; wall time is that of the command. Of the second node: how long after
the command `ray start`, after that has said that the node runs, and after the start of the process its first result was
in the journal. The nodes are in network namespaces, about ten minutes on two cores.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from coldfleet.cluster.execution.work import warm_up
from coldfleet.cluster.results.journal import read_journal
from coldfleet.cluster.results.storage import open_storage
from coldfleet.cluster.study.reader import read_study
from tests.benchmarks.machine import machine
from tests.cluster.execution.test_network import PORT, Cable
from tests.cluster.ray_node import ROOT, Node, environment, wait_for

TURNS = 3
RUNS = 120
STUDY = """\
replicates = 30
ticks = 120
overcommit = 1.5

[fleet]
hosts = 1
guests_per_host = 4

[guest]
memory = "16 MiB"
accesses_per_tick = 65536

[grid]
policy = ["fast-only-v5", "lockless-6.15"]
nested_ratio = [0, 1]
"""


def runs_by(out: Path) -> dict[int, int]:
    """How many runs each process has done."""
    done: dict[int, int] = {}
    if (out / "journal.jsonl").exists():
        for batch in read_journal(open_storage(out)):
            process = int(batch.worker.split(":")[1])
            done[process] = done.get(process, 0) + len(batch.runs)
    return done


class Joining(NamedTuple):
    """When a node was started, when it ran and when its first result was there; seconds since the epoch."""

    started: float
    runs: float = 0.0
    first_result: float = 0.0
    process: float = 0.0  # the start of the one that has that result

    def __str__(self) -> str:
        since = [self.first_result - then for then in (self.started, self.runs, self.process)]
        words = "its first result {:.1f} s after its command, {:.1f} after the node ran, {:.1f} after its process began"
        return words.format(*since)


def watched(joining: Joining, log: Path, first: int, done: dict[int, int]) -> Joining:
    """With what has happened since; ``first``: the process that was there before."""
    if not joining.runs and "Ray runtime started" in log.read_text(errors="replace"):
        joining = joining._replace(runs=time.time())
    others = done.keys() - {first}
    if not joining.first_result and others:
        created = psutil.Process(min(others)).create_time()
        joining = joining._replace(first_result=time.time(), process=created)
    return joining


def wall_s(place: Path, cable: Cable, cold: bool) -> tuple[float, int, Joining | None]:
    """How long the sweep took, how many runs the second node did, and when."""
    token, address, out = secrets.token_hex(32), f"{cable.addresses[0]}:{PORT}", place / "out"
    where = ["--node-ip-address", cable.addresses[0], "--include-dashboard", "false"]
    joining: Joining | None = None
    first = 0
    with tempfile.TemporaryDirectory(prefix="cf", dir="/tmp") as short:  # sockets have short paths
        words = ["--head", "--num-cpus", "1", "--port", str(PORT), *where, "--temp-dir", short]
        nodes = [Node(words, token, place / "head.log", cable.inside(0))]
        try:
            wait_for("Ray runtime started", nodes[0].log, within_s=120)
            said = [sys.executable, "-m", "coldfleet", "sweep", str(place / "study.toml"), "--out", str(out)]
            begun = time.monotonic()
            with open(place / "driver.log", "wb") as log:
                driver = subprocess.Popen(
                    [*cable.inside(0), *said, "--address", address],
                    env=environment(token), stdout=log, stderr=log, cwd=ROOT,
                )  # fmt: skip
            while driver.poll() is None:
                time.sleep(0.1)
                done = runs_by(out)
                if cold and joining is None and sum(done.values()) >= RUNS / 3:
                    first = min(done)
                    empty = [*cable.inside(1), "env", f"XDG_CACHE_HOME={place / 'cache'}"]
                    words = ["--address", address, "--num-cpus", "1", "--node-ip-address", cable.addresses[1]]
                    joining = Joining(time.time())
                    nodes.append(Node(words, token, place / "cold.log", empty))
                if joining is not None:
                    joining = watched(joining, place / "cold.log", first, done)
            took = time.monotonic() - begun
            if driver.returncode:
                raise SystemExit((place / "driver.log").read_text())
            return took, RUNS - max(runs_by(out).values()), joining
        finally:
            for node in reversed(nodes):
                node.stop()


def main() -> None:
    cable = Cable(f"cf{os.getpid() % 10000}")
    print(machine())
    try:
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            (root / "study.toml").write_text(STUDY)
            warm_up(read_study(root / "study.toml"))  # compiles, on this machine
            for turn in range(TURNS):
                for cold in (False, True):
                    place = root / f"{turn}-{cold}"
                    place.mkdir()
                    (place / "study.toml").write_text(STUDY)
                    took, elsewhere, joining = wall_s(place, cable, cold)
                    what = (
                        f"a cold node joins, which does {elsewhere} of {RUNS} runs; {joining}" if cold else "one node"
                    )
                    print(f"{took:6.1f} s  {what}", flush=True)
    finally:
        cable.remove()


if __name__ == "__main__":
    main()
