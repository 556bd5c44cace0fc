"""What a crash can leave in a results directory, and what is made of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.execution.work import warm_up_shapes
from coldfleet.cluster.results.journal import BatchReceipt, Journal, RunReceipt, read_journal
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import SORT_KEYS, TABLES, schema
from coldfleet.cluster.results.storage import open_storage
from coldfleet.cluster.study.plan import Cell, Plan
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import HostSpec
from tests.cluster.conftest import Said

pytestmark = pytest.mark.usefixtures("fake_engine")


NOT_ASKED_FOR = {"epochs", "lives", "fleet"}  # tables, by this study


def tables(directory: Path) -> dict[str, pa.Table]:
    results = Results.open(directory)
    return {table: results.table(table) for table in TABLES}


def test_tables_have_the_declared_schema_and_order(done: Path, plan: Plan) -> None:
    rows = {"cells": len(plan), "hosts": 2 * len(plan), "guests": 4 * len(plan), **dict.fromkeys(NOT_ASKED_FOR, 0)}
    for name, table in tables(done).items():
        assert table.schema.equals(schema(name), check_metadata=True)
        assert table.num_rows == rows[name]
        assert all(column.null_count == 0 for column in table.columns)
        keys = table.select(SORT_KEYS[name]).to_pylist()
        assert keys == sorted(keys, key=lambda row: tuple(row.values()))
        for field in table.schema:
            assert field.metadata[b"description"]
            assert b"unit" in field.metadata


def test_parts_carry_unit_and_description(done: Path) -> None:
    for part in (done / "parts").iterdir():
        written = pq.read_schema(part)
        assert written.equals(schema(part.name.partition("-")[0]), check_metadata=True)


def test_cells_are_the_sums_of_hosts_and_guests(done: Path) -> None:
    found = tables(done)
    for counter in ("accesses", "pgmajfault", "reclaim_cpu_ns"):
        sums = {pa.compute.sum(found[name][counter]).as_py() for name in ("cells", "hosts", "guests")}
        assert len(sums) == 1


def test_receipts_tell_where_each_run_is(done: Path, plan: Plan) -> None:
    lines = [json.loads(line) for line in (done / "journal.jsonl").read_text().splitlines()]
    runs = [run for line in lines for run in line["runs"]]
    assert len(runs) == len(plan)
    assert {run["status"] for run in runs} == {"done"}
    for line in lines:
        assert {part["table"] for part in line["parts"]} == set(TABLES) - NOT_ASKED_FOR
        for part in line["parts"]:
            assert (done / "parts" / part["name"]).exists()
            assert part["rows"] == sum(run["rows"][part["table"]] for run in line["runs"])


def lose_a_part(directory: Path) -> None:
    next((directory / "parts").glob("hosts-*")).unlink()


def tear_a_part(directory: Path) -> None:
    part = next((directory / "parts").glob("cells-*"))
    part.write_bytes(part.read_bytes()[:-100])


def flip_a_byte(directory: Path) -> None:
    part = next((directory / "parts").glob("guests-*"))
    content = bytearray(part.read_bytes())
    content[100] ^= 1
    part.write_bytes(content)


def tear_the_journal(directory: Path) -> None:
    journal = directory / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-30])


def spoil_a_line(directory: Path) -> None:
    journal = directory / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([lines[0], "{}\n", *lines[2:]]))


def lose_the_journal(directory: Path) -> None:
    (directory / "journal.jsonl").unlink()


def lose_the_plan(directory: Path) -> None:
    (directory / "plan.parquet").unlink()
    tear_the_journal(directory)


def test_partial_results_say_so(
    done: Path, plan: Plan, coldfleet: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Results.open(done).partial == ""
    assert coldfleet("query", done, "SELECT 1").err == ""
    lose_a_part(done)
    results = Results.open(done)
    left = len(results.missing)
    said = f"{done}: {18 - left} of 18 runs are in, {left} are to do (coldfleet resume {done}), "
    assert results.partial.startswith(said)
    assert coldfleet("query", done, "SELECT 1").err == f"coldfleet: {results.partial}\n"
    mended = sweep(plan, done, SerialExecutor())
    assert (mended.partial, mended.lost) == ("", ())


def test_opening_makes_one_cell(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids of the others are in plan.parquet."""
    made: list[int] = []
    cell = Plan.cell

    def count(self: Plan, number: int) -> Cell:
        made.append(number)
        return cell(self, number)

    monkeypatch.setattr(Plan, "cell", count)
    results = Results.open(done)
    assert not results.missing
    assert results.plan.cell_ids
    assert made == [0]


