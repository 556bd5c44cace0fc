"""coldfleet columns: what the columns of the result tables mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

if TYPE_CHECKING:
    import pyarrow as pa


def columns(
    table: Annotated[str | None, typer.Argument(help="A table, to see its columns.", metavar="[TABLE]")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """List the result tables, or the columns of one with their units and meanings.

    \b
    Examples:
      coldfleet columns
      coldfleet columns guests
      coldfleet columns cells --json
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.results.schemas import SORT_KEYS, schema
    from coldfleet.hostsim.spec.errors import UserError, nearest

    if table is not None and table not in SORT_KEYS:
        raise UserError(f"no table {table!r}{nearest(table, SORT_KEYS)}")
    schemas = {name: schema(name) for name in ([table] if table else SORT_KEYS)}
    if json:
        described = {name: _described(declared) for name, declared in schemas.items()}
        output.print_json(described[table] if table else described)
        return 0
    if table:
        shown = output.make_table("column", "type", "unit", "meaning")
        for column in _described(schemas[table])["columns"]:
            shown.add_row(column["name"], column["type"], column["unit"], column["meaning"])
    else:
        shown = output.make_table("table", "columns", "a row is", numbers=["columns"])
        for name, declared in schemas.items():
            shown.add_row(name, str(len(declared)), _described(declared)["meaning"])
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


def _described(declared: pa.Schema) -> _Table:
    from coldfleet.cluster.results.reference import arrow_name

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
    }
