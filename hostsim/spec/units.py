"""Amounts of memory and of time: read from what people write, and printed for people.

Inside, memory is counted in pages of 4 KiB and time in ns. Prefixes of memory are binary, as in the kernel:
``"4k pages"`` is 4096.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from coldfleet.hostsim.spec.errors import UserError

PAGE_BYTES = 4096  # bytes: an x86-64 base page
_LONGEST = 64  # characters of an amount


@dataclass(frozen=True)
class Quantity:
    """A kind of amount: a text with a unit outside, a whole number of ``unit`` inside.

    ``units``: what one of each is inside; ``printed``: those in which amounts are printed, the smallest first.
    ``slips``: units that people write, in capitals, and what they mean. ``whole``: what there is no part of.
    """

    name: str
    unit: str
    units: Mapping[str, Fraction]
    printed: tuple[str, ...]
    whole: str
    example: str
    examples: str
    slips: Mapping[str, str] = field(default_factory=dict)

    def parse(self, value: str | int) -> int:
        """Reads an amount: a text with a number and a unit, or an int, which has the unit inside.

        Raises :class:`UserError` for an unknown unit, a negative amount, or part of a whole.
        """
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise UserError(f"{value!r} is not {self.name}: {self.examples}")
        if isinstance(value, int):
            if value < 0:
                raise UserError(f"{value} {self.unit}: {self.name} can't be negative")
            return value
        shown = value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."
        match = re.fullmatch(r"([+-]?)([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z ]*)", shown.strip())
        if match is None or shown != value:
            raise UserError(f"{shown!r} is not {self.name}: {self.examples}")
        sign, number, unit = match.groups()
        if sign == "-":
            raise UserError(f"{value!r}: {self.name} can't be negative")
        amount = Fraction(number) * self._in_units(" ".join(unit.split()), value)
        if amount.denominator != 1:
            raise UserError(f"{value!r} is not a whole number of {self.whole}")
        return int(amount)

    def format_like(self, amount: float, other: str) -> str:
        """An amount for people, in the unit of another text: 2**18 pages like "64 MiB" -> "1024 MiB"."""
        unit = " ".join(other.strip(" +-.0123456789").split())
        return f"{amount / float(self.units[unit]):g} {unit}" if unit in self.units else self.format(int(amount))

    def format(self, amount: int) -> str:
        """The shortest exact text: 16384 pages -> "64 MiB", 3 -> "12 KiB"; :meth:`parse` reads it back."""
        for unit in reversed(self.printed):
            number = amount / self.units[unit]
            if amount and number.denominator == 1:
                return f"{number} {unit}"
        return f"0 {self.unit}"

    def _in_units(self, unit: str, value: str) -> Fraction:
        if unit in self.units:
            return self.units[unit]
        if not unit:
            raise UserError(f"{value!r} has no unit: {self.examples}")
        folded = {name.lower(): name for name in self.units}
        near = difflib.get_close_matches(unit.lower(), folded, n=1)
        meant = self.slips.get(unit.upper()) or folded.get(near[0] if near else "")
        hint = f"did you mean {meant!r}?" if meant else "one of: " + ", ".join(self.units)
        raise UserError(f"{value!r}: unknown unit {unit!r}: {hint}")


_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_PAGES = {"page": 1, "pages": 1, "k pages": 1 << 10, "M pages": 1 << 20, "G pages": 1 << 30}
_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "d": 24 * 3600 * 10**9}

MEMORY = Quantity(
    "an amount of memory",
    "pages",
    {
        **{unit: Fraction(size, PAGE_BYTES) for unit, size in _BYTES.items()},
        **{unit: Fraction(pages) for unit, pages in _PAGES.items()},
    },
    tuple(_BYTES),
    f"{PAGE_BYTES}-byte pages",
    "MiB",
    'write for example "64 MiB", "2 GiB" or "16k pages"',
    {"KB": "KiB", "MB": "MiB", "GB": "GiB", "TB": "TiB"},
)
TIME = Quantity(
    "a time",
    "ns",
    {unit: Fraction(ns) for unit, ns in _NS.items()},
    tuple(_NS),
    "ns",
    "ms",
    'write for example "250 ms", "1 us" or "5 min"',
    {"SEC": "s", "M": "min", "NSEC": "ns", "USEC": "us", "MSEC": "ms"},
)
QUANTITIES = {quantity.unit: quantity for quantity in (MEMORY, TIME)}


def whole_mib(pages: int) -> str:
    """Memory that holds so many pages, in whole MiB."""
    return f"{-(-pages // 256)} MiB"
