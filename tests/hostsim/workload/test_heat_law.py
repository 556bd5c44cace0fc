"""Profiles: the parts of the memory get the accesses that they should, whoever says it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from coldfleet.hostsim.engine.state import ACCESS_PAGE
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import DataFile, GuestSpec, Heat, SampleOf, WorkloadSpec
from coldfleet.hostsim.workload.heat_law import measured_heat, weights_of
from coldfleet.hostsim.workload.streams import GuestStream
from tests.hostsim.workload.traces import write_heat, write_trace

HEAT: Heat = ((0.1, 60.0), (0.2, 30.0), (0.3, 10.0))


def counts(heat: Heat = (), file: DataFile | None = None, pages: int = 1000) -> npt.NDArray[np.int64]:
    load = WorkloadSpec("profile", heat=heat, file=file, layout="ordered")
    spec = GuestSpec("g", pages, accesses_per_tick=100_000, workload=load)
    made = GuestStream(spec, seed=1, replicate=0, host=0, guest=0).draw_ticks(1, 1).accesses
    return np.bincount(made & np.uint32(ACCESS_PAGE), minlength=pages)


def test_parts_of_the_memory_have_their_weight() -> None:
    found = counts(HEAT)
    sums = [found[:100].sum(), found[100:300].sum(), found[300:600].sum(), found[600:].sum()]
    assert sums == pytest.approx([60_000, 30_000, 10_000, 0], abs=600)


@pytest.mark.parametrize("ranks", [1, 7, 1000])
def test_weights_add_up_whatever_the_size(ranks: int) -> None:
    assert weights_of(HEAT, np.arange(ranks, dtype=np.float64), ranks).sum() == pytest.approx(100)


def test_a_trace_of_accesses_gives_its_popularity(tmp_path: Path) -> None:
    pages = np.repeat(np.arange(10), [500, 200, 100, 100, 50, 20, 10, 10, 5, 5])
    found = counts(file=write_trace(tmp_path / "t.parquet", np.random.default_rng(1).permutation(pages)))
    assert found.reshape(10, 100).sum(axis=1) / 100 == pytest.approx([500, 200, 100, 100, 50, 20, 10, 10, 5, 5], abs=20)


def test_damons_ranges_are_averaged_by_address(tmp_path: Path) -> None:
    rows = [
        {"snapshot": 0, "target": "1", "page": 1000, "pages": 10, "heat": 9.0},
        {"snapshot": 0, "target": "1", "page": 1010, "pages": 30, "heat": 1.0},
        {"snapshot": 1, "target": "1", "page": 1000, "pages": 40, "heat": 0.0},
        {"snapshot": 1, "target": "2", "page": 1000, "pages": 60, "heat": 0.0},
    ]
    heat = measured_heat(write_heat(tmp_path / "h.parquet", rows))
    assert np.cumsum(heat, axis=0)[:2] == pytest.approx(np.array([[0.1, 90 / 120], [0.4, 1.0]]))


def test_ages_are_taken_as_intervals_between_accesses(tmp_path: Path) -> None:
    rows = [
        {"kind": "anon", "pages": 50, "age": 8_000_000},
        {"kind": "anon", "pages": 25, "age": 1_000_000},
        {"kind": "anon", "pages": 25, "age": None},
    ]
    heat = measured_heat(write_heat(tmp_path / "h.parquet", rows))
    assert np.array(heat) == pytest.approx(np.array([[0.25, 25 / 31.25], [0.5, 6.25 / 31.25], [0.25, 0.0]]))
    with pytest.raises(UserError, match="no range in it is warm"):
        measured_heat(write_heat(tmp_path / "cold.parquet", [{"page": 1, "pages": 4, "heat": 0.0}]))


def test_a_sample_has_its_share_of_the_heat() -> None:
    full = GuestSpec("g", 16 * 512, accesses_per_tick=100_000, workload=WorkloadSpec("profile", heat=HEAT))
    made = []
    for part in range(4):
        spec = GuestSpec("g", 4 * 512, accesses_per_tick=100_000, workload=full.workload,
                         sample=SampleOf(full, (part + 0.5) / 4, part))  # fmt: skip
        made.append(GuestStream(spec, seed=1, replicate=0, host=0, guest=0).thinned(1))
    assert sum(each.accesses for each in made) == pytest.approx(100_000)
    assert all(each.weight == pytest.approx(100_000 / each.accesses) for each in made)


@pytest.mark.parametrize(
    ("heat", "why"),
    [
        (((0.5, 1.0), (0.6, 1.0)), "add up to 1.1"),
        (((0.5, 0.0),), "add up to nothing"),
        (((0.0, 1.0),), "the share is above 0"),
        (((0.5, -1.0),), "the share is above 0"),
        (((float("nan"), 1.0),), "the share is above 0"),
        (((0.5, 1e-320),), "the weight 0 or from 1e-300"),
        ((0.5,), "not a pair"),
        (([0.5, 1.0],), "not a pair"),
    ],
)
def test_what_is_no_heat_is_refused(heat: Heat, why: str) -> None:
    with pytest.raises(UserError, match=why):
        WorkloadSpec("profile", heat=heat)
