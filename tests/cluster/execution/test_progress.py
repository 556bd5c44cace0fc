"""What is told of work as it goes on: how far it is, for how long yet, and that kernels are compiled, if they are."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from coldfleet.cluster.execution import compiling
from coldfleet.cluster.execution.compiling import COMPILING, NOT_KEPT, compiling_is_said
from coldfleet.cluster.execution.progress import share_reported
from coldfleet.hostsim.engine import code_cache

WITHIN_S = 5.0


def test_progress_has_an_eta(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 5.0, 12.0, 13.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    with share_reported("imported") as tell:
        for share in (0.1, 0.25, 0.3):
            tell(share)
    assert capsys.readouterr().err == "25/100 % imported, 12 s gone, 36 s left\n"


def test_what_is_done_at_once_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with share_reported("imported") as tell:
        tell(1.0)
    assert capsys.readouterr().err == ""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package's folder in the cache, with code from before."""
    monkeypatch.setattr(compiling, "_LOOK_AFTER_S", 0.0)
    monkeypatch.setattr(compiling, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(code_cache, "OWN_CACHE", tmp_path)
    monkeypatch.setattr(code_cache, "problems", [])
    place = tmp_path / "engine"
    place.mkdir()
    (place / "old.nbc").write_bytes(b"code")
    time.sleep(0.05)  # a file system's clock is coarse
    return place


def wait_for(said: list[str], count: int) -> None:
    deadline = time.monotonic() + WITHIN_S
    while len(said) < count and time.monotonic() < deadline:
        time.sleep(0.01)


def test_that_code_is_compiled_is_said_once(package: Path) -> None:
    said: list[str] = []
    with compiling_is_said(said.append):
        time.sleep(0.05)  # as above
        (package / "new.nbc").write_bytes(b"code")
        wait_for(said, 1)
        (package / "newer.nbc").write_bytes(b"code")
        time.sleep(0.1)
    assert said == [COMPILING]


def test_that_code_is_loaded_is_not_said(package: Path) -> None:
    said: list[str] = []
    with compiling_is_said(said.append):
        (package / "old.nbc").read_bytes()
        time.sleep(0.2)
    assert said == []


def test_that_code_is_not_kept_is_said_with_the_reason(package: Path) -> None:
    said: list[str] = []
    with compiling_is_said(said.append):
        time.sleep(0.05)  # as above
        (package / "new.nbc").write_bytes(b"code")
        wait_for(said, 1)
        code_cache.problems.append("/full/0123: No space left on device")
        wait_for(said, 2)
    assert said == [COMPILING, NOT_KEPT.format("/full/0123: No space left on device")]


def test_where_code_is_kept_is_what_the_compiler_takes() -> None:
    from coldfleet.hostsim.host import simulate_host

    assert callable(simulate_host)  # whose import loads code
    assert code_cache.OWN_CACHE is None or any(code_cache.OWN_CACHE.iterdir())
