"""Ages of pages without their addresses: /sys/kernel/debug/lru_gen, and histograms of working set reports.

Several snapshots may stand one after the other in a file: a new one begins where a memcg's node comes again.
Sources: Documentation/admin-guide/mm/multigen_lru.rst; working set reports, Yuanchu Xie, 2024.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.units import PAGE_BYTES
from coldfleet.hostsim.trace.source import Source
from coldfleet.hostsim.trace.table import HEAT, MOST_PAGE

_MEMCG = re.compile(rb"memcg\s+(\d+)\s+(\S.*)")
_NODE = re.compile(rb"node\s+(\d{1,9})|N(\d{1,9})")
_GENERATION = re.compile(rb"(\d+)\s+(\d+)\s+(\d+)x?\s+(\d+)x?")
_TIERS = re.compile(rb"\d[\d\s]*[a-zA-Z][\w\s]*")
_BIN = re.compile(rb"(\d+)\s+anon=(\d+)\s+file=(\d+)")
_NEVER = 2**63 - 1  # the last bin of a histogram: older than all others
_MS = 10**6


def is_lru_gen(head: bytes) -> bool:
    """Whether the first line that says something is a memcg of lru_gen or a bin of a histogram."""
    first = next((line.strip() for line in head.split(b"\n")[:5] if line.strip()), b"")
    return bool(_MEMCG.fullmatch(first) or _BIN.fullmatch(first)) or (
        _NODE.fullmatch(first) is not None and _BIN.search(head) is not None
    )


def read_lru_gen(source: Source) -> Iterator[pa.RecordBatch]:
    """For each generation or bin of each memcg and node, the anonymous and the file pages and their age."""
    memcg, node, snapshot, number, last = "", "", 0, 0, -1
    seen: set[tuple[str, str]] = set()
    any_rows = False
    for block in source.lines():
        rows = []
        for line in block.splitlines():
            number += 1
            text = line.strip()
            if not text:
                continue
            if found := _MEMCG.fullmatch(text):
                memcg, node = found[2].decode(errors="replace")[:4096], ""
            elif found := _NODE.fullmatch(text):
                node = (found[1] or found[2]).decode()
                last = -1
                if (memcg, node) in seen:
                    snapshot += 1
                    seen.clear()
                seen.add((memcg, node))
            elif found := _GENERATION.fullmatch(text):
                generation, age, *pages = (int(each[:20]) for each in found.groups())
                if not seen or (last >= 0 and generation != last + 1):
                    raise UserError(f"{source.path}, line {number}: generations are not in order, or of no node")
                last = generation
                rows += _both(source, number, snapshot, memcg, node, age * _MS, pages)
            elif found := _BIN.fullmatch(text):
                age, *sizes = (int(each[:20]) for each in found.groups())
                if age <= last:
                    if node or memcg:
                        raise UserError(f"{source.path}, line {number}: bins are not in order of age")
                    snapshot += 1
                last = age
                pages = [size // PAGE_BYTES for size in sizes]
                rows += _both(source, number, snapshot, memcg, node, None if age == _NEVER else age * _MS, pages)
            elif not (seen and _TIERS.fullmatch(text)):  # of lru_gen_full: refaults and walks, which are no heat
                shown = text.decode(errors="replace")
                raise UserError(
                    f"{source.path}, line {number}: neither lru_gen nor a working set report: {shown!r:.80}"
                )
        if rows:
            any_rows = True
            yield pa.RecordBatch.from_pylist(rows, schema=HEAT)
    if not any_rows:
        raise UserError(f"{source.path}: no generation and no bin: is lru_gen enabled?")


def _both(
    source: Source, number: int, snapshot: int, memcg: str, node: str, age: int | None, pages: list[int]
) -> list[dict[str, object]]:
    if max(pages) >= MOST_PAGE or (age or 0) >= 1 << 63:
        raise UserError(f"{source.path}, line {number}: more than 2^52 pages, or older than 2^63 ns")
    target = " ".join(filter(None, (memcg, node and f"node {node}"))) or None
    return [
        {"snapshot": snapshot, "target": target, "kind": kind, "pages": count, "age": age}
        for kind, count in zip(("anon", "file"), pages, strict=True)
    ]
