"""The panels that pictures are made of: one small chart each, as an Altair specification.

A panel is one view, so that the page can make it as wide as there is room. Only policies have colours. The parameter
``shown`` of the finished chart names the policy that a reader points at: the others then fade.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import altair as alt

from coldfleet.cluster.report.best_policy import BestPolicy
from coldfleet.cluster.report.figures import Axis, Figures, GroupMean
from coldfleet.cluster.stats.metrics import Metric
from coldfleet.cluster.stats.statistics import Mean

WIDTH, HEIGHT = 300, 200
MOST_NAMED = 8  # values of an axis, so that a name fits in each place of a map
_BAR = 15  # pixels of a bar
_DASH = 8.0  # pixels of each curve's turn where several lie upon each other
_SAME = 0.006  # of a panel's height: curves that are no further apart can't be told apart
_MARKED = 0.6  # an axis begins at 0, unless the least value is so large a share of the largest
_PLAIN = "abs(datum.value) >= 1000 ? format(datum.value, '.3~s') : format(datum.value, '.4~g')"
_COLOURS = [
    "#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#eeca3b",
    "#ff9da6", "#9d755d", "#1b9e77", "#7570b3", "#a6761d", "#66a61e", "#88d27a",
    "#e7298a", "#439894", "#d6a5c9", "#83bcb6", "#d67195", "#79706e",
]  # fmt: skip
_SECONDS = ((1.0, "s"), (1e3, "ms"), (1e6, "µs"), (1e9, "ns"))


def colour_of(number: int) -> str:
    """The colour of the policy of that number."""
    return _COLOURS[number % len(_COLOURS)]


def text_on(colour: str) -> str:
    """Black or white, whichever stands out more from a colour (WCAG 2: relative luminance)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000" if luminance > 0.18 else "#fff"


class Scaled:
    """A metric in the unit in which its largest value reads plainly: 0.15 s are 150 ms, a share is percent."""

    def __init__(self, metric: Metric, largest: float) -> None:
        self.factor, self.unit = 1.0, ""
        if metric.unit == "s":
            fitting = (each for each in _SECONDS if largest * each[0] >= 1)
            self.factor, self.unit = next(fitting, _SECONDS[0])
        elif metric.unit == "share":
            self.factor, self.unit = 100.0, "%"
        self.name = metric.title.removesuffix(" s") if self.unit else metric.title
        self.title = f"{self.name} ({self.unit})" if self.unit else self.name

    @classmethod
    def of(cls, figures: Figures, metric: Metric) -> Scaled:
        """The unit for a metric of a study."""
        return cls(metric, float(figures.values[metric.key].max(initial=0)))

    def read(self, mean: float, half_width: float | None) -> str:
        """A mean and its interval as people read it."""
        half = None if half_width is None else half_width * self.factor
        return f"{Mean(mean * self.factor, half)} {self.unit}".strip()


def policy_colour(policies: Sequence[str]) -> Any:
    """The channel of colour, the same in every panel; it has a legend in files, the page brings its own."""
    scale = alt.Scale(domain=list(policies), range=[colour_of(number) for number in range(len(policies))])
    return alt.Color("policy:N", scale=scale, title=None)


def _fading(opacity: float) -> Any:
    expression = f"shown == '' || shown == datum.policy ? {opacity} : {opacity * 0.12:.3f}"
    return alt.OpacityValue(alt.ExprRef(expression))


def _panel(chart: Any, title: Any, height: int, width: int = WIDTH) -> Any:
    return chart.properties(title=title, width=width, height=height)


def _domain(low: float, high: float) -> tuple[list[float], bool]:
    """Where an axis of values begins and ends, and whether that is at 0."""
    if low <= 0 or low < _MARKED * high:
        return [min(low, 0.0), high or 1.0], True
    room = 0.05 * (high - low) or 0.05 * high
    return [low - room, high + room], False


