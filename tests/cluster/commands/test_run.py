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
from tests.cluster.conftest import STUDY, Said

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
        (["--cell", "zzz"], "no cell 'zzz' among the 6 of small: there are ID (nested_ratio=0.0, policy=evict-only), "),
        (
            [],
            "choose one cell, by its id or by --at KEY=VALUE: small has 6: ID (nested_ratio=0.0, policy=evict-only), ",
        ),
        (["--at", "nested_ratio=0"], "2 of them have nested_ratio = 0.0: ID (nested_ratio=0.0, policy=evict-only), "),
        (["--at", "nested_ratio=0.4"], "no cell has nested_ratio = 0.4: did you mean '0.5' or '0.0'?"),
        (["--at", "nested_ratoi=0"], "unknown key 'nested_ratoi': did you mean 'nested_ratio'"),
        (["--at", "policy"], "--at policy: write KEY=VALUE"),
        (["--cell", None, "--at", "nested_ratio=0.5"], "with nested_ratio = 0.5 among the 6 of small: there are"),
        (["--cell", None, "--replicate", "3"], "0 to 2"),
    ],
)
def test_unknown_cell_is_one_line(
    arguments: list[str | None], expected: str, study_file: Path, plan: Plan, coldfleet: Command
) -> None:
    said = coldfleet("run", study_file, *(plan.cell_ids[0] if word is None else word for word in arguments))
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert expected.replace("ID", plan.cell_ids[0][:6]) in said.err


def test_a_cell_is_found_by_what_it_has(study_file: Path, plan: Plan, coldfleet: Command) -> None:
    said = coldfleet("run", study_file, "--at", "policy=six-steps", "--at", "nested_ratio=0.5", "--json")
    (row,) = json.loads(said.out)["cells"]
    assert (row["policy"], row["nested_ratio"], row["cell_id"] in plan.cell_ids) == ("six-steps", 0.5, True)
    single = '[grid]\npolicy = ["six-steps"]\n"guest.memory" = ["4 MiB"]\n'
    study_file.write_text(STUDY.partition("[grid]")[0].replace('memory = "4 MiB"\n', "") + single)
    for at in ((), ("--at", "policy=six-steps"), ("--at", "guest.memory=1024 pages", "--at", "ticks=4")):
        assert json.loads(coldfleet("run", study_file, *at, "--json").out)["cells"][0]["policy"] == "six-steps"
    assert "no cell has ticks = 5: there are '4'" in coldfleet("run", study_file, "--at", "ticks=5").err


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
