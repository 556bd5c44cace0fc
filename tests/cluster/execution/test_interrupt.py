"""Ctrl-C, whenever it comes: the command ends soon, the journal is good, and it says how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.journal import BatchReceipt
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.results.verify import verify
from coldfleet.cluster.study.reader import read_study

WITHIN_S = 5.0


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(longer_study: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts a sweep of the longer study to tmp_path/out, as a process of its own."""
    processes = []

    def call(*more: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "coldfleet",
            "sweep",
            str(longer_study),
            "--out",
            str(tmp_path / "out"),
        ]
        processes.append(subprocess.Popen([*command, *more], stdout=PIPE, stderr=PIPE, text=True))
        return processes[-1]

    yield call
    for process in processes:
        with process:
            process.kill()


@pytest.fixture
def whole(longer_study: Path, tmp_path: Path) -> Results:
    """The undisturbed sweep; the kernels are compiled after it."""
    return sweep(read_study(longer_study), tmp_path / "whole", SerialExecutor())


def interrupt(process: subprocess.Popen[str]) -> str:
    """Sends Ctrl-C; what the command has said on stderr."""
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    _, said = process.communicate(timeout=60)
    took = time.monotonic() - sent
    print(f"ended {took:.1f} s after Ctrl-C with {process.returncode}: {said.splitlines()[-1] if said else ''}")
    assert process.returncode == 130, said
    assert took < WITHIN_S
    assert "Traceback" not in said
    return said


def wait_for_receipts(process: subprocess.Popen[str], out: Path, number: int) -> None:
    journal = out / "journal.jsonl"
    deadline = time.monotonic() + 300
    while not journal.exists() or journal.read_bytes().count(b"\n") < number:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def check_and_finish(out: Path, said: str, whole: Results) -> None:
    last = said.splitlines()[-1]
    if not (out / "study.json").exists():
        assert "the same command starts again" in last
    else:
        assert f"continue with: coldfleet resume {out}" in last
        for line in (out / "journal.jsonl").read_bytes().splitlines(True) if (out / "journal.jsonl").exists() else ():
            BatchReceipt.from_line(line)
        problems = [line for line in verify(Results.open(out)) if "so it isn't used" not in line]
        assert problems == []
    rest = sweep(whole.plan, out, SerialExecutor())
    for table in TABLES:
        assert rest.table(table).equals(whole.table(table))


@pytest.fixture
def longer_study(study_file: Path) -> Path:
    """Runs of a tenth of a second."""
    study_file.write_text(study_file.read_text().replace("ticks = 4", "ticks = 100").replace("2048", "8192"))
    return study_file


def test_in_the_middle_of_a_serial_sweep(start: Start, whole: Results, tmp_path: Path) -> None:
    process = start("--executor", "serial")
    wait_for_receipts(process, tmp_path / "out", 2)
    check_and_finish(tmp_path / "out", interrupt(process), whole)


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("moment", [1.5, 3.0, 5.0, 8.0, "first receipt", "fifth receipt", "twice"])
def test_on_ray_at_any_time(moment: float | str, start: Start, whole: Results, tmp_path: Path, ray_token: str) -> None:
    process = start("--workers", "2")
    if isinstance(moment, float):
        time.sleep(moment)
    else:
        wait_for_receipts(process, tmp_path / "out", 5 if moment == "fifth receipt" else 1)
    if moment == "twice":
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    check_and_finish(tmp_path / "out", interrupt(process), whole)


def test_sweep_that_does_not_listen_ends_all_the_same(tmp_path: Path) -> None:
    code = (
        "import sys, time, signal\n"
        "from coldfleet.cluster.execution.interrupt import StopRequest\n"
        "with StopRequest('go on with: x'):\n"
        "    print('ready', flush=True)\n"
        "    end = time.monotonic() + 30\n"
        "    while time.monotonic() < end: pass\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=PIPE, stderr=PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    assert interrupt(process) == "coldfleet: go on with: x\n"
    assert not os.path.exists(f"/proc/{process.pid}")
