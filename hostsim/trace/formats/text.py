"""Text with accesses in lines: csv, txt, and what valgrind's lackey writes with --trace-mem=yes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np

from coldfleet.hostsim.spec.errors import UserError, nearest
from coldfleet.hostsim.trace.scan import ADDRESS, OBJECT, PAGE, PROCESS, SKIP, TIME, WRITE, LineScanner
from coldfleet.hostsim.trace.source import Source
from coldfleet.hostsim.trace.table import Accesses

UNITS_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
NAMES = {
    "time": (TIME, "time timestamp ts"),
    "page": (PAGE, "page pfn gfn vpn"),
    "address": (ADDRESS, "address addr vaddr"),
    "obj_id": (OBJECT, "obj_id obj object id key lbn lba block"),
    "rw": (WRITE, "rw op write operation type"),
    "process": (PROCESS, "process pid"),
}
"""What a column may be, and the names in a header that say so."""

_DELIMITERS = (b",", b"\t", b";", b"|", b" ")


def is_csv(head: bytes) -> bool:
    """Whether there is a header that names a page."""
    names, _ = _header(_first_line(head))
    return len(names) > 1 and any(named(name) in ("page", "address", "obj_id") for name in names)


def is_txt(head: bytes) -> bool:
    """Whether the first lines are numbers."""
    lines = [line.strip() for line in head.split(b"\n")[:20] if line.strip() and not line.startswith(b"#")]
    return bool(lines) and all(re.fullmatch(rb"-?(0[xX][0-9a-fA-F]+|[0-9]+)", line) for line in lines[:-1] or lines)


def is_lackey(head: bytes) -> bool:
    """Whether one of the first lines is an access as lackey writes it."""
    return re.search(rb"^(I | [SLM]) [0-9a-f]+,\d+\r?$", head, re.M) is not None


def has_objects(columns: Mapping[str, str], head: bytes) -> bool:
    """Whether a csv has blocks or objects for pages."""
    return "obj_id" in columns or (not columns and "obj_id" in map(named, _header(_first_line(head))[0]))


def read_csv(source: Source, columns: Mapping[str, str], unit: str) -> Iterator[Accesses]:
    """Accesses in lines of columns, which a header or ``columns`` names: what a column is -> its name or number."""
    names, delimiter = _header(_first_line(source.head()))
    numbered = bool(columns) and all(place.isdigit() for place in columns.values())
    kinds = _kinds(source, names, columns)
    if kinds == [SKIP] or not {PAGE, ADDRESS, OBJECT} & set(kinds):
        known = ", ".join(NAMES)
        raise UserError(f"{source.path}: no column of pages: name it in the header or with --column (one of {known})")
    while kinds[-1] == SKIP and len(kinds) > 2:
        kinds.pop()
    skip_header = not numbered or not _is_data(names, kinds)
    scanner = LineScanner(source.path, int(skip_header))
    for block in source.lines():
        rest = block.partition(b"\n")[2] if skip_header else block
        skip_header = False
        found = scanner.fields(rest, delimiter, kinds, UNITS_NS[unit])
        yield Accesses(
            page=found[PAGE].astype(np.uint64),
            time=found[TIME] if TIME in kinds else None,
            write=found[WRITE].astype(np.int8) if WRITE in kinds else None,
            process=found[PROCESS] if PROCESS in kinds else None,
        )


def read_txt(source: Source) -> Iterator[Accesses]:
    """One page, block or object a line."""
    scanner = LineScanner(source.path)
    for block in source.lines():
        yield Accesses(scanner.fields(block, b" ", [OBJECT], 1)[PAGE].astype(np.uint64))


def read_lackey(source: Source) -> Iterator[Accesses]:
    """Loads, stores, modifies (which write) and instructions, by the page of their address."""
    scanner = LineScanner(source.path)
    for block in source.lines():
        found = scanner.lackey(block)
        yield Accesses(found[PAGE].astype(np.uint64), write=found[WRITE].astype(np.int8))


def _first_line(head: bytes) -> bytes:
    return head.partition(b"\n")[0].removeprefix(b"\xef\xbb\xbf")


def _header(line: bytes) -> tuple[list[str], bytes]:
    """The fields of the first line, and what is between them."""
    counts = {delimiter: line.strip().count(delimiter) for delimiter in _DELIMITERS}
    delimiter = max(counts, key=lambda each: (counts[each], -_DELIMITERS.index(each)))
    fields = line.strip().split(delimiter)
    return [field.decode(errors="replace").strip().strip('"').strip() for field in fields], delimiter


def named(name: str) -> str:
    """What a column of that name is, "" if the name doesn't say."""
    return next((what for what, (_, names) in NAMES.items() if name.lower() in names.split()), "")


def _kinds(source: Source, names: list[str], columns: Mapping[str, str]) -> list[int]:
    """What each column is."""
    if not columns:
        found = [named(name) for name in names]
        return [NAMES[what][0] if what and what not in found[:at] else SKIP for at, what in enumerate(found)]
    kinds = [SKIP] * len(names)
    for what, place in columns.items():
        if what not in NAMES:
            raise UserError(f"--column {what}={place}: there is no {what!r}{nearest(what, NAMES)}")
        if place.isdigit() and place not in names:
            number = int(place[:9])
            if not 1 <= number <= len(names):
                raise UserError(f"--column {what}={place}: {source.path} has columns 1 to {len(names)}")
            kinds[number - 1] = NAMES[what][0]
        elif place in names:
            kinds[names.index(place)] = NAMES[what][0]
        else:
            raise UserError(f"--column {what}={place}: {source.path} has no such column{nearest(place, names)}")
    return kinds


def _is_data(names: list[str], kinds: list[int]) -> bool:
    """Whether the first line is an access, not a header."""
    return all(name[:1].isdigit() for name, kind in zip(names, kinds, strict=False) if kind not in (SKIP, WRITE))
