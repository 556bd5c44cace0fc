"""One cell again, by its id; and what the simulator guarantees a sweep."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.study.plan import Plan
from tests.cluster.conftest import Said

Command = Callable[..., Said]


@pytest.fixture
def swept(plan: Plan, tmp_path: Path) -> Results:
    return sweep(plan, tmp_path / "out", SerialExecutor())


def test_rows_are_those_of_the_sweep(swept: Results, study_file: Path, coldfleet: Command) -> None:
    cell_id = swept.plan.cell_ids[4]
    said = coldfleet("run", study_file, "--cell", cell_id[:8], "--replicate", 2, "--json")
    assert said.code == 0
    rows = json.loads(said.out)
    for table in TABLES:
        written = [r for r in swept.table(table).to_pylist() if (r["cell_id"], r["replicate"]) == (cell_id, 2)]
        assert [{key: row[key] for key in written[0]} for row in rows[table]] == written


def test_printed_for_people(study_file: Path, plan: Plan, coldfleet: Command) -> None:
    said = coldfleet("run", study_file, "--cell", plan.cell_ids[1])
    assert said.code == 0
    assert plan.cell_ids[1] in said.out
    assert max(map(len, said.out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--cell", "zzz"], "no cell 'zzz'"),
        (["--cell", ""], "no cell"),
        (["--cell", None, "--replicate", "3"], "0 to 2"),
    ],
)
def test_unknown_cell_is_one_line(
    arguments: list[str | None], expected: str, study_file: Path, plan: Plan, coldfleet: Command
) -> None:
    said = coldfleet("run", study_file, *(plan.cell_ids[0] if word is None else word for word in arguments))
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert expected in said.err


def test_policies_see_identical_accesses(swept: Results) -> None:
    seen = defaultdict(set)
    by_guest = defaultdict(set)
    for row in swept.table("guests").to_pylist():
        seen[row["nested_ratio"], row["replicate"], row["host"], row["guest"]].add(row["access_hash"])
        by_guest[row["replicate"], row["host"], row["guest"], row["nested"]].add(row["access_hash"])
    assert len(seen) == 3 * 3 * 4
    assert all(len(hashes) == 1 for hashes in seen.values())
    assert all(len(hashes) == 1 for hashes in by_guest.values())  # nor do the others' nested VMs matter
    assert len({min(hashes) for hashes in by_guest.values()}) == len(by_guest)  # but every guest has its own


def test_second_sweep_gives_the_same_tables(swept: Results, plan: Plan, tmp_path: Path) -> None:
    again = sweep(plan, tmp_path / "again", SerialExecutor())
    for table in TABLES:
        assert again.table(table).equals(swept.table(table), check_metadata=True)
