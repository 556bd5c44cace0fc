"""SQL over the tables of a sweep, by DuckDB. A query sees the tables and nothing else: no files, no network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coldfleet.cluster.results.metrics import named_figures
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES, schema
from coldfleet.cluster.study.model import as_amount, column_of
from coldfleet.cluster.study.plan import Plan
from coldfleet.hostsim.spec.checks import check_argument
from coldfleet.hostsim.spec.errors import UserError, nearest

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = "{}_rows"  # a table as it is in the files
_CLASS_AXES = "class_axes"
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

    ``sql``: in DuckDB's dialect; the tables "cells", "hosts", "guests", "epochs", "lives" and "fleet" of what is done
    so far are views of these names, with the columns and units of docs/columns.md. Beside them they have the axes of
    the study, ``host_class`` and ``guest_class``, and the named figures: ``refaults``, ``missed_young``, ``fault_rate``
    and so on.
    Raises :class:`UserError` if DuckDB isn't installed, and for anything but one good SELECT.

        coldfleet.run_query(results, "SELECT policy, avg(refaults) AS refaults FROM cells GROUP BY policy")
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
            connection.register(_CLASS_AXES, _class_axes(results.plan))
            for name in TABLES:
                connection.execute(_view(name, results.plan))
            connection.execute("SET enable_progress_bar = false")  # it would stand in the output, in a file too
            connection.execute("SET lock_configuration = true")
            return connection.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise UserError(_in_one_line(str(error), sql, results.plan)) from None


def empty_tables(results: Results, sql: str) -> list[str]:
    """Of the tables that a query names, why those are empty that are so although runs are done."""
    over_time = "guests come and go: [fleet.guest.NAME.arrivals], fleet.arrivals or [fleet.outage.NAME]"
    epochs = 'epochs = "on" in [output]'
    needed = {
        "epochs": epochs,
        "lives": f"a study whose {over_time}",
        "fleet": f"{epochs}, and a study whose {over_time}",
    }
    named = (table for table in needed if re.search(rf"\b{table}\b", sql, re.IGNORECASE))
    empty = (table for table in named if results.status.done and not results.dataset(table).count_rows())
    return [f"the table {table} is empty: it takes {needed[table]}" for table in empty]


def _view(table: str, plan: Plan) -> str:
    """The statement that makes a table's view: its columns, its named figures, and what only other tables say.

    Those are the study's axes, the class of the host, and the class of the guest.
    """
    own, cells = schema(table).names, schema("cells").names
    chosen = ["t.*", *(f'{metric.sql} AS "{name}"' for name, metric in named_figures(table).items())]
    rows = f"{_ROWS.format(table)} AS t"
    columns = dict.fromkeys(map(column_of, plan.varied))
    if axes := [f'"{axis}"' for axis in columns if axis in cells and axis not in own]:
        chosen += axes
        rows += f" JOIN (SELECT DISTINCT cell_id, {', '.join(axes)} FROM {_ROWS.format('cells')}) USING (cell_id)"
    if of_classes := [f'"{axis}"' for axis in columns if axis not in cells]:
        chosen += of_classes
        rows += f" JOIN {_CLASS_AXES} USING (cell_id)"
    if "host" in own and "host_class" not in own:
        chosen.append("coalesce(host_class, '') AS host_class")  # a refused guest has no host
        host = "cell_id, replicate, host"
        rows += f" LEFT JOIN (SELECT {host}, host_class FROM {_ROWS.format('hosts')}) USING ({host})"
    if table == "guests":
        names = ", ".join("'{}'".format(name.replace("'", "''")) for name in _guest_classes(plan))
        drawn = "regexp_extract(name, '^(.*)-[0-9]+(\\.[0-9]+)?$', 1)"
        chosen.append(f"CASE WHEN {drawn} IN ({names or 'NULL'}) THEN {drawn} ELSE '' END AS guest_class")
    return f"CREATE VIEW {table} AS SELECT {', '.join(chosen)} FROM {rows}"


def _guest_classes(plan: Plan) -> list[str]:
    """The names of the study's classes of guests; empty: all guests are alike."""
    found = (re.fullmatch(r"fleet\.guest\.([^.]+)\..+", path) for path in plan.all_keys)
    return list(dict.fromkeys(match[1] for match in found if match))


def _class_axes(plan: Plan) -> pa.Table:
    """For each cell the axes that are keys of classes: tables have no columns for those."""
    import pyarrow as pa

    axes = [path for path in plan.varied if column_of(path) not in schema("cells").names]
    varying = [plan.varying(number) for number in range(plan.cell_count if axes else 0)]
    columns = {column_of(path): pa.array([as_amount(path, values[path]) for values in varying]) for path in axes}
    return pa.table({"cell_id": pa.array(plan.cell_ids if axes else [], pa.string()), **columns})


def _in_one_line(message: str, sql: str, plan: Plan) -> str:
    """DuckDB's message in one line; an unknown name gets the nearest of ours, of the tables that the query names."""
    axes = [column_of(path) for path in plan.varied]
    tables = {table: dict.fromkeys((*axes, *schema(table).names, *named_figures(table))) for table in TABLES}
    asked = [table for table in TABLES if re.search(rf"\b{table}\b", sql, re.IGNORECASE)] or TABLES
    for what, pattern in _UNKNOWN:
        found = pattern.search(message)
        if found and "must appear" not in message:  # which is about grouping
            name = found[1].rpartition(".")[2]
            having = [table for table, names in tables.items() if name in names]
            if what == "column" and having:
                return f"no column {name!r} there: {' and '.join(having)} ha{'s' if len(having) == 1 else 've'} it"
            known = dict.fromkeys(name for table in asked for name in tables[table])
            return f"no {what} {name!r}{nearest(name, known if what == 'column' else TABLES)}"
    return " ".join(message.partition("\n")[0].split())
