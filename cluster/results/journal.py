"""The journal: one line of JSON for each batch that came back, appended and never changed.

A line is a batch's receipt, so a torn last line loses a whole batch, never half of one. It ends in a checksum of
itself, so no changed bit passes. A run is done when the journal says so *and* the parts that its receipt names are
there with the hashes that it names.

On a local file system the journal is ``journal.jsonl``, which one sweep at a time may hold. Object stores can't
append: there each sweep has files of its own, ``journal-<id>-<n>.jsonl``, and rewrites the last of them, whole,
until it has :data:`SEGMENT_LINES` lines. So two sweeps can't spoil each other's receipts, only repeat work.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol
from uuid import uuid4

from coldfleet.cluster.results.schemas import RUN_TABLES, TABLES
from coldfleet.cluster.results.storage import Storage, create_here, open_here
from coldfleet.hostsim.spec.errors import UserError

SEGMENT_LINES = 64
_BUCKETS = 64 * 48  # of a histogram of latencies: hostsim.clock.latency.BUCKETS, which takes long to import
_LOCAL = "journal.jsonl"
JOURNAL_NAME = re.compile(r"journal(-[0-9a-f]+-\d+)?\.jsonl")
PART_NAME = re.compile(rf"({'|'.join(TABLES)})-\d+-[0-9a-f]+\.parquet")


@dataclass(frozen=True)
class PartReceipt:
    """A file in parts/ and the sha256 of its bytes. The name is checked, so a receipt can't lead anywhere else."""

    table: str
    name: str
    rows: int
    sha256: str

    def __post_init__(self) -> None:
        if not isinstance(self.table, str) or not isinstance(self.sha256, str) or not isinstance(self.rows, int):
            raise ValueError("a part's texts and numbers are not texts and numbers")
        if not PART_NAME.fullmatch(self.name) or not self.name.startswith(f"{self.table}-"):
            raise ValueError(f"{self.name!r} is not the name of a part")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


@dataclass(frozen=True)
class RunReceipt:
    """How one run ended: its rows in each table, the time it took, why it failed.

    ``status``: "done"; "shard": some of its hosts are; "merged": these made its row of cells; or "failed".
    """

    cell_id: str
    replicate: int
    status: str
    rows: dict[str, int] = field(default_factory=dict)
    wall_s: float = 0.0
    cpu_s: float = 0.0
    error: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for a receipt of no kind of run."""
        numbers = (self.replicate, self.wall_s, self.cpu_s, *self.rows.values())
        typed = all(isinstance(each, str) for each in (self.cell_id, self.error)) and isinstance(self.replicate, int)
        if not typed or not all(map(_is_number, numbers)):
            raise ValueError("a run's texts and numbers are not texts and numbers")
        held = {table: rows for table, rows in self.rows.items() if rows}
        possible = {
            "done": held.get("cells") == 1,
            "shard": "hosts" in held and not held.keys() & set(RUN_TABLES),
            "merged": held.get("cells") == 1 and held.keys() <= set(RUN_TABLES),
            "failed": True,
        }
        if not possible.get(self.status) or not set(self.rows) <= set(TABLES):
            raise ValueError(f"run {self.cell_id} {self.replicate} is {self.status!r}, with {self.rows} rows")


@dataclass(frozen=True)
class Shard:
    """Hosts ``first`` to ``end`` - 1 of a run that has ``of``, and the (bucket, count) of their latencies."""

    first: int
    end: int
    of: int
    latencies: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for hosts that can't be."""
        numbers = (self.first, self.end, self.of, *(number for pair in self.latencies for number in pair))
        if not all(type(number) is int for number in numbers) or not 0 <= self.first < self.end <= self.of:
            raise ValueError(f"hosts {self.first!r} to {self.end!r} of {self.of!r} are no shard of a run")
        if not all(0 <= bucket < _BUCKETS and 0 <= count < 1 << 63 for bucket, count in self.latencies):
            raise ValueError("its latencies can't be")


@dataclass(frozen=True)
class BatchReceipt:
    """Runs that were simulated together, and the parts that hold their rows.

    ``worker``: the machine and process that did it; ``rss_bytes``: the most memory that it has had so far. ``shard``:
    the hosts, if it is only some of those of its one run.
    """

    batch: str
    parts: tuple[PartReceipt, ...]
    runs: tuple[RunReceipt, ...]
    worker: str = ""
    rss_bytes: int = 0
    shard: Shard | None = None

    def _check(self) -> None:
        """Raises ValueError for a receipt that can't be: of no run, or whose parts don't hold what its runs wrote."""
        if not self.runs:
            raise ValueError("it names no run")
        numbers = (self.rss_bytes, *(part.rows for part in self.parts))
        if not isinstance(self.batch, str) or not isinstance(self.worker, str) or not all(map(_is_number, numbers)):
            raise ValueError("its texts and numbers are not texts and numbers")
        kinds = {run.status for run in self.runs}
        if (len(self.runs) > 1 and kinds & {"shard", "merged"}) or ("shard" in kinds) != (self.shard is not None):
            raise ValueError("it speaks of some hosts of a run, and not of these alone")
        if self.shard is not None and self.runs[0].rows["hosts"] != self.shard.end - self.shard.first:
            raise ValueError("it has not one row for each of its hosts")
        good = [run for run in self.runs if run.status != "failed"]
        promised = {table: sum(run.rows.get(table, 0) for run in good) for table in TABLES}
        held = {part.table: part.rows for part in self.parts}
        if len(held) < len(self.parts) or held != {table: rows for table, rows in promised.items() if rows}:
            raise ValueError("its parts don't hold the rows that its runs have")

    def as_line(self) -> bytes:
        """The receipt as a line of the journal: JSON whose last field is a checksum of all before it."""
        return signed_line(asdict(self))

    @classmethod
    def from_line(cls, line: bytes) -> BatchReceipt:
        """Reads :meth:`as_line`; raises ValueError if it is damaged in any bit, or says what can't be."""
        body, sep, end = line.rpartition(b',"sum":"')
        if not sep or end != _checksum(body) + b'"}\n':
            raise ValueError("its checksum is not that of its text")
        try:
            data = json.loads(line)
            parts = tuple(PartReceipt(**part) for part in data["parts"])
            runs = tuple(RunReceipt(**run) for run in data["runs"])
            shard = None if data["shard"] is None else _shard_of(**data["shard"])
            receipt = cls(data["batch"], parts, runs, data["worker"], data["rss_bytes"], shard)
            receipt._check()
            return receipt
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"it is not a receipt: {error!r}") from None


