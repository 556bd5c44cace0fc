"""Amounts and times as people read them: a unit is chosen by the size, so that no small amount becomes 0.0 of it."""

from __future__ import annotations

from coldfleet.hostsim.spec.units import PAGE_BYTES

_MEMORY = ("B", "KiB", "MiB", "GiB", "TiB")
_NS = (("d", 86_400 * 10**9), ("h", 3600 * 10**9), ("min", 60 * 10**9), ("s", 10**9), ("ms", 10**6), ("us", 10**3))


def memory_text(pages: float) -> str:
    """A number of pages as memory, in three digits: 48,974 -> "191 MiB"."""
    return bytes_text(pages * PAGE_BYTES)


def bytes_text(size: float) -> str:
    """Bytes, in three digits: 1,310,720 -> "1.25 MiB"."""
    for unit in _MEMORY:
        if size < 1000 or unit == _MEMORY[-1]:
            return f"{size:.3g} {unit}" if size < 1000 else f"{size:,.0f} {unit}"
        size /= 1024
    raise AssertionError


def time_text(ns: float) -> str:
    """A time in three digits: 1,500,000,000 ns -> "1.5 s"."""
    for unit, size in _NS:
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"


def moment_text(ns: int) -> str:
    """When something is in a run, which starts at midnight before day 1: 38.29 h -> "day 2, 14:17"."""
    day, minute = divmod(ns // _NS[2][1], 24 * 60)
    return f"day {day + 1}, {minute // 60:02}:{minute % 60:02}"


def hour_text(hour: int) -> str:
    """An hour of a run, from 1: 38 -> "day 2, 13:00 to 14:00"."""
    day, since = divmod(hour - 1, 24)
    return f"day {day + 1}, {since:02}:00 to {since + 1:02}:00"


def duration(seconds: float) -> str:
    """How long something takes: 0.04 -> "40 ms", 42 -> "42 s", 90 -> "1 min 30 s", 7260 -> "2 h 1 min"."""
    whole = round(seconds)
    if seconds < 10:
        return time_text(float(f"{seconds:.2g}") * 1e9) if seconds else "0 s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
