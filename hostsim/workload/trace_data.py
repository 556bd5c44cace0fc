"""A trace of accesses in memory, as guests follow it: its pages numbered without gaps, its accesses laid out in time.

Distinct pages get the numbers 0, 1, 2, ... in the order of their addresses, process by process: neighbours stay
neighbours, and gaps between regions take no memory.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coldfleet.hostsim.engine.state import ACCESS_PAGE, ACCESS_WRITE
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import DataFile
from coldfleet.hostsim.spec.input_file import open_input
from coldfleet.hostsim.trace.footprint import PageKeys, find_footprint
from coldfleet.hostsim.trace.table import Trace

MAX_ACCESSES = 1 << 28  # 1 GiB of memory
WRITE_UNKNOWN = 1 << 31
SLOTS = 1 << 16  # of a trace's time, between whose ends accesses are taken to be even
_TINY_PAGES = 256


@dataclass(frozen=True, eq=False)
class TraceData:
    """The accesses of a trace, to ``pages`` distinct pages.

    ``accesses``: uint32, number of the page, ACCESS_WRITE if it writes, WRITE_UNKNOWN if the trace doesn't say.
    ``processes``: int64, whose each page is; -1: unknown. ``pace``: float64 (SLOTS + 1), accesses before the begin of
    each slot of the trace's time; None: it has no clock.
    """

    accesses: npt.NDArray[np.uint32]
    pages: int
    processes: npt.NDArray[np.int64]
    pace: npt.NDArray[np.float64] | None

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Accesses to each page, int64."""
        return np.bincount(self.accesses & np.uint32(ACCESS_PAGE), minlength=self.pages)


def sha256_of(path: Path) -> str:
    """The hash of a file's bytes (hex); raises :class:`UserError` if it isn't one that can be read."""
    with open_input(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it has readinto
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None


def open_data(file: DataFile) -> Trace:
    """The trace in a file; raises :class:`UserError` if it is none, or not the one that is meant."""
    if (found := sha256_of(Path(file.path))) != file.sha256:
        raise UserError(
            f"{file.path}: changed: its sha256 is {found[:16]}..., not {file.sha256[:16]}...: put the file back, or "
            "run the study again into a new directory"
        )
    return Trace.open(file.path)


@lru_cache(maxsize=4)  # the guests of a host mostly follow one
def load_trace(file: DataFile) -> TraceData:
    """Reads a trace of accesses, twice. Raises :class:`UserError` if it is damaged, changed, or too long to be kept."""
    if not file.path:
        accesses = (np.arange(4 * _TINY_PAGES, dtype=np.uint32) * np.uint32(37)) % np.uint32(_TINY_PAGES)
        return TraceData(accesses, _TINY_PAGES, np.full(_TINY_PAGES, -1), np.linspace(0, len(accesses), SLOTS + 1))
    trace = open_data(file)
    if trace.kind != "accesses":
        raise UserError(f"{file.path}: has heat and no accesses: use it with a workload of kind profile")
    check_length(trace)
    footprint, names = find_footprint(trace), PageKeys()
    accesses, done = np.empty(trace.rows, np.uint32), 0
    times = np.empty(trace.rows if trace.clock else 0, np.int64)
    for batch in trace.batches():
        numbers = np.searchsorted(footprint.keys, names.of(batch).view(np.uint64)).astype(np.uint32)
        accesses[done : done + batch.num_rows] = numbers | _write_bits(batch.column(2))
        if trace.clock:
            times[done : done + batch.num_rows] = batch.column(0).to_numpy()
        done += batch.num_rows
    accesses.setflags(write=False)
    return TraceData(accesses, len(footprint.keys), footprint.processes, _pace(times))


def check_length(trace: Trace) -> None:
    """Raises :class:`UserError` for a trace that is longer than what guests can follow."""
    if trace.rows > MAX_ACCESSES:
        raise UserError(
            f"{trace.path}: {trace.rows:,} accesses; at most {MAX_ACCESSES:,} are kept in memory: import a part of it"
        )


def _write_bits(write: pa.Array) -> npt.NDArray[np.uint32]:
    known = write.fill_null(False).to_numpy(zero_copy_only=False).astype(np.uint32) * np.uint32(ACCESS_WRITE)
    unknown = write.is_null().to_numpy(zero_copy_only=False).astype(np.uint32) * np.uint32(WRITE_UNKNOWN)
    return known | unknown


def _pace(times: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
    """How many accesses lie before each slot. The last access is followed by a gap as long as they are on average."""
    if len(times) < 2 or times[-1] <= times[0]:
        return None
    length = float(times[-1] - times[0]) * len(times) / (len(times) - 1)
    edges = np.linspace(0.0, length, SLOTS + 1)
    return np.searchsorted(times - times[0], edges, "left").astype(np.float64)