def curves(means: Sequence[GroupMean], axis: Axis, metric: Metric, policies: Sequence[str], facet: str = "",
           domain_of: Sequence[GroupMean] = ()) -> Any:  # fmt: skip
    """A line for each policy over an axis of numbers, with its interval.

    Where lines lie upon each other each has its turn, so that all can be seen, and their points are rings.
    ``domain_of``: what else has to fit the axis of values, as panels beside each other share it.
    """
    ends = [(each.mean - (each.half_width or 0), each.mean + (each.half_width or 0)) for each in (*means, *domain_of)]
    scaled = Scaled(metric, max(high for _, high in ends))
    domain, from_zero = _domain(
        min(low for low, _ in ends) * scaled.factor, max(high for _, high in ends) * scaled.factor
    )
    divisor, unit = axis.scale
    at: dict[float, dict[str, GroupMean]] = {}
    for each in means:
        at.setdefault(float(each.at[axis.path]) / divisor, {})[str(each.at["policy"])] = each
    same = _SAME * (domain[1] - domain[0]) / scaled.factor
    bands, points, dashes = [], [], dict[str, list[float]]()
    for x, of_policy in at.items():
        for rank, size, name, others in _coincident({name: (each.mean,) for name, each in of_policy.items()}, same):
            found = of_policy[name]
            half = found.half_width
            points.append(
                {
                    "policy": name, "x": x, "mean": found.mean * scaled.factor, "size": 30 + 70 * (size - 1 - rank),
                    "said": scaled.read(found.mean, half), "where": axis.read(found.at[axis.path]),
                    "same": ", ".join(others) or "none",
                }
            )  # fmt: skip
            if half is not None:
                low, high = ((found.mean + sign * half) * scaled.factor for sign in (-1, 1))
                bands.append({"policy": name, "x": x, "low": low, "high": high})
    lines = []
    stations = list(at.items())
    for number, ((x, left), (next_x, right)) in enumerate(pairwise(stations)):
        both = {name: (left[name].mean, right[name].mean) for name in left if name in right}
        for rank, size, name, _ in _coincident(both, same):
            key = f"{rank}/{size}"
            dashes[key] = _turn(rank, size)
            for place, mean in ((x, both[name][0]), (next_x, both[name][1])):
                lines.append({"policy": name, "x": place, "mean": mean * scaled.factor, "part": number, "turn": key})
    points.sort(key=lambda point: -float(str(point["size"])))  # small rings upon large ones
    few: dict[str, Any] = {"values": list(at), "labelOverlap": "greedy"} if len(at) <= MOST_NAMED else {"tickCount": 6}
    x_axis = alt.X("x:Q", title=f"{axis.path} ({unit})" if unit else axis.path, scale=alt.Scale(zero=False, nice=False),
                   axis=alt.Axis(labelExpr=_PLAIN, grid=False, **few))  # fmt: skip
    scale = alt.Scale(domain=domain, nice=from_zero, zero=from_zero)
    y_axis = alt.Axis(labelExpr=_PLAIN, tickCount=5)
    colour = policy_colour(policies)
    layers = [
        alt.Chart(alt.InlineData(values=bands)).mark_area().encode(
            x=x_axis, y=alt.Y("low:Q", title=None, scale=scale, axis=y_axis), y2="high:Q", color=colour,
            opacity=_fading(0.18)),
        alt.Chart(alt.InlineData(values=lines)).mark_line(strokeWidth=2).encode(
            x=x_axis, y=alt.Y("mean:Q", title=None, scale=scale, axis=y_axis), color=colour, detail="part:N",
            opacity=_fading(1),
            strokeDash=alt.StrokeDash("turn:N", legend=None,
                                      scale=alt.Scale(domain=list(dashes), range=list(dashes.values())))),
        alt.Chart(alt.InlineData(values=points)).mark_point(filled=True).encode(
            x=x_axis, y=alt.Y("mean:Q", title=None, scale=scale, axis=y_axis), color=colour, opacity=_fading(1),
            size=alt.Size("size:Q", scale=None, legend=None),
            tooltip=["policy:N", alt.Tooltip("where:N", title=axis.path), alt.Tooltip("said:N", title=scaled.name),
                     alt.Tooltip("same:N", title="the same")]),
    ]  # fmt: skip
    marked = [text for text in (facet, "" if from_zero else "the axis does not begin at 0") if text]
    title = alt.TitleParams(scaled.title, subtitle=marked) if marked else scaled.title
    return _panel(alt.layer(*layers), title, HEIGHT)


