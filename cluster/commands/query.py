"""coldfleet query: SQL over the results."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldfleet.cluster.commands.execution import Directory

if TYPE_CHECKING:
    import pyarrow as pa

    from coldfleet.cluster.results.results import Results


def query(
    directory: Directory,
    sql: Annotated[str, typer.Argument(help="One SELECT over cells, hosts, guests, epochs, lives, fleet.")],
    json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON: NULL is null.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the rows as CSV.")] = False,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", help="Write the rows to this Parquet file.", metavar="FILE")
    ] = None,
) -> int:
    """Query a sweep's results in SQL, and print the rows.

    DuckDB answers (pip install 'coldfleet[query]'). A query reads the tables and can't read or write anything else;
    `coldfleet columns` lists what they have. NULL is null in JSON and nothing in CSV and tables; NaN and infinities,
    which JSON hasn't, are the texts "NaN", "Infinity" and "-Infinity" there, and nan, inf and -inf elsewhere.

    \b
    Examples:
      coldfleet query results/quickstart 'SELECT policy, avg(refaults) FROM cells GROUP BY policy'
      coldfleet query results/quickstart 'SELECT * FROM guests WHERE nested LIMIT 5' --json
      coldfleet query results/quickstart 'SELECT policy, refaults FROM cells' --parquet refaults.parquet
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.commands.execution import say_if_partial
    from coldfleet.cluster.execution.progress import say_on_stderr
    from coldfleet.cluster.results.query import empty_tables, run_query
    from coldfleet.cluster.results.results import Results
    from coldfleet.hostsim.spec.errors import UserError

    if json + csv + (parquet is not None) > 1:
        raise UserError("--json, --csv or --parquet: choose one")
    results = Results.open(directory)
    say_if_partial(results)
    if parquet:
        _check_place(parquet, results)
    table = run_query(results, sql)
    for line in empty_tables(results, sql):
        say_on_stderr(f"coldfleet: {line}")
    if parquet:
        _write_parquet(table, parquet)
    elif json:
        names = table.column_names
        output.print_json([dict(zip(names, map(_plain, row), strict=True)) for row in _rows(table)])
    elif csv:
        _write_csv(table)
    else:
        numbers = [field.name for field in table.schema if _is_number(field.type)]
        shown = output.make_table(*table.column_names, numbers=numbers)
        for row in _rows(table):
            shown.add_row(*map(_for_people, row))
        output.print_rich(shown)
    return 0


def _rows(table: pa.Table) -> list[tuple[Any, ...]]:
    """The rows as Python values; what Python has no value for, such as far dates, as text."""
    import pyarrow as pa

    def values(column: pa.ChunkedArray) -> list[Any]:
        try:
            return list(column.to_pylist())
        except (OverflowError, ValueError):
            return list(column.cast(pa.string()).to_pylist())

    return list(zip(*map(values, table.columns), strict=True))


def _check_place(path: Path, results: Results) -> None:
    """Refuses a place where no new file can be, and results: a query only reads them."""
    from coldfleet.hostsim.spec.errors import UserError

    why = ""
    if not path.name:
        why = "not the name of a file"
    elif path.is_symlink() or (path.exists() and not path.is_file()):
        why = "not a regular file: give the name of a new one"
    elif not path.parent.is_dir():
        why = f"there is no directory {path.parent}"
    elif results.storage.local is not None and path.resolve().is_relative_to(results.storage.local.resolve()):
        why = "in the results' own directory, which a query only reads: give another"
    if why:
        raise UserError(f"--parquet {path}: {why}")


def _write_parquet(table: pa.Table, path: Path) -> None:
    """The file gets its name once all of it is written."""
    import pyarrow.parquet as pq

    from coldfleet.cluster.study.terminal import counted, visible
    from coldfleet.hostsim.spec.errors import UserError

    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with part.open("xb") as file:
            pq.write_table(table, file, compression="zstd")
        part.replace(path)
    except OSError as error:
        raise UserError(f"--parquet {path}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
    print(visible(f"{counted(table.num_rows, 'row')} in {path}"), file=sys.stderr)


def _write_csv(table: pa.Table) -> None:
    """Comma-separated values on stdout: lists as JSON; texts that a spreadsheet would run as formulas begin with '."""
    import csv
    from json import dumps

    from coldfleet.cluster.study.terminal import visible

    def cell(value: Any) -> Any:
        value = _plain(value)
        if isinstance(value, list | dict):
            return dumps(value)
        if not isinstance(value, str):
            return {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value
        text = visible(value)
        return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text

    writer = csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(map(cell, table.column_names))
    writer.writerows([cell(value) for value in row] for row in _rows(table))


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _plain(value: Any) -> Any:
    """A value as JSON has it, but for NaN and infinities: DuckDB adds whole numbers up to decimals."""
    from decimal import Decimal

    if isinstance(value, Decimal):
        return int(value) if value.is_finite() and value == int(value) else float(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return value if isinstance(value, str | int | float | None) else str(value)


def _for_people(value: Any) -> str:
    value = _plain(value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
