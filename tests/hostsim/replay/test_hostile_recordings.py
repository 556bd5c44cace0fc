"""Recordings with anything anywhere in them: replayed, or refused in one line."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coldfleet.hostsim.replay.comparison import compare_recording
from coldfleet.hostsim.replay.recording import read_recording
from coldfleet.hostsim.replay.replay import check_replayable
from coldfleet.hostsim.spec.errors import UserError
from tests.hostsim.small_recordings import Lines, make_recording, read_lines, write_lines

NUMBERS = st.integers(-(2**70), 2**70) | st.sampled_from([0, 1, 63, 2**31, 2**32, 2**40, 2**63 - 1, 2**63, 10**30])
JUNK = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["ev", "r", "x", "res", "lg", "st", "vm", "mev", "pg", "pgh", "lgf", "c", "h", "of", "cnt", "lh", "zi", "died",
          "kind", "kinds", "wl", "wls", "seed", "seeds", "mode", "n", "acc", "rounds", "layout", "target", "op", "mix",
          "rel", "ver", "tdp_mmu", "npt", "lru_gen_enabled", "swappiness", "evict_swappiness", "guest_paging", "id",
          "label", "drain", "nage", "flagbits", "legend", "simulator"]  # fmt: skip
EDITS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from(FIELDS), JUNK), min_size=1, max_size=3)
BOUNDED = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    path = tmp_path_factory.mktemp("recording") / "whole.jsonl.gz"
    make_recording(path)
    return read_lines(path)


def check_edited(path: Path, whole: Lines, edits: list[tuple[int, str, Any]], replays: bool) -> None:
    lines = [dict(line) for line in whole]
    for number, field, value in edits:
        line = lines[number % len(lines)]
        if value is None:
            line.pop(field, None)
        else:
            line[field] = value
    write_lines(path, lines)
    try:
        recording = read_recording(path)
        check_replayable(recording)
        if replays:
            compare_recording(recording)
    except UserError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017


@BOUNDED
@given(EDITS)
def test_an_edited_recording_is_read_or_one_line(
    tmp_path: Path, whole: Lines, edits: list[tuple[int, str, Any]]
) -> None:
    check_edited(tmp_path / "edited.jsonl.gz", whole, edits, replays=False)


@pytest.mark.slow
@settings(BOUNDED, max_examples=5000)
@given(EDITS)
def test_many_edited_recordings_are_replayed_or_one_line(
    tmp_path: Path, whole: Lines, edits: list[tuple[int, str, Any]]
) -> None:
    check_edited(tmp_path / "edited.jsonl.gz", whole, edits, replays=True)


@BOUNDED
@given(st.binary(max_size=200), st.integers(0, 3000), st.integers(0, 40))
def test_bytes_in_the_text_are_read_or_one_line(tmp_path: Path, whole: Lines, piece: bytes, at: int, cut: int) -> None:
    path = tmp_path / "bytes.jsonl.gz"
    write_lines(path, whole)
    text = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(text[:at] + piece + text[at + cut :], 1))
    try:
        check_replayable(read_recording(path))
    except UserError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
