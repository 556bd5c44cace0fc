"""Results that were damaged, forged, or lead elsewhere: no wrong table in silence, nothing outside is touched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldfleet.cluster.results.journal import BatchReceipt, DamagedLine, scan_journal, signed_line
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.results.storage import open_storage
from coldfleet.cluster.results.verify import verify
from coldfleet.cluster.study.plan import Plan
from coldfleet.hostsim.spec.errors import UserError
from tests.cluster.conftest import Said
from tests.fuzzing import BOUNDED, CUTS, JUNK, LONG, Cut, cut_up, outcome, put

Command = Callable[..., Said]
pytestmark = pytest.mark.usefixtures("fake_engine")


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
    "a list for a hash": lambda data: data["parts"][0].update(sha256=[]),
    "a list for a batch": lambda data: data.update(batch=[]),
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


@pytest.mark.parametrize("name", [".journal.jsonl.tmp", ".study.json.PID.tmp", "report.html"])
def test_a_link_where_something_is_written_is_replaced_or_refused(
    done: Path, tmp_path: Path, name: str, coldfleet: Command
) -> None:
    name = name.replace("PID", str(os.getpid()))
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


def check_directory(directory: Path) -> None:
    """Whatever was done to a directory: tables have each run once, or it is missing, or one line says why."""

    def use() -> None:
        results = Results.open(directory)
        problems = list(verify(results))
        assert all(len(line.splitlines()) == 1 for line in problems)
        cells = results.table("cells", ["cell_id", "replicate"])
        assert cells.num_rows == results.status.done == len(results.plan) - len(results.missing) - len(results.failed)
        found = set(zip(*(column.to_pylist() for column in cells.columns), strict=True))
        assert len(found) == cells.num_rows
        if not problems:
            assert all(results.plan.index_of(*who) >= 0 for who in found)

    outcome(use)


def check_cuts(directory: Path, name: str, cuts: list[Cut]) -> None:
    path = directory / name if "." in name else sorted((directory / "parts").glob(f"{name}-*"))[0]
    whole = path.read_bytes()
    before = Results.open(directory).table("cells") if "." not in name else None
    path.write_bytes(cut_up(whole, cuts))
    try:
        check_directory(directory)
        if before is not None and path.read_bytes() != whole:
            assert Results.open(directory).missing
        if name == "journal.jsonl" and path.read_bytes() != whole:
            results = Results.open(directory)
            assert results.damage or results.missing or not path.read_bytes().endswith(b"\n")
    finally:
        path.write_bytes(whole)


def check_head(directory: Path, where: list[str | int], value: Any) -> None:
    """study.json with one value of any kind at one place."""
    path = directory / "study.json"
    whole = path.read_bytes()
    head = json.loads(whole)
    put(head, where, value)
    path.write_text(json.dumps(head))
    try:
        check_directory(directory)
    finally:
        path.write_bytes(whole)


def check_receipt(directory: Path, where: list[str | int], value: Any) -> None:
    """A receipt with one value of any kind at one place, signed."""
    path = directory / "journal.jsonl"
    whole = path.read_bytes()

    def change(data: dict[str, Any]) -> None:
        put(data, where, value)

    try:
        forged(directory, change)
        check_directory(directory)
    finally:
        path.write_bytes(whole)


FILES = ["journal.jsonl", "study.json", "plan.parquet", "cells", "hosts", "guests"]
HEAD = st.sampled_from(
    [["format"], ["schema_version"], ["study"], ["engine"], ["versions"], ["cells"], ["created"],
     *(["study", key] for key in ("name", "title", "description", "seed", "replicates", "parameters", "policies",
                                  "grid", "bundles", "where")),
     ["study", "parameters", "guest.memory"], ["study", "parameters", "ticks"], ["study", "parameters", "x"],
     ["study", "grid", "policy"], ["study", "grid", "policy", 0], ["study", "grid", "ticks"], ["study", "grid", "x"],
     ["study", "policies", "mine"], ["study", "bundles", 0], ["study", "where", 0]]
)  # fmt: skip
RECEIPT = st.sampled_from(
    [["batch"], ["parts"], ["runs"], ["worker"], ["rss_bytes"], ["x"], ["parts", 0], ["runs", 0],
     *(["parts", 0, key] for key in ("table", "name", "rows", "sha256", "x")),
     *(["runs", 0, key] for key in ("cell_id", "replicate", "status", "rows", "wall_s", "cpu_s", "error", "x")),
     ["runs", 0, "rows", "cells"], ["runs", 0, "rows", "x"]]
)  # fmt: skip
SLICE = settings(BOUNDED, max_examples=30)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("replicates", 0.0),
        ("replicates", -1),
        ("replicates", True),
        ("seed", "1"),
        ("seed", -1),
        ("title", []),
        ("name", 1),
    ],
)
def test_a_head_that_cannot_be_is_refused(done: Path, name: str, value: Any) -> None:
    head = json.loads((done / "study.json").read_bytes())
    head["study"][name] = value
    (done / "study.json").write_text(json.dumps(head))
    with pytest.raises(UserError, match=r"study\.json is damaged"):
        Results.open(done)


HEADS: dict[str, tuple[Callable[[str], str], str]] = {
    "empty": (lambda text: "", "study.json:1 is damaged: it ends too early: put back a copy"),
    "cut off": (lambda text: text[: len(text) // 2], "is damaged: "),
    "a comma too much": (lambda text: text.replace("{", "{,", 1), "study.json:1 is damaged: no JSON at column 2"),
    "deep": (lambda text: "[" * 100_000, "study.json is damaged: no JSON that a sweep writes"),
    "digits": (lambda text: "9" * 9000, "study.json is damaged: no JSON that a sweep writes"),
    "another file": (lambda text: "{}", 'study.json is damaged: its "format" is not "coldfleet results"'),
    "no study": (lambda text: text.replace('"study"', '"studie"'), "study is None, which no sweep writes"),
    "versions": (lambda text: text.replace('"versions": {', '"versions": 5, "x": {'), "versions is 5, which no sweep"),
    "seed": (lambda text: text.replace('"seed": ', '"seed": "x", "s": '), "study: seed is 'x', not a whole number"),
    "grid": (lambda text: text.replace('"policy": [', '"policy": 5, "x": ['), "grid.policy is 5, not a list"),
    "where": (lambda text: text.replace('"where": [', '"where": ["1"], "x": ['), "'1' is a number, not a condition"),
    "key": (lambda text: text.replace('"ticks": ', '"tics": '), "tics"),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("command", ["status", "query", "report", "resume", "verify"])
def test_every_command_says_what_is_wrong_with_the_head(
    done: Path, coldfleet: Command, head: str, command: str
) -> None:
    change, expected = HEADS[head]
    text = (done / "study.json").read_text()
    (done / "study.json").write_text(change(text))
    before = {path: path.read_bytes() for path in done.rglob("*") if path.is_file()}
    said = coldfleet(command, done, *(["SELECT 1"] if command == "query" else []))
    assert said.code == 2
    assert expected in said.err
    assert "put back a copy of the file, or run the study again into a new directory" in said.err
    assert len(said.err.splitlines()) == 1
    assert {path: path.read_bytes() for path in done.rglob("*") if path.is_file()} == before


@SLICE
@given(st.sampled_from(FILES), CUTS)
def test_a_damaged_file_gives_no_wrong_table(done: Path, name: str, cuts: list[Cut]) -> None:
    check_cuts(done, name, cuts)


@SLICE
@given(HEAD, JUNK)
def test_junk_in_the_head_gives_no_wrong_table(done: Path, where: list[str | int], value: Any) -> None:
    check_head(done, where, value)


@SLICE
@given(RECEIPT, JUNK)
def test_junk_in_a_receipt_gives_no_wrong_table(done: Path, where: list[str | int], value: Any) -> None:
    check_receipt(done, where, value)


@pytest.mark.slow
@LONG
@given(st.sampled_from(FILES), CUTS)
def test_fuzz_files_of_results(done: Path, name: str, cuts: list[Cut]) -> None:
    check_cuts(done, name, cuts)


@pytest.mark.slow
@LONG
@given(HEAD, JUNK)
def test_fuzz_heads_of_results(done: Path, where: list[str | int], value: Any) -> None:
    check_head(done, where, value)


@pytest.mark.slow
@LONG
@given(RECEIPT, JUNK)
def test_fuzz_receipts(done: Path, where: list[str | int], value: Any) -> None:
    check_receipt(done, where, value)


def test_a_torn_last_line_is_no_damage(done: Path) -> None:
    journal = done / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-10])
    found = list(scan_journal(open_storage(str(done))))
    assert not any(isinstance(each, DamagedLine) for each in found)
    assert Results.open(done).missing
