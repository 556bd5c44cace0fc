"""A machine that fails a sweep: one line says what and how to go on, exit code 2, and the same tables afterwards."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.journal import BatchReceipt, Journal
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.results.storage import open_storage
from coldfleet.cluster.results.verify import verify
from coldfleet.cluster.study.plan import Plan
from coldfleet.hostsim.spec.host_spec import HostSpec
from tests.cluster.conftest import Said

Command = Callable[..., Said]


@pytest.fixture
def study_file(tmp_path: Path, study_text: str) -> Path:
    """A third of the usual runs: each is a batch."""
    path = tmp_path / "small.toml"
    path.write_text(study_text.replace("replicates = 3", "replicates = 1"))
    return path


@pytest.fixture
def whole(plan: Plan, tmp_path: Path, fake_engine: list[HostSpec], monkeypatch: pytest.MonkeyPatch) -> Results:
    """The undisturbed sweep, with as many batches as runs, as the disturbed one has."""
    monkeypatch.setattr("coldfleet.cluster.execution.batching.MAX_RUNS", 1)
    return sweep(plan, tmp_path / "whole", SerialExecutor())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A tmpfs, mounted or changed with options."""
    if os.geteuid() != 0:
        pytest.skip("mounts a small tmpfs, which takes root")
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        again = "remount," if os.path.ismount(place) else ""
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"{again}{options}", "tmpfs", place], check=True)
        return place

    try:
        yield mount
    finally:
        if os.path.ismount(place):
            subprocess.run(["umount", "-l", place], check=True)


def assert_fails(said: Said, what: str) -> None:
    assert said.code == 2, said
    errors = [line for line in said.err.splitlines() if line.startswith("coldfleet: ")]
    assert len(errors) == 1
    assert what in errors[0]
    assert "Traceback" not in said.err


def assert_goes_on(out: Path, whole: Results, coldfleet: Command) -> None:
    said = coldfleet("resume", out, "--executor", "serial")
    assert said.code == 0, said.err
    results = Results.open(out)
    assert list(verify(results)) == []
    for table in TABLES:
        assert results.table(table).equals(whole.table(table), check_metadata=True)


def test_second_sweep_on_a_directory(
    whole: Results, study_file: Path, coldfleet: Command, tmp_path: Path, fake_engine: list[HostSpec]
) -> None:
    out = tmp_path / "out"
    assert coldfleet("sweep", study_file, "--out", out, "--executor", "serial").code == 0
    (out / "parts" / next(name for name in os.listdir(out / "parts") if name.startswith("cells"))).unlink()
    with Journal(open_storage(str(out))):
        before = sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*"))
        for command in (["sweep", study_file, "--out", out], ["resume", out]):
            said = coldfleet(*command, "--executor", "serial")
            assert_fails(said, "another sweep is writing there: wait for it, or stop it")
        assert sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*")) == before
    assert_goes_on(out, whole, coldfleet)


def test_full_disk(whole: Results, study_file: Path, coldfleet: Command, disk: Callable[[str], Path]) -> None:
    out = disk("size=800k") / "out"
    said = coldfleet("sweep", study_file, "--out", out, "--executor", "serial")
    assert_fails(said, f"No space left on device; once that is mended, continue with: coldfleet resume {out}")
    assert 0 < Results.open(out).status.done < len(whole.plan)
    disk("size=64m")
    assert_goes_on(out, whole, coldfleet)


def test_files_that_may_not_grow(
    whole: Results, study_file: Path, coldfleet: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As quotas have it: the journal is full in the middle of the fourth receipt."""
    out = tmp_path / "out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    append, written = Journal.append, itertools.count()

    def append_to_full(journal: Journal, receipt: BatchReceipt) -> None:
        if next(written) == 3:
            size = (out / "journal.jsonl").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
        append(journal, receipt)

    monkeypatch.setattr(Journal, "append", append_to_full)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        said = coldfleet("sweep", study_file, "--out", out, "--executor", "serial")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert_fails(
        said, f"journal.jsonl: No space left on device; once that is mended, continue with: coldfleet resume {out}"
    )
    assert Results.open(out).status.done == 3
    assert_goes_on(out, whole, coldfleet)


def test_disk_that_can_only_be_read(
    whole: Results, study_file: Path, coldfleet: Command, disk: Callable[[str], Path]
) -> None:
    place = disk("size=64m")
    disk("ro")
    said = coldfleet("sweep", study_file, "--out", place / "out", "--executor", "serial")
    assert_fails(said, "Read-only file system")
    disk("rw")
    assert coldfleet("sweep", study_file, "--out", place / "out", "--executor", "serial").code == 0
    part = next(path for path in (place / "out" / "parts").iterdir() if path.name.startswith("hosts"))
    part.unlink()
    disk("ro")
    assert_fails(coldfleet("resume", place / "out", "--executor", "serial"), "Read-only file system")
    assert coldfleet("status", place / "out").code == 1
    disk("rw")
    assert_goes_on(place / "out", whole, coldfleet)


def test_clock_that_jumps_back(
    whole: Results, study_file: Path, coldfleet: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is ordered by the time of day: it may run backwards all the time, and be before 1970."""
    now = iter(range(1_000_000_000, -1_000_000_000, -100_000_000))
    monkeypatch.setattr(time, "time", lambda: float(next(now, -1e9)))
    monkeypatch.setattr(time, "time_ns", lambda: int(time.time() * 1e9))
    out = tmp_path / "out"
    assert coldfleet("sweep", study_file, "--out", out, "--executor", "serial").code == 0
    for path in out.rglob("*"):
        os.utime(path, (0, 0))
    part = next(path for path in (out / "parts").iterdir() if path.name.startswith("hosts"))
    part.unlink()
    assert_goes_on(out, whole, coldfleet)


@contextmanager
def descriptors(left: int) -> Iterator[None]:
    """Only so many more files can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(map(int, os.listdir("/proc/self/fd"))) + 1 + left
    with ExitStack() as stack:
        while (handle := os.open(os.devnull, os.O_RDONLY)) < limit - left:
            stack.callback(os.close, handle)
        os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_file_descriptors(whole: Results, study_file: Path, coldfleet: Command, tmp_path: Path) -> None:
    """Wherever it is that they run out."""
    codes = []
    for left in range(7):
        out = tmp_path / f"out{left}"
        with descriptors(left):
            said = coldfleet("sweep", study_file, "--out", out, "--executor", "serial")
        codes.append(said.code)
        if said.code != 0:
            assert_fails(said, "Too many open files")
        assert coldfleet("sweep", study_file, "--out", out, "--executor", "serial").code == 0
        assert_goes_on(out, whole, coldfleet)
    assert codes[:3] == [2, 2, 2]
