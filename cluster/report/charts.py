"""The pictures of a report, by Altair (Vega-Lite): panels that the page lays out, and that become one PNG or SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt

from coldfleet.cluster.answers.results_diff import ResultsDiff
from coldfleet.cluster.report import lessons, panels
from coldfleet.cluster.report.best_policy import winners
from coldfleet.cluster.report.epochs import Series
from coldfleet.cluster.report.figures import LATENCY, PRESSURE, Axis, Figures
from coldfleet.cluster.report.host import HostStory
from coldfleet.cluster.report.panels import Scaled
from coldfleet.cluster.stats.amounts import hour_text
from coldfleet.cluster.stats.metrics import Metric

_MOST_BARS = 9
_MOST_FACETS = 4  # values of a category that stand beside each other
_MAP_WIDTH = 760
_MEANS = "Means per run over all that else varies, with 95 % intervals from the replicates."


@dataclass(frozen=True)
class Picture:
    """Panels with a heading, what they teach (``says``) and how to read them. ``name``: of its file.

    ``columns``: panels in a row; ``policies``: they have the colours of policies.
    """

    name: str
    heading: str
    says: str
    how: str
    panels: tuple[Any, ...]
    columns: int = 3
    policies: bool = True


def pictures(
    figures: Figures, story: HostStory | None, epochs: Sequence[Series] = (), fleet: Sequence[Series] = ()
) -> Iterator[Picture]:
    """Every picture that the study has data for: maps, then one for each axis, then locks and times, then the ticks."""
    varied = [path for path, axis in figures.axes.items() if path != "policy" and len(axis.labels) > 1]
    varied.sort(key=lambda path: not figures.axes[path].numeric)
    compared = len(figures.axes["policy"].labels) > 1
    if varied and compared:
        yield _metric_map(figures, varied[0])
    if len(varied) > 1 and compared:
        yield _map(figures, varied[0], varied[1])
    for path in varied:
        yield _curves(figures, path) if figures.axes[path].numeric else _by_category(figures, path)
    if not varied:
        yield _bars(figures, figures.metrics, "policies", "Policies")
    for wanted, name, heading in (
        ([each for each in figures.details if each.unit == "acquisitions"], "locks", "Locks that aging took"),
        ([each for each in figures.details if each.unit == "s" and each.key not in (*PRESSURE, *LATENCY)], "time",
         "Where time goes"),
        ([each for each in figures.details if each.key in PRESSURE], "pressure", "Pressure stall information (PSI)"),
        ([each for each in figures.details if each.key in LATENCY], "latency", "How long a batch of accesses took"),
    ):  # fmt: skip
        if busiest := _busiest(figures, wanted):
            yield _bars(figures, busiest, name, heading)
    if fleet:
        yield _by_hour(figures, fleet)
    if epochs:
        yield _over_time(figures, epochs)
    if story is not None:
        yield _time_line(story)
        if story.by_guest:
            yield _guests(story)
        yield _ages(story)


def differences(found: ResultsDiff, figures: Figures) -> Picture:
    """By how much two results differ, for each policy: in percent of A, or in the metric's unit where A has none."""
    shown = []
    for metric in dict.fromkeys(each.metric for each in found.by_policy):
        mine = [each for each in found.by_policy if each.metric == metric]
        relative = all(each.share is not None for each in mine)
        rows = []
        for each in mine:
            mean, half = each.share if relative and each.share else each.difference
            rows.append(
                {"policy": str(each.setting["policy"]), "mean": mean, "low": mean - (half or 0),
                 "high": mean + (half or 0), "said": "equal" if each.equal else each.amount}
            )  # fmt: skip
        unit = "B less A, % of A" if relative else f"B less A, {metric.unit}"
        shown.append(panels.differences(rows, metric.title, unit, _policies(figures)))
    how = "Over the cells that both have, with 95 % intervals. An interval that reaches the line at 0 tells nothing."
    says = f"{found.overall[0].sentence[:1].upper()}{found.overall[0].sentence[1:]}."
    return Picture("differences", "B less A, by policy", says, how, tuple(shown))


def _policies(figures: Figures) -> list[str]:
    return [str(label) for label in figures.axes["policy"].labels]


