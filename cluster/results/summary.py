"""What a sweep found, in one table: by policy, nested ratio and whatever else the grid varies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from coldfleet.cluster.results import design_summary
from coldfleet.cluster.results.design_summary import DesignSummary, summarise_design
from coldfleet.cluster.results.fleet_summary import fleet_summary
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.stats.metrics import OOM_KILLS, SUMMARY
from coldfleet.cluster.stats.statistics import Mean, mean_interval
from coldfleet.cluster.study.model import column_of, quantity_at
from coldfleet.cluster.study.terminal import counted
from coldfleet.cluster.study.values import Scalar
from coldfleet.hostsim.spec.checks import check_argument

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_METRICS = (*SUMMARY, OOM_KILLS)
_KILLED = "*"  # marks a row of which a guest was killed
MOST_CELLS = 100  # more than anyone reads line by line


@dataclass(frozen=True)
class SummaryRow:
    """One cell: the values of its axes, the number of replicates that are done, and each metric's mean."""

    axes: Mapping[str, Scalar]
    replicates: int
    means: Mapping[str, Mean]


def summarise(results: Results) -> list[SummaryRow]:
    """The rows in the order of the plan, without cells of which nothing is done."""
    plan = results.plan
    columns = sorted({name for metric in _METRICS for name in metric.needs})
    table = results.table("cells", ["cell_id", *columns])
    values: dict[str, dict[str, list[float]]] = {}
    for row in table.to_pylist():
        of_cell = values.setdefault(row["cell_id"], {metric.key: [] for metric in _METRICS})
        for metric in _METRICS:
            of_cell[metric.key].append(metric.value(row))
    rows = []
    for number, cell_id in enumerate(plan.cell_ids):
        if cell_id in values:
            spec = plan.cell(number).spec
            axes = {path: spec.value(path) for path in ("policy", "nested_ratio", *plan.varied)}
            means = {key: mean_interval(numbers) for key, numbers in values[cell_id].items()}
            rows.append(SummaryRow(axes, len(values[cell_id]["refaults"]), means))
    return rows


def summary(results: Results) -> pa.Table:
    """The summary of ``results`` as a pyarrow table: a row for each cell that has some done, in the order of the plan.

    Columns: ``policy`` (string), ``nested_ratio`` (float64, 0..1) and whatever else the study varies, amounts in pages
    or ns, as in the table "cells"; ``replicates`` (int64), of which the figures are means; for each figure, a sum over
    the fleet, its mean (float64) and ``<figure>_ci95``, half its 95 % interval (float64; null for a single replicate).
    Figures: refaults (pages), missed_young and false_young (pages), notifier_calls (calls), mmu_lock_write
    (acquisitions), reclaim_cpu_s (s); the unit is in the column's metadata.

        print(coldfleet.summary(results).to_pandas())
    """
    check_argument("results", results, Results, "results: open them with coldfleet.Results.open")
    rows = summarise(results)
    paths = list(rows[0].axes) if rows else ["policy", "nested_ratio", *results.plan.varied]
    columns = {column_of(path): pa.array([row.axes[path] for row in rows]) for path in dict.fromkeys(paths)}
    fields = [pa.field(name, values.type) for name, values in columns.items()]
    columns["replicates"] = pa.array([row.replicates for row in rows], pa.int64())
    fields.append(pa.field("replicates", pa.int64(), metadata={"unit": "runs"}))
    for metric in SUMMARY:
        for name, part in ((metric.key, "mean"), (f"{metric.key}_ci95", "half_width")):
            columns[name] = pa.array([getattr(row.means[metric.key], part) for row in rows], pa.float64())
            fields.append(pa.field(name, pa.float64(), metadata={"unit": metric.unit}))
    return pa.table(columns, pa.schema(fields))


def design_of(results: Results) -> DesignSummary | None:
    """The summary of a design with more cells than anyone reads line by line; None: it has fewer, or none is done."""
    large = results.plan.cell_count > MOST_CELLS and results.status.done
    return summarise_design(results) if large else None