def _coincident(values: Mapping[str, tuple[float, ...]], same: float) -> list[tuple[int, int, str, tuple[str, ...]]]:
    """Of each name: its rank among those with the same values, how many these are, itself, and the others."""
    groups: list[list[str]] = []
    for name, numbers in values.items():
        for group in groups:
            if all(abs(a - b) <= same for a, b in zip(values[group[0]], numbers, strict=True)):
                group.append(name)
                break
        else:
            groups.append([name])
    return [
        (rank, len(group), name, tuple(other for other in group if other != name))
        for group in groups
        for rank, name in enumerate(group)
    ]


def _turn(rank: int, size: int) -> list[float]:
    """The dashes of one of several lines upon each other: in every round each is visible once."""
    return [1.0, 0.0] if size == 1 else [0.0, rank * _DASH, _DASH, (size - 1 - rank) * _DASH]


def bars(means: Sequence[GroupMean], axis: Axis | None, metric: Metric, policies: Sequence[str]) -> Any:
    """A bar for each policy, at each value of an axis if there is one, from 0, with its interval and its value."""
    largest = max(each.mean + (each.half_width or 0) for each in means)
    scaled = Scaled(metric, largest)
    rows = [
        {
            "policy": str(each.at["policy"]),
            "at": axis.read(each.at[axis.path]) if axis else str(each.at["policy"]),
            "mean": each.mean * scaled.factor,
            "low": max(each.mean - (each.half_width or 0), 0) * scaled.factor,
            "high": (each.mean + (each.half_width or 0)) * scaled.factor,
            "said": scaled.read(each.mean, each.half_width),
        }
        for each in means
    ]
    order = [axis.read(label) for label in axis.labels] if axis else list(policies)
    across: dict[str, Any] = (
        {"yOffset": alt.YOffset("policy:N", sort=list(policies))} if axis and len(policies) > 1 else {}
    )
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y("at:N", title=axis.path if axis else None, sort=order, axis=alt.Axis(labelLimit=120)), **across
    )
    # half the axis is for the values beside the bars
    scale = alt.Scale(domain=[0, 1.5 * largest * scaled.factor or 1], nice=False)
    ticks = alt.Axis(labelExpr=_PLAIN, tickCount=4, grid=False)
    x = alt.X("mean:Q", title=None, scale=scale, axis=ticks)
    tooltip = ["policy:N", alt.Tooltip("said:N", title=scaled.name)]
    if axis:
        tooltip.insert(1, alt.Tooltip("at:N", title=axis.path))
    layers = [
        base.mark_bar().encode(x=x, color=policy_colour(policies), opacity=_fading(0.85), tooltip=tooltip),
        base.mark_rule(strokeWidth=1.5).encode(x=alt.X("low:Q", scale=scale), x2="high:Q", opacity=_fading(1)),
        base.mark_text(align="left", dx=4, fontSize=10).encode(x=alt.X("high:Q", scale=scale), text="said:N",
                                                               opacity=_fading(1)),
    ]  # fmt: skip
    groups = len({row["at"] for row in rows})
    bars_each = len(policies) if axis else 1
    return _panel(alt.layer(*layers), scaled.title, groups * (bars_each * _BAR + (8 if axis else 2)))


Place = tuple[int, int]  # of a map: column and row, from 0


