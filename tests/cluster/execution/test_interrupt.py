"""Ctrl-C, SIGTERM and SIGHUP at any time: the command ends soon, the journal is good, and it says how to go on."""

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
from coldfleet.cluster.execution.interrupt import SIGNALS, StopRequest, uninterrupted
from coldfleet.cluster.execution.ray_cluster import _our_signals
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.journal import BatchReceipt
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.results.verify import verify
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from tests.cluster.conftest import STUDY, Said

WITHIN_S = 60.0  # on an idle machine it takes 1 to 2; a test makes no statement on speed

LONGER = STUDY.replace("ticks = 4", "ticks = 100").replace("2048", "8192")  # runs of a tenth of a second
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The undisturbed sweep; the kernels are compiled after it."""
    place = tmp_path_factory.mktemp("whole")
    (place / "small.toml").write_text(LONGER)
    return sweep(read_study(place / "small.toml"), place / "out", SerialExecutor())


def interrupt(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> str:
    """Sends the signal; what the command has said on stderr."""
    process.send_signal(number)
    sent = time.monotonic()
    _, said = process.communicate(timeout=WITHIN_S)
    took = time.monotonic() - sent
    print(f"ended {took:.1f} s after {number.name} with {process.returncode}: {said.splitlines()[-1] if said else ''}")
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert "***" not in said
    return said


def terminate() -> None:
    """Sends SIGTERM to this process, and lets its handler run."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)


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
        assert "run the same command again" in last
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
    study_file.write_text(LONGER)
    return study_file


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_in_the_middle_of_a_serial_sweep(number: signal.Signals, start: Start, whole: Results, tmp_path: Path) -> None:
    process = start("--executor", "serial")
    wait_for_receipts(process, tmp_path / "out", 2)
    check_and_finish(tmp_path / "out", interrupt(process, number), whole)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize(
    "command",
    [
        "compare evict-only six-steps STUDY --at nested_ratio=0 --executor serial",
        "capacity STUDY --at nested_ratio=0 --slo fault_rate<50% --executor serial",
        "run STUDY --cell CELL",
        "plan STUDY --sample 1",
    ],
    ids=lambda command: command.split()[0],
)
def test_other_commands_end_in_one_line(
    command: str,
    number: signal.Signals,
    study_file: Path,
    plan: Plan,
    coldfleet: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hit(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr("coldfleet.hostsim.host.simulate_host", hit)
    words = {"STUDY": str(study_file), "CELL": plan.cell_ids[0]}
    before = [signal.getsignal(each) for each in SIGNALS]
    said = coldfleet(*(words.get(word, word) for word in command.split()))
    assert said.code == 128 + number
    assert not said.out or command.startswith("plan")  # which says what it knows at once
    assert said.err.splitlines()[-1] == "coldfleet: interrupted; run the same command again"
    assert said.err.count("interrupted") == 1
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_nohup_is_obeyed() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ray_takes_no_signal_away() -> None:
    """Ray's own handler raises SystemExit in the middle of its start; one in a callback would be lost."""
    with StopRequest(urgent=True) as stop:
        ours = signal.getsignal(signal.SIGTERM)
        with _our_signals():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
            assert signal.getsignal(signal.SIGTERM) == ours
            with pytest.raises(KeyboardInterrupt):
                terminate()
        assert (stop.requested, stop.code) == (True, 143)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which is the real one again
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    signal.signal(signal.SIGTERM, before)


def test_an_interrupt_in_a_callback_prints_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    class Dying:
        def __del__(self) -> None:
            terminate()

    with StopRequest(urgent=True) as stop:
        Dying()
        assert stop.requested
    assert capfd.readouterr().err == ""


def test_what_is_taken_down_is_not_interrupted() -> None:
    with StopRequest(urgent=True) as stop:
        with uninterrupted():
            for _ in range(2):
                terminate()
            assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            terminate()


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("moment", [1.5, 3.0, 5.0, 8.0, "first receipt", "fifth receipt", "twice"])
def test_on_ray_at_any_time(
    moment: float | str, number: signal.Signals, start: Start, whole: Results, tmp_path: Path, ray_token: str
) -> None:
    process = start("--workers", "2")
    if isinstance(moment, float):
        time.sleep(moment)
    else:
        wait_for_receipts(process, tmp_path / "out", 5 if moment == "fifth receipt" else 1)
    if moment == "twice":
        process.send_signal(number)
        time.sleep(0.2)
    check_and_finish(tmp_path / "out", interrupt(process, number), whole)


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
    assert interrupt(process) == "coldfleet: interrupted; go on with: x\n"
    assert not os.path.exists(f"/proc/{process.pid}")
