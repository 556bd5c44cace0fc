"""A sweep on a cluster whose head, or this machine's raylet, is killed: one line, a code, sound results."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from coldfleet.cluster.execution.interrupt import LOST
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.verify import verify
from tests.cluster.ray_node import ROOT, Head, environment, running_head

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

WITHIN_S = 60.0
STUDY = """\
title = "the head dies"
seed = 5
replicates = 60
ticks = 40
nested_ratio = 0.5
overcommit = 1.5

[fleet]
hosts = 1
guests_per_host = 4

[guest]
memory = "16 MiB"
accesses_per_tick = 32768

[grid]
policy = ["evict-only", "six-steps", "lockless-6.15"]
"""


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    with running_head(2, tmp_path / "head.log") as head:
        yield head


@pytest.mark.parametrize("victim", ["gcs_server", "raylet", "all"])
def test_death_of_the_head_is_one_line(victim: str, head: Head, tmp_path: Path) -> None:
    node, address, token = head
    study, out = tmp_path / "study.toml", tmp_path / "out"
    study.write_text(STUDY)
    command = [sys.executable, "-m", "coldfleet", "sweep", str(study), "--out", str(out), "--address", address]
    with subprocess.Popen(command, env=environment(token), stderr=subprocess.PIPE, text=True, cwd=ROOT) as driver:
        try:
            journal, deadline = out / "journal.jsonl", time.monotonic() + 300
            while not journal.exists() or journal.read_bytes().count(b"\n") < 2:
                assert driver.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            family = psutil.Process(node.process.pid).children(recursive=True)
            for process in family:
                with suppress(psutil.NoSuchProcess):  # it has ended by itself
                    if victim in ("all", process.name()):
                        process.kill()
            struck = time.monotonic()
            _, said = driver.communicate(timeout=WITHIN_S)
            print(f"{victim}: {time.monotonic() - struck:.1f} s, exit {driver.returncode}: {said}")
        finally:
            driver.kill()
    assert driver.returncode == LOST
    last = said.splitlines()[-1]
    assert last.startswith("coldfleet: Ray's process ")
    assert last.endswith(f"continue with: coldfleet resume {out}")
    assert sum(line.startswith("coldfleet: ") for line in said.splitlines()) == 1
    assert [line for line in verify(Results.open(out)) if "so it isn't used" not in line] == []
