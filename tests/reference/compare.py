"""What a record says, what the model says, and where they differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .classic import ClassicHost
from .constants import ANON, MAX_NR_GENS
from .folio import Folio
from .host import ReferenceHost
from .schedule import fnv1a

COUNTERS = (
    "pgscan",
    "pgsteal",
    "pgrefill",
    "pgactivate",
    "workingset_refault_anon",
    "workingset_activate_anon",
    "workingset_restore_anon",
    "pgmajfault",
)
HEX_STATES = [f"{state:02x}".encode() for state in range(256)]
STAT_FLUSH_THRESHOLD = 64  # updates that memory.stat may miss, per CPU


@dataclass(frozen=True)
class Difference:
    step: int
    event: str
    round: int
    field: str
    model: Any
    kernel: Any

    def __str__(self) -> str:
        return f"step {self.step} {self.event} round {self.round}: {self.field} model {self.model} kernel {self.kernel}"

    def is_late_stat(self) -> bool:
        """The record may simply have been read before the statistics were flushed."""
        return self.field.startswith("st.") and 0 < self.model - self.kernel < STAT_FLUSH_THRESHOLD


def page_state(host: ReferenceHost, folio: Folio) -> bytes:
    """Two characters: swapped, never present, or the state byte in hex.

    The classic LRU leaves the generation field alone.
    """
    if not folio.present:
        return b".." if folio.swapped else b"__"
    return HEX_STATES[folio.state & ~7 if isinstance(host, ClassicHost) else folio.state]


def page_state_hash(host: ReferenceHost) -> str:
    return f"{fnv1a(b''.join(page_state(host, folio) for folio in host.folios)):016x}"


def residency_hash(host: ReferenceHost) -> str:
    return f"{fnv1a(2 if f.present else 0 if f.swapped else 1 for f in host.folios):016x}"


def observe(host: ReferenceHost, with_hashes: bool) -> dict[str, Any]:
    """The model's values of the fields that ``expect`` takes from a record."""
    lruvec = host.lruvec
    seen: dict[str, Any] = {"res": sum(f.present for f in host.folios)}
    if not isinstance(host, ClassicHost):
        seen["min"] = lruvec.min_seq[ANON]
        seen["max"] = lruvec.max_seq
        seen["lg"] = [
            [seq, max(lruvec.nr_pages[seq % MAX_NR_GENS][ANON], 0)]
            for seq in range(lruvec.min_seq[ANON], lruvec.max_seq + 1)
        ]
    if host.limit_pages is not None:
        seen["cur"] = host.charged
    for name in COUNTERS:
        seen[f"st.{name}"] = host.counters[name]
    if with_hashes:
        seen["pgh"] = page_state_hash(host)
        seen["resh"] = residency_hash(host)
    return seen


def expect(record: dict[str, Any]) -> dict[str, Any]:
    """The kernel's values."""
    seen = {name: record[name] for name in ("res", "min", "max", "cur", "pgh", "resh") if name in record}
    seen["lg"] = [[seq, anon] for seq, anon, _ in record["lg"]]
    for name in COUNTERS:
        seen[f"st.{name}"] = record["st"].get(name, 0)
    return seen


def compare(host: ReferenceHost, record: dict[str, Any], step: int) -> Iterator[Difference]:
    if isinstance(host, ClassicHost):
        host.flush_stats()  # the recorder has read memory.stat
    kernel = expect(record)
    for name, value in observe(host, with_hashes="pgh" in record).items():
        if name == "cur" and record["ev"] == "start":
            continue  # the model charges all early kernel memory when populate begins
        if value != kernel[name]:
            yield Difference(step, record["ev"], record["r"], name, value, kernel[name])
