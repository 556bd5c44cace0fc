"""A clone is the trace with more pages, or fewer: LRU and we miss alike, and writes and processes stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_PAGE, ACCESS_WRITE, PTRS_PER_PTE
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.spec.host_spec import DataFile, GuestSpec, HostSpec, NestedSpec, WorkloadSpec
from coldfleet.hostsim.trace.importing import import_trace
from coldfleet.hostsim.workload.stretch import first_pages, scale_of
from coldfleet.hostsim.workload.trace_data import load_trace, sha256_of
from coldfleet.hostsim.workload.trace_stream import TraceStream
from coldfleet.policies import POLICIES
from tests.hostsim.trace.files import REAL, needs_real
from tests.hostsim.workload.traces import LOCALITY, local_accesses, miss_ratios, write_trace


def clone(file: DataFile, pages: int, each: int, nested: NestedSpec | None = None, **load: Any) -> TraceStream:
    workload = WorkloadSpec("clone", file=file, **{"start": "same", **load})
    spec = GuestSpec("g", pages, accesses_per_tick=each, workload=workload, nested=nested)
    return TraceStream(spec, seed=3, replicate=0, host=0, guest=0)


def differences(file: DataFile, times: float) -> npt.NDArray[np.float64]:
    """Between the curves of a trace and of its clone in so many times the memory, at all sizes."""
    trace = load_trace(file)
    memory = round(times * trace.pages)
    scale = scale_of(trace.pages, memory)
    made = clone(file, memory, round(scale * len(trace.accesses))).draw_ticks(1, 1).accesses
    sizes = np.arange(1, trace.pages + 1)
    fit = np.floor(scale * sizes + 0.5).astype(np.int64)
    return abs(miss_ratios(made, fit) - miss_ratios(trace.accesses, sizes))


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("kind", LOCALITY)
def test_a_clone_has_the_curve_of_the_trace_also_in_twice_the_memory(kind: str, times: int, tmp_path: Path) -> None:
    file = write_trace(tmp_path / "t.parquet", local_accesses(kind, 60_000, 2000))
    assert differences(file, times).max() < 0.002


@pytest.mark.parametrize("times", [0.5, 1.4])
@pytest.mark.parametrize("kind", LOCALITY)
def test_in_any_memory_a_clone_has_nearly_that_curve(kind: str, times: float, tmp_path: Path) -> None:
    file = write_trace(tmp_path / "t.parquet", local_accesses(kind, 60_000, 2000))
    assert differences(file, times).mean() < 0.02


@needs_real
def test_a_clone_has_the_curve_of_a_real_trace_in_twice_the_memory(tmp_path: Path) -> None:
    trace = import_trace([REAL / "cloudPhysicsIO.oracleGeneral.bin"], tmp_path / "t.parquet")
    assert differences(DataFile(str(trace.path), sha256_of(trace.path)), 2).max() < 0.002


@pytest.mark.parametrize("kind", ["phases", "zipf", "drifting zipf"])
def test_a_clone_refaults_as_often_as_the_trace_in_twice_the_memory(kind: str, tmp_path: Path) -> None:
    file = write_trace(tmp_path / "t.parquet", local_accesses(kind, 60_000, 3000))
    pages, each = load_trace(file).pages, 3000

    def refaults(load: str, times: int, share: float) -> float:
        workload = WorkloadSpec(load, file=file, start="same")
        guest = GuestSpec("g", times * pages, round(share * times * pages), times * each, workload=workload)
        result = simulate_host(HostSpec("6.12", (guest,), 40), POLICIES["lockless-6.15"], seed=1, replicate=0, host=0)
        return result.totals()["refaults"] / result.totals()["accesses"]

    for share in (0.2, 0.35, 0.5, 0.65, 0.8):
        assert refaults("clone", 2, share) == pytest.approx(refaults("trace", 1, share), abs=0.02)


@pytest.mark.parametrize("kind", LOCALITY)
def test_in_its_memory_a_clone_is_the_trace(kind: str, tmp_path: Path) -> None:
    file = write_trace(tmp_path / "t.parquet", local_accesses(kind, 30_000, 900), time=np.arange(30_000) ** 2)
    whole = -(-load_trace(file).pages // PTRS_PER_PTE) * PTRS_PER_PTE
    one, other = (
        TraceStream(
            GuestSpec("g", whole, accesses_per_tick=7000, workload=WorkloadSpec(load, file=file)),
            seed=3, replicate=0, host=0, guest=0, paced=True,
        ).draw_ticks(1, 9)
        for load in ("trace", "clone")
    )  # fmt: skip
    assert np.array_equal(one.accesses, other.accesses)
    assert np.array_equal(one.ends, other.ends)


def test_an_access_is_one_of_each_page_that_stands_for_the_page(tmp_path: Path) -> None:
    file = write_trace(tmp_path / "t.parquet", [9, 4, 4, 9], write=[1, 0, 1, 0], process=[1, 2, 2, 1])
    made = clone(file, 6, 12, NestedSpec(), l2_process=2).draw_ticks(1, 1).accesses
    assert (made & np.uint32(ACCESS_PAGE)).tolist() == [0, 1, 2, 3, 4, 5, 3, 4, 5, 0, 1, 2]
    assert (made & np.uint32(ACCESS_WRITE) != 0).tolist() == [True] * 3 + [False] * 3 + [True] * 3 + [False] * 3
    assert (made & np.uint32(ACCESS_L2) != 0).tolist() == [False] * 3 + [True] * 6 + [False] * 3


@pytest.mark.parametrize("pages", [500, 900, 2100])
def test_a_tick_is_the_same_however_many_are_drawn(pages: int, tmp_path: Path) -> None:
    file = write_trace(tmp_path / "t.parquet", local_accesses("phases", 30_000, 900))
    whole, parts = (clone(file, pages, 7001, start="drawn") for _ in range(2))
    one = whole.draw_ticks(1, 6)
    pieces = [parts.draw_ticks(first, count) for first, count in ((1, 2), (3, 4))]
    assert np.array_equal(one.accesses, np.concatenate([piece.accesses for piece in pieces]))
    assert one.digests[-1] == pieces[-1].digests[-1]
    assert one.accesses.max() < pages


@pytest.mark.parametrize("pages", [1, 511, 512, 513, 700, 5000])
def test_in_n_times_the_memory_each_page_is_n_pages(pages: int) -> None:
    fits = -(-pages // PTRS_PER_PTE) * PTRS_PER_PTE
    scales = [scale_of(pages, memory) for memory in range(1, 4 * fits + 1)]
    assert (np.diff(scales) >= 0).all()
    for times in (1, 2, 3, 4):
        assert scales[times * fits - 1] >= scales[times * pages - 1] == times
        if fits < pages + pages // 4:
            assert scales[times * fits - 1] == times
    assert all(round(scale * pages) <= memory for memory, scale in enumerate(scales, 1))


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 1.3, 2.0])
def test_pages_of_any_popularity_have_their_share_of_the_memory(scale: float, tmp_path: Path) -> None:
    trace = load_trace(write_trace(tmp_path / "t.parquet", local_accesses("zipf", 40_000, 1000)))
    copies = np.diff(first_pages(trace, scale))
    assert copies.sum() == int(scale * trace.pages + 0.5)
    by_popularity = np.cumsum(copies[np.argsort(-trace.counts, kind="stable")])
    assert abs(by_popularity - scale * np.arange(1, trace.pages + 1)).max() <= 1
