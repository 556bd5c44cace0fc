"""Clones have the LRU curve of the trace, at any memory; a stack has the locality that its two figures say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_PAGE, ACCESS_WRITE
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.spec.host_spec import DataFile, GuestSpec, HostSpec, NestedSpec, WorkloadSpec
from coldfleet.hostsim.trace.importing import import_trace
from coldfleet.hostsim.trace.reuse import ReuseTracker
from coldfleet.hostsim.workload.stack_stream import StackStream
from coldfleet.hostsim.workload.trace_data import load_trace, sha256_of
from coldfleet.policies import POLICIES
from tests.hostsim.trace.files import REAL, needs_real
from tests.hostsim.workload.traces import LOCALITY, local_accesses, write_trace

Array = npt.NDArray[Any]


def stream(kind: str, pages: int, each: int, nested: NestedSpec | None = None, **load: Any) -> StackStream:
    workload = WorkloadSpec(kind, **{"start": "same", **load})
    spec = GuestSpec("g", pages, accesses_per_tick=each, workload=workload, nested=nested)
    return StackStream(spec, seed=3, replicate=0, host=0, guest=0)


def miss_ratios(accesses: Array, sizes: Array) -> Array:
    """Of LRUs of these sizes."""
    tracker, count = ReuseTracker(1), len(accesses)
    tracker.follow((accesses & np.uint32(ACCESS_PAGE)).astype(np.int64), np.arange(count), np.zeros(count, np.int64))
    hits = np.cumsum(tracker.distances)
    return 1 - hits[np.minimum(sizes, len(hits) - 1)] / count


def worst_difference(file: DataFile, scale: int) -> float:
    """Between the curves of a trace and of its clone in ``scale`` times the memory, at all sizes."""
    trace = load_trace(file)
    clone = stream("clone", scale * trace.pages, scale * len(trace.accesses), file=file).draw_ticks(1, 1)
    sizes = np.arange(1, trace.pages + 1)
    return float(abs(miss_ratios(clone.accesses, scale * sizes) - miss_ratios(trace.accesses, sizes)).max())


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("kind", LOCALITY)
def test_a_clone_has_the_curve_of_the_trace_also_in_twice_the_memory(kind: str, scale: int, tmp_path: Path) -> None:
    file = write_trace(tmp_path / "t.parquet", local_accesses(kind))
    assert worst_difference(file, scale) < 0.02


@needs_real
@pytest.mark.parametrize("scale", [1, 2])
def test_a_clone_has_the_curve_of_a_real_trace(scale: int, tmp_path: Path) -> None:
    trace = import_trace([REAL / "cloudPhysicsIO.oracleGeneral.bin"], tmp_path / "t.parquet")
    assert worst_difference(DataFile(str(trace.path), sha256_of(trace.path)), scale) < 0.02


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("kind", ["phases", "zipf", "drifting zipf"])
def test_a_clone_refaults_as_often_as_the_trace_at_five_sizes(kind: str, scale: int, tmp_path: Path) -> None:
    file = write_trace(tmp_path / "t.parquet", local_accesses(kind, 60_000, 3000))
    pages, each = load_trace(file).pages, 3000

    def refaults(load: str, times: int, share: float) -> float:
        workload = WorkloadSpec(load, file=file, start="same")
        guest = GuestSpec("g", times * pages, round(share * times * pages), times * each, workload=workload)
        result = simulate_host(HostSpec("6.12", (guest,), 40), POLICIES["lockless-6.15"], seed=1, replicate=0, host=0)
        return result.totals()["pgmajfault"] / result.totals()["accesses"]

    for share in (0.2, 0.35, 0.5, 0.65, 0.8):
        assert refaults("clone", scale, share) == pytest.approx(refaults("trace", 1, share), abs=0.02)


def test_hot_pages_of_the_trace_are_hot_in_its_clone(tmp_path: Path) -> None:
    file = write_trace(tmp_path / "t.parquet", local_accesses("zipf"))
    trace = load_trace(file)
    clone = stream("clone", trace.pages, len(trace.accesses), file=file).draw_ticks(1, 1).accesses
    counts = np.bincount(clone & np.uint32(ACCESS_PAGE), minlength=trace.pages)
    hottest = np.argsort(-trace.counts)[: trace.pages // 20]
    assert counts[hottest].sum() > 0.8 * trace.counts[hottest].sum()
    assert np.corrcoef(np.log1p(counts), np.log1p(trace.counts))[0, 1] > 0.9


def test_a_clone_writes_and_is_l2s_where_the_trace_is(tmp_path: Path) -> None:
    pages = local_accesses("zipf", 40_000, 1000)
    owner = np.where(pages % 2, 7, 8)
    file = write_trace(tmp_path / "t.parquet", pages, write=(pages % 4 == 0).astype(np.int8), process=owner)
    trace = load_trace(file)
    made = stream("clone", trace.pages, 40_000, NestedSpec(), file=file, l2_process=8).draw_ticks(1, 1).accesses
    page = made & np.uint32(ACCESS_PAGE)
    assert np.array_equal(made & np.uint32(ACCESS_L2) != 0, trace.processes[page] == 8)
    assert (made & np.uint32(ACCESS_WRITE) != 0).mean() == pytest.approx((pages % 4 == 0).mean(), abs=0.04)


@pytest.mark.parametrize("kind", ["stack", "clone"])
def test_a_tick_is_the_same_however_many_are_drawn(kind: str, tmp_path: Path) -> None:
    file = write_trace(tmp_path / "t.parquet", local_accesses("phases", 30_000, 900))
    whole, parts = (stream(kind, 500, 7001, file=file, start="drawn") for _ in range(2))
    one = whole.draw_ticks(1, 6)
    pieces = [parts.draw_ticks(first, count) for first, count in ((1, 2), (3, 4))]
    assert np.array_equal(one.accesses, np.concatenate([piece.accesses for piece in pieces]))
    assert one.digests[-1] == pieces[-1].digests[-1]
    assert one.accesses.max() < 500


@pytest.mark.parametrize(("hot", "of_accesses"), [(0.2, 0.8), (0.5, 0.6), (0.01, 0.5)])
def test_a_stack_has_the_locality_that_is_asked_for(hot: float, of_accesses: float) -> None:
    made = stream("stack", 5000, 200_000, hot_share=hot, hot_access_share=of_accesses)
    made.draw_ticks(1, 1)  # the pages that were accessed first
    sizes = np.array([round(hot * 5000), round(hot**0.5 * 5000)])
    again = np.concatenate([made.draw_ticks(tick, 1).accesses for tick in (2, 3)])
    tracked = miss_ratios(again, sizes)
    assert tracked == pytest.approx([1 - of_accesses, 1 - of_accesses**0.5], abs=0.03)


@pytest.mark.parametrize("shares", [(0.0, 0.5), (1.0, 0.5), (0.3, 0.0), (0.3, 1.0), (1.0, 1.0)])
def test_a_stack_of_extreme_shares_stays_in_the_memory(shares: tuple[float, float]) -> None:
    made = stream("stack", 64, 5000, hot_share=shares[0], hot_access_share=shares[1]).draw_ticks(1, 2).accesses
    assert made.max() < 64


def test_a_stack_knows_no_processes() -> None:
    assert stream("stack", 64, 10, NestedSpec(), l2_process=1).levels.share > 0
