"""coldfleet query: SQL over the results."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from coldfleet.cluster.commands.execution import Directory


def query(
    directory: Directory,
    sql: Annotated[str, typer.Argument(help="One SELECT. The tables are views: cells, hosts, guests.")],
    json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the rows as CSV.")] = False,
) -> int:
    """Query a sweep's results in SQL, and print the rows.

    DuckDB answers (pip install 'coldfleet[query]'). A query reads the tables and can't read or write anything else;
    `coldfleet columns` lists what they have.

    \b
    Examples:
      coldfleet query results/quickstart 'SELECT policy, avg(pgmajfault) FROM cells GROUP BY policy'
      coldfleet query results/quickstart 'SELECT * FROM guests WHERE nested LIMIT 5' --json
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.results.query import run_query
    from coldfleet.cluster.results.results import Results
    from coldfleet.hostsim.spec.errors import UserError

    if json and csv:
        raise UserError("--json or --csv: choose one")
    table = run_query(Results.open(directory), sql)
    if json:
        output.print_json([{name: _plain(value) for name, value in row.items()} for row in table.to_pylist()])
    elif csv:
        from pyarrow.csv import write_csv

        sys.stdout.flush()
        write_csv(table, sys.stdout.buffer)
    else:
        numbers = [field.name for field in table.schema if _is_number(field.type)]
        shown = output.make_table(*table.column_names, numbers=numbers)
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
            shown.add_row(*map(_for_people, row))
        output.print_rich(shown, 100)
    return 0


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _plain(value: Any) -> Any:
    """A value as JSON has it: DuckDB adds whole numbers up to decimals."""
    from decimal import Decimal
    from math import isfinite

    if isinstance(value, Decimal):
        return int(value) if value == int(value) else float(value)
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | None) else str(value)


def _for_people(value: Any) -> str:
    value = _plain(value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
