"""Philox4x32-10 gives the numbers that its authors published (Random123, kat_vectors)."""

from __future__ import annotations

import numpy as np
import pytest

from coldfleet.hostsim.engine.philox import philox, study_key

ONES = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES, ONES), (ONES, ONES, ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        ((0xA4093822, 0x299F31D0), PI, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)
def test_philox_matches_the_published_vectors(
    key: tuple[int, int], counter: tuple[int, int, int, int], expected: tuple[int, int, int, int]
) -> None:
    words = [np.uint64(word) for word in counter]
    assert [int(word) for word in philox(np.uint64(key[0] | key[1] << 32), *words)] == list(expected)


def test_a_study_s_replicates_have_keys_of_their_own() -> None:
    keys = {int(study_key(seed, replicate)) for seed in range(30) for replicate in range(30)}
    assert len(keys) == 900
    assert study_key(7, 3) == study_key(7, 3)
