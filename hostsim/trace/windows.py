"""A trace made shorter: in each window of so many accesses a page is kept once.

Between two looks of an aging policy a page is accessed or it isn't; how often doesn't matter. So windows that are
short beside the time between two looks change little: which pages are accessed when, and in which order for the first
time, is kept, and so are reuse distances that are longer than what a window touches.

Source: the snapshot method of A. J. Smith, "Two methods for the efficient analysis of memory address trace data",
IEEE Transactions on Software Engineering, 1977.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.trace.table import Accesses, Bits, Pages, Times

MAX_WINDOW = 1 << 24
_EMPTY = -1
_ROW = np.dtype([("page", np.uint64), ("time", np.int64), ("write", np.int8), ("process", np.int64)])
_Rows = npt.NDArray[Any]


class Windows:
    """Shortens accesses, some of them at a time; ``size``: accesses of a window. Their time is their number."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._row_of = np.full(1 << (2 * size - 1).bit_length(), _EMPTY, np.int64)
        self._open = np.empty(0, _ROW)
        self._count = 0

    def shorten(self, parts: Iterator[Accesses]) -> Iterator[Accesses]:
        """What is kept of these accesses, window by window."""
        for part in parts:
            yield self._add(part)
        yield _accesses(self._open)

    def _add(self, part: Accesses) -> Accesses:
        count, waiting = len(part.page), len(self._open)
        rows = np.empty(waiting + count, _ROW)
        rows[:waiting] = self._open
        write = np.full(count, -1, np.int8) if part.write is None else part.write
        process = np.full(count, -1, np.int64) if part.process is None else part.process
        used, over = _keep(part.page, write, process, self._count, self._size, self._row_of, rows, waiting)
        self._open = rows[over:used].copy()
        self._count += count
        return _accesses(rows[:over])


def _accesses(rows: _Rows) -> Accesses:
    return Accesses(*(np.ascontiguousarray(rows[name]) for name in ("page", "time", "write", "process")))


@compiled
def _keep(
    page: Pages, write: Bits, process: Times, first: int, size: int, row_of: Times, rows: _Rows, used: int
) -> tuple[int, int]:
    """Adds accesses, the first of which is the trace's ``first``, to ``used`` rows of the window that is open.

    ``row_of``: its rows, counted from its first one, by a hash of their pages. Returns how many rows there are then,
    and how many of them are of windows that are over.
    """
    begin = 0
    last = np.uint64(len(row_of) - 1)
    for i in range(len(page)):
        if (first + i) % size == 0:
            row_of[:] = _EMPTY
            begin = used
        mixed = (page[i] ^ (np.uint64(process[i]) << np.uint64(40))) * np.uint64(0x9E3779B97F4A7C15)
        slot = (mixed >> np.uint64(20)) & last
        while True:
            if row_of[slot] == _EMPTY:
                row_of[slot] = used - begin
                rows[used].page, rows[used].time = page[i], first + i
                rows[used].write, rows[used].process = write[i], process[i]
                used += 1
                break
            row = rows[begin + row_of[slot]]
            if row.page == page[i] and row.process == process[i]:
                row.write = max(row.write, write[i])
                break
            slot = (slot + np.uint64(1)) & last
    return used, begin
