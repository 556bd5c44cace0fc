"""The TLB of the machine that recordings were made on: what it hides, and how it grows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coldfleet.hostsim.replay import replay
from coldfleet.hostsim.replay.comparison import compare_recording
from coldfleet.hostsim.replay.recording import read_recording
from coldfleet.hostsim.replay.tlb import VICTIMS, Tlb

SHARED = Path(__file__).parents[4] / "shared" / "groundtruth"


def found(tlb: Tlb, *pages: int) -> list[bool]:
    return tlb.look_up(np.array(pages, np.int64)).tolist()


def test_an_entry_is_found_until_another_page_takes_its_place() -> None:
    tlb = Tlb(64)
    assert found(tlb, 1, 1, 2, 1) == [False, True, False, True]
    others = range(1 + 64, 1 + 64 * (VICTIMS + 2), 64)  # all in the place of page 1: it leaves the victims, too
    assert found(tlb, *others, 1, 2) == [False] * (VICTIMS + 1) + [False, True]
    assert found(tlb, 1 + 64 * (VICTIMS + 1), 1) == [True, True]  # one that was replaced last


def test_it_doubles_when_it_was_full_and_shrinks_to_what_was_needed() -> None:
    tlb = Tlb(64)
    found(tlb, *range(45))
    tlb.flush()
    assert tlb.entries == 128
    found(tlb, *range(45))
    tlb.flush()
    assert tlb.entries == 128
    assert found(tlb, 0) == [False]
    big = Tlb(4096)
    found(big, *range(100))
    big.flush()
    assert big.entries == 256  # 100 of 128 would be too many


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the recordings in ../shared")
def test_a_process_that_reclaims_in_its_own_faults_is_exact_only_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    recording = read_recording(SHARED / "k6.18_host_hotcold_limit_r3.jsonl.gz")
    exact = compare_recording(recording).exact
    monkeypatch.setattr(replay, "Tlb", lambda: Tlb(1))
    assert exact > compare_recording(recording).exact
