"""Hosts of tests run under audit where that is cheap; ``--audit``: everywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes depends on the machine. CI judges a change by the same examples each time, as with
# Hypothesis's own profile for CI; whoever runs the tests elsewhere looks for new ones.
settings.register_profile("no deadline", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("no deadline")

AUDITED = ("clock", "memory", "mm", "monitors", "swap", "workload")
"""Folders of tests/hostsim whose hosts are small."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--audit", action="store_true", help="check the conservation laws on every host that is simulated")


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are CPUs: one of them has the tests that wait for Ray."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start Ray run in one process, one after the other, wherever there are several processes.

    So do those of a file that share something, so that it is made once. Slow ones may take four times as long.
    """
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(3600))
        if item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.xdist_group("ray"))
        elif isinstance(item, pytest.Function) and any(
            made.scope == "module" for fixtures in item._fixtureinfo.name2fixturedefs.values() for made in fixtures
        ):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


@pytest.fixture(autouse=True)
def audited(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the audit the default of simulate_host."""
    folder = request.path.parent
    is_cheap = folder.name in AUDITED and folder.parent == Path(__file__).parent / "hostsim"
    if is_cheap or request.config.getoption("audit"):
        from coldfleet.hostsim.host import simulate_host  # imports the compiler

        defaults = simulate_host.__kwdefaults__
        assert defaults is not None
        monkeypatch.setitem(defaults, "audit", True)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_disks() -> Iterator[None]:
    """No test cuts the power: what is written need not be on the disk before the next one begins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as a pipe has, wherever tests run: processes of pytest-xdist say 80."""
    monkeypatch.setenv("COLUMNS", "100")
