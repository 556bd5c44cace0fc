"""SQL over the tables of a sweep, by DuckDB. A query sees the tables and nothing else: no files, no network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES, schema
from coldfleet.hostsim.spec.errors import UserError, nearest

if TYPE_CHECKING:
    import pyarrow as pa

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
    these names, with the columns and units of docs/columns.md. Raises :class:`UserError` if DuckDB isn't installed, and
    for anything but one good SELECT.

        coldfleet.run_query(results, "SELECT policy, avg(pgmajfault) AS refaults FROM cells GROUP BY policy")
    """
    try:
        import duckdb
    except ImportError:
        raise UserError("queries need DuckDB: pip install 'coldfleet[query]'") from None
    if sql.encode(errors="ignore").decode() != sql:
        raise UserError("the query isn't UTF-8: a query is one SELECT")
    with duckdb.connect(":memory:", config=_CLOSED) as connection:
        try:
            statements = connection.extract_statements(sql)
            if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
                raise UserError("a query is one SELECT: results are only read")
            for name in TABLES:
                connection.register(name, results.dataset(name))
            connection.execute("SET lock_configuration = true")
            return connection.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise UserError(_in_one_line(str(error))) from None


def _in_one_line(message: str) -> str:
    """DuckDB's message in one line; an unknown name gets the nearest of ours."""
    columns = dict.fromkeys(name for table in TABLES for name in schema(table).names)
    for what, pattern in _UNKNOWN:
        found = pattern.search(message)
        if found:
            name = found[1].rpartition(".")[2]
            return f"no {what} {name!r}{nearest(name, columns if what == 'column' else TABLES)}"
    return " ".join(message.partition("\n")[0].split())
