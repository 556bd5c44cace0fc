"""The directory of a sweep's own Ray: it goes when its sweep does, however that ends, and nobody else's does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from coldfleet.cluster.execution.ray_home import make_home, remove_left_homes

HOLDER = "from coldfleet.cluster.execution.ray_home import make_home; print(make_home()[0], flush=True); input()"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def unused(home: str) -> bool:
    return False


def test_what_a_killed_sweep_left_is_removed(temporary: Path) -> None:
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        home = Path(holder.stdout.readline().strip())
        (home / "ray").mkdir()
        remove_left_homes(unused)
        assert (home / "ray").is_dir()  # its sweep lives
        holder.send_signal(signal.SIGKILL)
    remove_left_homes(lambda path: path == str(home))
    assert (home / "ray").is_dir()  # its Ray lives
    remove_left_homes(unused)
    assert list(temporary.iterdir()) == []


def test_only_the_user_can_enter(temporary: Path) -> None:
    home, lock = make_home()
    assert Path(home).parent == temporary
    assert Path(home).stat().st_mode & 0o777 == 0o700
    os.close(lock)


def test_what_is_not_ours_stays(temporary: Path) -> None:
    (temporary / "cf-other").mkdir()
    (temporary / "cf-file").touch()
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "coldfleet.lock").touch()
    (temporary / "cf-link").symlink_to(elsewhere)
    before = sorted(temporary.rglob("*"))
    remove_left_homes(unused)
    assert sorted(temporary.rglob("*")) == before
