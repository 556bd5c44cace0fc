"""The journal: one line of JSON for each batch that came back, appended and never changed.

A line is a batch's receipt, so a torn last line loses a whole batch, never half of one. A run is done when the
journal says so *and* the parts that it names are there with the hashes that it names.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType

from hostsim.errors import UserError


@dataclass(frozen=True)
class PartReceipt:
    """A file in parts/ and the sha256 of its bytes."""

    table: str
    name: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class RunReceipt:
    """How one run ended: status "done" or "failed", its rows in each table, how long it took, why it failed."""

    cell_id: str
    replicate: int
    status: str
    rows: dict[str, int] = field(default_factory=dict)
    wall_s: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class BatchReceipt:
    """Runs that were simulated together, and the parts that hold their rows."""

    batch: str
    parts: tuple[PartReceipt, ...]
    runs: tuple[RunReceipt, ...]


class Journal:
    """A journal open for appending, by one process at a time."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file and cuts off a torn last line; raises :class:`UserError` if another sweep has it."""
        self._file = open(path, "a+b")  # noqa: SIM115  # closed by __exit__
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UserError(f"{path.parent}: another sweep is writing there") from None
        self._file.truncate(_whole_bytes(path))

    def append(self, receipt: BatchReceipt) -> None:
        """Writes a receipt to disk before it returns."""
        line = json.dumps(asdict(receipt), separators=(",", ":"))
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_journal(path: Path) -> Iterator[BatchReceipt]:
    """The receipts in order. Lines that can't be read are left out: what they spoke of isn't done."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        for line in file:
            try:
                data = json.loads(line)
                yield BatchReceipt(
                    data["batch"],
                    tuple(PartReceipt(**part) for part in data["parts"]),
                    tuple(RunReceipt(**run) for run in data["runs"]),
                )
            except (ValueError, KeyError, TypeError):
                continue


def _whole_bytes(path: Path) -> int:
    content = path.read_bytes()
    return content.rfind(b"\n") + 1
