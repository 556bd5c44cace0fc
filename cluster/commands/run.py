"""coldfleet run: one cell of a study again, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coldfleet.cluster.commands.execution import Audit

if TYPE_CHECKING:
    from coldfleet.cluster.results.parts import Rows
    from coldfleet.cluster.study.plan import Plan


_NOTHING = object()  # no value of a column


def run(
    study: Annotated[str, typer.Argument(help="The study file, or a sweep's results.", metavar="STUDY.toml|DIR")],
    cell: Annotated[str, typer.Option(help="The cell's id: column cell_id of the results. Its beginning is enough.")],
    replicate: Annotated[int, typer.Option(min=0, help="Which replicate, from 0.")] = 0,
    audit: Audit = False,
    json: Annotated[bool, typer.Option("--json", help="Print the rows of all tables as JSON.")] = False,
) -> int:
    """Run one cell again, and print its rows.

    It runs in this process, without Ray. The rows are those that a sweep writes for this cell, bit for bit.

    \b
    Examples:
      coldfleet run configs/quickstart.toml --cell d866dd
      coldfleet run results/quickstart --cell d866dd --replicate 2 --json
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.execution.work import simulate_run
    from coldfleet.cluster.results.results import Results
    from coldfleet.cluster.study.plan import Run
    from coldfleet.cluster.study.reader import read_study
    from coldfleet.hostsim.spec.errors import UserError

    plan = read_study(Path(study)) if study.endswith(".toml") else Results.open(study).plan
    number = find_cell(plan, cell)
    if replicate >= plan.replicates:
        raise UserError(f"replicate {replicate}: the study has 0 to {plan.replicates - 1}")
    chosen = plan.cell(number)
    rows = simulate_run(Run(plan.index_of(chosen.cell_id, replicate), chosen, replicate), audit)
    if json:
        output.print_json(rows)
    else:
        _print(rows)
    return 0


def find_cell(plan: Plan, beginning: str) -> int:
    """The number of the cell whose id begins so; raises UserError if there isn't just one."""
    from coldfleet.hostsim.spec.errors import UserError

    found = [number for number, cell_id in enumerate(plan.cell_ids) if cell_id.startswith(beginning)]
    if not beginning or not found:
        example = plan.cell_ids[0]
        raise UserError(f"no cell {beginning!r} among the {plan.cell_count} of {plan.name}; the first is {example}")
    if len(found) > 1:
        raise UserError(f"{beginning!r} begins the ids of {len(found)} cells: give more characters")
    return found[0]


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
