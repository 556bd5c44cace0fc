"""The journal: one line of JSON for each batch that came back, appended and never changed.

A line is a batch's receipt, so a torn last line loses a whole batch, never half of one. A run is done when the
journal says so *and* the parts that its receipt names are there with the hashes that it names.

On a local file system the journal is ``journal.jsonl``, which one sweep at a time may hold. Object stores can't
append: there each sweep has files of its own, ``journal-<id>-<n>.jsonl``, and rewrites the last of them, whole,
until it has :data:`SEGMENT_LINES` lines. So two sweeps can't spoil each other's receipts, only repeat work.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol
from uuid import uuid4

from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.results.storage import Storage
from coldfleet.hostsim.spec.errors import UserError

SEGMENT_LINES = 64
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
        if not PART_NAME.fullmatch(self.name) or not self.name.startswith(f"{self.table}-"):
            raise ValueError(f"{self.name!r} is not the name of a part")


@dataclass(frozen=True)
class RunReceipt:
    """How one run ended: "done" or "failed", its rows in each table, the time it took, why it failed."""

    cell_id: str
    replicate: int
    status: str
    rows: dict[str, int] = field(default_factory=dict)
    wall_s: float = 0.0
    cpu_s: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class BatchReceipt:
    """Runs that were simulated together, and the parts that hold their rows.

    ``worker``: the machine and process that did it; ``rss_bytes``: the most memory that it has had so far.
    """

    batch: str
    parts: tuple[PartReceipt, ...]
    runs: tuple[RunReceipt, ...]
    worker: str = ""
    rss_bytes: int = 0

    def as_line(self) -> bytes:
        """The receipt as a line of the journal."""
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> BatchReceipt:
        """Reads :meth:`as_line`; raises ValueError, KeyError or TypeError if it is damaged."""
        data = json.loads(line)
        parts = tuple(PartReceipt(**part) for part in data["parts"])
        return cls(
            data["batch"], parts, tuple(RunReceipt(**run) for run in data["runs"]), data["worker"], data["rss_bytes"]
        )


class _Sink(Protocol):
    def append(self, line: bytes) -> None: ...

    def replace(self, lines: list[bytes]) -> None: ...

    def close(self) -> None: ...


class Journal:
    """A journal open for appending."""

    def __init__(self, storage: Storage) -> None:
        """Opens or makes it and cuts off a torn last line; raises :class:`UserError` if another sweep has it."""
        self._sink: _Sink = _Segments(storage) if storage.local is None else _File(storage.local / "journal.jsonl")

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

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115  # closed by close()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UserError(f"{path.parent}: another sweep is writing there: wait for it, or stop it") from None
        self._file.truncate(_whole_bytes(path))

    def append(self, line: bytes) -> None:
        size = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) != len(line):
                raise OSError(28, "No space left on device", str(self._path))
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(size)
            raise

    def replace(self, lines: list[bytes]) -> None:
        beside = self._path.with_name(f".{self._path.name}.tmp")
        with open(beside, "wb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self._path)

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

    def close(self) -> None:
        pass


def read_journal(storage: Storage) -> Iterator[BatchReceipt]:
    """The receipts in order. Lines that can't be read are left out: what they spoke of isn't done."""
    for name in _files(storage):
        for line in storage.lines(name):
            try:
                yield BatchReceipt.from_line(line)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue


def _files(storage: Storage) -> list[str]:
    return [name for name in storage.sizes() if JOURNAL_NAME.fullmatch(name)]


def _whole_bytes(path: Path) -> int:
    """The length of a file without a last line that has no end."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(end - (1 << 16), 0)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0
