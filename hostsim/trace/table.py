"""What a trace is once it is imported: a Parquet file of accesses, or of heat, whose columns know their units.

Accesses are in the order in which they were made. Heat says of ranges of pages, or of so many pages without an
address, how hot or how old they were in an interval: what monitors such as DAMON know.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.input_file import open_input
from coldfleet.hostsim.trace.programs import find_program

_VERSION = 1  # of both schemas; raise it with a column that changes or goes
_MARK = b"coldfleet.trace"
_GROUP_ROWS = 1 << 20
PAGE_SHIFT = 12
MOST_PAGE = 1 << 52  # numbers of pages of an address space of 64 bits are below
USER_END, KERNEL_START = 1 << 56, (1 << 64) - (1 << 56)  # with five levels of page tables nothing is in between


def _field(name: str, kind: pa.DataType, unit: str, says: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit, "description": says})


ACCESSES = pa.schema(
    [
        _field("time", pa.int64(), "ns", "when, by the clock of the source; 0, 1, 2, ... where it has none"),
        _field("page", pa.uint64(), "pages", "number of the page of 4 KiB: address / 4096; or of the block or object"),
        _field("write", pa.bool_(), "", "whether it writes; null: the source doesn't say", nullable=True),
        _field("process", pa.int64(), "", "whose address space, such as the process id; null: unknown", nullable=True),
    ]
)
"""One row for each access, sorted by time."""

HEAT = pa.schema(
    [
        _field("snapshot", pa.int64(), "", "number of the snapshot, from 0"),
        _field("start", pa.int64(), "ns", "begin of the interval that was watched; null: unknown", nullable=True),
        _field("end", pa.int64(), "ns", "end of the interval; null: unknown", nullable=True),
        _field("target", pa.string(), "", "who: DAMON target, or memcg and node", nullable=True),
        _field("kind", pa.string(), "", "anon or file; null: unknown, or both", nullable=True),
        _field(
            "page", pa.uint64(), "pages", "first page of the range: address / 4096; null: no address", nullable=True
        ),
        _field("pages", pa.int64(), "pages", "pages of 4 KiB in the range"),
        _field("heat", pa.float64(), "", "checks that found the range accessed; null: not measured", nullable=True),
        _field("most", pa.float64(), "", "checks in the interval; null: unknown", nullable=True),
        _field(
            "age",
            pa.int64(),
            "ns",
            "how long it has had about this heat (DAMON), since its generation began (lru_gen), at most idle (working "
            "set report); null: unknown, or longer than all others",
            nullable=True,
        ),
    ]
)
"""One row for each range of pages in each snapshot, sorted by snapshot."""

_SCHEMAS = {"accesses": ACCESSES, "heat": HEAT}
Bits = npt.NDArray[np.int8]
Pages = npt.NDArray[np.uint64]
Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Accesses:
    """Some accesses in order, all arrays of one length.

    ``page``: uint64. ``time``: int64, ns, or None if the source has no clock. ``write``: int8, 1, 0 or -1 for unknown.
    ``process``: int64, -1 for unknown. None: all unknown.
    """

    page: Pages
    time: Times | None = None
    write: Bits | None = None
    process: Times | None = None

    def batch(self, first: int) -> pa.RecordBatch:
        """These accesses as rows of a trace; ``first`` is the number of the first of them."""
        count = len(self.page)
        time = np.arange(first, first + count, dtype=np.int64) if self.time is None else self.time
        columns = [
            pa.array(time, pa.int64()),
            pa.array(self.page, pa.uint64()),
            pa.nulls(count, pa.bool_()) if self.write is None else _nullable(self.write, pa.bool_()),
            pa.nulls(count, pa.int64()) if self.process is None else _nullable(self.process, pa.int64()),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=ACCESSES)


def _nullable(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    unknown = values < 0
    plain = values > 0 if kind == pa.bool_() else values
    return pa.array(plain, kind, mask=unknown if unknown.any() else None)


@dataclass(frozen=True)
class Trace:
    """An imported trace, which is a Parquet file.

    ``path``: of the file. ``kind``: "accesses" or "heat". ``rows``: accesses, or ranges of pages. ``source``: the name
    of the file that it was imported from, ``format``: in which format. ``clock``: whether it has times; without,
    ``time`` numbers the accesses. ``pages_are_objects``: its pages are blocks or objects, which are taken as pages.
    ``notes``: what the source doesn't know, and what was made of that.
    """

    path: Path
    kind: str
    rows: int
    source: str
    format: str
    clock: bool
    pages_are_objects: bool
    notes: tuple[str, ...]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Trace:
        """The trace in a file, or of "builtin:NAME"; raises UserError if it is none."""
        place = find_program(str(path)) or Path(path)
        open_input(place).close()
        try:
            with pq.ParquetFile(place) as file:
                described = json.loads((file.metadata.metadata or {}).get(_MARK, b"{}"))
                if not described:
                    raise UserError(f"{place}: Parquet, but no trace of coldfleet: coldfleet trace import {place}")
                if described["version"] != _VERSION:
                    raise UserError(f"{place}: a trace of another version of coldfleet: import it again")
                if not file.schema_arrow.equals(_SCHEMAS[described["kind"]], check_metadata=False):
                    raise UserError(f"{place}: the columns are not those of a trace: import it again")
                rows = file.metadata.num_rows
            told = {name: described[name] for name in ("kind", "source", "format", "clock", "pages_are_objects")}
            return cls(path=place, rows=rows, notes=tuple(described["notes"]), **told)
        except UserError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{place}: not a trace: {error}") from None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in order, at most about a million at a time. Raises UserError."""
        try:
            with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
                for group in range(file.num_row_groups):  # iter_batches holds on to the groups that it has read
                    yield from file.read_row_group(group, use_threads=False).to_batches()
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self.path}: damaged: {error}") from None


