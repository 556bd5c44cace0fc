"""Packing traces with anything anywhere in them: sizes that are shares of a machine, or one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfleet.cluster.study.azure import draw, guest_pages, read_trace
from tests.fuzzing import BOUNDED, CUTS, LONG, TEXTS, Cut, cut_up, outcome, write_trace

VALUES = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | TEXTS.map(lambda text: text.encode(errors="replace").decode())
    | st.binary(max_size=9)
    | st.sampled_from([0, 1, 2, 0.25, 0.5, 1.0])
)
ROWS = st.lists(st.tuples(st.sampled_from([1, 2]) | VALUES, VALUES, VALUES), max_size=4)
TYPES = st.lists(st.tuples(st.sampled_from([1, 2]) | VALUES, st.just(0) | VALUES, VALUES, VALUES), max_size=4)
GOOD_ROWS, GOOD_TYPES = [(1, 0.0, None), (2, 0.5, 9.0)], [(1, 0, 0.25, 0.125), (2, 0, 0.5, 0.5)]


def read(path: Path) -> None:
    sizes = read_trace(path, 1.0, 0, 16)
    assert sizes
    for size in sizes:
        assert 0 < size.memory_share <= 1
        assert size.vcpus >= 1
        assert size.weight >= 1
    for size, count in draw(sizes, 20, 1).items():
        assert 1 <= count <= 20
        assert guest_pages(size, 1 << 18) >= 512


def check_rows(tmp_path: Path, rows: list[tuple[Any, ...]], types: list[tuple[Any, ...]]) -> None:
    path = tmp_path / "trace.sqlite"
    path.unlink(missing_ok=True)
    write_trace(path, [*GOOD_ROWS, *rows], [*GOOD_TYPES, *types])
    outcome(lambda: read(path))


def check_cuts(tmp_path: Path, cuts: list[Cut]) -> None:
    whole, path = tmp_path / "whole.sqlite", tmp_path / "trace.sqlite"
    if not whole.exists():
        write_trace(whole, GOOD_ROWS, GOOD_TYPES)
    path.write_bytes(cut_up(whole.read_bytes(), cuts))
    outcome(lambda: read(path))


@BOUNDED
@given(ROWS, TYPES)
def test_a_trace_of_anything_is_read_or_one_line(
    tmp_path: Path, rows: list[tuple[Any, ...]], types: list[tuple[Any, ...]]
) -> None:
    check_rows(tmp_path, rows, types)


@BOUNDED
@given(CUTS)
def test_a_damaged_trace_is_read_or_one_line(tmp_path: Path, cuts: list[Cut]) -> None:
    check_cuts(tmp_path, cuts)


@pytest.mark.slow
@LONG
@given(ROWS, TYPES)
def test_fuzz_rows_of_traces(tmp_path: Path, rows: list[tuple[Any, ...]], types: list[tuple[Any, ...]]) -> None:
    check_rows(tmp_path, rows, types)


@pytest.mark.slow
@LONG
@given(CUTS)
def test_fuzz_bytes_of_traces(tmp_path: Path, cuts: list[Cut]) -> None:
    check_cuts(tmp_path, cuts)