def winners_map(places: Mapping[Place, tuple[str, BestPolicy, Scaled]], columns: Sequence[str], rows: Sequence[str],
                axes: tuple[str, str], policies: Sequence[str], title: str, width: int) -> Any:  # fmt: skip
    """Who wins where: each place has the colour of its winner; if several tie, a strip of each.

    ``places``: for each place the metric's title, the answer, and the metric's unit. Names are written where they fit.
    """
    named = len(columns) <= MOST_NAMED and width > WIDTH
    depth = [max((1 + len(found[1].ties) for (_, row), found in places.items() if row == number), default=1)
             for number in range(len(rows))]  # fmt: skip
    heights = [max(each, 2) if named else 2 for each in depth]
    tops = [sum(heights[:number]) for number in range(len(rows) + 1)]
    strips = []
    for (column, row), (what, answer, scaled) in places.items():
        members = [name for name in policies if name == answer.best or name in answer.ties]
        step = heights[row] / len(members)
        for number, name in enumerate(members):
            mean = answer.means[answer.best]
            strips.append(
                {
                    "policy": name, "x": column, "x2": column + 1, "y": tops[row] + number * step,
                    "y2": tops[row] + (number + 1) * step, "middle": column + 0.5,
                    "centre": tops[row] + (number + 0.5) * step, "at": columns[column], "row": rows[row],
                    "what": what, "wins": " = ".join(members), "said": scaled.read(*mean),
                    "ink": text_on(colour_of(policies.index(name))),
                }
            )  # fmt: skip
    edges = [{"x": c, "x2": c + 1, "y": tops[r], "y2": tops[r + 1]} for c, r in places]
    x_axis = alt.Axis(values=[number + 0.5 for number in range(len(columns))], grid=False, labelOverlap=True,
                      labelExpr=f"{json.dumps(list(columns))}[floor(datum.value)]", labelAngle=0,
                      ticks=False)  # fmt: skip
    centres = [(tops[number] + tops[number + 1]) / 2 for number in range(len(rows))]
    named_rows = json.dumps({f"{centre:g}": row for centre, row in zip(centres, rows, strict=True)})
    y_axis = alt.Axis(values=centres, grid=False, labelExpr=f"{named_rows}[toString(datum.value)]", ticks=False,
                      labelOverlap=not named)  # fmt: skip
    x_scale = alt.Scale(domain=[0, len(columns)], nice=False)
    y_scale = alt.Scale(domain=[0, tops[-1]], nice=False, reverse=True)
    x, y = alt.X("x:Q", title=axes[0], scale=x_scale, axis=x_axis), alt.Y("y:Q", title=axes[1] or None, scale=y_scale,
                                                                         axis=y_axis)  # fmt: skip
    tooltip = [alt.Tooltip("what:N", title="metric"), alt.Tooltip("at:N", title=axes[0])]
    if axes[1]:
        tooltip.append(alt.Tooltip("row:N", title=axes[1]))
    tooltip += [alt.Tooltip("wins:N", title="the least"), alt.Tooltip("said:N", title="mean")]
    base = alt.Chart(alt.InlineData(values=strips))
    layers = [
        base.mark_rect().encode(x=x, x2="x2:Q", y=y, y2="y2:Q", color=policy_colour(policies), opacity=_fading(1),
                                tooltip=tooltip),
        alt.Chart(alt.InlineData(values=edges)).mark_rect(fillOpacity=0, strokeWidth=2, stroke="currentColor").encode(
            x=x, x2="x2:Q", y=y, y2="y2:Q", opacity=alt.value(0.35)),
    ]  # fmt: skip
    if named:
        middle = alt.X("middle:Q", title=axes[0], scale=x_scale, axis=x_axis)
        centre = alt.Y("centre:Q", title=axes[1] or None, scale=y_scale, axis=y_axis)
        ink = alt.Color("ink:N", scale=None)
        layers.append(
            base.mark_text(fontSize=11).encode(x=middle, y=centre, text="policy:N", color=ink, opacity=_fading(1))
        )
    return _panel(alt.layer(*layers), title, 14 * tops[-1], width)


