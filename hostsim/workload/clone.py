"""What a clone takes from a trace: depths of its accesses, popularity and first accesses of its pages.

The trace is taken as repeated, as a guest that follows it does: the reuse distance of a page's first access is that
from its last one in the round before. Distances are kept for each window of the trace, so that phases stay phases; a
quantile stands for 1/QUANTILES of a window's accesses, and the miss-ratio curve can't be further off because of that.
Pages of a guest with k times the trace's pages stand for 1/k page each, in the order of the addresses, and k times the
accesses make a round.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.engine.state import ACCESS_PAGE, ACCESS_WRITE
from coldfleet.hostsim.spec.host_spec import DataFile
from coldfleet.hostsim.trace.reuse import Counts, mark_place, marked_places, marks_before
from coldfleet.hostsim.workload.trace_data import WRITE_UNKNOWN, TraceData, load_trace

WINDOWS = 64
QUANTILES = 1024
_LEAST = 1024  # accesses of a window


@dataclass(frozen=True, eq=False)
class Likeness:
    """What is known of a trace of ``accesses`` accesses to ``pages`` pages.

    ``depths``: uint32 (windows, QUANTILES), sorted. ``below``: float64 (pages + 1), accesses to the pages before each.
    ``first``: float64, place of each page's first access in the trace, 0..1. ``writes``: float64, of each page, the
    share of its accesses that write; -1: the trace doesn't say. ``processes``: as in TraceData.
    """

    accesses: int
    pages: int
    depths: npt.NDArray[np.uint32]
    below: npt.NDArray[np.float64]
    first: npt.NDArray[np.float64]
    writes: npt.NDArray[np.float64]
    processes: npt.NDArray[np.int64]


@lru_cache(maxsize=4)
def likeness_of(file: DataFile) -> Likeness:
    """Fits a clone to a trace; raises :class:`UserError` as :func:`load_trace` does."""
    return fit(load_trace(file))


def fit(trace: TraceData) -> Likeness:
    """The same of a trace in memory."""
    length = len(trace.accesses)
    distances = np.empty(length, np.uint32)
    _distances(trace.accesses, np.full(trace.pages, -1, np.int64), *marked_places(-(-2 * length // 64) * 64), distances)
    windows = max(min(WINDOWS, length // _LEAST), 1)
    share = (np.arange(QUANTILES) + 0.5) / QUANTILES
    depths = np.empty((windows, QUANTILES), np.uint32)
    for number, window in enumerate(np.array_split(distances, windows)):
        depths[number] = np.sort(window)[(share * len(window)).astype(np.int64)]
    numbers = trace.accesses & np.uint32(ACCESS_PAGE)
    counts = trace.counts
    first = np.empty(trace.pages)
    first[numbers[::-1]] = np.arange(length)[::-1] / length
    unknown = np.bincount(numbers[trace.accesses & np.uint32(WRITE_UNKNOWN) != 0], minlength=trace.pages)
    writes = np.bincount(numbers[trace.accesses & np.uint32(ACCESS_WRITE) != 0], minlength=trace.pages)
    shares = np.where(unknown < counts, writes / np.maximum(counts - unknown, 1), -1.0)
    below = np.append(0.0, np.cumsum(counts.astype(np.float64)))
    return Likeness(length, trace.pages, depths, below, first, shares, trace.processes)


@compiled
def _distances(
    accesses: npt.NDArray[np.uint32],
    last: Counts,
    bits: npt.NDArray[np.uint64],
    tree: Counts,
    out: npt.NDArray[np.uint32],
) -> None:
    """The reuse distance of each access in the second of two rounds."""
    length = len(accesses)
    used = 0
    for turn in range(2):
        for at in range(length):
            page = accesses[at] & np.uint32(ACCESS_PAGE)
            before = last[page]
            if before < 0:
                used += 1
            else:
                if turn:
                    out[at] = used - marks_before(bits, tree, before)
                mark_place(bits, tree, before, -1)
            place = turn * length + at
            mark_place(bits, tree, place, 1)
            last[page] = place
