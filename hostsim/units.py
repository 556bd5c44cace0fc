"""Amounts of memory: read from what people write, and printed for people.

Inside, memory is counted in pages of 4 KiB. Prefixes are binary, as in the kernel: ``"4k pages"`` is 4096.
"""

from __future__ import annotations

import difflib
import re
from fractions import Fraction

from hostsim.errors import UserError
from hostsim.model import PAGE_BYTES

_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_PAGES = {"page": 1, "pages": 1, "k pages": 1 << 10, "M pages": 1 << 20, "G pages": 1 << 30}
_DECIMAL = {"KB": "KiB", "MB": "MiB", "GB": "GiB", "TB": "TiB"}
_EXAMPLES = 'write for example "64 MiB", "2 GiB" or "16k pages"'


def parse_pages(value: str | int) -> int:
    """Reads an amount of memory as a number of 4 KiB pages.

    A text is a number and a unit: B, KiB, MiB, GiB, TiB, pages, k pages, M pages, G pages. An int is a number
    of pages. Raises :class:`UserError` for an unknown unit, a negative size, or part of a page.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserError(f"{value!r} is not an amount of memory: {_EXAMPLES}")
    if isinstance(value, int):
        if value < 0:
            raise UserError(f"{value} pages: a size can't be negative")
        return value
    match = re.fullmatch(r"\s*([+-]?)(\d+(?:\.\d+)?)\s*([A-Za-z ]*?)\s*", value)
    if match is None:
        raise UserError(f"{value!r} is not an amount of memory: {_EXAMPLES}")
    sign, number, unit = match.groups()
    if sign == "-":
        raise UserError(f"{value!r}: a size can't be negative")
    pages = Fraction(number) * _pages_in(" ".join(unit.split()), value)
    if pages.denominator != 1:
        raise UserError(f"{value!r} is not a whole number of {PAGE_BYTES}-byte pages")
    return int(pages)


def format_pages(pages: int) -> str:
    """The shortest exact text: 16384 -> "64 MiB", 3 -> "12 KiB"; :func:`parse_pages` reads it back."""
    size = pages * PAGE_BYTES
    for unit, unit_bytes in reversed(_BYTES.items()):
        if size and size % unit_bytes == 0:
            return f"{size // unit_bytes} {unit}"
    return "0 pages"


def _pages_in(unit: str, value: str) -> Fraction:
    if unit in _BYTES:
        return Fraction(_BYTES[unit], PAGE_BYTES)
    if unit in _PAGES:
        return Fraction(_PAGES[unit])
    if not unit:
        raise UserError(f"{value!r} has no unit: {_EXAMPLES}")
    known = [*_BYTES, *_PAGES]
    folded = {name.lower(): name for name in known}
    near = difflib.get_close_matches(unit.lower(), folded, n=1)
    meant = _DECIMAL.get(unit.upper()) or folded.get(near[0] if near else "")
    hint = f"did you mean {meant!r}?" if meant else "one of: " + ", ".join(known)
    raise UserError(f"{value!r}: unknown unit {unit!r}: {hint}")
