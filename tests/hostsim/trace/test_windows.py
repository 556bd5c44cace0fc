"""Windows keep each page once, as first accessed, however the accesses come; programs are recorded that way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.trace.importing import import_trace
from coldfleet.hostsim.trace.programs import PREFIX, find_program, program_names
from coldfleet.hostsim.trace.record import record_trace
from coldfleet.hostsim.trace.table import Accesses, Trace
from coldfleet.hostsim.trace.windows import Windows
from tests.fuzzing import BOUNDED
from tests.hostsim.trace import files

ACCESS = st.tuples(st.integers(0, 5), st.sampled_from([-1, 0, 1]), st.sampled_from([-1, 3, 4]))


@BOUNDED
@given(st.lists(ACCESS, max_size=60), st.integers(1, 9), st.integers(1, 7))
def test_a_window_keeps_each_page_once(accesses: list[tuple[int, int, int]], size: int, part: int) -> None:
    wanted: list[tuple[int, int, int, int]] = []
    for number, (page, write, process) in enumerate(accesses):
        if number % size == 0:
            rows: dict[tuple[int, int], int] = {}
        if (page, process) in rows:
            old = wanted[rows[page, process]]
            wanted[rows[page, process]] = (*old[:2], max(old[2], write), process)
        else:
            rows[page, process] = len(wanted)
            wanted.append((page, number, write, process))
    columns = np.array(accesses, np.int64).reshape(-1, 3)
    parts = (
        Accesses(each[:, 0].astype(np.uint64), None, each[:, 1].astype(np.int8), each[:, 2].copy())
        for each in np.array_split(columns, range(part, len(columns), part))
        if len(each)
    )
    found = [
        row
        for kept in Windows(size).shorten(parts)
        for row in zip(kept.page.tolist(), kept.time.tolist(), kept.write.tolist(), kept.process.tolist(), strict=True)  # type: ignore[union-attr]
    ]
    assert found == wanted


def test_an_import_in_windows_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("1\n2\n1\n3\n3\n1\n")
    trace = import_trace(tmp_path / "t.txt", tmp_path / "t.parquet", window=3)
    rows = pq.read_table(trace.path)
    assert (rows["page"].to_pylist(), rows["time"].to_pylist()) == ([1, 2, 3, 1], [0, 1, 3, 5])
    assert trace.clock
    assert "once in each window of 3 accesses" in trace.notes[-1]
    assert not any("numbered instead" in note for note in trace.notes)
    for window in (0, -1, 1 << 25, True):
        with pytest.raises(UserError, match="a number of accesses, 1"):
            import_trace(tmp_path / "t.txt", tmp_path / "u.parquet", window=window)
    (tmp_path / "heat").write_bytes(files.lru_gen())
    with pytest.raises(UserError, match="--window is for accesses, and lru-gen has heat"):
        import_trace(tmp_path / "heat", tmp_path / "u.parquet", window=10)


def valgrind(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a script in the place of valgrind; its $fd is where lackey's lines go."""
    fake = folder / "valgrind"
    fake.write_text(f"#!/bin/bash\nfor word; do case $word in --log-fd=*) fd=${{word#*=}};; esac; done\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_if_valgrind_says_nothing_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    valgrind(tmp_path, "exit 3", monkeypatch)
    with pytest.raises(UserError, match="valgrind recorded nothing of 'true': its exit code is 3"):
        record_trace(["true"], tmp_path / "t.parquet")
    valgrind(tmp_path, r"printf ' L 1000,8\n L 10' >&$fd", monkeypatch)
    with pytest.raises(UserError, match="true, line 2: not a line of lackey"):
        record_trace(["true"], tmp_path / "t.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["valgrind"]


def test_what_valgrind_writes_is_read_as_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = r"==1== Lackey\n L 1000,8\n S 1008,8\nI  5000,3\n L 1000,4\n"
    valgrind(tmp_path, f"printf '{lines}' >&$fd", monkeypatch)
    trace = record_trace(["true"], tmp_path / "t.parquet", window=100)
    rows = pq.read_table(trace.path)
    assert (rows["page"].to_pylist(), rows["write"].to_pylist()) == ([1, 5], [True, False])
    assert trace.source == "true"
    assert not any("the program" in note for note in trace.notes)


@pytest.mark.parametrize(
    ("ending", "note"),
    [("exit 7", "the program ended with exit code 7"), ("kill -9 $$", "the program was ended by signal 9")],
)
def test_a_program_that_fails_is_noted(ending: str, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    valgrind(tmp_path, rf"printf ' L 1000,8\n' >&$fd; {ending}", monkeypatch)
    trace = record_trace(["true"], tmp_path / "t.parquet", window=100)
    assert trace.notes[-1] == f"{note}: what it accessed until then is here"
    assert Trace.open(trace.path).notes == trace.notes


def test_programs_come_along() -> None:
    names = program_names()
    assert names == ["cc1", "numpy", "postgresql", "python", "redis", "sqlite"]
    assert sum(Path(find_program(PREFIX + name) or "").stat().st_size for name in names) < 8 << 20
    for name in names:
        trace = Trace.open(PREFIX + name)
        assert trace.clock
        assert trace.rows > 100_000
        assert (trace.format, len(trace.notes)) == ("lackey", 2)
    assert find_program("sqlite") is None
    with pytest.raises(UserError, match=r"'builtin:redi': there is no such trace: did you mean 'redis'"):
        Trace.open("builtin:redi")
