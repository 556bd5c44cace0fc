"""docs/answer.md: its tables and sentences follow from the cells beside it, and these are what the simulator says."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.query import run_query
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from tests import answer_page

ROOT = Path(__file__).parents[2]
PAGE, CELLS = answer_page.PAGE, answer_page.CELLS
TABLES = answer_page.tables(PAGE.read_text())
EXTRACT = re.search(r"coldfleet query results/answer \\\n *\"(.*?)\"", PAGE.read_text(), re.S)


def sentences() -> list[str]:
    found = re.findall(r"^\d\. (.+?)(?=\n\d\. |\n\n)", PAGE.read_text(), re.M | re.S)[:3]
    return [" ".join(sentence.split()) for sentence in found]


@pytest.mark.parametrize(("sql", "table"), TABLES, ids=[str(number) for number in range(len(TABLES))])
def test_a_table_is_what_its_query_says(sql: str, table: str) -> None:
    pytest.importorskip("duckdb")
    assert table == answer_page.table_of(sql)


def test_every_figure_of_the_sentences_is_in_a_table() -> None:
    told = "".join(table for _, table in TABLES)
    text = " ".join([*sentences(), PAGE.read_text().partition("**On 6.18")[2].partition("## Who wins")[0]])
    figures = re.findall(r"[\d.]+ ±[\d.]+ %", text)
    assert len(figures) >= 6
    assert all(figure in told for figure in figures)


def test_the_first_screen_of_the_readme_quotes_the_sentences() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert len(sentences()) == 3
    assert all(sentence in readme for sentence in sentences())


def some_cells(tmp_path: Path, count: int) -> list[dict[str, Any]]:
    """Rows like those of the page, of cells that were run now: replicate 0 of so many, drawn at random."""
    plan = read_study(ROOT / "configs" / "answer.toml")
    numbers = sorted(random.Random(count).sample(range(plan.cell_count), count))
    rows: list[dict[str, Any]] = []
    assert EXTRACT is not None
    for number in numbers:
        spec = plan.cell(number).spec
        values = {path: spec.value(path) for path in plan.varied}
        one = Plan.thaw(
            {**plan.frozen(), "parameters": {**plan.base, **values}, "grid": {}, "bundles": [], "replicates": 1}
        )
        results = sweep(one, tmp_path / str(number), SerialExecutor())
        rows += run_query(Results.open(results.storage), EXTRACT[1]).to_pylist()
    return rows


@pytest.mark.parametrize("count", [3, pytest.param(200, marks=pytest.mark.slow)])
def test_the_cells_are_what_the_simulator_says(count: int, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    rows = some_cells(tmp_path, count)
    axes = ("policy", "kernel", "workload", "overcommit", "nested", "exposed", "l2_only", "l2_accesses", "replicate")
    relation = duckdb.sql(f"SELECT * FROM '{CELLS}' WHERE replicate = 0")
    known = {tuple(row[relation.columns.index(axis)] for axis in axes): row for row in relation.fetchall()}
    assert rows
    for row in rows:
        found = dict(zip(relation.columns, known[tuple(row[axis] for axis in axes)], strict=True))
        assert found == pytest.approx({**row, "setting": found["setting"]})