def is_trace(path: Path) -> bool:
    """Whether a file says that it is an imported trace, sound or not."""
    try:
        with pq.ParquetFile(path) as file:
            return _MARK in (file.metadata.metadata or {})
    except (pa.ArrowException, OSError, ValueError):
        return False


class TraceWriter:
    """Writes a trace: the file gets its name when all of it is written, and never replaces another."""

    def __init__(self, path: Path, kind: str) -> None:
        check_new(path)
        self._path, self._kind = path, kind
        self._part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._file = self._part.open("xb")
        encodings = {"time": "DELTA_BINARY_PACKED", "page": "PLAIN"} if kind == "accesses" else None
        plain = {"use_dictionary": ["process"], "column_encoding": encodings} if encodings else {}
        self._writer = pq.ParquetWriter(
            self._file, _SCHEMAS[kind], compression="zstd", compression_level=1, write_page_checksum=True, **plain
        )
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds rows."""
        self._writer.write_batch(batch, row_group_size=_GROUP_ROWS)
        self.rows += batch.num_rows

    def finish(self, source: str, name: str, clock: bool, objects: bool, notes: tuple[str, ...]) -> Trace:
        """Gives the file its name, and returns what is in it; raises UserError if the name is taken by now."""
        described = {
            "version": _VERSION,
            "kind": self._kind,
            "source": source,
            "format": name,
            "clock": clock,
            "pages_are_objects": objects,
            "notes": notes,
        }
        self._writer.add_key_value_metadata({_MARK.decode(): json.dumps(described)})
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        try:
            os.link(self._part, self._path)  # fails if there is such a file, as rename doesn't
        except FileExistsError:
            check_new(self._path)
        except OSError as error:  # no hard links there
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            check_new(self._path)
            self._part.replace(self._path)
        return Trace(self._path, self._kind, self.rows, source, name, clock, objects, notes)

    def close(self) -> None:
        """Removes what isn't finished."""
        with suppress(OSError, pa.ArrowException):  # a full disk was said already
            if self._writer.is_open:
                self._writer.close()
        with suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)


def check_new(path: Path) -> None:
    """Raises UserError unless a new file can be made there."""
    if not path.name:
        raise UserError(f"{path}: not the name of a file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no directory {path.parent}")
    if os.path.lexists(path):
        raise UserError(f"{path} exists already: give another name, or remove it")
