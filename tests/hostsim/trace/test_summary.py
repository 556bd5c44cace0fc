"""What is measured of a trace: equal to plain slow counts, to libCacheSim, and to itself within its stated error."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.trace import summary as summary_module
from coldfleet.hostsim.trace.formats.block import ORACLE_GENERAL
from coldfleet.hostsim.trace.heat import HeatSummary
from coldfleet.hostsim.trace.importing import import_trace
from coldfleet.hostsim.trace.reuse import DistinctPages, ReuseTracker, hashes
from coldfleet.hostsim.trace.summarize import summarize_trace
from coldfleet.hostsim.trace.summary import TraceSummary, summarize_accesses
from coldfleet.hostsim.trace.table import Accesses, Trace, TraceWriter
from tests.hostsim.trace import files
from tests.hostsim.trace.files import REAL, needs_real, slow_lru_misses


def written(path: Path, accesses: Accesses, clock: bool = False) -> Trace:
    writer = TraceWriter(path, "accesses")
    for first in range(0, len(accesses.page), 7777):
        part: dict[str, Any] = {
            name: None if value is None else value[first : first + 7777] for name, value in vars(accesses).items()
        }
        writer.write(Accesses(**part).batch(first))
    trace = writer.finish("made", "txt", clock, False, ())
    writer.close()
    return trace


def drawn(kind: str, count: int, seed: int) -> npt.NDArray[np.uint64]:
    """Pages of a trace with a known kind of locality, scattered over an address space."""
    random = np.random.default_rng(seed)
    pages = 30_000
    if kind == "zipf":
        weights = np.cumsum(np.arange(1, pages + 1) ** -1.1)
        ranks = np.searchsorted(weights, random.random(count) * weights[-1])
    elif kind == "loop":
        ranks = np.arange(count) % 20_000
    else:  # a working set that moves
        ranks = (random.integers(0, 3000, count) + np.arange(count) // (count // 10) * 2500) % pages
    return random.permutation(1 << 22)[:pages].astype(np.uint64)[ranks]


@pytest.mark.parametrize(("count", "pages"), [(4000, 700), (3000, 5), (2000, 10**6), (1, 1)])
def test_distances_are_those_of_a_stack(count: int, pages: int) -> None:
    keys = np.random.default_rng(count).zipf(1.3, count) % pages
    windows = np.arange(count) * 4 // count
    tracker = ReuseTracker(4)
    for first in range(0, count, 501):
        part = slice(first, first + 501)
        tracker.follow(keys[part], np.arange(count)[part], windows[part])
    stack: list[int] = []
    distances: Counter[int] = Counter()
    gaps: Counter[int] = Counter()
    last: dict[int, int] = {}
    for number, key in enumerate(keys.tolist()):
        if key in last:
            distances[stack.index(key) + 1] += 1
            gaps[(number - last[key]).bit_length() - 1] += 1
            stack.remove(key)
        stack.insert(0, key)
        last[key] = number
    assert {int(d): int(tracker.distances[d]) for d in np.flatnonzero(tracker.distances)} == distances
    assert {int(k): int(tracker.gaps[k]) for k in np.flatnonzero(tracker.gaps)} == gaps
    assert tracker.working.tolist() == [len(set(keys[windows == window].tolist())) for window in range(4)]
    assert tracker.pages == len(last)


def test_a_tracker_that_forgets_is_exact_up_to_what_it_remembers() -> None:
    keys = drawn("zipf", 40_000, 1).view(np.int64)
    numbers, windows = np.arange(len(keys)), np.zeros(len(keys), np.int64)
    whole, recent = ReuseTracker(1), ReuseTracker(1, most=600)
    whole.follow(keys, numbers, windows)
    recent.follow(keys, numbers, windows)
    assert recent.distances[:601].tolist() == whole.distances[:601].tolist()
    assert recent.pages < 3000 < whole.pages
    assert len(recent._table) <= 1 << 13, "memory is bounded"


def test_distinct_pages_are_all_or_those_below_the_threshold() -> None:
    keys = drawn("zipf", 60_000, 2).view(np.int64)
    every, some = DistinctPages(1 << 16), DistinctPages(1 << 10)
    for part in np.array_split(keys, 7):
        every.add(part)
        some.add(part)
    assert set(every.keys().tolist()) == set(keys.tolist())
    assert every.rate == 1
    unique = np.unique(keys)
    assert set(some.keys().tolist()) == set(unique[hashes(unique) < some.threshold].tolist())
    assert len(some.keys()) <= 1 << 11


@pytest.mark.parametrize("kind", ["zipf", "loop", "moving"])
def test_the_curve_is_that_of_a_plain_lru(kind: str, tmp_path: Path) -> None:
    pages = drawn(kind, 20_000, 3)
    found = summarize_accesses(written(tmp_path / "t.parquet", Accesses(pages)), (17, 4242))
    assert found.pages == found.cold == len(np.unique(pages))
    points = {point.pages: point for point in found.curve}
    for size in (1, 2, 17, 256, 4242, found.pages):
        assert points[size].misses == slow_lru_misses(pages, size)
        assert points[size].error == 0


def check_laws(found: TraceSummary) -> None:
    """Parts add up, and the curve falls."""
    assert found.reads + found.writes + found.unknown == found.accesses
    assert sum(found.window_accesses) == found.accesses
    assert sum(map(sum, found.map)) == found.accesses
    assert sum(each.accesses for each in found.distances) + found.cold == pytest.approx(found.accesses, rel=0.05)
    assert sum(each.accesses for each in found.gaps) + found.cold == pytest.approx(found.accesses, rel=0.05)
    assert max(found.working) <= found.pages + found.pages_error <= sum(found.working) + 2 * found.pages_error
    misses = [point.misses for point in found.curve]
    assert misses == sorted(misses, reverse=True)
    assert all(0 <= point.miss_ratio <= 1 and point.error >= 0 for point in found.curve)
    if found.rate == 1:
        assert sum(each.accesses for each in found.distances) + found.cold == found.accesses
        assert sum(each.accesses for each in found.gaps) + found.cold == found.accesses
        assert misses[-1] == found.cold


@pytest.mark.parametrize("kind", ["zipf", "loop", "moving"])
def test_a_summary_obeys_its_laws(kind: str, tmp_path: Path) -> None:
    pages = drawn(kind, 50_000, 4)
    random = np.random.default_rng(5)
    accesses = Accesses(
        pages,
        time=np.sort(random.integers(0, 10**18, len(pages))),
        write=random.integers(-1, 2, len(pages)).astype(np.int8),
    )
    found = summarize_accesses(written(tmp_path / "t.parquet", accesses, clock=True))
    check_laws(found)
    assert accesses.write is not None
    assert found.unknown == np.count_nonzero(accesses.write == -1)
    assert (found.start, found.end) == (accesses.time[0], accesses.time[-1])  # type: ignore[index]


@pytest.mark.parametrize("kind", ["zipf", "loop", "moving"])
def test_a_sample_is_within_its_stated_error(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary_module, "RECENT_PAGES", 512)
    within = total = 0
    for seed in range(4):
        trace = written(tmp_path / f"{seed}.parquet", Accesses(drawn(kind, 150_000, seed)))
        sampled = summarize_accesses(trace, most_pages=1 << 11)
        check_laws(sampled)
        assert sampled.rate < 0.3
        exact = summarize_accesses(trace, [point.pages for point in sampled.curve])
        true = {point.pages: point.miss_ratio for point in exact.curve}
        assert abs(sampled.pages - exact.pages) <= sampled.pages_error
        for point in sampled.curve:
            assert point.pages > 512 or point.miss_ratio == true[point.pages], "small sizes are exact"
        far = [point for point in sampled.curve if point.pages > 512]
        within += sum(abs(point.miss_ratio - true[point.pages]) <= point.error for point in far)
        total += len(far)
        assert np.mean([abs(point.miss_ratio - true[point.pages]) for point in far]) < 0.05
        assert max(point.error for point in far) > 0
    assert within / total > 0.98, "intervals are of 99 %"


def test_pages_of_two_processes_are_two(tmp_path: Path) -> None:
    pages, process = np.array([5, 5, 5, 5, 6], np.uint64), np.array([1, 2, 1, 2, -1])
    found = summarize_accesses(written(tmp_path / "t.parquet", Accesses(pages, process=process)))
    assert (found.pages, found.processes) == (3, 3)
    assert {point.pages: point.misses for point in found.curve}[2] == 3
    same = summarize_accesses(written(tmp_path / "u.parquet", Accesses(pages, process=np.full(5, 9))))
    assert (same.pages, same.processes) == (2, 1)
    with pytest.raises(UserError, match="above 2\\^52"):
        summarize_accesses(written(tmp_path / "v.parquet", Accesses(pages + np.uint64(1 << 60), process=process)))


def test_windows_are_of_equal_time_if_there_is_a_clock(tmp_path: Path) -> None:
    pages, time = np.arange(640, dtype=np.uint64), np.r_[np.arange(639), 63_900_000]
    timed = summarize_accesses(written(tmp_path / "t.parquet", Accesses(pages, time=time), clock=True))
    assert (timed.window_accesses[0], timed.window_accesses[-1]) == (639, 1)
    counted = summarize_accesses(written(tmp_path / "u.parquet", Accesses(pages)))
    assert set(counted.window_accesses) == {10}
    assert counted.map_pages[0] == 0
    assert len(counted.map) == len(counted.map_pages) == summary_module.ROWS


@needs_real
@pytest.mark.parametrize("name", ["csv.gz", "oracleGeneral.bin", "txt.gz", "vscsi"])
def test_a_real_block_trace_is_as_plain_counts_have_it(name: str, tmp_path: Path) -> None:
    found = summarize_trace(import_trace(REAL / f"cloudPhysicsIO.{name}", tmp_path / "t.parquet"), sizes=[33_333])
    assert isinstance(found, TraceSummary)
    pages = np.fromfile(REAL / "cloudPhysicsIO.oracleGeneral.bin", ORACLE_GENERAL)["id"]
    assert (found.accesses, found.pages) == (len(pages), len(np.unique(pages)))
    points = {point.pages: point.misses for point in found.curve}
    assert points[33_333] == slow_lru_misses(pages, 33_333)
    assert points[1024] == slow_lru_misses(pages, 1024)
    check_laws(found)


@needs_real
def test_the_curve_is_that_of_libcachesim(tmp_path: Path) -> None:
    library: Any = pytest.importorskip("libcachesim")
    source = REAL / "cloudPhysicsIO.oracleGeneral.bin"
    found = summarize_trace(import_trace(source, tmp_path / "t.parquet"))
    assert isinstance(found, TraceSummary)
    for point in found.curve[::5]:
        options = library.ReaderInitParam(ignore_obj_size=True)
        reader = library.TraceReader(str(source), library.TraceType.ORACLE_GENERAL_TRACE, options)
        missed, _ = library.LRU(cache_size=point.pages).process_trace(reader)
        assert round(missed * found.accesses) == point.misses


def heat_of(tmp_path: Path, content: bytes, format: str | None = None) -> HeatSummary:
    (tmp_path / "original").write_bytes(content)
    found = summarize_trace(import_trace(tmp_path / "original", tmp_path / "heat.parquet", format=format))
    assert isinstance(found, HeatSummary)
    return found


def test_heat_of_damon(tmp_path: Path) -> None:
    found = heat_of(tmp_path, files.damon())
    assert (found.snapshots, found.ranges, found.targets) == (2, 4, ("77",))
    assert (found.start, found.end, found.pages) == (0, 2 * 10**8, 3)
    assert found.hot == (2, 2)
    assert found.watched == (3, 3)
    assert found.mean_heat == pytest.approx(10 / 3)
    assert found.most == 20
    assert found.map_pages == (1, 2, 3)
    assert found.map == ((5, 5), (5, 5), (0, 0))
    assert sum(each.pages for each in found.ages) == found.pages


def test_heat_of_ages_and_of_frames(tmp_path: Path) -> None:
    ages = heat_of(tmp_path, files.lru_gen())
    assert (ages.hot, ages.map, ages.pages) == (None, (), 51)
    assert [(each.kind, each.age, each.pages) for each in ages.ages] == [
        ("anon", 600 * 10**6, 10), ("anon", 900 * 10**6, 30), ("file", 600 * 10**6, 6), ("file", 900 * 10**6, 5)
    ]  # fmt: skip
    (tmp_path / "heat.parquet").unlink()
    frames = heat_of(tmp_path, files.page_idle(), "page-idle")
    assert (frames.pages, frames.hot, frames.ages) == (128, (8,), ())
    assert sum(row[0] for row in frames.map) == pytest.approx(8 / 128 * len(frames.map), rel=0.2)


def test_memory_between_regions_is_left_out_of_the_map(tmp_path: Path) -> None:
    far = files.damon(end="8,192", start=str(0x7F0000000000), nr_accesses={"samples": 20})
    content = far.replace(b'"end": "8,192"', b'"end": "%d"' % 0x7F0000001000)
    found = heat_of(tmp_path, content)
    assert found.map_pages == (3, 0x7F0000000)
    assert found.map == ((0, 0), (20, 20))


def test_heat_has_no_curve(tmp_path: Path) -> None:
    heat_of(tmp_path, files.damon())
    with pytest.raises(UserError, match="no order of accesses"):
        summarize_trace(tmp_path / "heat.parquet", sizes=[5])