def _shard_of(first: int, end: int, of: int, latencies: list[list[int]]) -> Shard:
    return Shard(first, end, of, tuple((bucket, count) for bucket, count in latencies))


def signed_line(data: dict[str, Any]) -> bytes:
    """Plain data as a line of the journal."""
    body = json.dumps(data, separators=(",", ":")).encode()[:-1]
    return body + b',"sum":"' + _checksum(body) + b'"}\n'


def _checksum(body: bytes) -> bytes:
    """64 bits of the SHA-256 of a line's text, in hex."""
    return hashlib.sha256(body).hexdigest()[:16].encode()


@dataclass(frozen=True)
class DamagedLine:
    """A line of the journal that can't be trusted: ``number`` (from 1) of the file ``name``, and why."""

    name: str
    number: int
    why: str

    def __str__(self) -> str:
        return f"{self.name}:{self.number}: {self.why}"


class _Sink(Protocol):
    def append(self, line: bytes) -> None: ...

    def replace(self, lines: list[bytes]) -> None: ...

    def close(self) -> None: ...


class Journal:
    """A journal open for appending."""

    def __init__(self, storage: Storage) -> None:
        """Opens or makes it and cuts off a torn last line; raises :class:`UserError` if another sweep has it."""
        self._sink: _Sink = _Segments(storage) if storage.local is None else _File(storage.local)

    def append(self, receipt: BatchReceipt) -> None:
        """Writes a receipt to disk before it returns."""
        self._sink.append(receipt.as_line())

    def replace(self, receipts: list[BatchReceipt]) -> None:
        """Puts other receipts in the place of all that there are. A crash leaves the old ones, the new, or both."""
        self._sink.replace([receipt.as_line() for receipt in receipts])

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sink.close()


class _File:
    """A local file under a lock."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = os.fdopen(open_here(root, _LOCAL, os.O_RDWR | os.O_CREAT), "r+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UserError(f"{root}: another sweep is writing there: wait for it, or stop it") from None
        self._file.truncate(_whole_bytes(self._file))

    def append(self, line: bytes) -> None:
        size = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, "No space left on device", str(self._root / _LOCAL))
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(size)
            raise

    def replace(self, lines: list[bytes]) -> None:
        """The new file is locked before it has the journal's name, and is the one that is appended to from then on."""
        file = os.fdopen(create_here(self._root, f".{_LOCAL}.tmp"), "r+b", buffering=0)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(b"".join(lines))
        os.fsync(file.fileno())
        os.replace(self._root / f".{_LOCAL}.tmp", self._root / _LOCAL)
        self._file.close()
        self._file = file

    def close(self) -> None:
        self._file.close()


class _Segments:
    """Objects that are written whole."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._id = uuid4().hex[:12]
        self._number = 0
        self._lines: list[bytes] = []

    def append(self, line: bytes) -> None:
        if len(self._lines) == SEGMENT_LINES:
            self._lines.clear()
            self._number += 1
        self._lines.append(line)
        self._storage.write(f"journal-{self._id}-{self._number:06d}.jsonl", b"".join(self._lines))

    def replace(self, lines: list[bytes]) -> None:
        old = _files(self._storage)
        self._number += 1
        self._storage.write(f"journal-{self._id}-{self._number:06d}.jsonl", b"".join(lines))
        for name in old:
            self._storage.delete(name)
        self._number += 1  # what is appended from now on is a file of its own
        self._lines.clear()

    def close(self) -> None:
        pass


def scan_journal(storage: Storage) -> Iterator[BatchReceipt | DamagedLine]:
    """The receipts in order, and the lines that are none. A last line without end is being written, or was torn."""
    for name in _files(storage):
        for number, line in enumerate(storage.lines(name), 1):
            if not line.endswith(b"\n"):
                continue
            try:
                yield BatchReceipt.from_line(line)
            except ValueError as error:
                yield DamagedLine(name, number, str(error))


def read_journal(storage: Storage) -> Iterator[BatchReceipt]:
    """The receipts in order. Damaged lines are left out: what they spoke of isn't done."""
    return (receipt for receipt in scan_journal(storage) if isinstance(receipt, BatchReceipt))


def _files(storage: Storage) -> list[str]:
    return [name for name in storage.sizes() if JOURNAL_NAME.fullmatch(name)]


def _whole_bytes(file: BinaryIO) -> int:
    """The length of a file without a last line that has no end."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(end - (1 << 16), 0)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
