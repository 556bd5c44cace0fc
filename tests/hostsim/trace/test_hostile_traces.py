"""Importers with anything anywhere in their files: a trace that is sound, or one line and nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfleet.hostsim.trace.importing import FORMATS, import_trace
from coldfleet.hostsim.trace.summarize import summarize_trace
from tests.fuzzing import BOUNDED, CUTS, LONG, Cut, cut_up, outcome
from tests.hostsim.trace.files import every_format, packed

PIECES = st.sampled_from(
    [b"-1", b"10000000000000000000", b"9" * 400, b"0x", b"1e9", b"nan", b"\n", b"\r\n", b",", b" ", b"\0", b"\xff" * 8,
     b"null", b"{}", b"[]", b'"', b"\x1b[31m", b"PAR1", b"memcg 1 /", b"node 0", b"#", b"==1==", b"\xe2\x80\xa8"]
)  # fmt: skip
EDITS = CUTS | st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(0, 40), PIECES), min_size=1, max_size=4)
NAMES = ("oracle-general", "vscsi", "vscsi 2", "csv", "txt", "lackey", "perf-script", "damon", "damon zlib",
         "damon script", "lru-gen", "lru-gen histogram", "page-idle", "parquet")  # fmt: skip


def check(folder: Path, content: bytes, format: str | None, window: int = 1) -> None:
    source, out = folder / "source", folder / "trace.parquet"
    source.write_bytes(content)
    out.unlink(missing_ok=True)

    def use() -> None:
        trace = import_trace(source, out, format=format, window=window)
        assert trace.rows == sum(batch.num_rows for batch in trace.batches()) > 0
        summarize_trace(trace)

    said = outcome(use)
    assert not list(folder.glob(".*.tmp"))
    assert out.exists() or said


def check_edited(folder: Path, name: str, edits: list[Cut], named: bool, way: str, window: int) -> None:
    content = every_format(folder)[name]
    content = packed(content)[way] if way else content
    check(folder, cut_up(content, edits), name.split()[0] if named or name == "page-idle" else None, window)


ARGUMENTS: tuple[Any, ...] = (
    st.sampled_from(NAMES), EDITS, st.booleans(), st.sampled_from(["", "", "", "gzip", "zstd", "xz", "bzip2", "zlib"]),
    st.sampled_from([1, 1, 1, 2, 7, 1 << 20]),
)  # fmt: skip
ANYTHING = (st.binary(max_size=200) | st.lists(PIECES, max_size=30).map(b"".join), st.sampled_from([None, *FORMATS]))


@BOUNDED
@given(*ARGUMENTS)
def test_a_damaged_file_is_read_or_one_line(
    tmp_path: Path, name: str, edits: list[Cut], named: bool, way: str, window: int
) -> None:
    check_edited(tmp_path, name, edits, named, way, window)


@BOUNDED
@given(*ANYTHING)
def test_anything_in_any_format_is_read_or_one_line(tmp_path: Path, content: bytes, format: str | None) -> None:
    check(tmp_path, content, format)


@pytest.mark.slow
@LONG
@given(*ARGUMENTS)
def test_fuzz_damaged_traces(tmp_path: Path, name: str, edits: list[Cut], named: bool, way: str, window: int) -> None:
    check_edited(tmp_path, name, edits, named, way, window)


@pytest.mark.slow
@LONG
@given(*ANYTHING)
def test_fuzz_any_traces(tmp_path: Path, content: bytes, format: str | None) -> None:
    check(tmp_path, content, format)