def series(rows: Sequence[Mapping[str, Any]], title: str, policies: Sequence[str], unit: str = "tick") -> Any:
    """A line for each policy over the ticks, or hours, with its interval: rows have policy, x, mean, low, high, said.

    Without ``policies`` it is one line in the colour of the text.
    """
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    domain, from_zero = _domain(low, high)
    base = alt.Chart(alt.InlineData(values=list(rows))).encode(
        x=alt.X("x:Q", title=unit, scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(tickMinStep=1, grid=False))
    )
    scale = alt.Scale(domain=domain, nice=from_zero, zero=from_zero)
    y = alt.Y("mean:Q", title=None, scale=scale, axis=alt.Axis(labelExpr=_PLAIN, tickCount=4))
    ink: dict[str, Any] = {"color": policy_colour(policies), "opacity": _fading(1)} if policies else {}
    mark: dict[str, Any] = {} if policies else {"color": "currentColor"}
    who = ["policy:N"] if policies else []
    tooltip = [alt.Tooltip("x:Q", title=unit), *who, alt.Tooltip("said:N", title=title)]
    layers = [
        base.mark_area(**mark).encode(
            y=alt.Y("low:Q", title=None, scale=scale), y2="high:Q",
            **{**ink, "opacity": _fading(0.18) if policies else alt.value(0.18)}),
        base.mark_line(strokeWidth=1.5, **mark).encode(y=y, **ink),
        base.mark_point(filled=True, size=22, **mark).encode(y=y, tooltip=tooltip, **ink),
    ]  # fmt: skip
    shown = title if from_zero else alt.TitleParams(title, subtitle=["the axis does not begin at 0"])
    return _panel(alt.layer(*layers), shown, 130)


def histogram(ages: Sequence[int], title: str, ticks: int) -> Any:
    """Pages by the ticks since their last touch, some ticks to a bar."""
    step = max(ticks // 40, 1)
    rows = [{"from": age, "to": age + step, "pages": sum(ages[age : age + step])} for age in range(0, len(ages), step)]
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_bar(color="currentColor", opacity=0.55)
        .encode(
            x=alt.X(
                "from:Q", bin="binned", title="ticks since the last touch", axis=alt.Axis(grid=False, tickMinStep=1)
            ),
            x2="to:Q",
            y=alt.Y("pages:Q", title="pages", axis=alt.Axis(labelExpr=_PLAIN, tickCount=4)),
            tooltip=[alt.Tooltip("from:Q", title="ticks"), alt.Tooltip("pages:Q", format=",")],
        )
    )
    return _panel(chart, title, 120)


def differences(rows: Sequence[Mapping[str, Any]], title: str, unit: str, policies: Sequence[str]) -> Any:
    """A point with its interval for each policy, beside a line at 0: rows have policy, mean, low, high and said."""
    base = alt.Chart(alt.InlineData(values=list(rows))).encode(
        y=alt.Y("policy:N", title=None, sort=list(policies), axis=alt.Axis(labelLimit=120))
    )
    most = max(max(abs(row["low"]), abs(row["high"])) for row in rows) or 1
    scale = alt.Scale(domain=[-1.1 * most, 1.1 * most], nice=False)
    axis = alt.Axis(labelExpr=_PLAIN, tickCount=5, grid=False)
    tooltip = ["policy:N", alt.Tooltip("said:N", title="B less A")]
    colour = policy_colour(policies)
    layers = [
        alt.Chart(alt.InlineData(values=[{"x": 0}])).mark_rule(strokeDash=[3, 3]).encode(
            x=alt.X("x:Q", title=unit, scale=scale, axis=axis)),
        base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=unit, scale=scale, axis=axis), x2="high:Q",
                                             color=colour, opacity=_fading(1)),
        base.mark_point(filled=True, size=70).encode(x=alt.X("mean:Q", title=unit, scale=scale, axis=axis),
                                                     color=colour, opacity=_fading(1), tooltip=tooltip),
    ]  # fmt: skip
    return _panel(alt.layer(*layers), title, 24 * len(policies))
