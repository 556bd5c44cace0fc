"""SQL over the tables of a sweep, by DuckDB. A query sees the tables and nothing else: no files, no network."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES, schema
from coldfleet.cluster.stats.metrics import DERIVED, SUMMARY
from coldfleet.cluster.study.model import column_of
from coldfleet.hostsim.spec.checks import check_argument
from coldfleet.hostsim.spec.errors import UserError, nearest

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = "{}_rows"  # a table as it is in the files
_UNKNOWN = (
    ("column", re.compile(r'column (?:named )?"([^"]+)"')),
    ("table", re.compile(r"Table with name (\S+) does not exist")),
)
_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "python_enable_replacements": False,
}


def run_query(results: Results, sql: str) -> pa.Table:
    """The answer to one SELECT over the tables of ``results``, as a pyarrow table.

    ``sql``: in DuckDB's dialect; the tables "cells", "hosts", "guests" and "epochs" of what is done so far are views of
    these names, with the columns and units of docs/columns.md, and beside them the axes of the study and the named
    figures: ``refaults``, ``missed_young``, ``fault_rate`` and so on. Raises :class:`UserError` if DuckDB isn't
    installed, and for anything but one good SELECT.

        coldfleet.run_query(results, "SELECT policy, avg(pgmajfault) AS refaults FROM cells GROUP BY policy")
    """
    try:
        import duckdb
    except ImportError:
        raise UserError("queries need DuckDB: pip install 'coldfleet[query]'") from None
    check_argument("results", results, Results, "results: open them with coldfleet.Results.open")
    check_argument("the query", sql, str, "a text")
    if sql.encode(errors="ignore").decode() != sql:
        raise UserError("the query isn't UTF-8: a query is one SELECT")
    with duckdb.connect(":memory:", config=_CLOSED) as connection:
        try:
            statements = connection.extract_statements(sql)
            if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
                raise UserError("a query is one SELECT: results are only read")
            for name in TABLES:
                connection.register(_ROWS.format(name), results.dataset(name))
                connection.execute(_view(name, results.plan.varied))
            connection.execute("SET lock_configuration = true")
            return connection.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise UserError(_in_one_line(str(error))) from None


def figures(table: str) -> dict[str, str]:
    """The named figures of a table that its view has beside the columns, each as an expression of SQL."""
    names = schema(table).names
    return {
        metric.key: metric.sql
        for metric in (*SUMMARY, *DERIVED)
        if metric.key not in names and set(metric.needs) <= set(names)
    }


def _view(table: str, varied: Iterable[str]) -> str:
    """The statement that makes a table's view: its columns, its named figures, and the axes that only cells have."""
    own = schema(table).names
    cells = schema("cells").names  # which have no columns for the keys of classes
    axes = [column for column in dict.fromkeys(map(column_of, varied)) if column in cells and column not in own]
    chosen = ["t.*", *(f'{sql} AS "{name}"' for name, sql in figures(table).items()), *(f'"{axis}"' for axis in axes)]
    rows = f"{_ROWS.format(table)} AS t"
    if axes:
        quoted = ", ".join(f'"{axis}"' for axis in axes)
        rows += f" JOIN (SELECT DISTINCT cell_id, {quoted} FROM {_ROWS.format('cells')}) USING (cell_id)"
    return f"CREATE VIEW {table} AS SELECT {', '.join(chosen)} FROM {rows}"


def _in_one_line(message: str) -> str:
    """DuckDB's message in one line; an unknown name gets the nearest of ours."""
    tables = {table: dict.fromkeys((*schema(table).names, *figures(table))) for table in TABLES}
    for what, pattern in _UNKNOWN:
        found = pattern.search(message)
        if found and "must appear" not in message:  # which is about grouping
            name = found[1].rpartition(".")[2]
            having = [table for table, names in tables.items() if name in names]
            if what == "column" and having:
                return f"no column {name!r} there: {' and '.join(having)} ha{'s' if len(having) == 1 else 've'} it"
            known = dict.fromkeys(name for names in tables.values() for name in names)
            return f"no {what} {name!r}{nearest(name, known if what == 'column' else TABLES)}"
    return " ".join(message.partition("\n")[0].split())
