"""A small study, a fake simulator for tests that are about something else, and the command line in process."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import NamedTuple

import pytest

from coldfleet.cluster.commands.cli import run_command
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.ray_cluster import _obey_environment
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.counters.counters import COUNTERS
from coldfleet.hostsim.spec.host_spec import GuestResult, HostResult, HostSpec
from coldfleet.policies import Policy
from tests.cluster.ray_node import Head, Node, running_head, wait_for

STUDY = """\
title = "a small study"
seed = 7
replicates = 3
ticks = 4
overcommit = 1.5

[fleet]
hosts = 2
guests_per_host = 2

[guest]
memory = "4 MiB"
accesses_per_tick = 2048

[guest.workload]
kind = "zipf"

[nested]
l2_only_share = 0.25

[reclaim]
mode = "limit"

[grid]
policy = ["evict-only", "six-steps"]
nested_ratio = [0, 0.5, 1]
"""


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def study_text() -> str:
    return STUDY


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(STUDY)
    return path


@pytest.fixture
def plan(study_file: Path) -> Plan:
    return read_study(study_file)


@pytest.fixture
def coldfleet(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs a command in this process."""

    def call(*arguments: object) -> Said:
        capsys.readouterr()
        code = run_command([str(argument) for argument in arguments])
        return Said(code, *capsys.readouterr())

    return call


def pretend(monkeypatch: pytest.MonkeyPatch) -> list[HostSpec]:
    """Replaces simulate_host by something quick and deterministic; the list collects what it was asked for."""
    asked: list[HostSpec] = []

    def simulate(
        spec: HostSpec, policy: Policy, *, seed: int, replicate: int, host: int, audit: bool = False
    ) -> HostResult:
        asked.append(spec)
        guests = []
        for number, guest in enumerate(spec.guests):
            base = hash((seed, replicate, host, number)) % 1000 + len(policy.steps)
            counters = {counter.name: base + place for place, counter in enumerate(COUNTERS)}
            guests.append(GuestResult(guest.name, guest.nested is not None, base, counters, (1,) * len(policy.steps)))
        return HostResult(tuple(guests))

    monkeypatch.setattr("coldfleet.hostsim.host.simulate_host", simulate)
    return asked


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> list[HostSpec]:
    """A simulator for tests that are about something else."""
    return pretend(monkeypatch)


def pretended_sweep(folder: Path) -> Path:
    """The directory of a finished sweep of the small study by that simulator, in a folder."""
    (folder / "small.toml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch)
        sweep(read_study(folder / "small.toml"), folder / "out", SerialExecutor())
    return folder / "out"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of these, for :func:`done`: sweeping takes longer than most tests."""
    return pretended_sweep(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, which a test can do anything to."""
    return Path(copytree(finished, tmp_path / "out"))


@pytest.fixture(scope="session")
def ray_token() -> Iterator[str]:
    """A token for the Rays of these tests, so that none is written to the home directory."""
    with pytest.MonkeyPatch.context() as patch:
        token = secrets.token_hex(32)
        patch.setenv("RAY_AUTH_TOKEN", token)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield token


@pytest.fixture(scope="session")
def cluster(ray_token: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A real Ray with one node, for all tests: starting one takes longer than most of them. They stop what joins it."""
    with running_head(1, tmp_path_factory.mktemp("cluster") / "head.log", ray_token) as head:
        yield head


@pytest.fixture(scope="module")
def two_nodes(cluster: Head, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of that Ray, with a second node, for executors in this process."""
    node = Node(cluster.joining, cluster.token, tmp_path_factory.mktemp("second") / "node.log")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        _obey_environment(loopback=False)
        try:
            wait_for("Ray runtime started", node.log, within_s=120)
            yield cluster.address
        finally:
            node.stop()
