"""Two real Ray nodes that know each other by a cable only; the cable is cut for a minute in the middle of a sweep."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.journal import read_journal
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.results.storage import open_storage
from coldfleet.cluster.results.verify import verify
from coldfleet.cluster.study.reader import read_study
from tests.cluster.ray_node import ROOT, Node, environment, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

CUT_S = 60
PORT = 6391  # inside the namespaces: nobody else's
STUDY = """\
title = "two nodes"
seed = 5
replicates = 40
ticks = 40

[fleet]
hosts = 1
guests_per_host = 4

[guest]
memory = "16 MiB"
accesses_per_tick = 32768

[grid]
policy = ["six-steps", "lockless-6.15"]
nested_ratio = [0, 0.5]
overcommit = [1.2, 1.5, 2.0]
"""


class Cable:
    """Two network namespaces with a veth pair between them; the addresses exist inside only."""

    def __init__(self, name: str) -> None:
        self.ends = (f"{name}a", f"{name}b")
        self.addresses = ("10.231.77.1", "10.231.77.2")
        for end in self.ends:
            _ip("netns", "add", end)
        _ip("link", "add", self.ends[0], "type", "veth", "peer", "name", self.ends[1])
        for end, address in zip(self.ends, self.addresses, strict=True):
            _ip("link", "set", end, "netns", end)
            _ip("-n", end, "address", "add", f"{address}/24", "dev", end)
            _ip("-n", end, "link", "set", "lo", "up")
            _ip("-n", end, "link", "set", end, "up")

    def turn(self, state: str) -> None:
        """Cuts the cable ("down"), or mends it ("up")."""
        _ip("-n", self.ends[0], "link", "set", self.ends[0], state)

    def inside(self, number: int) -> list[str]:
        """A command prefix that runs at one of the ends."""
        return ["ip", "netns", "exec", self.ends[number]]

    def pids(self, number: int) -> set[int]:
        """The processes at one of the ends."""
        said = subprocess.run(["ip", "netns", "pids", self.ends[number]], capture_output=True, text=True, check=True)
        return set(map(int, said.stdout.split()))

    def remove(self) -> None:
        for end in self.ends:
            subprocess.run(["ip", "netns", "delete", end], check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def cable() -> Iterator[Cable]:
    if os.geteuid() != 0:
        pytest.skip("makes network namespaces, which takes root")
    if shutil.which("ip") is None:
        pytest.skip("makes network namespaces with `ip`, which isn't installed")
    cable = Cable(f"cf{os.getpid() % 10000}")
    try:
        yield cable
    finally:
        cable.remove()


def test_cable_is_cut_for_a_minute(cable: Cable, tmp_path: Path) -> None:
    study = tmp_path / "two.toml"
    study.write_text(STUDY)
    plan = read_study(study)
    out = tmp_path / "out"
    whole = sweep(plan, tmp_path / "whole", SerialExecutor())  # first, so that the kernels are compiled
    token = secrets.token_hex(32)
    begun = time.monotonic()

    def tell(what: str) -> None:
        print(f"{time.monotonic() - begun:5.0f} s  {what}", flush=True)

    with tempfile.TemporaryDirectory(prefix="cf", dir="/tmp") as short:  # sockets have short paths
        head = ["--head", "--num-cpus", "1", "--port", str(PORT), "--node-ip-address", cable.addresses[0]]
        head += ["--temp-dir", short, "--include-dashboard", "false"]
        address = f"{cable.addresses[0]}:{PORT}"
        joining = ["--address", address, "--num-cpus", "1", "--node-ip-address", cable.addresses[1]]
        nodes = [Node(head, token, tmp_path / "head.log", cable.inside(0))]
        command = [
            sys.executable,
            "-m",
            "coldfleet",
            "sweep",
            str(study),
            "--out",
            str(out),
            "--address",
            address,
        ]
        driver = None
        try:
            wait_for("Ray runtime started", nodes[0].log, within_s=90)
            nodes.append(Node(joining, token, tmp_path / "other.log", cable.inside(1)))
            wait_for("Ray runtime started", nodes[1].log, within_s=90)
            tell("two nodes")
            with open(tmp_path / "driver.log", "wb") as log:
                driver = subprocess.Popen(
                    [*cable.inside(0), *command], env=environment(token), stdout=log, stderr=log, cwd=ROOT
                )
            there = _wait_for_work_of(cable.pids, out, driver)
            tell("both have work done; the cable is cut")
            cable.turn("down")
            done_before = _done(out)
            time.sleep(CUT_S)
            cable.turn("up")
            done_after = _done(out)
            tell(f"the cable is mended; {done_before} runs were done when it was cut, {done_after} are now")
            assert driver.poll() is None, "the sweep was over too soon for this test"
            assert done_after > done_before  # the near end has gone on
            returned = False
            while driver.poll() is None:
                time.sleep(1)
                if not nodes[-1].running():  # as a supervisor would: Ray gave the node up, and it has ended
                    tell("the far node has ended, and is started again")
                    nodes.append(Node(joining, token, tmp_path / "other.log", cable.inside(1)))
                returned = returned or bool(_workers(out) & (cable.pids(1) - there))
            tell(f"done; the far end has worked again: {returned}")
        finally:
            if driver is not None and driver.poll() is None:
                driver.kill()
            for node in reversed(nodes):
                node.stop()
            for number in (0, 1):
                for pid in cable.pids(number):
                    psutil.Process(pid).kill()
    said = (tmp_path / "driver.log").read_text()
    assert driver.returncode == 0, said
    results = Results.open(out)
    assert list(verify(results)) == []
    for table in TABLES:
        assert results.table(table).equals(whole.table(table), check_metadata=True)


def _done(out: Path) -> int:
    return sum(len(batch.runs) for batch in read_journal(open_storage(str(out))))


def _workers(out: Path) -> set[int]:
    """The processes that receipts come from."""
    return {int(batch.worker.split(":")[1]) for batch in read_journal(open_storage(str(out))) if batch.worker}


def _wait_for_work_of(pids: Callable[[int], set[int]], out: Path, driver: subprocess.Popen[bytes]) -> set[int]:
    """Until both ends have written receipts; the workers at the far end."""
    deadline = time.monotonic() + 400
    while True:
        near, far = (_workers(out) & pids(number) if out.exists() else set() for number in (0, 1))
        if near and far:
            return far
        assert driver.poll() is None, "the sweep ended before both nodes had worked"
        assert time.monotonic() < deadline, "one of the nodes does nothing"
        time.sleep(0.5)