def _metric_map(figures: Figures, path: str) -> Picture:
    axis = figures.axes[path].binned()
    columns = [axis.read(label) for label in axis.labels]
    places = {
        (axis.labels.index(at[path]), row): (metric.title, answer, Scaled.of(figures, metric))
        for row, metric in enumerate(figures.metrics)
        for at, answer in winners(figures, metric.key, [path])
    }
    rows = [Scaled.of(figures, metric).name for metric in figures.metrics]
    panel = panels.winners_map(places, columns, rows, (path, ""), _policies(figures), "", _MAP_WIDTH)
    how = "The policy with the least of each metric. Several in one place tie: 95 % intervals don't tell them apart."
    return Picture("map", f"Which policy wins, by {path}", lessons.where_each_wins(figures, path), how, (panel,), 1)


def _map(figures: Figures, x: str, y: str) -> Picture:
    across, down = figures.axes[x].binned(), figures.axes[y].binned()
    columns, rows = ([axis.read(label) for label in axis.labels] for axis in (across, down))
    shown = []
    for metric in figures.metrics:
        scaled = Scaled.of(figures, metric)
        places = {
            (across.labels.index(at[x]), len(rows) - 1 - down.labels.index(at[y])): (metric.title, answer, scaled)
            for at, answer in winners(figures, metric.key, [x, y])
        }
        shown.append(
            panels.winners_map(places, columns, rows[::-1], (x, y), _policies(figures), scaled.name, panels.WIDTH)
        )
    return Picture(
        "map-of-two",
        f"Which policy wins, by {x} and {y}",
        lessons.how_often_each_wins(figures, [x, y]),
        "A place has a strip of each policy that ties there.",
        tuple(shown),
    )


def _curves(figures: Figures, path: str) -> Picture:
    """Each metric over an axis of numbers; beside each other for the values of a category, if there is a small one."""
    axis = figures.axes[path].binned()
    facet = next(
        (other for other, each in figures.axes.items()
         if other not in ("policy", path) and not each.numeric and 1 < len(each.labels) <= _MOST_FACETS), None,
    )  # fmt: skip
    shown = []
    for metric in figures.metrics:
        by = ["policy", path, *([facet] if facet else [])]
        found = figures.group_means(metric.key, by)
        for label in figures.axes[facet].labels if facet else (None,):
            part = [each for each in found if facet is None or each.at[facet] == label]
            if part:
                named = f"{facet} = {label}" if facet else ""
                shown.append(panels.curves(part, axis, metric, _policies(figures), named, found))
    columns = len(figures.axes[facet].labels) if facet else 3
    how = _MEANS + (" Lines that lie upon each other take turns." if len(_policies(figures)) > 1 else "")
    return Picture(f"curves-{_dashed(path)}", f"By {path}", lessons.by_axis(figures, path), how, tuple(shown), columns)


def _by_category(figures: Figures, path: str) -> Picture:
    return _bars(figures, figures.metrics, f"by-{_dashed(path)}", f"By {path}", figures.axes[path])


def _dashed(path: str) -> str:
    return path.replace(".", "-")


def _busiest(figures: Figures, details: Sequence[Metric]) -> list[Metric]:
    """Those that have anything to show, the largest first."""
    sums = {metric: float(figures.values[metric.key].sum()) for metric in details}
    return sorted((metric for metric, value in sums.items() if value), key=lambda metric: -sums[metric])[:_MOST_BARS]


def _bars(figures: Figures, metrics: Sequence[Metric], name: str, heading: str, axis: Axis | None = None) -> Picture:
    by = ["policy"] if axis is None else ["policy", axis.path]
    shown = [panels.bars(figures.group_means(metric.key, by), axis, metric, _policies(figures)) for metric in metrics]
    says = lessons.least(figures, metrics[0]) if axis is None else lessons.by_axis(figures, axis.path)
    return Picture(name, heading, says, _MEANS, tuple(shown))


def _over_time(figures: Figures, epochs: Sequence[Series]) -> Picture:
    shown = tuple(panels.series(each.rows, each.title, _policies(figures)) for each in epochs)
    how = (
        "Means over the runs of each policy, with 95 % intervals from the replicates. What is counted is so for each "
        "tick since the point before; the first one has the start, too, in which all memory is touched."
    )
    return Picture("epochs", "Tick by tick", lessons.over_time(epochs[0]), how, shown)


