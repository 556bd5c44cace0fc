"""The pictures of a report, by Altair (Vega-Lite): specifications that the page draws, and that become PNG and SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from coldfleet.cluster.report.best_policy import winners
from coldfleet.cluster.report.figures import Figures
from coldfleet.cluster.report.host import HostStory
from coldfleet.cluster.stats.metrics import Metric

_WIDTH, _HEIGHT = 330, 210
_MOST_BARS = 8
_MOST_NAMED = 8  # values of an axis, so that a name fits in each place of a map
_TIES = "a tie"


@dataclass(frozen=True)
class Picture:
    """A chart with its heading and a sentence that says how to read it. ``name``: of its file."""

    name: str
    heading: str
    says: str
    chart: Any


def pictures(figures: Figures, story: HostStory | None) -> Iterator[Picture]:
    """Every picture that the study has data for, the maps first."""
    numeric = [path for path, axis in figures.axes.items() if axis.numeric]
    policies = len(figures.axes["policy"].labels)
    if numeric and policies > 1:
        yield _metric_map(figures, numeric[0])
    if len(numeric) > 1 and policies > 1:
        yield _map(figures, numeric[0], numeric[1])
    for path in numeric:
        yield _curves(figures, path)
    if not numeric:
        yield _bars(figures, figures.metrics, "policies", "Policies", "Means per run.")
    for unit, name, heading in (("acquisitions", "locks", "Locks that aging took"), ("s", "time", "Where time goes")):
        busiest = _busiest(figures, unit)
        if busiest:
            yield _bars(figures, busiest, name, heading, f"Means per run, in {unit}.")
    if story is not None:
        yield _time_line(story)
        yield _ages(story)


def _policy_colour(figures: Figures, extra: Sequence[str] = ()) -> Any:
    names = [*map(str, figures.axes["policy"].labels), *extra]
    palette = ["#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#eeca3b", "#ff9da6", "#9d755d"]
    colours = [palette[number % len(palette)] for number in range(len(names) - len(extra))] + ["#9aa0a6"] * len(extra)
    return alt.Color(
        "policy:N", scale=alt.Scale(domain=names, range=colours), title=None, legend=alt.Legend(symbolOpacity=1)
    )


def _metric_map(figures: Figures, path: str) -> Picture:
    rows = [
        {**_winner(answer), "metric": metric.title, "x": at[path]}
        for metric in figures.metrics
        for at, answer in winners(figures, metric.key, [path])
    ]
    base = alt.Chart(alt.InlineData(values=rows), width=760, height=30 * len(figures.metrics)).encode(
        x=alt.X("x:O", title=path, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("metric:N", title=None, sort=[metric.title for metric in figures.metrics]),
        tooltip=["metric:N", alt.Tooltip("x:O", title=path), "best:N", "mean:N", "ties:N"],
    )
    places = base.mark_rect(stroke="currentColor", strokeOpacity=0.25).encode(color=_policy_colour(figures, [_TIES]))
    few = len(figures.axes[path].binned().labels) <= _MOST_NAMED
    chart = places + base.mark_text(color="white", fontSize=11).encode(text="said:N") if few else places
    says = "The policy with the least of each metric; grey: 95 % intervals don't tell the best ones apart."
    return Picture("map", f"Which policy wins, by {path}", says, chart)


def _map(figures: Figures, x: str, y: str) -> Picture:
    rows = [
        {**_winner(answer), "metric": metric.title, "x": at[x], "y": at[y]}
        for metric in figures.metrics
        for at, answer in winners(figures, metric.key, [x, y])
    ]
    one = (
        alt.Chart(width=240, height=200)
        .mark_rect(stroke="currentColor", strokeOpacity=0.15)
        .encode(
            x=alt.X("x:O", title=x, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("y:O", title=y, sort="descending", axis=alt.Axis(labelOverlap=True)),
            color=_policy_colour(figures, [_TIES]),
            tooltip=[alt.Tooltip("x:O", title=x), alt.Tooltip("y:O", title=y), "best:N", "mean:N", "ties:N"],
        )
    )
    facet = alt.Facet("metric:N", sort=[metric.title for metric in figures.metrics], title=None)
    chart = one.facet(facet, data=alt.InlineData(values=rows), columns=3)
    return Picture("map-of-two", f"Which policy wins, by {x} and {y}", "Grey: a tie within 95 % intervals.", chart)


def _winner(answer: Any) -> dict[str, str]:
    return {
        "policy": _TIES if answer.ties else answer.best,
        "said": f"a tie of {len(answer.ties) + 1}" if answer.ties else answer.best,
        "best": answer.best,
        "mean": str(answer.means[answer.best]),
        "ties": ", ".join(answer.ties) or "none",
    }


def _curves(figures: Figures, path: str) -> Picture:
    """Small multiples: each metric over a numeric axis, a line for each policy with its interval."""
    charts = []
    for metric in figures.metrics:
        rows = [
            {
                "policy": str(found.at["policy"]),
                "x": found.at[path],
                "mean": found.mean,
                "low": found.mean - (found.half_width or 0),
                "high": found.mean + (found.half_width or 0),
                "said": f"{found.mean:,.5g}" + ("" if found.half_width is None else f" ±{found.half_width:,.2g}"),
            }
            for found in figures.group_means(metric.key, ["policy", path])
        ]
        base = alt.Chart(alt.InlineData(values=rows), width=_WIDTH, height=_HEIGHT, title=_title(metric)).encode(
            x=alt.X("x:Q", title=path), color=_policy_colour(figures)
        )
        tooltip = ["policy:N", alt.Tooltip("x:Q", title=path), alt.Tooltip("said:N", title=metric.title)]
        low = alt.Y("low:Q", title=None, axis=alt.Axis(format="~s"), scale=alt.Scale(zero=False))
        charts.append(
            alt.layer(
                base.mark_area(opacity=0.2).encode(y=low, y2="high:Q"),
                base.mark_line().encode(y="mean:Q"),
                base.mark_point(filled=True, size=45).encode(y="mean:Q", tooltip=tooltip),
            )
        )
    chart = alt.concat(*charts, columns=3)
    says = "Means per run over all that else varies, with 95 % intervals from the replicates."
    return Picture(f"curves-{path.replace('.', '-')}", f"By {path}", says, chart)


def _title(metric: Metric) -> str:
    return f"{metric.title} ({metric.unit})" if metric.unit and metric.unit not in metric.title else metric.title


def _busiest(figures: Figures, unit: str) -> list[Metric]:
    """The details of a unit that have anything to show, the largest first."""
    sums = {metric: float(figures.values[metric.key].sum()) for metric in figures.details if metric.unit == unit}
    return sorted((metric for metric, value in sums.items() if value), key=lambda metric: -sums[metric])[:_MOST_BARS]


def _bars(figures: Figures, metrics: Sequence[Metric], name: str, heading: str, says: str) -> Picture:
    rows = [
        {
            "policy": str(found.at["policy"]),
            "what": metric.title,
            "mean": found.mean,
            "half": found.half_width or 0.0,
        }
        for metric in metrics
        for found in figures.group_means(metric.key, ["policy"])
    ]
    one = (
        alt.Chart(width=_WIDTH, height=alt.Step(18))
        .mark_bar()
        .encode(
            x=alt.X("mean:Q", title=None, axis=alt.Axis(format="~s", tickCount=5)),
            y=alt.Y("policy:N", title=None, sort=list(map(str, figures.axes["policy"].labels))),
            color=_policy_colour(figures).legend(None),
            tooltip=[
                "policy:N",
                "what:N",
                alt.Tooltip("mean:Q", format=",.5g"),
                alt.Tooltip("half:Q", title="±", format=",.2g"),
            ],
        )
    )
    order = [metric.title for metric in metrics]
    facet = alt.Facet("what:N", sort=order, title=None)
    chart = one.facet(facet, data=alt.InlineData(values=rows), columns=3).resolve_scale(x="independent")
    return Picture(name, heading, says, chart)


def _time_line(story: HostStory) -> Picture:
    rows = [
        {"tick": tick, "what": what, "count": count}
        for what, counts in story.by_tick.items()
        for tick, count in enumerate(counts)
    ]
    one = (
        alt.Chart(width=_WIDTH, height=110)
        .mark_area(line=True, opacity=0.35, interpolate="step-after", point={"size": 20})
        .encode(
            x=alt.X("tick:Q", title="tick"),
            y=alt.Y("count:Q", title=None, axis=alt.Axis(format="~s")),
            color=alt.Color("what:N", legend=None),
            tooltip=["what:N", "tick:Q", alt.Tooltip("count:Q", format=",")],
        )
    )
    facet = alt.Facet("what:N", sort=list(story.by_tick), title=None)
    chart = one.facet(facet, data=alt.InlineData(values=rows), columns=3).resolve_scale(y="independent")
    return Picture("time-line", "One host, tick by tick", f"{story.who}, all guests together.", chart)


def _ages(story: HostStory) -> Picture:
    names = {0: "youngest generation", 1: "second", 2: "third", 3: "oldest"}
    rows = [
        {"generation": names[generation], "age": age, "pages": pages}
        for generation, ages in story.ages.items()
        for age, pages in enumerate(ages)
        if pages
    ]
    one = (
        alt.Chart(width=_WIDTH, height=120)
        .mark_bar()
        .encode(
            x=alt.X("age:Q", title="ticks since the last touch", bin=alt.Bin(step=max(story.ticks // 40, 1))),
            y=alt.Y("sum(pages):Q", title="pages"),
            color=alt.Color("generation:N", sort=list(names.values()), legend=None),
            tooltip=["generation:N", alt.Tooltip("age:Q", bin=True), alt.Tooltip("sum(pages):Q", format=",")],
        )
    )
    facet = alt.Facet("generation:N", sort=list(names.values()), title=None)
    chart = one.facet(facet, data=alt.InlineData(values=rows), columns=2)
    says = f"{story.who}, at the end: how long ago pages were really touched, by the generation that they are in."
    return Picture("ages", "True ages, by generation", says, chart)


def styled(chart: Any, on_page: bool) -> Any:
    """The chart as it goes onto the page, where text has the page's colour, or into a file, on white."""
    ink = "currentColor" if on_page else "#1b1f24"
    return (
        chart.configure(background="transparent" if on_page else "white")
        .configure_axis(labelColor=ink, titleColor=ink, tickColor=ink, domainColor=ink, gridColor=ink, gridOpacity=0.12)
        .configure_legend(labelColor=ink, titleColor=ink)
        .configure_title(color=ink)
        .configure_header(labelColor=ink, titleColor=ink)
        .configure_view(stroke=None)
    )
