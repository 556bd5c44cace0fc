"""Recordings with anything anywhere in them: replayed, or refused in one line."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfleet.hostsim.replay.comparison import compare_recording
from coldfleet.hostsim.replay.recording import read_recording
from coldfleet.hostsim.replay.replay import check_replayable
from tests.fuzzing import BOUNDED, JUNK, LONG, outcome
from tests.hostsim.small_recordings import Lines, make_recording, read_lines, write_lines

FIELDS = ["ev", "r", "x", "res", "lg", "st", "vm", "mev", "pg", "pgh", "lgf", "c", "h", "of", "cnt", "lh", "zi", "died",
          "kind", "kinds", "wl", "wls", "seed", "seeds", "mode", "n", "acc", "rounds", "layout", "target", "op", "mix",
          "rel", "ver", "tdp_mmu", "npt", "lru_gen_enabled", "swappiness", "evict_swappiness", "guest_paging", "id",
          "label", "drain", "nage", "flagbits", "legend", "simulator", "file", "na", "nf", "fsync",
          "read_ahead_kb", "fault_around", "dirty", "disk", "thp", "thp_defrag", "ahp", "hp", "hpn", "min_ttl_ms",
          "fres", "fresh", "dk"]  # fmt: skip
EDITS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from(FIELDS), JUNK), min_size=1, max_size=3)


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

    def use() -> None:
        recording = read_recording(path)
        check_replayable(recording)
        if replays:
            compared = compare_recording(recording)
            assert 0 <= compared.exact <= compared.steps

    outcome(use)


@BOUNDED
@given(EDITS)
def test_an_edited_recording_is_read_or_one_line(
    tmp_path: Path, whole: Lines, edits: list[tuple[int, str, Any]]
) -> None:
    check_edited(tmp_path / "edited.jsonl.gz", whole, edits, replays=False)


@pytest.mark.slow
@LONG
@given(EDITS)
def test_fuzz_recordings(tmp_path: Path, whole: Lines, edits: list[tuple[int, str, Any]]) -> None:
    check_edited(tmp_path / "edited.jsonl.gz", whole, edits, replays=True)


@BOUNDED
@given(st.binary(max_size=200), st.integers(0, 3000), st.integers(0, 40))
def test_bytes_in_the_text_are_read_or_one_line(tmp_path: Path, whole: Lines, piece: bytes, at: int, cut: int) -> None:
    path = tmp_path / "bytes.jsonl.gz"
    write_lines(path, whole)
    text = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(text[:at] + piece + text[at + cut :], 1))
    outcome(lambda: check_replayable(read_recording(path)))