def _by_hour(figures: Figures, fleet: Sequence[Series]) -> Picture:
    shown = tuple(panels.series(each.rows, each.title, _policies(figures), "hour of the run") for each in fleet)
    how = (
        "Means over the runs, with 95 % intervals from the replicates. No policy changes who lives where. "
        f"Hour 1 of the run is {hour_text(1)}; the last one ends with the run. "
        "What is counted in ticks that cross hours is spread over them evenly."
    )
    return Picture("fleet", "The fleet, hour by hour", lessons.busiest_hours(fleet), how, shown)


def _time_line(story: HostStory) -> Picture:
    shown = tuple(_line(title, counts) for title, counts in story.by_tick.items())
    how = f"{story.who}, all guests together. It is one run, so there are no intervals."
    return Picture("time-line", "One host, tick by tick", lessons.busiest_tick(story.by_tick), how, shown, 3, False)


def _guests(story: HostStory) -> Picture:
    shown = tuple(_line(f"{guest}: refaults", counts) for guest, counts in story.by_guest.items())
    how = f"{story.who}. It is one run, so there are no intervals."
    return Picture("guests", "The guests of that host", lessons.busiest_guest(story.by_guest), how, shown, 3, False)


def _line(title: str, counts: Sequence[int]) -> Any:
    rows = [
        {"x": tick, "mean": count, "low": count, "high": count, "said": f"{count:,}"}
        for tick, count in enumerate(counts)
    ]
    return panels.series(rows, title, ())


def _ages(story: HostStory) -> Picture:
    names = {0: "youngest generation", 1: "second", 2: "third", 3: "oldest"}
    shown = tuple(panels.histogram(ages, names[number], story.ticks) for number, ages in sorted(story.ages.items()))
    how = f"{story.who}, at the end: how long ago pages were really touched, by the generation that they are in."
    return Picture("ages", "True ages, by generation", lessons.wrongly_old(story.ages), how, shown, 2, False)


def specification(panel: Any) -> dict[str, Any]:
    """A panel as the page draws it: as wide as there is room, its text in the page's colour, without a legend."""
    return _finished(panel.properties(width="container"), "currentColor", "transparent", legend=False)


def save(picture: Picture, path: Path) -> None:
    """Writes a picture on white as .svg or .png, whichever the path names."""
    import vl_convert

    whole = picture.panels[0] if len(picture.panels) == 1 else alt.concat(*picture.panels, columns=picture.columns)
    spec = _finished(whole, "#1b1f24", "white", picture.policies)
    spec["title"] = {"text": picture.heading, "anchor": "start"}
    if path.suffix == ".svg":
        path.write_text(vl_convert.vegalite_to_svg(_on_white(spec)))
    else:
        path.write_bytes(vl_convert.vegalite_to_png(_on_white(spec), ppi=144))


def save_all(pictures: Iterable[Picture], folder: Path) -> list[Path]:
    """Writes every picture as SVG and PNG into a folder, and returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [(picture, folder / f"{picture.name}.{kind}") for picture in pictures for kind in ("svg", "png")]
    for picture, path in files:
        save(picture, path)
    return [path for _, path in files]


def _on_white(spec: Any) -> Any:
    """The same with black for the page's colour, which a file doesn't have."""
    if isinstance(spec, dict):
        return {key: _on_white(value) for key, value in spec.items()}
    if isinstance(spec, list):
        return [_on_white(value) for value in spec]
    return "#1b1f24" if spec == "currentColor" else spec


def _finished(chart: Any, ink: str, paper: str, legend: bool) -> dict[str, Any]:
    colours = {"labelColor": ink, "titleColor": ink}
    spec: dict[str, Any] = chart.to_dict(validate=False)  # validation is a tenth of a report, for us alone
    config = spec.setdefault("config", {})
    config["background"] = paper
    config["axis"] = {"domainColor": ink, "gridColor": ink, "gridOpacity": 0.12, **colours, "tickColor": ink}
    config["legend"] = {"disable": not legend, **colours, "orient": "bottom", "symbolOpacity": 1}
    config["title"] = {"anchor": "start", "color": ink, "fontSize": 12, "subtitleColor": ink}
    config["text"] = config["rule"] = {"color": ink}
    config["view"] = {**config.get("view", {}), "stroke": None}
    spec["params"] = [{"name": "shown", "value": ""}]
    return spec
