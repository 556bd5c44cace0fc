"""Stacks have the locality that their two figures say."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from coldfleet.hostsim.spec.host_spec import GuestSpec, NestedSpec, WorkloadSpec
from coldfleet.hostsim.workload.stack_stream import StackStream
from tests.hostsim.workload.traces import miss_ratios

Array = npt.NDArray[Any]


def stream(pages: int, each: int, nested: NestedSpec | None = None, **load: Any) -> StackStream:
    spec = GuestSpec("g", pages, accesses_per_tick=each, workload=WorkloadSpec("stack", **load), nested=nested)
    return StackStream(spec, seed=3, replicate=0, host=0, guest=0)


def test_a_tick_is_the_same_however_many_are_drawn() -> None:
    whole, parts = (stream(500, 7001) for _ in range(2))
    one = whole.draw_ticks(1, 6)
    pieces = [parts.draw_ticks(first, count) for first, count in ((1, 2), (3, 4))]
    assert np.array_equal(one.accesses, np.concatenate([piece.accesses for piece in pieces]))
    assert one.digests[-1] == pieces[-1].digests[-1]
    assert one.accesses.max() < 500


@pytest.mark.parametrize(("hot", "of_accesses"), [(0.2, 0.8), (0.5, 0.6), (0.01, 0.5)])
def test_a_stack_has_the_locality_that_is_asked_for(hot: float, of_accesses: float) -> None:
    made = stream(5000, 200_000, hot_share=hot, hot_access_share=of_accesses)
    made.draw_ticks(1, 1)  # the pages that were accessed first
    sizes = np.array([round(hot * 5000), round(hot**0.5 * 5000)])
    again = np.concatenate([made.draw_ticks(tick, 1).accesses for tick in (2, 3)])
    tracked = miss_ratios(again, sizes)
    assert tracked == pytest.approx([1 - of_accesses, 1 - of_accesses**0.5], abs=0.03)


@pytest.mark.parametrize("shares", [(0.0, 0.5), (1.0, 0.5), (0.3, 0.0), (0.3, 1.0), (1.0, 1.0)])
def test_a_stack_of_extreme_shares_stays_in_the_memory(shares: tuple[float, float]) -> None:
    made = stream(64, 5000, hot_share=shares[0], hot_access_share=shares[1]).draw_ticks(1, 2).accesses
    assert made.max() < 64


def test_a_stack_knows_no_processes() -> None:
    assert stream(64, 10, NestedSpec(), l2_process=1).levels.share > 0
