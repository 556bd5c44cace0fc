"""SQL over the results, and the columns that it can name."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.metrics import named_figures
from coldfleet.cluster.results.schemas import SORT_KEYS, schema
from coldfleet.cluster.stats.metrics import DERIVED, SUMMARY
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.errors import UserError, nearest
from tests.cluster.conftest import Said

pytest.importorskip("duckdb", reason='needs the extra "query"')

Command = Callable[..., Said]
ROOT = Path(__file__).parents[3]


def test_tables_are_views(done: Path, plan: Plan, coldfleet: Command) -> None:
    sql = "SELECT (SELECT count(*) FROM cells) AS c, (SELECT count(*) FROM hosts) AS h, count(*) AS g FROM guests"
    assert json.loads(coldfleet("query", done, sql, "--json").out) == [
        {"c": len(plan), "h": 2 * len(plan), "g": 4 * len(plan)}
    ]


def test_rows_are_those_of_the_table(done: Path, coldfleet: Command) -> None:
    from coldfleet.cluster.results.results import Results

    sql = "SELECT cell_id, replicate, pgmajfault FROM cells ORDER BY cell_id, replicate"
    expected = Results.open(done).table("cells", ["cell_id", "replicate", "pgmajfault"]).to_pylist()
    assert json.loads(coldfleet("query", done, sql, "--json").out) == expected
    rows = list(csv.DictReader(io.StringIO(coldfleet("query", done, sql, "--csv").out)))
    assert rows == [{name: str(value) for name, value in row.items()} for row in expected]


@pytest.mark.parametrize("table", ["cells", "hosts", "guests"])
def test_the_figures_of_the_summary_are_columns_too(table: str, done: Path, coldfleet: Command) -> None:
    named = [metric for metric in (*SUMMARY, *DERIVED) if set(metric.needs) <= set(schema(table).names)]
    assert {"refaults", "missed_young", "fault_rate", "slowdown"} <= {metric.key for metric in named}
    rows = json.loads(coldfleet("query", done, f"SELECT * FROM {table}", "--json").out)
    assert rows
    for row in rows:
        for metric in named:
            assert row[metric.key] == pytest.approx(metric.value(row)), metric.key


@pytest.mark.parametrize(("name", "expected"), [("slowdown", None), ("fault_rate", 0)])
def test_a_ratio_of_times_is_null_without_a_clock(name: str, expected: float | None) -> None:
    import duckdb

    figure = named_figures("cells")[name]
    zeros = ", ".join(f'0 AS "{column}"' for column in dict.fromkeys(figure.needs))
    with duckdb.connect() as connection:
        assert connection.execute(f"SELECT {figure.sql} FROM (SELECT {zeros})").fetchall() == [(expected,)]


def test_every_table_has_the_axes(study_text: str, tmp_path: Path, fake_engine: object, coldfleet: Command) -> None:
    path = tmp_path / "s.toml"
    path.write_text(study_text + '"guest.workload.write_share" = [0, 0.5]\n')
    sweep(read_study(path), tmp_path / "axes", SerialExecutor())
    for table in ("cells", "hosts", "guests"):
        sql = f"SELECT guest_workload_write_share AS w, count(*) AS n FROM {table} GROUP BY ALL ORDER BY w"
        rows = json.loads(coldfleet("query", tmp_path / "axes", sql, "--json").out)
        assert [row["w"] for row in rows] == [0, 0.5]
        assert rows[0]["n"] == rows[1]["n"] > 0


def test_no_bar_stands_in_the_output(done: Path) -> None:
    """DuckDB draws one on stdout after two seconds, if Python seems to be used by a person: without a script's file."""
    command = "import sys; from coldfleet.cluster.commands.cli import main; sys.exit(main())"
    words = ["query", str(done), "SELECT current_setting('enable_progress_bar') AS bar", "--json"]
    said = subprocess.run([sys.executable, "-c", command, *words], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(said.stdout) == [{"bar": False}]


def test_rows_go_to_a_parquet_file(done: Path, coldfleet: Command) -> None:
    from coldfleet.cluster.results.results import Results

    sql, file = "SELECT cell_id, pgmajfault FROM cells ORDER BY cell_id, replicate", done.parent / "rows.parquet"
    file.write_text("an older one")
    said = coldfleet("query", done, sql, "--parquet", file)
    assert (said.code, said.out, said.err) == (0, "", f"18 rows in {file}\n")
    expected = Results.open(done).table("cells", ["cell_id", "pgmajfault"]).to_pylist()
    assert pq.read_table(file).to_pylist() == expected


@pytest.mark.parametrize(
    ("where", "why"),
    [
        (".", "not the name of a file"),
        ("{out}", "not a regular file"),
        ("{out}/no/rows.parquet", "there is no directory"),
        ("{out}/plan.parquet", "which a query only reads"),
        ("{out}/parts/x.parquet", "which a query only reads"),
        ("/dev/full", "not a regular file"),
        ("{out}/../link", "not a regular file"),
    ],
)
def test_a_parquet_file_that_can_not_be_leaves_nothing(where: str, why: str, done: Path, coldfleet: Command) -> None:
    (done.parent / "link").symlink_to(done / "study.json")
    before = sorted(done.parent.rglob("*"))
    said = coldfleet("query", done, "SELECT * FROM cells", "--parquet", where.format(out=done))
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert why in said.err
    assert sorted(done.parent.rglob("*")) == before


def test_a_study_with_an_axis_of_a_class_can_be_asked(tmp_path: Path, fake_engine: object, coldfleet: Command) -> None:
    path = tmp_path / "classes.toml"
    path.write_text(
        'ticks = 4\novercommit = 1.5\npolicy = "evict-only"\n[fleet.host.h]\ncount = 1\nmemory = "64 MiB"\ncpus = 8\n'
        '[fleet.guest.x]\nmemory = "2 MiB"\n[guest]\nmemory = "4 MiB"\n[grid]\n"fleet.guest.x.count" = [1, 2]\n'
    )
    sweep(read_study(path), tmp_path / "classes", SerialExecutor())
    said = coldfleet("query", tmp_path / "classes", "SELECT count(*) AS n FROM guests", "--json")
    assert (said.code, json.loads(said.out)) == (0, [{"n": 9}])


def test_lost_part_that_came_back_counts_once(done: Path, plan: Plan, coldfleet: Command) -> None:
    kept = {path: path.read_bytes() for path in (done / "parts").iterdir()}
    next((done / "parts").glob("hosts-*")).unlink()
    sweep(plan, done, SerialExecutor())
    for path, content in kept.items():
        path.write_bytes(content)
    found = json.loads(coldfleet("query", done, "SELECT count(*) AS runs FROM cells", "--json").out)
    assert found == [{"runs": len(plan)}]


def test_sums_and_lists_are_plain_json(done: Path, coldfleet: Command) -> None:
    sql = "SELECT sum(pgmajfault) AS s, avg(pgmajfault) AS a, max(step_pages) AS l FROM guests"
    row = json.loads(coldfleet("query", done, sql, "--json").out)[0]
    assert isinstance(row["s"], int)
    assert isinstance(row["a"], float)
    assert isinstance(row["l"], list)


NUMBERS = "SELECT NULL AS a, 'NaN'::DOUBLE AS b, 'inf'::DOUBLE AS c, '-inf'::FLOAT AS d, ['nan'::DOUBLE, NULL] AS e"


def test_null_nan_and_infinity_are_told_apart(done: Path, coldfleet: Command) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    row = json.loads(coldfleet("query", done, NUMBERS, "--json").out, parse_constant=refuse)[0]
    assert row == {"a": None, "b": "NaN", "c": "Infinity", "d": "-Infinity", "e": ["NaN", None]}
    (row,) = csv.DictReader(io.StringIO(coldfleet("query", done, NUMBERS, "--csv").out))
    assert [row[name] for name in "abcd"] == ["", "nan", "inf", "-inf"]
    assert coldfleet("query", done, NUMBERS).out.split()[-5:] == ["nan", "inf", "-inf", "[nan,", "None]"]


def test_printed_for_people(done: Path, coldfleet: Command) -> None:
    said = coldfleet("query", done, "SELECT policy, nested_ratio, sum(pgmajfault) AS refaults FROM cells GROUP BY ALL")
    assert said.code == 0
    assert "refaults" in said.out
    assert "six-steps" in said.out


@pytest.mark.parametrize(
    ("sql", "expected"),
    [("SELECT pgmajfaults FROM cells", "no column 'pgmajfaults': did you mean 'pgmajfault'"),
     ("SELECT c.polcy FROM cells c", "'policy'"), ("SELECT * FROM cell", "no table 'cell': did you mean 'cells'"),
     ("SELEC 1", "syntax error"), ("", "one SELECT"), ("SELECT 1; SELECT 2", "one SELECT"),
     ("CREATE TABLE t AS SELECT 1", "one SELECT"), ("DROP VIEW cells", "one SELECT"),
     ("COPY cells TO 'stolen.csv'", "one SELECT"), ("ATTACH 'other.db'", "one SELECT"),
     ("SET enable_external_access = true", "one SELECT"), ("INSTALL httpfs", "one SELECT"),
     ("SELECT * FROM read_csv('/etc/passwd')", "disabled"), ("SELECT * FROM '/etc/passwd.csv'", ""),
     ("SELECT * FROM glob('/*')", "disabled"), ("SELECT * FROM read_text('study.json')", "disabled"),
     ("SELECT * FROM coldfleet", "no table"), ("SELECT 'a'::int", "Conversion")],
)  # fmt: skip
def test_anything_else_is_one_line(
    sql: str, expected: str, done: Path, coldfleet: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(done)
    before = sorted(done.rglob("*"))
    said = coldfleet("query", done, sql)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert expected in said.err
    assert sorted(done.rglob("*")) == before


@pytest.mark.parametrize("table", SORT_KEYS)
def test_columns_are_those_of_the_schema(table: str, coldfleet: Command) -> None:
    data = json.loads(coldfleet("columns", table, "--json").out)
    assert [column["name"] for column in data["columns"]] == schema(table).names
    assert all(column["meaning"] for column in data["columns"])
    said = coldfleet("columns", table)
    assert all(name in said.out for name in schema(table).names)
    assert max(map(len, said.out.splitlines())) <= 100


def test_columns_lists_the_tables(coldfleet: Command) -> None:
    assert list(json.loads(coldfleet("columns", "--json").out)) == list(SORT_KEYS)
    assert all(table in coldfleet("columns").out for table in SORT_KEYS)


def test_unknown_table_is_one_line(coldfleet: Command) -> None:
    said = coldfleet("columns", "guest")
    assert (said.code, said.out, said.err) == (2, "", "coldfleet: no table 'guest': did you mean 'guests'?\n")


def test_nearest_names() -> None:
    assert nearest("polciy", ["policy", "replicate"]) == ": did you mean 'policy'?"
    assert nearest("fault", ["pgmajfault_of_a_file", "other"]) == ": did you mean 'pgmajfault_of_a_file'?"
    assert nearest("zzz", ["a", "b"]) == ": there are 'a', 'b'"
    assert nearest("zzz", map(str, range(9))).endswith("'5', ...")
    assert nearest("zzz", []) == ""


@pytest.mark.parametrize("text", ["[/x]", "[bold]hidden[/bold]", ":smile:", "[link=x]y[/link]"])
def test_markup_is_shown_as_it_is(text: str, done: Path, coldfleet: Command) -> None:
    said = coldfleet("query", done, f"SELECT '{text}' AS \"{text}\"")
    assert said.code == 0
    assert said.out.count(text) == 2


@pytest.mark.parametrize("how", [(), ("--json",), ("--csv",)])
def test_no_control_character_reaches_the_terminal(how: tuple[str, ...], done: Path, coldfleet: Command) -> None:
    said = coldfleet("query", done, "SELECT chr(27) || ']0;x' || chr(7) || chr(155) || chr(8238) AS a", *how)
    assert said.code == 0
    assert said.out.isprintable() or set(said.out) - set("\n") == {c for c in said.out if c.isprintable()}
    assert "x1b" in said.out or "u001b" in said.out


def test_csv_has_lists_and_no_formulas(done: Path, coldfleet: Command) -> None:
    said = coldfleet("query", done, "SELECT * FROM guests", "--csv")
    assert said.code == 0
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert len(rows) == said.out.count("\n") - 1
    assert all(isinstance(json.loads(row["step_pages"]), list) for row in rows)
    said = coldfleet("query", done, "SELECT '=1+1' AS a, '@x' AS b, -1 AS c, '-1' AS d, true AS e, NULL AS f", "--csv")
    assert list(csv.DictReader(io.StringIO(said.out))) == [
        {"a": "'=1+1", "b": "'@x", "c": "-1", "d": "'-1", "e": "true", "f": ""}
    ]


def test_many_columns_are_a_line_each(done: Path, coldfleet: Command) -> None:
    said = coldfleet("query", done, "SELECT * FROM guests LIMIT 1")
    assert said.code == 0
    assert "\n  pgmajfault  " in said.out


@pytest.mark.parametrize("how", [(), ("--json",), ("--csv",)])
@pytest.mark.parametrize("sql", ["SELECT TIMESTAMP '290000-01-01'", "SELECT DATE '5877642-06-25 (BC)'",
                                 "SELECT 'NaN'::DOUBLE", "SELECT {'a': [1, 2]}", "SELECT MAP {'a': 1}",
                                 "SELECT '\\xAA'::BLOB", "SELECT INTERVAL 5 YEAR"])  # fmt: skip
def test_any_value_can_be_printed(sql: str, how: tuple[str, ...], done: Path, coldfleet: Command) -> None:
    assert coldfleet("query", done, sql, *how).code in (0, 2)


CLASSES = """\
ticks = 2
overcommit = 1.5
seed = 1
[fleet]
placement = "best-fit"
[fleet.host.node]
count = 2
memory = "16 MiB"
cpus = 8
[fleet.guest.web]
count = 3
vcpus = 1
[fleet.guest.db-2]
count = 1
memory = "8 MiB"
vcpus = 2
[guest]
memory = "2 MiB"
accesses_per_tick = 512
[guest.workload]
kind = "zipf"
[reclaim]
mode = "limit"
[grid]
policy = ["evict-only", "six-steps"]
"fleet.guest.web.memory" = ["2 MiB", "4 MiB"]
kernel = ["6.1", "6.12"]
"""


def test_every_table_has_the_axes_of_classes_and_who_a_row_is_about(
    tmp_path: Path, fake_engine: object, coldfleet: Command
) -> None:
    (tmp_path / "classes.toml").write_text(CLASSES)
    plan = read_study(tmp_path / "classes.toml")
    sweep(plan, tmp_path / "out", SerialExecutor())
    wanted = {plan.cell(n).cell_id: (plan.cell(n).spec.kernel, n) for n in range(plan.cell_count)}
    for table in ("cells", "hosts", "guests", "epochs"):
        said = coldfleet("query", tmp_path / "out", f"SELECT * FROM {table}", "--json")
        rows = json.loads(said.out)
        assert rows or table == "epochs", said.err
        for row in rows:
            kernel, number = wanted[row["cell_id"]]
            assert row["kernel"] == kernel
            assert row["fleet_guest_web_memory"] == plan.cell(number).spec.value("fleet.guest.web.memory")
            assert "host" not in row or row["host_class"] == "node"
            if table == "guests":
                assert row["guest_class"] == row["name"].rpartition("-")[0] in ("web", "db-2")


def test_the_figures_of_the_summary_are_columns_in_python_too(done: Path) -> None:
    from coldfleet.cluster.results.results import Results

    results = Results.open(done)
    for table in ("cells", "hosts", "guests"):
        named = [metric for metric in (*SUMMARY, *DERIVED) if set(metric.needs) <= set(schema(table).names)]
        found = results.table(table, ["policy", *(metric.key for metric in named)])
        assert found.column_names == ["policy", *(metric.key for metric in named)]
        for row, whole in zip(found.to_pylist(), results.table(table).to_pylist(), strict=True):
            assert all(row[metric.key] == pytest.approx(metric.value(whole)) for metric in named)
    assert found.schema.field("refaults").metadata[b"unit"] == b"pages"
    with pytest.raises(UserError, match="did you mean 'refaults'"):
        results.table("guests", ["refalts"])


@pytest.mark.parametrize(
    ("sql", "first"),
    [("SELECT lru FROM cells", "reclaim_lru"), ("SELECT skew FROM cells", "guest_workload_skew"),
     ("SELECT swappines FROM cells", "reclaim_swappiness"), ("SELECT nested_ration FROM guests", "nested_ratio")],
)  # fmt: skip
def test_the_likely_column_comes_first(sql: str, first: str, done: Path, coldfleet: Command) -> None:
    assert f"did you mean '{first}'" in coldfleet("query", done, sql).err


def test_named_figures_are_listed_with_what_they_are_made_of(coldfleet: Command) -> None:
    data = json.loads(coldfleet("columns", "guests", "--json").out)
    figures = {each["name"]: each["meaning"] for each in data["figures"]}
    assert figures["missed_not_asked"] == "missed_young_skipped"
    assert figures["fault_rate"] == "refaults / (accesses + device_accesses)"
    assert figures["reclaim_cpu_s"] == "reclaim_cpu_ns * 1e-09"
    said = coldfleet("columns", "guests").out
    assert all(name in said for name in figures)
