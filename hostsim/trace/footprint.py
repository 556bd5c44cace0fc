"""The distinct pages of a trace, and one number for each page of each process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.trace.table import MOST_PAGE, Trace

MAX_PROCESSES = 1 << 12
_SHIFT = MOST_PAGE.bit_length() - 1
_MOST_WAITING = 1 << 24  # pages that aren't merged yet


class PageKeys:
    """Makes one number of a page and its process: pages of two processes are never the same."""

    def __init__(self) -> None:
        self.numbers: dict[int | None, int] = {}
        """Of the processes, in the order in which they appear; None: unknown."""
        self._has_large = False

    def of(self, batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
        """The pages of a batch with their processes' numbers above their bits; raises :class:`UserError`."""
        pages = batch.column(1).to_numpy().view(np.int64)
        process = batch.column(3)
        if process.null_count == len(process):
            number = self.numbers.setdefault(None, len(self.numbers))
            return self._keys(pages, np.full(1, number))
        codes = process.dictionary_encode()
        names = [*codes.dictionary.to_pylist(), *([None] if process.null_count else [])]
        numbers = np.array([self.numbers.setdefault(name, len(self.numbers)) for name in names])
        return self._keys(pages, numbers[codes.indices.fill_null(len(names) - 1).to_numpy()])

    def process_of(self, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Whose page each of the numbers is, int64; -1: unknown."""
        names = np.array([-1 if name is None else name for name in self.numbers], np.int64)
        return names[(keys >> np.uint64(_SHIFT)).astype(np.int64)] if len(names) > 1 else np.repeat(names, len(keys))

    def _keys(self, pages: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        self._has_large = self._has_large or bool((pages.view(np.uint64) >= MOST_PAGE).any())
        if len(self.numbers) == 1:
            return pages
        if len(self.numbers) > MAX_PROCESSES:
            raise UserError(f"more than {MAX_PROCESSES:,} processes: split the trace")
        if self._has_large:
            raise UserError("several processes, and an id above 2^52: their pages can't be told apart")
        return pages | (numbers << _SHIFT)


@dataclass(frozen=True)
class Footprint:
    """The distinct pages of a trace of accesses.

    ``keys``: uint64 as PageKeys makes them, sorted: process by process in the order of their first accesses, and by
    address. ``processes``: int64, whose page each is, -1 where that is unknown.
    """

    keys: npt.NDArray[np.uint64]
    processes: npt.NDArray[np.int64]


def find_footprint(trace: Trace) -> Footprint:
    """Reads a trace of accesses once; raises :class:`UserError` if it is damaged, empty, or has too many processes."""
    names = PageKeys()
    known: list[npt.NDArray[np.uint64]] = []
    for batch in trace.batches():
        known.append(np.unique(names.of(batch).view(np.uint64)))
        if sum(map(len, known)) > _MOST_WAITING + len(known[0]):
            known = [np.unique(np.concatenate(known))]
    if not known or not sum(map(len, known)):
        raise UserError(f"{trace.path}: no accesses: import it from a trace that has some")
    keys = np.unique(np.concatenate(known))
    return Footprint(keys, names.process_of(keys))
