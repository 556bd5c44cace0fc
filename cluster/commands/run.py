"""coldfleet run: one cell of a study again, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coldfleet.cluster.commands.execution import Audit, CellAt

if TYPE_CHECKING:
    from coldfleet.cluster.results.parts import Rows


_NOTHING = object()  # no value of a column


def run(
    study: Annotated[str, typer.Argument(help="The study file, or a sweep's results.", metavar="STUDY.toml|DIR")],
    cell: Annotated[
        str, typer.Option(help="The cell's id: column cell_id of the results. Its beginning is enough.", metavar="ID")
    ] = "",
    at: CellAt = None,
    replicate: Annotated[int, typer.Option(min=0, help="Which replicate, from 0.")] = 0,
    audit: Audit = False,
    json: Annotated[bool, typer.Option("--json", help="Print the rows of all tables as JSON.")] = False,
) -> int:
    """Run one cell again, and print its rows.

    The cell is named by its id, or by what it has (--at). It runs in this process, without Ray. The rows are those that
    a sweep writes for this cell, bit for bit.

    \b
    Examples:
      coldfleet run configs/quickstart.toml --cell 872b28
      coldfleet run configs/quickstart.toml --at policy=was-fast --at nested_ratio=0.25
      coldfleet run results/quickstart --cell 872b28 --replicate 2 --json
    """
    import pyarrow as pa

    from coldfleet.cluster.answers.cell_choice import find_cell
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.commands.execution import settings
    from coldfleet.cluster.execution.compiling import compiling_is_said
    from coldfleet.cluster.execution.progress import say_on_stderr
    from coldfleet.cluster.execution.work import simulate_run
    from coldfleet.cluster.results.fleet_summary import FleetSummary
    from coldfleet.cluster.results.results import Results
    from coldfleet.cluster.study.plan import Run
    from coldfleet.cluster.study.reader import read_study
    from coldfleet.hostsim.spec.errors import UserError

    plan = read_study(Path(study)) if study.endswith(".toml") else Results.open(study).plan
    number = find_cell(plan, cell, settings(at))
    if replicate >= plan.replicates:
        raise UserError(f"replicate {replicate}: the study has 0 to {plan.replicates - 1}")
    chosen = plan.cell(number)
    with compiling_is_said(say_on_stderr):
        rows = simulate_run(Run(plan.index_of(chosen.cell_id, replicate), chosen, replicate), audit)
    if json:
        output.print_json(rows)
    else:
        _print(rows)
        lives = pa.Table.from_pylist(rows["lives"]) if rows["lives"] else pa.table({})
        if fleet := FleetSummary.of(lives, {chosen.cell_id: chosen.spec}):
            output.print_paragraph(f"\n{fleet.text}")
    return 0


def _print(rows: Rows) -> None:
    """The row of the cell, a line for each value, defaults and zeros last; and the main figures of each guest."""
    from rich.table import Table

    from coldfleet.cluster.commands import output
    from coldfleet.cluster.results.schemas import schema
    from coldfleet.cluster.stats.metrics import SUMMARY
    from coldfleet.cluster.study.model import column_of, walk_keys

    row = rows["cells"][0]
    usual = {column_of(path): field.default for path, field in walk_keys() if not field.is_required()}
    plain = [name for name, value in row.items() if value in (0, None, "") or usual.get(name, _NOTHING) == value]
    for title, names in (("", row.keys() - plain), ("defaults and zeros:", set(plain))):
        downwards = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        downwards.add_column()
        downwards.add_column(justify="right")
        downwards.add_column(style="dim")
        for field in (field for field in schema("cells") if field.name in names):
            value, unit = row[field.name], field.metadata[b"unit"].decode()
            downwards.add_row(field.name, f"{value:,}" if unit and isinstance(value, int) else str(value), unit)
        if title:
            output.print_text(f"\n{title}")
        output.print_rich(downwards)
    output.print_text("")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("host", "guest", "nested", *(metric.title for metric in SUMMARY)):
        table.add_column(title, justify="right")
    for row in rows["guests"]:
        figures = [f"{metric.value(row):,.6g}" for metric in SUMMARY]
        table.add_row(str(row["host"]), str(row["guest"]), "yes" if row["nested"] else "no", *figures)
    output.print_rich(table)
