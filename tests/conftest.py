"""Hosts of tests run under audit where that is cheap; ``--audit``: everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

AUDITED = ("clock", "memory", "mm", "monitors", "swap", "workload")
"""Folders of tests/hostsim whose hosts are small."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--audit", action="store_true", help="check the conservation laws on every host that is simulated")


@pytest.fixture(autouse=True)
def audited(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the audit the default of simulate_host."""
    folder = request.path.parent
    is_cheap = folder.name in AUDITED and folder.parent == Path(__file__).parent / "hostsim"
    if is_cheap or request.config.getoption("audit"):
        from coldfleet.hostsim.host import simulate_host  # imports the compiler

        assert simulate_host.__kwdefaults__ is not None
        monkeypatch.setitem(simulate_host.__kwdefaults__, "audit", True)
