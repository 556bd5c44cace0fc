"""Results that were damaged, forged, or lead elsewhere: no wrong table in silence, nothing outside is touched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.journal import BatchReceipt, DamagedLine, scan_journal, signed_line
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.results.storage import open_storage
from coldfleet.cluster.study.plan import Plan
from coldfleet.hostsim.spec.errors import UserError
from tests.cluster.conftest import Said

Command = Callable[..., Said]
pytestmark = pytest.mark.usefixtures("fake_engine")


@pytest.fixture
def done(plan: Plan, tmp_path: Path) -> Path:
    """The directory of a finished sweep."""
    sweep(plan, tmp_path / "out", SerialExecutor())
    return tmp_path / "out"


def check_flips(directory: Path, positions: Iterable[tuple[int, int]]) -> int:
    """Flips bits of the journal one by one: either the tables are as before, or runs are missing and it is said."""
    journal = directory / "journal.jsonl"
    whole = journal.read_bytes()
    before = list(scan_journal(open_storage(str(directory))))
    good = {receipt.as_line() for receipt in before if isinstance(receipt, BatchReceipt)}
    count = 0
    for position, bit in positions:
        flipped = bytearray(whole)
        flipped[position] ^= 1 << bit
        journal.write_bytes(flipped)
        found = list(scan_journal(open_storage(str(directory))))
        kept = [each for each in found if isinstance(each, BatchReceipt)]
        assert len(kept) < len(before)
        assert all(receipt.as_line() in good for receipt in kept)
        assert len(kept) < len(found) or position == len(whole) - 1  # the last line's end: it looks torn
        count += 1
    journal.write_bytes(whole)
    return count


def test_a_flipped_bit_of_the_journal_is_damage(done: Path) -> None:
    size = (done / "journal.jsonl").stat().st_size
    assert check_flips(done, ((at, at % 8) for at in range(0, size, 23))) > 20


@pytest.mark.slow
def test_every_flipped_bit_of_the_journal_is_damage(done: Path) -> None:
    size = (done / "journal.jsonl").stat().st_size
    assert check_flips(done, ((at, bit) for at in range(size) for bit in range(8))) > 3000


@pytest.mark.parametrize("command", ["status", "query", "report", "resume"])
def test_damage_is_said_and_mended(done: Path, plan: Plan, coldfleet: Command, command: str) -> None:
    before = {name: Results.open(done).table(name) for name in TABLES}
    journal = bytearray((done / "journal.jsonl").read_bytes())
    journal[100] ^= 4
    (done / "journal.jsonl").write_bytes(journal)
    more = {"query": ["SELECT count(*) FROM cells"], "resume": ["--executor", "serial"]}.get(command, [])
    said = coldfleet(command, done, *more)
    assert "damaged receipt journal.jsonl:1: its checksum is not that of its text" in said.err
    if command == "status":
        assert said.code == 1
    assert coldfleet("resume", done, "--executor", "serial").code == 0
    assert Results.open(done).damage == ()
    assert {name: Results.open(done).table(name) for name in TABLES} == before
    assert coldfleet("verify", done).code == 0


def forged(done: Path, change: Callable[[dict[str, Any]], object]) -> None:
    receipt, *rest = (done / "journal.jsonl").read_bytes().splitlines(keepends=True)
    data = json.loads(receipt)
    del data["sum"]
    change(data)
    (done / "journal.jsonl").write_bytes(signed_line(data) + b"".join(rest))


FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no parts": lambda data: data.update(parts=[]),
    "no runs": lambda data: data.update(runs=[]),
    "parts of no run": lambda data: data["runs"][0].update(status="failed"),
    "another status": lambda data: data["runs"][0].update(status="dons"),
    "a run of no plan": lambda data: data["runs"][0].update(cell_id="0123456789ab"),
    "a replicate of no plan": lambda data: data["runs"][0].update(replicate=99),
    "one run, twice": lambda data: data["runs"].append(data["runs"][0]),
    "two parts of a table": lambda data: data["parts"].append(data["parts"][0]),
    "too many rows": lambda data: data["parts"][0].update(rows=99),
    "rows of no table": lambda data: data["runs"][0]["rows"].update(nobody=1),
    "a number for a text": lambda data: data["runs"][0].update(cell_id=7),
    "a list for a number": lambda data: data["runs"][0].update(replicate=[1]),
    "a text for rows": lambda data: data["runs"][0].update(rows="cells"),
    "nothing at all": lambda data: data.clear(),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_receipt_that_cannot_be_is_damage(done: Path, forgery: str, plan: Plan, coldfleet: Command) -> None:
    before = Results.open(done).table("cells")
    forged(done, FORGERIES[forgery])
    results = Results.open(done)
    assert len(results.damage) == 1
    assert results.missing
    assert results.table("cells").num_rows == len(plan) - len(results.missing)
    assert coldfleet("status", done).code == 1
    assert coldfleet("resume", done, "--executor", "serial").code == 0
    assert Results.open(done).table("cells") == before


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


COMMANDS = (("status",), ("verify",), ("resume", "--executor", "serial"), ("retry", "--failed", "--executor", "serial"),
            ("compact",), ("query", "SELECT 1"))  # fmt: skip


@pytest.mark.parametrize(
    "entry", ["study.json", "plan.parquet", "journal.jsonl", "parts", "failures.parquet", "a part"]
)
def test_a_link_is_not_followed(done: Path, tmp_path: Path, entry: str, coldfleet: Command) -> None:
    """The other sweep is the same one's copy: following the link would even make sense."""
    other = tmp_path / "other"
    copytree(done, other)
    name = f"parts/{next((done / 'parts').iterdir()).name}" if entry == "a part" else entry
    mine, theirs = done / name, other / name
    if not theirs.exists():
        theirs.write_bytes(b"not ours")
    if mine.is_dir():
        mine.rename(tmp_path / "moved")
        (done / "journal.jsonl").write_bytes(b"")
    else:
        mine.unlink(missing_ok=True)
    mine.symlink_to(theirs)
    before = snapshot(other)
    for command, *more in COMMANDS:
        said = coldfleet(command, done, *more)
        assert said.code in (0, 1, 2), said
        assert "Traceback" not in said.err
        assert snapshot(other) == before, command