def as_json(results: Results) -> dict[str, Any]:
    """The summary as plain data; "design" is null where there are few cells."""
    plan, design, fleet = results.plan, design_of(results), fleet_summary(results)
    return {
        "study": plan.name,
        "title": plan.title,
        "directory": str(results.storage),
        "runs": len(plan),
        "done": results.status.done,
        "failed": [
            {"cell_id": receipt.cell_id, "replicate": receipt.replicate, "error": receipt.error}
            for receipt in results.failed
        ],
        "missing": len(results.missing),
        "design": design and design_summary.as_json(design),
        "fleet": fleet and asdict(fleet),
        "summary": [
            {
                **{column_of(path): value for path, value in row.axes.items()},
                "replicates": row.replicates,
                **{key: {"mean": mean.mean, "ci95": mean.half_width} for key, mean in row.means.items()},
            }
            for row in summarise(results)
        ],
    }


def as_table(results: Results) -> RenderableType:
    """The summary for a terminal: one table for each setting of the other axes, or two of a large design."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    if design := design_of(results):
        for caption, table in design_summary.as_tables(design):
            parts += [Text(f"\n{caption}", style="bold"), table]
        return Group(*parts, *_below(results), Text('\ntable "cells" has each of them (docs/results.md)'))
    rows = summarise(results)
    killed = any(row.means[OOM_KILLS.key].mean for row in rows)
    tables: dict[str, Table] = {}
    last: dict[str, Scalar] = {}
    for row in rows:
        others = {path: value for path, value in row.axes.items() if path not in ("policy", "nested_ratio")}
        caption = ", ".join(f"{path} = {as_read(path, value)}" for path, value in others.items())
        if caption not in tables:
            table = tables[caption] = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
            table.add_column("policy", no_wrap=True)
            table.add_column("nested", justify="right", no_wrap=True)
            for metric in SUMMARY:
                table.add_column(metric.title, justify="right")
            parts += [Text(f"\n{caption}", style="bold"), table] if caption else [table]
        policy, ratio = row.axes["policy"], row.axes["nested_ratio"]
        if last.get(caption) not in (None, policy):
            tables[caption].add_section()
        name = "" if last.get(caption) == policy else str(policy)
        last[caption] = policy
        mark = "" if not killed else _KILLED if row.means[OOM_KILLS.key].mean else " "
        tables[caption].add_row(name, f"{ratio:.3g}{mark}", *(row.means[metric.key].in_column for metric in SUMMARY))
    for table in tables.values():
        table.add_section()
    replicates = counted(results.plan.replicates, "replicate")
    footnote = Text(f"means over {replicates}, each the sum over the fleet, with 95 % intervals")
    return Group(*parts, *_below(results, f"; their rows have a {_KILLED}"), footnote)


def _below(results: Results, of_kills: str = "") -> list[Text]:
    from rich.text import Text

    kills = kills_line(results)
    lines = kills and kills + of_kills, fleet_line(results)
    return [Text(f"\n{line}", style="bold") for line in lines if line]


def fleet_line(results: Results) -> str:
    """A sentence about guests that come and go; empty: they don't."""
    found = fleet_summary(results)
    return found.text if found else ""


def kills_line(results: Results) -> str:
    """A sentence about the guests that the OOM killer killed in all runs; empty: it killed none."""
    kills = results.table("cells", ["oom_kills"])["oom_kills"].to_numpy()
    if not kills.sum():
        return ""
    return (
        f"memory ran out: the OOM killer killed {kills.sum():,} guests in {(kills > 0).sum():,} of {len(kills):,} runs "
        "(oom_kills, oom_tick and oom_reason); what a killed guest did not do is in no figure"
    )


def as_read(path: str, value: Scalar) -> str:
    """The value of a key as people read it."""
    quantity = quantity_at(path)
    return quantity.format(int(value)) if quantity else str(value)
