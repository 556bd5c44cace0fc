"""coldfleet columns: what the columns of the result tables mean."""

from __future__ import annotations

from typing import Annotated, TypedDict

import typer


def columns(
    table: Annotated[str | None, typer.Argument(help="A table, to see its columns.", metavar="[TABLE]")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """List the result tables, or the columns of one with their units and meanings.

    After the columns of the files come the figures that have a name. Metrics of every command, SQL and Results.table in
    Python know both.

    \b
    Examples:
      coldfleet columns
      coldfleet columns guests
      coldfleet columns cells --json
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.results.schemas import SORT_KEYS
    from coldfleet.hostsim.spec.errors import UserError, nearest

    if table is not None and table not in SORT_KEYS:
        raise UserError(f"no table {table!r}{nearest(table, SORT_KEYS)}")
    described = {name: _described(name) for name in ([table] if table else SORT_KEYS)}
    if json:
        output.print_json(described[table] if table else described)
        return 0
    if table:
        shown = output.make_table("column", "type", "unit", "meaning")
        for column in described[table]["columns"]:
            shown.add_row(column["name"], column["type"], column["unit"], column["meaning"])
        for figure in described[table]["figures"]:
            shown.add_row(figure["name"], figure["type"], figure["unit"], f"a named figure: {figure['meaning']}")
    else:
        numbers = ("columns", "figures")
        shown = output.make_table("table", *numbers, "a row is", numbers=numbers)
        for name, each in described.items():
            shown.add_row(name, str(len(each["columns"])), str(len(each["figures"])), each["meaning"])
    output.print_rich(shown)
    return 0


class _Column(TypedDict):
    name: str
    type: str
    unit: str
    meaning: str


class _Table(TypedDict):
    meaning: str
    columns: list[_Column]
    figures: list[_Column]


def _described(name: str) -> _Table:
    from coldfleet.cluster.results.metrics import named_figures
    from coldfleet.cluster.results.reference import arrow_name
    from coldfleet.cluster.results.schemas import TABLES, schema

    declared = schema(name)
    figures = named_figures(name) if name in TABLES else {}
    return {
        "meaning": declared.metadata[b"table"].decode(),
        "columns": [
            {
                "name": column.name,
                "type": arrow_name(column.type),
                "unit": column.metadata[b"unit"].decode(),
                "meaning": column.metadata[b"description"].decode(),
            }
            for column in declared
        ],
        "figures": [
            {"name": key, "type": "double", "unit": metric.unit, "meaning": metric.formula}
            for key, metric in figures.items()
        ],
    }
