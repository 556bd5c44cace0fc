"""What an imported trace is like: its length and footprint, its locality, and where and when it is hot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.trace.footprint import PageKeys
from coldfleet.hostsim.trace.reuse import EVERY_PAGE, GAP_BINS, Counts, DistinctPages, ReuseTracker, hashes
from coldfleet.hostsim.trace.table import MOST_PAGE, Trace

WINDOWS = 64
ROWS = 24  # of the map
EXACT_PAGES = 1 << 20
"""A trace of more pages is sampled: 4 GiB of memory, of which the tables take some 150 MB."""

RECENT_PAGES = 1 << 16
"""Up to this size the curve of a sampled trace is exact, too."""

_GROUPS = 16
_Z_99 = 2.576  # normal quantile for 99 %, two-sided
_T_99 = 2.947  # Student's t for 99 %, two-sided, 15 degrees of freedom
_POINTS_PER_DOUBLING = 4
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CurvePoint:
    """The miss ratio of an LRU of so many pages, and its error: 0 if it is exact, else half of a 99 % interval.

    ``misses``: accesses that miss, first ones included; rounded if it isn't exact.
    """

    pages: int
    misses: int
    miss_ratio: float
    error: float


@dataclass(frozen=True)
class Bin:
    """How many accesses have a distance or a gap of ``low`` to ``high``, both included."""

    low: int
    high: int
    accesses: int


@dataclass(frozen=True)
class TraceSummary:
    """What a trace of accesses is like.

    ``accesses``: how many there are. ``pages``: the distinct ones among them, of ``processes`` address spaces.
    ``start``, ``end``: of the first and the last, ns. ``reads``, ``writes``, ``unknown``: they add up to the accesses.
    ``rate``: the share of the pages that was followed; 1: all figures are exact. Below, ``pages``, working sets and
    what lies beyond 65,536 pages in the curve and the histograms are estimates. ``pages_error``: half of a 99 %
    interval of ``pages``.
    ``curve``: miss ratios of LRU by size, the sizes that were asked for among them. ``cold``: first accesses to a page.
    ``distances``: reuse distances, in pages. ``gaps``: accesses from one to the next of the same page.
    ``working``: distinct pages of each window; ``window_accesses``: accesses in it. Windows are of equal time if the
    trace has a clock, else of equal numbers of accesses. ``map_pages``: the first page of each row of the map; rows
    have equally many distinct pages. ``map``: accesses by row and window.
    """

    accesses: int
    pages: int
    pages_error: int
    processes: int
    start: int
    end: int
    reads: int
    writes: int
    unknown: int
    rate: float
    curve: tuple[CurvePoint, ...]
    cold: int
    distances: tuple[Bin, ...]
    gaps: tuple[Bin, ...]
    working: tuple[int, ...]
    window_accesses: tuple[int, ...]
    map_pages: tuple[int, ...]
    map: tuple[tuple[int, ...], ...]


def summarize_accesses(
    trace: Trace, sizes: Sequence[int] = (), most_pages: int = EXACT_PAGES, told: Callable[[float], None] | None = None
) -> TraceSummary:
    """Measures a trace of accesses in two passes over the file; ``told`` hears how much of it is done, 0 to 1.

    ``sizes``: more points of the curve, pages. ``most_pages``: with more, a sample of the pages is followed (SHARDS).
    Raises :class:`UserError` for a damaged file.
    """
    say = told or (lambda share: None)
    distinct, processes = DistinctPages(most_pages), PageKeys()
    first = end = None
    reads = writes = done = 0
    for batch in trace.batches():
        distinct.add(processes.of(batch))
        time, write = batch.column(0), batch.column(2)
        first = time[0].as_py() if first is None else first
        end = time[-1].as_py()
        written = write.true_count
        writes, reads = writes + written, reads + len(write) - write.null_count - written
        done += batch.num_rows
        say(0.5 * done / trace.rows)
    if first is None or end is None:
        raise UserError(f"{trace.path}: no accesses")
    rows = _row_edges(distinct.keys())
    trackers = _Trackers.make(distinct.threshold)
    counts = np.zeros(len(rows) * WINDOWS, np.int64)
    number = 0
    for batch in trace.batches():
        keys = processes.of(batch)
        windows = _windows(trace, batch, number, first, end)
        places = (np.searchsorted(rows, keys.view(np.uint64), "right") - 1).clip(0)
        counts += np.bincount(places * WINDOWS + windows, minlength=len(counts))
        trackers.follow(keys, np.arange(number, number + len(keys)), windows)
        number += len(keys)
        say(0.5 + 0.5 * number / trace.rows)
    rate, sample = trackers.rate, trackers.sample
    pages = round(sample.pages / rate)
    map_ = counts.reshape(len(rows), WINDOWS)
    return TraceSummary(
        accesses=number,
        pages=pages,
        pages_error=round(_Z_99 * (sample.pages * (1 - rate)) ** 0.5 / rate),
        processes=len(processes.numbers),
        start=first,
        end=end,
        reads=reads,
        writes=writes,
        unknown=number - reads - writes,
        rate=rate,
        curve=tuple(_curve(trackers, number, {*_sizes(pages), *sizes})),
        cold=pages,
        distances=tuple(trackers.bins(_doublings(trackers.recent, 1.0), _doublings(sample, rate))),
        gaps=tuple(trackers.bins(trackers.recent.gaps, sample.gaps)),
        working=tuple(np.rint(sample.working / rate).astype(int).tolist()),
        window_accesses=tuple(map_.sum(axis=0).tolist()),
        map_pages=tuple((rows & np.uint64(MOST_PAGE - 1) if len(processes.numbers) > 1 else rows).tolist()),
        map=tuple(map(tuple, map_.tolist())),
    )


def _row_edges(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """The first page of each row of the map; rows have equally many distinct pages, so that gaps take no room."""
    ordered = np.sort(keys.view(np.uint64))
    return ordered[np.arange(min(ROWS, len(ordered))) * len(ordered) // min(ROWS, len(ordered))]


def _windows(trace: Trace, batch: pa.RecordBatch, number: int, first: int, end: int) -> npt.NDArray[np.int64]:
    if trace.clock and end > first:
        shares = (batch.column(0).to_numpy() - first) / (end - first + 1)
    else:
        shares = np.arange(number, number + batch.num_rows) / trace.rows
    return (shares * WINDOWS).clip(0, WINDOWS - 1).astype(np.int64)


def _sizes(pages: int) -> Iterable[int]:
    """Sizes of the curve: some for each doubling, up to the footprint, which is among them."""
    steps = np.arange(0, _POINTS_PER_DOUBLING * np.log2(max(pages, 1)))
    return {*np.rint(2 ** (steps / _POINTS_PER_DOUBLING)).astype(int).tolist(), pages}


@dataclass(frozen=True)
class _Trackers:
    """Who follows the accesses: ``sample`` those of the sampled pages, each of ``groups`` a part of them.

    If all pages are sampled there are no groups, and ``sample`` is exact. Else ``recent`` follows all accesses and
    remembers the last pages, so that it is exact for small sizes. There a few hot pages decide, which a sample has or
    not.
    """

    sample: ReuseTracker
    recent: ReuseTracker
    groups: tuple[ReuseTracker, ...]
    threshold: int

    @classmethod
    def make(cls, threshold: int) -> _Trackers:
        sample = ReuseTracker(WINDOWS)
        if threshold == EVERY_PAGE:
            return cls(sample, sample, (), threshold)
        groups = tuple(ReuseTracker(WINDOWS) for _ in range(_GROUPS))
        return cls(sample, ReuseTracker(WINDOWS, RECENT_PAGES), groups, threshold)

    @property
    def rate(self) -> float:
        """The share of the pages that is sampled."""
        return self.threshold / EVERY_PAGE

    def follow(self, *accesses: npt.NDArray[np.int64]) -> None:
        """More accesses: their pages, numbers and windows."""
        self.recent.follow(*accesses)
        if not self.groups:
            return
        hashed = hashes(accesses[0])
        chosen = np.flatnonzero(hashed < self.threshold)
        group = hashed[chosen].astype(np.int64) * _GROUPS // self.threshold
        sampled = [each[chosen] for each in accesses]
        self.sample.follow(*sampled)
        for number, tracker in enumerate(self.groups):
            tracker.follow(*(each[group == number] for each in sampled))

    def hits(self, sizes: npt.NDArray[Any]) -> Floats:
        """Accesses that LRUs of these sizes hold."""
        near = _below(self.recent, 1.0, np.minimum(sizes, RECENT_PAGES) if self.groups else sizes)
        return near + (self._far(self.sample, self.rate, sizes) if self.groups else 0)

    def error(self, sizes: npt.NDArray[np.int64]) -> Floats:
        """Half of a 99 % interval of :meth:`hits`: each group is a sample of its own, and shows how far one is off."""
        if not self.groups:
            return np.zeros(len(sizes))
        far = self._far(self.sample, self.rate, sizes)
        each = np.array([self._far(group, self.rate / _GROUPS, sizes) for group in self.groups])
        spread = _T_99 * each.std(axis=0, ddof=1) / _GROUPS**0.5
        unresolved = [self._far(self.sample, self.rate, sizes + step / self.rate) for step in (-1, 1)]
        off = spread + abs(each.mean(axis=0) - far) + unresolved[1] - unresolved[0]
        return np.where(sizes <= RECENT_PAGES, 0.0, off)

    def _far(self, tracker: ReuseTracker, rate: float, sizes: npt.NDArray[Any]) -> Floats:
        """Accesses of distances above those that are known exactly, from a sample."""
        at = np.maximum(sizes, RECENT_PAGES)
        return _below(tracker, rate, at) - _below(tracker, rate, np.full(1, RECENT_PAGES))

    def bins(self, exact: Counts, sampled: Counts) -> Iterator[Bin]:
        """A histogram over powers of two: exact as far as it is known, from the sample beyond."""
        for k, (known, estimated) in enumerate(zip(exact.tolist(), sampled.tolist(), strict=True)):
            low, high = 1 << k, (2 << k) - 1
            count = known if not self.groups or high <= RECENT_PAGES else round(estimated / self.rate)
            if count:
                yield Bin(low, high, count)


def _below(tracker: ReuseTracker, rate: float, sizes: npt.NDArray[Any]) -> Floats:
    """Accesses of at most these distances, from a tracker of a share of the pages."""
    sums = np.cumsum(tracker.distances)
    return np.interp(sizes * rate, np.arange(len(sums)), sums) / rate


def _doublings(tracker: ReuseTracker, rate: float) -> Counts:
    """Distances by powers of two, in the tracker's own number of accesses."""
    edges = 2.0 ** np.arange(GAP_BINS + 1) - 1
    return np.rint(np.diff(_below(tracker, rate, edges) * rate)).astype(np.int64)


def _curve(trackers: _Trackers, accesses: int, sizes: set[int]) -> Iterator[CurvePoint]:
    at = np.array(sorted(size for size in sizes if size > 0))
    misses = (accesses - trackers.hits(at)).clip(0, accesses)
    for size, missed, off in zip(at.tolist(), misses.tolist(), trackers.error(at).tolist(), strict=True):
        yield CurvePoint(size, round(missed), missed / accesses, off / accesses)
