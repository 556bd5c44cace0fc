"""What imported heat is like: how much memory a monitor saw, how much of it was hot, and how old the rest was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.trace.summary import ROWS, WINDOWS
from coldfleet.hostsim.trace.table import MOST_PAGE, Trace

MAX_ROWS = 1 << 24
"""Of a trace of heat that is measured at once: a day of DAMON's with 1,000 regions at 5 s."""

_Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AgeBin:
    """Pages of a kind whose age is at most ``age`` (ns) and more than the bin's before; None: more, or unknown."""

    kind: str
    age: int | None
    pages: int


@dataclass(frozen=True)
class HeatSummary:
    """What a trace of heat is like.

    ``snapshots``: how many there are, ``ranges``: of pages in all of them, ``targets``: whose pages they are.
    ``start``, ``end``: of the time that was watched, ns; None: the source has no times. ``pages``: in the snapshot that
    has most. ``hot``: of each window of snapshots, mean pages that were found accessed; None: no heat was measured.
    ``watched``: mean pages that were looked at. ``mean_heat``: mean checks that found a page accessed; ``most``: checks
    in an interval, where the source says that. ``ages``: pages of the last snapshot by age. ``map_pages``: first page
    of each row of the map; rows have equally many of the pages that were ever watched. ``map``: mean heat of the pages
    by row and window, nothing without addresses.
    """

    snapshots: int
    ranges: int
    targets: tuple[str, ...]
    start: int | None
    end: int | None
    pages: int
    watched: tuple[float, ...]
    hot: tuple[float, ...] | None
    mean_heat: float | None
    most: float | None
    ages: tuple[AgeBin, ...]
    map_pages: tuple[int, ...]
    map: tuple[tuple[float, ...], ...]


def summarize_heat(trace: Trace) -> HeatSummary:
    """Measures a trace of heat; raises :class:`UserError` for a damaged file."""
    if trace.rows > MAX_ROWS:
        raise UserError(f"{trace.path}: {trace.rows:,} ranges of pages, more than {MAX_ROWS:,}: import a part of it")
    table = pa.Table.from_batches(trace.batches())
    if not table.num_rows:
        raise UserError(f"{trace.path}: no heat")
    snapshot = np.unique(table["snapshot"].to_numpy(), return_inverse=True)[1]
    pages = table["pages"].to_numpy()
    addressed = not table["page"].null_count
    if (
        pages.min() < int(addressed)
        or pages.max() > MOST_PAGE
        or (addressed and pc.max(table["page"]).as_py() >= MOST_PAGE)
    ):
        raise UserError(f"{trace.path}: damaged: a range has no page, or more than there are: import it again")
    heat = _floats(table["heat"])
    snapshots = int(snapshot.max()) + 1
    windows = min(snapshots, WINDOWS)
    window = snapshot * windows // snapshots
    in_window = np.bincount(np.arange(snapshots) * windows // snapshots, minlength=windows)
    measured = not np.isnan(heat).all()
    hot = np.bincount(window, pages * (heat > 0), windows) / in_window
    mapped = _map(table, window, windows, heat) if measured and addressed else ((), ())
    most = _floats(table["most"])
    starts, ends = table["start"].drop_null(), table["end"].drop_null()
    first = min([*starts[:1].to_pylist(), *ends[:1].to_pylist()], default=None)
    return HeatSummary(
        snapshots=snapshots,
        ranges=table.num_rows,
        targets=tuple(table["target"].unique().drop_null().to_pylist()),
        start=first,
        end=max(ends.to_pylist(), default=None),
        pages=int(np.bincount(snapshot, pages).max()),
        watched=tuple((np.bincount(window, pages, windows) / in_window).tolist()),
        hot=tuple(hot.tolist()) if measured else None,
        mean_heat=float(np.nansum(heat * pages) / max(pages.sum(), 1)) if measured else None,
        most=None if np.isnan(most).all() else float(np.nanmax(most)),
        ages=_ages(table, snapshot == snapshots - 1),
        map_pages=mapped[0],
        map=mapped[1],
    )


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """The values, NaN for null."""
    return column.to_numpy(zero_copy_only=False).astype(np.float64)


def _ages(table: pa.Table, last: npt.NDArray[np.bool_]) -> tuple[AgeBin, ...]:
    """Ages as they are, if there are few; else by powers of two of a ms."""
    rows = table.filter(pa.array(last)).select(["kind", "age", "pages"]).to_pylist()
    if all(row["age"] is None for row in rows):
        return ()
    few = len({row["age"] for row in rows}) <= ROWS
    sums: dict[tuple[str, float], int] = {}
    for row in rows:
        age = float("inf") if row["age"] is None else row["age"]
        bound = age if few or age == float("inf") else 10**6 * 2 ** max(int(age) // 10**6, 0).bit_length()
        place = (row["kind"] or "", bound)
        sums[place] = sums.get(place, 0) + row["pages"]
    return tuple(
        AgeBin(kind, None if age == float("inf") else int(age), count) for (kind, age), count in sorted(sums.items())
    )


def _map(
    table: pa.Table, window: _Counts, windows: int, heat: npt.NDArray[np.float64]
) -> tuple[tuple[int, ...], tuple[tuple[float, ...], ...]]:
    """First pages of rows, and mean heat by row and window: pages that were ever watched stand without gaps."""
    starts = table["page"].to_numpy().astype(np.int64)  # below 2^52
    ends = starts + table["pages"].to_numpy()
    order = np.argsort(starts, kind="stable")
    reached = np.maximum.accumulate(ends[order])
    fresh = np.append(True, starts[order][1:] > reached[:-1])
    begins = starts[order][fresh]
    finishes = reached[np.append(fresh[1:], True)]
    offsets = np.append(0, np.cumsum(finishes - begins))  # of each stretch of memory

    def place(page: _Counts) -> _Counts:
        stretch = np.searchsorted(begins, page, "right") - 1
        return offsets[stretch] + page - begins[stretch]

    rows = int(min(ROWS, offsets[-1]))
    edges = np.arange(rows + 1) * int(offsets[-1]) // rows
    low, high = place(starts), place(ends - 1) + 1
    known = ~np.isnan(heat)
    cells, sizes = np.zeros((rows, windows)), np.zeros((rows, windows))
    for row in range(rows):
        inside = (np.minimum(high, edges[row + 1]) - np.maximum(low, edges[row])).clip(0) * known
        cells[row] = np.bincount(window, inside * np.nan_to_num(heat), windows)
        sizes[row] = np.bincount(window, inside, windows)
    stretch = np.searchsorted(offsets, edges[:-1], "right") - 1
    firsts = begins[stretch] + edges[:-1] - offsets[stretch]
    mean = np.divide(cells, sizes, out=np.zeros_like(cells), where=sizes > 0)
    return tuple(firsts.tolist()), tuple(map(tuple, mean.tolist()))
