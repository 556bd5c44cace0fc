"""What an imported trace is like, as lines for a terminal: figures, bars, and maps in shades."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise

from coldfleet.cluster.stats.amounts import memory_text, time_text
from coldfleet.cluster.study.terminal import counted
from coldfleet.hostsim.spec.units import PAGE_BYTES
from coldfleet.hostsim.trace.heat import HeatSummary
from coldfleet.hostsim.trace.summary import RECENT_PAGES, Bin, TraceSummary
from coldfleet.hostsim.trace.table import Trace

_SHADES = " ░▒▓█"
_LEVELS = " ▁▂▃▄▅▆▇█"
_LABEL = 14  # columns before a bar or a row of a map


def trace_lines(
    trace: Trace, summary: TraceSummary | HeatSummary, width: int, sizes: Sequence[int] = ()
) -> Iterator[str]:
    """All of a summary, in lines of at most so many columns; ``sizes``: points of the curve that were asked for."""
    if isinstance(summary, TraceSummary):
        yield from _access_lines(trace, summary, width, sizes)
    else:
        yield from _heat_lines(trace, summary, width)
    for note in trace.notes:
        yield from _wrapped(f"note: {note}", width)


def _access_lines(trace: Trace, summary: TraceSummary, width: int, sizes: Sequence[int]) -> Iterator[str]:
    of = f" of {summary.processes:,} processes" if summary.processes > 1 else ""
    about = f" ±{summary.pages_error:,}" if summary.pages_error else ""
    length = f" in {time_text(summary.end - summary.start)}" if trace.clock else ""
    memory = f"{memory_text(summary.pages)}{', if each is a page of 4 KiB' if trace.pages_are_objects else ''}"
    text = f"{trace.source} ({trace.format}): {summary.accesses:,} access{'' if summary.accesses == 1 else 'es'}"
    yield from _wrapped(f"{text}{length}, {summary.pages:,}{about} distinct pages{of} ({memory})", width)
    known = summary.reads + summary.writes
    if known:
        unknown = f", {summary.unknown:,} unknown" if summary.unknown else ""
        share = f"{summary.reads / known:.1%} reads, {summary.writes / known:.1%} writes"
        yield from _wrapped(f"{share} ({summary.reads:,} and {summary.writes:,}{unknown})", width)
    sampled = f"exact up to {memory_text(RECENT_PAGES)}, then from a sample of the pages, ± half of a 99 % interval"
    exact = "exact" if summary.rate == 1 else sampled
    yield ""
    yield from _wrapped(f"miss ratio of an LRU by its size ({exact})", width)
    for point in summary.curve:
        if point.pages & (point.pages - 1) == 0 or point.pages in (summary.pages, *sizes):
            error = f" ±{point.error:.4f}" if point.error else ""
            label = f"{memory_text(point.pages):>{_LABEL}}"
            yield _bar(label, point.miss_ratio, f"{point.miss_ratio:.4f}{error}", width, 16)
    yield ""
    yield from _wrapped("reuse distance: distinct pages since the page's last access, itself included", width)
    yield from _histogram(summary.distances, summary.cold, summary.accesses, width)
    yield ""
    yield from _wrapped("inter-reference gap: accesses since the page's last access", width)
    yield from _histogram(summary.gaps, summary.cold, summary.accesses, width)
    yield ""
    most = max(summary.working)
    each = "time" if trace.clock and summary.end > summary.start else "accesses"
    yield from _wrapped(
        f"working set: distinct pages in each {1}/{len(summary.working)} of the {each}, at most {memory_text(most)}",
        width,
    )
    yield from _spark(summary.working, most, width)
    yield ""
    yield from _wrapped("accesses by page and window; rows have equally many distinct pages, gaps left out", width)
    yield from _map(summary.map_pages, summary.map, trace.pages_are_objects, width)


def _heat_lines(trace: Trace, summary: HeatSummary, width: int) -> Iterator[str]:
    length = "" if summary.start is None or summary.end is None else f" in {time_text(summary.end - summary.start)}"
    text = f"{trace.source} ({trace.format}): {counted(summary.snapshots, 'snapshot')}{length}"
    targets = f" of {counted(len(summary.targets), 'target')}" if summary.targets else ""
    watched = f"at most {summary.pages:,} pages ({memory_text(summary.pages)})"
    yield from _wrapped(f"{text}, {counted(summary.ranges, 'range')}{targets}, {watched}", width)
    if summary.mean_heat is not None:
        of = f" of {summary.most:g}" if summary.most is not None else ""
        yield from _wrapped(
            f"mean heat: {summary.mean_heat:.3f} checks{of} of an interval found a page accessed", width
        )
    if summary.hot is not None:
        yield ""
        yield from _wrapped(f"hot memory, by time: at most {memory_text(round(max(summary.hot)))}", width)
        yield from _spark(summary.hot, max(summary.hot), width)
    if summary.map:
        yield ""
        yield from _wrapped("mean heat by page and window; memory that was never watched is left out", width)
        yield from _map(summary.map_pages, summary.map, False, width)
    if summary.ages:
        yield ""
        yield "pages of the last snapshot, by age (up to)"
        total = sum(each.pages for each in summary.ages) or 1
        for each in summary.ages:
            age = "older, unknown" if each.age is None else time_text(each.age)
            label = f"{each.kind:<5}{age:>{_LABEL}}" if each.kind else f"{age:>{_LABEL}}"
            yield _bar(label, each.pages / total, memory_text(each.pages), width, 12)


def _wrapped(text: str, width: int) -> Iterator[str]:
    yield from textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)


def _bar(label: str, share: float, value: str, width: int, value_width: int) -> str:
    room = max(width - len(label) - value_width - 2, 1)
    eighths = round(min(max(share, 0), 1) * room * 8)
    bar = "█" * (eighths // 8) + "▏▎▍▌▋▊▉█"[eighths % 8 - 1] * bool(eighths % 8)
    return f"{label} {value:<{value_width}} {bar}".rstrip()


def _histogram(bins: Sequence[Bin], cold: int, accesses: int, width: int) -> Iterator[str]:
    for each in bins:
        share = each.accesses / accesses
        yield _bar(f"{f'up to {each.high:,}':>{_LABEL + 4}}", share, f"{share:.2%}", width, 8)
    yield _bar(f"{'first access':>{_LABEL + 4}}", cold / accesses, f"{cold / accesses:.2%}", width, 8)


def _columns(values: Sequence[float], width: int) -> list[float]:
    """As many values as fit: means of neighbours if there are more."""
    room = min(len(values), max(width - _LABEL - 1, 1))
    edges = [len(values) * number // room for number in range(room + 1)]
    return [sum(values[low:high]) / (high - low) for low, high in pairwise(edges)]


def _spark(values: Sequence[float], most: float, width: int) -> Iterator[str]:
    def level(value: float) -> str:
        step = round(value / most * (len(_LEVELS) - 1)) if most else 0
        return _LEVELS[max(step, 1) if value else 0]

    yield f"{'':{_LABEL}} {''.join(map(level, _columns(values, width)))}".rstrip()


def _map(pages: Sequence[int], rows: Sequence[Sequence[float]], objects: bool, width: int) -> Iterator[str]:
    """Shades by the share of the hottest cell, in steps of a factor of four."""
    shown = [_columns(row, width) for row in rows]
    most = max((max(row) for row in shown), default=0)

    def shade(value: float) -> str:
        steps = [value * 4**power >= most for power in range(3)]
        return _SHADES[len(_SHADES) - 1 - steps.index(True)] if any(steps) else _SHADES[1 if value else 0]

    for page, row in zip(pages, shown, strict=True):
        label = str(page) if objects else f"{page * PAGE_BYTES:x}"
        yield f"{label[-_LABEL:]:>{_LABEL}} {''.join(map(shade, row))}".rstrip()
