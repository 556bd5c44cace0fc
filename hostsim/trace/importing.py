"""Imports a trace: which formats there are, how one is recognised, and the way from a file to Parquet."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from coldfleet.hostsim.spec.errors import UserError, nearest
from coldfleet.hostsim.trace.formats import block, columns, damon, lru_gen, page_idle, perf_script, text
from coldfleet.hostsim.trace.source import HEAD_BYTES, Source
from coldfleet.hostsim.trace.table import Accesses, Trace, TraceWriter, check_new, is_trace
from coldfleet.hostsim.trace.windows import MAX_WINDOW, Windows

_OBJECTS = "a block or object counts as one page, whatever its size"
_NO_WRITES = "reads and writes can't be told apart"
_NO_CLOCK = "there are no times: accesses are numbered instead"
_WINDOWS = "a page is kept once in each window of {:,} accesses: how often in it isn't known; times number all accesses"
_REGIONS = "DAMON doesn't know which pages of a region were accessed: its heat stands for every page of it"
_NO_ORDER = "the order of accesses within an interval is unknown, so there are no reuse distances"


@dataclass(frozen=True)
class Format:
    """A format that traces come in.

    ``kind``: "accesses" or "heat". ``says``: what it is. ``recognise``: whether the first 64 KiB, unpacked, look like
    it. ``notes``: what it doesn't know, and what is made of that.
    """

    name: str
    kind: str
    says: str
    recognise: Callable[[bytes], bool]
    notes: tuple[str, ...] = ()


FORMATS = {
    each.name: each
    for each in (
        Format("parquet", "accesses", "Parquet with a row for each access", lambda head: head[:4] == b"PAR1"),
        Format("damon", "heat", "damo's records and snapshots in JSON, or perf script of damon:damon_aggregated",
               damon.is_damon, (_REGIONS, _NO_ORDER)),
        Format("lru-gen", "heat", "/sys/kernel/debug/lru_gen, or a working set report", lru_gen.is_lru_gen,
               ("pages have an age and no address; snapshots have no times", _NO_ORDER)),
        Format("lackey", "accesses", "valgrind --tool=lackey --trace-mem=yes", text.is_lackey,
               (_NO_CLOCK, "an access that goes over the end of a page is one of both; a modify is one write")),
        Format("perf-script", "accesses", "perf script of memory samples or page faults", perf_script.is_perf_script,
               ("samples and faults are few of all accesses: a miss-ratio curve is that of the samples",)),
        Format("csv", "accesses", "columns by header or --column: time, page or address or obj_id, rw, process",
               text.is_csv),
        Format("txt", "accesses", "one page, block or object a line", text.is_txt,
               (_NO_CLOCK, _NO_WRITES, _OBJECTS)),
        Format("vscsi", "accesses", "SCSI requests of a VM, version 1 or 2", lambda head: block.vscsi_version(head) > 0,
               (_OBJECTS,)),
        Format("oracle-general", "accesses", "libCacheSim's oracleGeneral", block.is_oracle_general,
               (_NO_WRITES, _OBJECTS)),
        Format("page-idle", "heat", "/sys/kernel/mm/page_idle/bitmap, one file a snapshot", lambda head: False,
               ("a frame that isn't on an LRU list counts as not idle; snapshots have no times", _NO_ORDER)),
    )
}  # fmt: skip
"""By name; each is tried in this order. A bitmap looks like anything, so it must be named."""


@dataclass(frozen=True)
class ImportProgress:
    """How far an import is: bytes of the files that were read, of so many (0: unknown); rows that were written; seconds
    so far."""

    bytes_read: int
    bytes_total: int
    rows: int
    seconds: float


def import_trace(
    file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    time_unit: str = "s",
    window: int = 1,
    progress: Callable[[ImportProgress], None] | None = None,
) -> Trace:
    """Imports a trace, or a series of snapshots, into a new Parquet file, and returns it.

    ``file``: its path, or several that continue each other; they may be packed by gzip, zstd, xz, bzip2 or zlib.
    ``out``: the Parquet file, which must not exist; it gets its name when all of it is written. ``format``: one of
    docs/traces.md; without it the first file's content tells. ``columns``: of a csv or parquet, what a column is
    (time, page, address, obj_id, rw, process) and its name, or its number from 1 in a csv. ``time_unit``: of their
    times: s, ms, us or ns. ``window``: a page is kept once in each window of so many accesses, as one that writes if
    one of them does, and time is the number of the access. ``progress`` is called after each block of some megabytes.

    Memory stays below some 350 MB whatever the length; DAMON's JSON is read whole, at most 256 MiB of it.
    Raises UserError, before anything is written under the name, for what is no trace or breaks off, and for times
    that aren't in order.

        trace = coldfleet.import_trace("web.oracleGeneral.zst", "web.parquet")
        print(trace.rows, trace.notes)
    """
    files = [Path(file)] if isinstance(file, str | os.PathLike) else [Path(each) for each in file]
    place, named = Path(out), dict(columns or {})
    check_new(place)
    if not files:
        raise UserError("no file to import")
    if time_unit not in text.UNITS_NS:
        raise UserError(f"time_unit = {time_unit!r:.40}: one of {', '.join(text.UNITS_NS)}")
    check_window(window)
    with Source(files[0]) as first:
        chosen = _format(first, format, named)
    if named and chosen.name not in ("csv", "parquet"):
        raise UserError(f"{files[0]}: --column is for csv and parquet, and this is {chosen.name}")
    if window > 1 and chosen.kind == "heat":
        raise UserError(f"{files[0]}: --window is for accesses, and {chosen.name} has heat")
    source = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
    return _written(_Reading(files, chosen, named, time_unit, window, progress), place, source)


def import_pipe(
    pipe: BinaryIO,
    name: str,
    out: Path,
    window: int,
    progress: Callable[[ImportProgress], None] | None,
    ended: Callable[[], tuple[str, ...]],
) -> Trace:
    """Imports what lackey writes into a pipe; ``name``: of the source. Raises UserError as :func:`import_trace`.

    ``ended``: called at the end of the pipe, for what there is to note of the program.
    """
    reading = _Reading([Path(name)], FORMATS["lackey"], {}, "s", window, progress, pipe)
    return _written(reading, out, name, ended)


def check_window(window: int) -> None:
    """Raises UserError unless a window can have so many accesses."""
    if not isinstance(window, int) or isinstance(window, bool) or not 1 <= window <= MAX_WINDOW:
        raise UserError(f"window = {window!r:.40}: a number of accesses, 1 (all are kept) to {MAX_WINDOW:,}")


def _written(reading: _Reading, place: Path, source: str, ended: Callable[[], tuple[str, ...]] = tuple) -> Trace:
    writer = TraceWriter(place, reading.format.kind)
    try:
        for batch in reading.batches():
            writer.write(batch)
            reading.report(writer.rows)
        if not writer.rows:
            raise UserError(f"{source}: no {reading.format.kind} in it")
        notes = reading.notes() + ended()
        return writer.finish(source, reading.format.name, reading.clock, reading.objects, notes)
    except OSError as error:
        raise UserError(f"{error.filename or place}: {error.strerror or error}") from None
    finally:
        writer.close()


def _format(source: Source, name: str | None, columns: Mapping[str, str]) -> Format:
    head = source.head()
    if not head:
        raise UserError(f"{source.path}: empty")
    if name is not None and name not in FORMATS:
        raise UserError(f"format {name!r:.40}: there is none of that name{nearest(name, FORMATS)}")
    if head[:4] == b"PAR1" and is_trace(source.path):
        raise UserError(f"{source.path}: is imported already: coldfleet trace show {source.path}")
    if name is not None:
        return FORMATS[name]
    if columns and head[:4] != b"PAR1":
        return FORMATS["csv"]
    for each in FORMATS.values():
        if each.recognise(head):
            return each
    if b"populated memory" in head:
        raise UserError(f"{source.path}: the times of access_tracking_perf_test, not a trace: see coldfleet calibrate")
    known = ", ".join(FORMATS)
    raise UserError(f"{source.path}: no known format, or damaged at the begin: name it with --as, one of {known}")


class _Reading:
    """The files' rows, in order, and what was learnt of them on the way."""

    def __init__(
        self,
        files: Sequence[Path],
        chosen: Format,
        columns: Mapping[str, str],
        unit: str,
        window: int,
        progress: Callable[[ImportProgress], None] | None,
        pipe: BinaryIO | None = None,
    ) -> None:
        self._files, self.format, self._columns, self._unit = files, chosen, columns, unit
        self._window, self._pipe = window, pipe
        self._progress, self._start = progress, time.monotonic()
        self._read = self._count = 0
        self._last = -1
        self.clock = chosen.name == "damon" or window > 1
        self.objects = chosen.name in ("txt", "vscsi", "oracle-general")
        self._writes = self._threads = False

    def notes(self) -> tuple[str, ...]:
        """What the format doesn't know, and this file doesn't say."""
        found = list(self.format.notes)
        if self.format.name in ("csv", "parquet"):
            missing = ((self.clock, _NO_CLOCK), (self._writes, _NO_WRITES), (not self.objects, _OBJECTS))
            found += [says for known, says in missing if not known]
        if self._window > 1:
            found = [note for note in found if note != _NO_CLOCK] + [_WINDOWS.format(self._window)]
        if self._threads:
            found.append(
                "events have a thread and no process: all are taken as of one address space (-F comm,pid,tid,...)"
            )
        return tuple(found)

    def report(self, rows: int) -> None:
        """Tells who wants to know."""
        if self._progress is not None:
            total = 0 if self._pipe else sum(path.stat().st_size for path in self._files)
            self._progress(
                ImportProgress(min(self._read, total or self._read), total, rows, time.monotonic() - self._start)
            )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Rows of the trace."""
        if self.format.kind == "accesses":
            parts = self._parts()
            for part in Windows(self._window).shorten(parts) if self._window > 1 else parts:
                if len(part.page):
                    yield part.batch(self._count - len(part.page))
            return
        for number, path in enumerate(self._files):
            with Source(path, self._told) as source:
                if not source.head():
                    raise UserError(f"{path}: empty")
                yield from self._heat(source, number)

    def _parts(self) -> Iterator[Accesses]:
        """Accesses of all files, whose times are in order."""
        for path in self._files:
            with Source(path, self._told, self._pipe) as source:
                if not source.head():
                    raise UserError(f"{path}: empty")
                for part in self._accesses(source):
                    if len(part.page):
                        self._check(source, part)
                        yield part

    def _told(self, count: int) -> None:
        self._read += count

    def _heat(self, source: Source, number: int) -> Iterator[pa.RecordBatch]:
        if self.format.name == "page-idle":
            yield from page_idle.read_page_idle(source, number)
            return
        first = self._count
        for batch in damon.read_damon(source) if self.format.name == "damon" else lru_gen.read_lru_gen(source):
            snapshots = batch.column(0).to_numpy() + first
            self._count = int(snapshots[-1]) + 1
            yield batch.set_column(0, batch.schema.field(0), pa.array(snapshots))

    def _accesses(self, source: Source) -> Iterator[Accesses]:
        name = self.format.name
        if name == "csv":
            self.objects = text.has_objects(self._columns, source.head())
            return text.read_csv(source, self._columns, self._unit)
        if name == "parquet":
            self.objects = columns.has_objects(source, self._columns)
            return columns.read_parquet(source, self._columns, self._unit)
        readers = {
            "txt": text.read_txt,
            "lackey": text.read_lackey,
            "perf-script": perf_script.read_perf_script,
            "vscsi": block.read_vscsi,
            "oracle-general": block.read_oracle_general,
        }
        return readers[name](source)

    def _check(self, source: Source, accesses: Accesses) -> None:
        """Raises :class:`UserError` unless the times of these accesses are in order, and counts them."""
        if accesses.time is not None:
            self.clock = True
            back = np.flatnonzero(accesses.time[1:] < accesses.time[:-1]) + 1
            where = 0 if accesses.time[0] < self._last else int(back[0]) if len(back) else -1
            if where >= 0:
                number = self._count + where + 1
                raise UserError(f"{source.path}: access {number:,} is earlier than the one before it: sort by time")
            self._last = int(accesses.time[-1])
        self._writes = self._writes or accesses.write is not None
        if self.format.name == "perf-script" and accesses.process is not None:
            self._threads = self._threads or bool((accesses.process < 0).any())
        self._count += len(accesses.page)


__all__ = ["FORMATS", "HEAD_BYTES", "Format", "ImportProgress", "import_trace"]
