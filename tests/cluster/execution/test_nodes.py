"""Nodes that can't take part, a token that is wrong: what a sweep on a real Ray does, and says."""

from __future__ import annotations

import os
import re
import resource
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import coldfleet
import coldfleet.policies
from coldfleet.cluster.execution import ray_cluster
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.ray_nodes import OTHER_VERSION, look, why_refused
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.results.versions import engine_digest
from coldfleet.cluster.study.plan import Plan
from tests.cluster.conftest import Said
from tests.cluster.ray_node import RAY, ROOT, Head, Node, command, environment, mounted, wait_for


@pytest.mark.cluster
def test_nodes_of_another_version_or_without_coldfleet_get_no_work(
    cluster: Head, plan: Plan, study_file: Path, tmp_path: Path
) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("makes mount namespaces with `unshare`, which takes root")
    # in a checkout and, where it is installed, too, in that environment
    packages = {folder for entry in [str(ROOT), *sys.path] if (folder := Path(entry, "coldfleet")).is_dir()}
    installed = Path(coldfleet.policies.__file__).parent
    other = tmp_path / "policies"
    shutil.copytree(installed, other)
    (other / "policy.py").write_text((other / "policy.py").read_text() + "# another version\n")
    (tmp_path / "empty").mkdir()
    hidden = [word for package in sorted(packages) for word in mounted("bare", tmp_path / "empty", package)]
    nodes = []
    try:
        for name, prefix in (("older", mounted("older", other, installed)), ("bare", hidden)):
            nodes.append(Node(cluster.joining, cluster.token, tmp_path / f"{name}.log", prefix))
            wait_for("Ray runtime started", nodes[-1].log, within_s=120)
        done = command(cluster, cluster.token, "sweep", study_file, "--out", tmp_path / "out")
        _, said = done.communicate(timeout=300)
    finally:
        for node in nodes:
            node.stop()
    assert done.returncode == 0, said
    told = [line for line in said.splitlines() if "gets no work" in line]
    assert told  # of both nodes, unless on a busy machine an answer comes after the end of this short sweep
    older = f"coldfleet: node older gets no work: {OTHER_VERSION}"
    bare = "coldfleet: node bare gets no work: it can't import coldfleet (ModuleNotFoundError"
    assert all(line.startswith((older, bare)) for line in told)
    assert "Traceback" not in said
    assert "on ray, 1 worker" in said
    results, whole = Results.open(tmp_path / "out"), sweep(plan, tmp_path / "whole", SerialExecutor())
    for table in TABLES:
        assert results.table(table).equals(whole.table(table), check_metadata=True)


LONG = """\
replicates = 40
ticks = 60
overcommit = 1.5

[fleet]
hosts = 1
guests_per_host = 4

[guest]
memory = "16 MiB"
accesses_per_tick = 8192

[grid]
policy = ["evict-only", "fast-only-v5", "lockless-6.15"]
nested_ratio = [0, 1]
"""


def runs_in(out: Path) -> int:
    """How many runs a sweep has done so far."""
    journal = out / "journal.jsonl"
    return journal.read_bytes().count(b'"status":"done"') if journal.exists() else 0


@pytest.mark.slow
@pytest.mark.cluster
def test_a_node_of_another_version_that_joins_a_sweep_changes_nothing(cluster: Head, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("makes mount namespaces with `unshare`, which takes root")
    installed = Path(coldfleet.policies.__file__).parent
    shutil.copytree(installed, other := tmp_path / "policies")
    (other / "policy.py").write_text((other / "policy.py").read_text() + "# another version\n")
    (tmp_path / "long.toml").write_text(LONG)
    node = None
    with command(cluster, cluster.token, "sweep", tmp_path / "long.toml", "--out", tmp_path / "out") as driver:
        try:
            deadline = time.monotonic() + 300
            while runs_in(tmp_path / "out") < 28:
                assert driver.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
            prefix = mounted("older", other, installed)
            node = Node(cluster.joining, cluster.token, tmp_path / "older.log", prefix)
            wait_for("Ray runtime started", node.log, within_s=120)
            joined_at = runs_in(tmp_path / "out")
            _, said = driver.communicate(timeout=600)
        finally:
            driver.kill()
            if node is not None:
                node.stop()
    print(f"it joined at {joined_at} of 240 runs, exit {driver.returncode}: {said}")
    assert joined_at < 240
    assert driver.returncode == 0
    assert said.count("gets no work") == 1
    assert f"coldfleet: node older gets no work: {OTHER_VERSION}" in said
    results = Results.open(tmp_path / "out")
    assert results.status.done == 240
    assert not results.missing


@pytest.mark.cluster
def test_workers_without_a_place_are_a_demand_that_an_autoscaler_sees(cluster: Head, tmp_path: Path) -> None:
    (tmp_path / "long.toml").write_text(LONG)
    words = ("sweep", tmp_path / "long.toml", "--out", tmp_path / "out", "--workers", 3)
    ask = [RAY, "status", "--address", cluster.address]
    with command(cluster, cluster.token, *words) as driver:
        try:
            deadline = time.monotonic() + 180
            seen: list[str] = []
            told = ""
            while not seen:
                assert driver.poll() is None
                assert time.monotonic() < deadline, told
                time.sleep(0.5)
                told = subprocess.run(ask, env=environment(cluster.token), capture_output=True, text=True).stdout
                seen = re.findall(r"\{'CPU': 1\.0, 'memory': [\d.e+]+\}: 2\+ pending tasks/actors", told)
        finally:
            driver.terminate()
            driver.communicate(timeout=60)


@pytest.mark.cluster
def test_a_wrong_token_is_one_line(cluster: Head, study_file: Path, tmp_path: Path) -> None:
    refused = command(cluster, secrets.token_hex(32), "sweep", study_file, "--out", tmp_path / "out")
    _, said = refused.communicate(timeout=120)
    assert (refused.returncode, said.count("\n")) == (2, 1), said
    assert f"can't join the Ray cluster at {cluster.address}: it has another token" in said
    assert not (tmp_path / "out").exists()


def test_too_few_file_descriptors_are_one_line(
    coldfleet: Callable[..., Said], study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 512))
    said = coldfleet("sweep", study_file, "--out", tmp_path / "out", "--executor", "ray")
    *first, last = said.err.splitlines()
    assert (said.code, len(first)) == (2, 1)  # how large the study is
    assert "too few file descriptors: Ray needs 1024, and this process may have 512: raise the hard limit" in last
    assert not (tmp_path / "out").exists()


def test_descriptors_are_raised_as_far_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: asked.append(limits))
    for limits in ((256, 4096), (256, resource.RLIM_INFINITY), (1024, 1024), (resource.RLIM_INFINITY,) * 2):
        monkeypatch.setattr(resource, "getrlimit", lambda kind, limits=limits: limits)
        ray_cluster.check_descriptors()
    assert asked == [(1024, 4096), (1024, resource.RLIM_INFINITY)]


def test_a_node_is_judged_by_its_python_and_its_simulator() -> None:
    assert why_refused(**look()) == ""
    assert "it has Python 3.9.1, here it is" in why_refused("m", "3.9.1", engine_digest())
    assert why_refused("m", look()["python"], "0123") == OTHER_VERSION
    assert "can't import coldfleet (ImportError: no)" in why_refused("m", look()["python"], "", "ImportError: no")
