"""Imported traces for tests: of accesses that are given, and of those that have a kind of locality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coldfleet.hostsim.engine.state import ACCESS_PAGE
from coldfleet.hostsim.spec.host_spec import DataFile
from coldfleet.hostsim.trace.reuse import ReuseTracker
from coldfleet.hostsim.trace.table import HEAT, Accesses, TraceWriter
from coldfleet.hostsim.workload.trace_data import sha256_of


def write_trace(path: Path, pages: Any, **columns: Any) -> DataFile:
    """A trace of these accesses; ``columns``: time, write and process, as Accesses has them."""
    accesses = Accesses(np.asarray(pages, np.uint64), **{name: np.asarray(each) for name, each in columns.items()})
    return _written(path, "accesses", accesses.batch(0), "time" in columns)


def write_heat(path: Path, rows: list[dict[str, Any]]) -> DataFile:
    """A trace of heat with these rows; columns that they lack are null."""
    full = [{"snapshot": 0, **dict.fromkeys(HEAT.names[1:]), **row} for row in rows]
    return _written(path, "heat", pa.RecordBatch.from_pylist(full, schema=HEAT), True)


def _written(path: Path, kind: str, batch: pa.RecordBatch, clock: bool) -> DataFile:
    writer = TraceWriter(path, kind)
    writer.write(batch)
    writer.finish("made", "test", clock, False, ())
    writer.close()
    return DataFile(str(path), sha256_of(path))


def miss_ratios(accesses: npt.NDArray[Any], sizes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Of LRUs of these sizes."""
    tracker, count = ReuseTracker(1), len(accesses)
    tracker.follow((accesses & np.uint32(ACCESS_PAGE)).astype(np.int64), np.arange(count), np.zeros(count, np.int64))
    hits = np.cumsum(tracker.distances)
    return 1 - hits[np.minimum(sizes, len(hits) - 1)] / count


def local_accesses(kind: str, count: int = 150_000, pages: int = 4_000) -> npt.NDArray[np.int64]:
    """Page numbers of accesses with the locality of a kind of program."""
    random = np.random.default_rng(5)
    steps = np.arange(count)
    if kind == "loop":
        return steps % pages
    if kind == "hot set and loop":
        return np.where(random.random(count) < 0.5, random.integers(0, pages // 8, count), pages + steps // 2 % pages)
    if kind == "phases":
        return steps // 15_000 * (pages // 3) + random.integers(0, pages // 2, count)
    weights = np.arange(1, pages + 1) ** -0.9
    ranks = random.choice(pages, count, p=weights / weights.sum())
    return ranks + (steps // 100 if kind == "drifting zipf" else 0)


LOCALITY = ("loop", "hot set and loop", "phases", "zipf", "drifting zipf")