@pytest.mark.parametrize("name", [".journal.jsonl.tmp", f".study.json.{os.getpid()}.tmp", "report.html"])
def test_a_link_where_something_is_written_is_replaced_or_refused(
    done: Path, tmp_path: Path, name: str, coldfleet: Command
) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    (done / name).symlink_to(target)
    for command, *more in [*COMMANDS, *([("report",)] if name == "report.html" else [])]:
        assert coldfleet(command, done, *more).code in (0, 1, 2)
        assert target.read_text() == "precious"


@pytest.mark.parametrize("entry", ["study.json", "plan.parquet", "journal.jsonl", "a part"])
def test_a_fifo_is_not_waited_for(done: Path, entry: str, coldfleet: Command) -> None:
    path = next((done / "parts").iterdir()) if entry == "a part" else done / entry
    path.unlink()
    os.mkfifo(path)
    for command, *more in COMMANDS:
        assert coldfleet(command, done, *more).code in (0, 1, 2)


EDITS = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 30), st.binary(max_size=8)), min_size=1, max_size=3)
BOUNDED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check_edited(directory: Path, name: str, edits: list[tuple[int, int, bytes]]) -> None:
    whole = (directory / name).read_bytes()
    content = whole
    for at, cut, piece in edits:
        at %= len(whole)
        content = content[:at] + piece + content[at + cut :]
    (directory / name).write_bytes(content)
    try:
        results = Results.open(directory)
        rows = results.table("cells").num_rows
        assert rows == results.status.done == len(results.plan) - len(results.missing)
        if name == "journal.jsonl":
            assert content == whole or results.damage or results.missing
    except UserError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    finally:
        (directory / name).write_bytes(whole)


@pytest.mark.parametrize("name", ["journal.jsonl", "study.json"])
@BOUNDED
@given(EDITS)
def test_an_edited_file_gives_no_wrong_table(done: Path, name: str, edits: list[tuple[int, int, bytes]]) -> None:
    check_edited(done, name, edits)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["journal.jsonl", "study.json"])
@settings(BOUNDED, max_examples=3000)
@given(EDITS)
def test_many_edited_files_give_no_wrong_table(done: Path, name: str, edits: list[tuple[int, int, bytes]]) -> None:
    check_edited(done, name, edits)


def test_a_torn_last_line_is_no_damage(done: Path) -> None:
    journal = done / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-10])
    found = list(scan_journal(open_storage(str(done))))
    assert not any(isinstance(each, DamagedLine) for each in found)
    assert Results.open(done).missing
