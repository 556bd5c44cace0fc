"""The names that a study may use are those that the engine knows."""

from __future__ import annotations

from typing import get_args

import pytest

from coldfleet.cluster.study.model import find_key
from coldfleet.hostsim.spec.host_spec import (
    DRAWN_KINDS,
    FILE_DEVICES,
    MONITORS,
    RECLAIM_MODES,
    SWAP_DEVICES,
    WORKLOAD_KINDS,
    WORKLOAD_LAYOUTS,
)

NAMES = {
    "guest.workload.kind": WORKLOAD_KINDS,
    "guest.page_cache.kind": DRAWN_KINDS,
    "guest.workload.layout": WORKLOAD_LAYOUTS,
    "reclaim.mode": RECLAIM_MODES,
    "swap.device": SWAP_DEVICES,
    "guest.page_cache.device": FILE_DEVICES,
    "monitor.kind": ("none", *MONITORS),
}


@pytest.mark.parametrize(("path", "known"), NAMES.items())
def test_a_key_takes_the_names_of_the_engine(path: str, known: tuple[str, ...]) -> None:
    key = find_key(path)
    assert key is not None
    assert get_args(key.annotation) == known
