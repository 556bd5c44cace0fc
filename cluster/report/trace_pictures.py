"""Pictures of an imported trace, in the style of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import altair as alt

from coldfleet.cluster.report.charts import Picture, save_all
from coldfleet.hostsim.spec.units import PAGE_BYTES
from coldfleet.hostsim.trace.heat import HeatSummary
from coldfleet.hostsim.trace.summary import Bin, TraceSummary
from coldfleet.hostsim.trace.table import Trace

_WIDTH, _HEIGHT = 480, 220
_MIB = 1 << 20


def export_trace(trace: Trace, summary: TraceSummary | HeatSummary, folder: Path) -> list[Path]:
    """Writes every picture of a trace as SVG and PNG into a folder, and returns the files."""
    shown = _access_pictures(trace, summary) if isinstance(summary, TraceSummary) else _heat_pictures(summary)
    return save_all([replace(picture, heading=f"{trace.source}: {picture.heading}") for picture in shown], folder)


def _picture(name: str, heading: str, how: str, chart: alt.TopLevelMixin) -> Picture:
    return Picture(name, heading, "", how, (chart,), policies=False)


def _access_pictures(trace: Trace, summary: TraceSummary) -> Iterator[Picture]:
    points = [
        {"memory": point.pages * PAGE_BYTES / _MIB, "miss ratio": point.miss_ratio,
         "low": max(point.miss_ratio - point.error, 0), "high": min(point.miss_ratio + point.error, 1)}
        for point in summary.curve
    ]  # fmt: skip
    base = alt.Chart(alt.InlineData(values=points), width=_WIDTH, height=_HEIGHT).encode(
        x=alt.X("memory:Q", title="memory of an LRU (MiB)", scale=alt.Scale(type="log"), axis=alt.Axis(format="~g"))
    )
    scale = alt.Scale(domain=[0, 1])
    curve = base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", title="miss ratio", scale=scale), y2="high:Q")
    curve += base.mark_line(interpolate="step-after").encode(y=alt.Y("miss ratio:Q", scale=scale))
    says = "exact" if summary.rate == 1 else "with 99 % intervals where it is sampled"
    yield _picture("miss-ratio", "miss ratio by size", says, curve)
    yield _histogram("reuse-distance", "reuse distance", "distinct pages since the last access", summary.distances)
    yield _histogram("gap", "inter-reference gap", "accesses since the last one of the page", summary.gaps)
    each = "time" if trace.clock and summary.end > summary.start else "accesses"
    yield _by_window("working-set", "working set", f"windows of equal {each}", summary.working)
    yield _map("map", "accesses by page and window", "accesses", summary.map_pages, summary.map)


def _heat_pictures(summary: HeatSummary) -> Iterator[Picture]:
    if summary.hot is not None:
        yield _by_window("hot-memory", "memory found accessed", "snapshots, in windows", summary.hot)
    if summary.map:
        yield _map("map", "heat by page and window", "heat", summary.map_pages, summary.map)
    if summary.ages:
        order = sorted({each.age for each in summary.ages if each.age is not None})
        names = [*(f"{age / 1e9:g} s" for age in order), "older, unknown"]
        values = [
            {"age": "older, unknown" if each.age is None else f"{each.age / 1e9:g} s", "kind": each.kind or "pages",
             "memory": each.pages * PAGE_BYTES / _MIB}
            for each in summary.ages
        ]  # fmt: skip
        chart = (
            alt.Chart(alt.InlineData(values=values), width=_WIDTH, height=_HEIGHT)
            .mark_bar()
            .encode(
                x=alt.X("age:N", sort=names, title="age"),
                y=alt.Y("sum(memory):Q", title="MiB"),
                color=alt.Color("kind:N", title=None),
            )
        )
        yield _picture("ages", "ages of pages", "the last snapshot", chart)


def _histogram(name: str, heading: str, axis: str, bins: Sequence[Bin]) -> Picture:
    names = [f"{each.high:,}" for each in bins]
    values = [{"upto": name, "accesses": each.accesses} for name, each in zip(names, bins, strict=True)]
    chart = (
        alt.Chart(alt.InlineData(values=values), width=_WIDTH, height=_HEIGHT)
        .mark_bar()
        .encode(
            x=alt.X("upto:N", sort=names, title=f"{axis}, up to"),
            y=alt.Y("accesses:Q", axis=alt.Axis(format="~s")),
        )
    )
    return _picture(name, heading, axis, chart)


def _by_window(name: str, heading: str, axis: str, pages: Sequence[float]) -> Picture:
    values = [{"window": number, "memory": count * PAGE_BYTES / _MIB} for number, count in enumerate(pages)]
    chart = (
        alt.Chart(alt.InlineData(values=values), width=_WIDTH, height=_HEIGHT)
        .mark_area(line=True, opacity=0.35, interpolate="step-after")
        .encode(x=alt.X("window:Q", title=axis), y=alt.Y("memory:Q", title="MiB"))
    )
    return _picture(name, heading, axis, chart)


def _map(name: str, heading: str, what: str, pages: Sequence[int], rows: Sequence[Sequence[float]]) -> Picture:
    labels = [f"{number}: {page:#x}" for number, page in enumerate(pages)]
    values = [
        {"page": label, "window": window, what: count}
        for label, row in zip(labels, rows, strict=True)
        for window, count in enumerate(row)
        if count
    ]
    colour = alt.Color(f"{what}:Q", scale=alt.Scale(type="symlog", scheme="inferno", reverse=True))
    chart = (
        alt.Chart(alt.InlineData(values=values), width=_WIDTH, height=_HEIGHT)
        .mark_rect()
        .encode(
            x=alt.X("window:O", axis=alt.Axis(labels=False, ticks=False), title="windows"),
            y=alt.Y("page:N", sort=labels, title="first page of the row", axis=alt.Axis(labelFontSize=8)),
            color=colour,
        )
    )
    return _picture(name, heading, "rows have equally many pages", chart)