@pytest.mark.parametrize("change", ["other ids", "fewer rows", "other seed", "no hash"])
def test_a_plan_that_is_not_the_study_s_is_not_trusted(change: str, done: Path, plan: Plan) -> None:
    path, head = done / "plan.parquet", done / "study.json"
    table = pq.read_table(path)
    if change == "other ids":
        table = table.set_column(1, table.schema.field("cell_id"), [table["cell_id"].to_pylist()[::-1]])
    elif change == "fewer rows":
        table = table.slice(0, 6)
    elif change == "other seed":
        head.write_text(head.read_text().replace('"seed": 7', '"seed": 8'))
    else:
        head.write_text(head.read_text().replace("plan_sha256", "x"))
    pq.write_table(table, path)
    results = Results.open(done)
    assert results.plan.cell_ids == replace(results.plan).cell_ids
    assert (results.plan.cell_ids == plan.cell_ids) == (change != "other seed")
    assert bool(results.missing) == (change == "other seed")


@pytest.mark.parametrize(
    "damage",
    [lose_a_part, tear_a_part, flip_a_byte, tear_the_journal, spoil_a_line, lose_the_journal, lose_the_plan],
)
def test_damage_is_seen_and_mended_by_the_same_sweep(
    damage: Callable[[Path], None], done: Path, plan: Plan, fake_engine: list[HostSpec]
) -> None:
    before = tables(done)
    plan_before = (done / "plan.parquet").read_bytes()
    damage(done)
    missing = Results.open(done).missing
    assert missing
    assert all(row["cell_id"] for row in tables(done)["cells"].to_pylist())  # what is left can be read
    fake_engine.clear()
    results = sweep(plan, done, SerialExecutor())
    assert len(fake_engine) == 2 * len(missing) + len(warm_up_shapes(plan))  # hosts: nothing is done twice
    assert not results.missing
    assert tables(done) == before
    assert (done / "plan.parquet").read_bytes() == plan_before
    named = {part.name for part in results.parts}
    assert {path.name for path in (done / "parts").iterdir()} == named  # no orphans: parts/*.parquet is the truth


def test_lost_part_that_comes_back_counts_once(done: Path, plan: Plan) -> None:
    before = tables(done)
    kept = {path: path.read_bytes() for path in (done / "parts").iterdir()}
    lose_a_part(done)
    sweep(plan, done, SerialExecutor())
    for path, content in kept.items():
        path.write_bytes(content)
    assert tables(done) == before


def test_files_of_others_in_parts_are_left_alone(done: Path, plan: Plan) -> None:
    mine = done / "parts" / "notes.txt"
    mine.write_text("keep")
    tear_the_journal(done)
    sweep(plan, done, SerialExecutor())
    assert mine.exists()


def test_journal_is_held_by_one_sweep_at_a_time(done: Path) -> None:
    storage = open_storage(str(done))
    with Journal(storage), pytest.raises(UserError, match="another sweep is writing there"):
        Journal(storage)
    Journal(storage).__exit__(None, None, None)


def test_journal_gives_back_what_it_was_given(tmp_path: Path) -> None:
    receipts = [BatchReceipt(f"b{n}", (), (RunReceipt("c", n, "failed", {}, 0.5, 0.4, "Why: äöü"),)) for n in range(3)]
    storage = open_storage(str(tmp_path))
    with Journal(storage) as journal:
        for receipt in receipts[:2]:
            journal.append(receipt)
    with open(tmp_path / "journal.jsonl", "ab") as file:
        file.write(b'{"batch": "torn')
    with Journal(storage) as journal:
        journal.append(receipts[2])
    assert list(read_journal(storage)) == receipts


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        open_storage(str(tmp_path)).write("a", "text")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [("", "is damaged"), ("[]", "is damaged"), ('{"format": "x"}', "is damaged"),
     ('{"format": "coldfleet results", "schema_version": 99}', "version 99"),
     ('{"format": "coldfleet results", "schema_version": 13}', "damaged")],
)  # fmt: skip
def test_head_that_is_none_is_one_line(content: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(UserError, match=expected) as caught:
        Results.open(tmp_path)
    assert "\n" not in str(caught.value)
