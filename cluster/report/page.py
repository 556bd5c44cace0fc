"""The report: everything put into one HTML file, which opens from disk and asks no network for anything."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from coldfleet.cluster.answers.results_diff import ResultsDiff, diff_results, left_out, told
from coldfleet.cluster.report.best_policy import BestPolicy, best_policies
from coldfleet.cluster.report.charts import Picture, differences, pictures, save_all, specification
from coldfleet.cluster.report.epochs import read_epochs, read_fleet
from coldfleet.cluster.report.figures import Figures, merged, read_figures
from coldfleet.cluster.report.host import HostStory, watch_host
from coldfleet.cluster.report.panels import Scaled, colour_of
from coldfleet.cluster.results.design_summary import SHARES, DesignSummary, captions, effect_rows, quantile_rows
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.summary import design_of, fleet_line, kills_line
from coldfleet.cluster.results.versions import engine_digest
from coldfleet.cluster.stats.metrics import SUMMARY, Metric
from coldfleet.cluster.stats.statistics import grouped_means
from coldfleet.cluster.study.terminal import counted
from coldfleet.hostsim.spec.errors import UserError, nearest

_HERE = Path(__file__).parent
_LIBRARY = "window.vegaEmbed = vegaEmbed;"  # what the page's script needs of Vega-Lite
_MOST_WATCHED_S = 60.0  # a run that took longer is watched only if somebody asks for it


def read(results: Results, cell: int | None = None) -> tuple[Figures, list[Picture], HostStory | None, str]:
    """What a report shows: the figures, the pictures, one host's story, and why there is none if there is none.

    ``cell``: the number of the cell whose first host is watched; None: one of the policy with the fewest refaults,
    where most guests are nested. Raises :class:`UserError` if nothing is done, or if the cell that was asked for can't
    be watched.
    """
    figures = read_figures(results)
    if not len(figures.cells):
        raise UserError(f"{results.storage}: no run is done yet: coldfleet resume {results.storage}")
    try:
        story, why = _watch(results, figures, cell), ""
    except UserError as error:
        if cell is not None:
            raise
        story, why = None, str(error)
    over_time = read_epochs(results, figures), read_fleet(results, figures)
    return figures, list(pictures(figures, story, *over_time)), story, why


def page(results: Results, cell: int | None = None) -> str:
    """The report as HTML."""
    figures, shown, _, why = read(results, cell)
    plan = results.plan
    return _written(
        figures,
        shown,
        plan.cell_ids,
        title=plan.title or plan.name,
        description=plan.description,
        over="all settings",
        left_out={},
        differences=[],
        no_story=why,
        kills=kills_line(results),
        fleet=fleet_line(results),
        partial=results.partial,
        design=_tables_of(design_of(results)),
        facts=_provenance(results),
    )


def page_of_two(a: Results, b: Results) -> str:
    """The comparison of two results as HTML; raises UserError if no cell is done in both."""
    found = diff_results(a, b)
    if not found.overall:
        what = "no replicate that is done in all common cells" if found.cells else "no cell in common"
        raise UserError(f"{a.storage} and {b.storage} have {what}: `coldfleet diff` says what differs")
    sides = {"A": read_figures(a), "B": read_figures(b)}
    figures = _of_two(found, sides)
    shown = [differences(found, figures), *pictures(figures, None)]
    return _written(
        figures,
        shown,
        [*a.plan.cell_ids[: int(sides["A"].cells.max()) + 1], *b.plan.cell_ids],
        title=f"{a.plan.name} and {b.plan.name}",
        description="Two results: A and B. Where policies are compared, both count.",
        over=f"the {counted(len({setting[1:] for setting in found.cells}), 'setting')} that both have",
        left_out=left_out(found),
        differences=told(found),
        no_story="",
        kills="",
        fleet="",
        partial="; ".join(filter(None, (a.partial, b.partial))),
        design=[],
        facts=[(f"{side}: {name}", text) for side, each in (("A", a), ("B", b)) for name, text in _provenance(each)],
    )


def _tables_of(design: DesignSummary | None) -> list[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
    """The tables of a large design: caption, headings and rows of each."""
    if design is None:
        return []
    spread, effects = captions(design)
    figures = [metric.title for metric in SUMMARY]
    return [
        (spread, ("figure", "policy", *SHARES), quantile_rows(design)),
        (effects, ("axis", *figures), effect_rows(design)),
    ]


def _of_two(found: ResultsDiff, sides: dict[str, Figures]) -> Figures:
    settings = {
        side: {cells[number]: setting for setting, cells in found.cells.items()} for number, side in enumerate(sides)
    }
    return merged(sides, settings, found.paths)


def _written(figures: Figures, shown: list[Picture], cell_ids: list[str], **texts: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    best = best_policies(figures)
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("page.html").render(
        answers=[_in_words(figures, metric, best[metric.key]) for metric in figures.metrics],
        compared=len(figures.axes["policy"].labels) > 1,
        fair=int(figures.fair.sum()),
        runs=len(figures.cells),
        replicates=figures.replicates_of_settings,
        pictures=shown,
        charts=[[specification(panel) for panel in picture.panels] for picture in shown],
        policies=_legend(figures),
        metrics=[{"title": metric.title, "of": metric.formula} for metric in figures.metrics],
        cells=packed_cells(figures, cell_ids),
        script=(_HERE / "filter.js").read_text() + (_HERE / "page.js").read_text(),
        style=(_HERE / "page.css").read_text(),
        library=_library(),
        **texts,
    )


@cache
def _library() -> str:
    """What draws the charts. Making it takes a second."""
    import vl_convert

    return vl_convert.javascript_bundle(_LIBRARY).replace("</script", "<\\/script")


def export(results: Results, folder: Path, names: list[str], cell: int | None = None) -> list[Path]:
    """Writes the pictures of these names (none: all of them) as SVG and PNG, on white, and returns the files.

    Raises :class:`UserError` if there is no picture of a name.
    """
    shown = {picture.name: picture for picture in read(results, cell)[1]}
    for name in names:
        if name not in shown:
            raise UserError(f"no picture {name!r}{nearest(name, shown)}")
    return save_all([shown[name] for name in names or shown], folder)


def packed_cells(figures: Figures, cell_ids: list[str]) -> str:
    """The table of cells for the page's script: gzip in base64 of a line of JSON and the columns it names, as bytes.

    Axes are uint32 codes of their labels, metrics float32 means and half widths (NaN: one replicate).
    """
    present, first, group = np.unique(figures.cells, return_index=True, return_inverse=True)
    columns: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for path, axis in figures.axes.items():
        shown = [axis.read(label) for label in axis.labels]
        columns.append({"name": path, "labels": shown, "values": list(axis.labels), "unit": axis.amount})
        parts.append(axis.codes[first].astype("<u4").tobytes())
    for metric in figures.metrics:
        columns.append({"name": metric.title, "key": metric.key, "unit": metric.unit})
        parts += [
            part.astype("<f4").tobytes() for part in grouped_means(group, figures.values[metric.key], len(present))
        ]
    head = {"rows": len(present), "columns": columns, "ids": "".join(cell_ids[number] for number in present.tolist())}
    line = json.dumps(head, separators=(",", ":")).encode()
    line += b" " * (-(len(line) + 1) % 4) + b"\n"  # so that the columns begin at a multiple of four
    return base64.b64encode(gzip.compress(line + b"".join(parts), 6, mtime=0)).decode()


def _legend(figures: Figures) -> list[tuple[str, str]]:
    """Each policy with its colour."""
    return [(str(label), colour_of(number)) for number, label in enumerate(figures.axes["policy"].labels)]


def _watch(results: Results, figures: Figures, cell: int | None) -> HostStory:
    if cell is None:
        best = best_policies(figures)["refaults"].best
        policy, nested = figures.axes["policy"], figures.axes["nested_ratio"]
        mine = policy.codes == [str(label) for label in policy.labels].index(best)
        cell = int(figures.cells[mine][nested.codes[mine].argmax()])
        longest = results.status.wall_s / max(results.status.done, 1)
        if longest > _MOST_WATCHED_S:
            took = f"a run took {longest:.0f} s by the wall clock"
            raise UserError(f"{took}, so no host was simulated again: --observe CELL does it")
    done = figures.replicates[figures.cells == cell]
    if not len(done):
        raise UserError(f"cell {results.plan.cell_ids[cell]} isn't done: coldfleet resume {results.storage}")
    replicate = int(done.min())
    return watch_host(results, results.plan.run(results.plan.index_of(results.plan.cell_ids[cell], replicate)))


def _in_words(figures: Figures, metric: Metric, answer: BestPolicy) -> dict[str, Any]:
    scaled = Scaled.of(figures, metric)
    means = [(name, scaled.read(*mean)) for name, mean in answer.means.items()]
    return {"metric": scaled.name, "best": means[0], "ties": answer.ties, "worst": means[-1], "means": means}


def _provenance(results: Results) -> list[tuple[str, str]]:
    from coldfleet.hostsim.costs import constants

    head = json.loads(results.storage.read("study.json"))
    plan = results.plan
    same = head["engine"] == engine_digest()
    figures = {name: value for name, value in vars(constants).items() if name.endswith("_NS") and name[0] != "_"}
    calibration = ", ".join(f"{name.removesuffix('_NS').lower()} {value:g} ns" for name, value in figures.items())
    return [
        ("study", f"{plan.name}: {plan.size}"),
        ("runs", f"{results.status.done:,} done, {len(results.failed):,} failed, {len(results.missing):,} to do"),
        ("seed", f"{plan.seed}; every random number depends on it and on replicate, host, guest and tick"),
        ("varies", "; ".join(f"{path}: {_listed(plan.values(path))}" for path in plan.varied) or "nothing"),
        ("fixed", ", ".join(f"{path} = {value}" for path, value in plan.base.items())),
        ("where", " and ".join(plan.where) or "no constraints"),
        ("begun", str(head["created"])),
        ("versions", ", ".join(f"{name} {version}" for name, version in head["versions"].items() if version)),
        ("simulator", f"{head['engine']}" + ("" if same else f"; this report was made with {engine_digest()}")),
        (
            "calibration",
            calibration if same else "that of another version of the simulator (hostsim/costs/constants.py)",
        ),
        ("directory", str(results.storage)),
    ]


def _listed(values: tuple[Any, ...], most: int = 12) -> str:
    return ", ".join(map(str, values[:most])) + (f", ... ({len(values):,})" if len(values) > most else "")
