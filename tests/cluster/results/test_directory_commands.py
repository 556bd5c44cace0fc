"""status, resume, retry, verify, compact: a results directory over its life."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.execution.work import Batch
from coldfleet.cluster.results.journal import signed_line
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES, schema
from coldfleet.cluster.results.storage import open_storage
from coldfleet.cluster.results.verify import verify
from coldfleet.cluster.study.plan import Plan
from coldfleet.hostsim.spec.host_spec import HostResult, HostSpec
from coldfleet.policies import Policy
from tests.cluster.conftest import Said, pretended_sweep

Command = Callable[..., Said]
pytestmark = pytest.mark.usefixtures("fake_engine")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished sweep with a part for every pair of runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coldfleet.cluster.execution.batching.Batches.__next__", _pairs)
        return pretended_sweep(tmp_path_factory.mktemp("finished"))


@pytest.fixture(autouse=True)
def pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goes on in pairs."""
    monkeypatch.setattr("coldfleet.cluster.execution.batching.Batches.__next__", _pairs)


def _pairs(batches: object) -> Batch:
    start = batches._next  # type: ignore[attr-defined]
    if start >= len(batches._indices):  # type: ignore[attr-defined]
        raise StopIteration
    batches._next += 2  # type: ignore[attr-defined]
    return Batch(start, tuple(batches._indices[start : start + 2]))  # type: ignore[attr-defined]


def tables(directory: Path) -> dict[str, pa.Table]:
    results = Results.open(directory)
    return {table: results.table(table) for table in TABLES}


def lines(directory: Path) -> list[str]:
    return (directory / "journal.jsonl").read_text().splitlines(keepends=True)


def lose_a_part(directory: Path) -> None:
    next((directory / "parts").glob("hosts-*")).unlink()


def truncate_a_part(directory: Path) -> None:
    part = next((directory / "parts").glob("guests-*"))
    part.write_bytes(part.read_bytes()[:100])


def flip_a_byte(directory: Path) -> None:
    part = next((directory / "parts").glob("cells-*"))
    content = bytearray(part.read_bytes())
    content[100] ^= 1
    part.write_bytes(content)


def leave_an_orphan(directory: Path) -> None:
    part = next((directory / "parts").glob("cells-*"))
    part.with_name("cells-000099-abcdef012345.parquet").write_bytes(part.read_bytes())


def repeat_a_receipt(directory: Path) -> None:
    journal = directory / "journal.jsonl"
    journal.write_text(journal.read_text() + lines(directory)[0])


def take_the_plan_of_another_study(directory: Path) -> None:
    table = pq.read_table(directory / "plan.parquet")
    other = pa.array(["0123456789ab"] * len(table))
    pq.write_table(table.set_column(1, table.schema.field("cell_id"), other), directory / "plan.parquet")


def shorten_the_plan(directory: Path) -> None:
    pq.write_table(pq.read_table(directory / "plan.parquet").slice(0, 5), directory / "plan.parquet")


def lose_the_plan(directory: Path) -> None:
    (directory / "plan.parquet").unlink()


def spoil_the_plan(directory: Path) -> None:
    (directory / "plan.parquet").write_bytes(b"PAR1")


def add_a_receipt_of_another_study(directory: Path) -> None:
    receipt = json.loads(lines(directory)[0])
    receipt["parts"] = []
    receipt["runs"] = [{**receipt["runs"][0], "cell_id": "0123456789ab", "status": "failed", "rows": {}}]
    with open(directory / "journal.jsonl", "ab") as journal:
        journal.write(signed(receipt))


def flip_a_bit_of_the_journal(directory: Path) -> None:
    content = bytearray((directory / "journal.jsonl").read_bytes())
    content[40] ^= 1
    (directory / "journal.jsonl").write_bytes(content)


def sign_what_is_no_table(directory: Path) -> None:
    receipt = json.loads(lines(directory)[0])
    part = next(part for part in receipt["parts"] if part["table"] == "hosts")
    (directory / "parts" / part["name"]).write_bytes(b"PAR1 no table PAR1")
    part["sha256"] = open_storage(str(directory)).sha256(f"parts/{part['name']}")
    rest = "".join(lines(directory)[1:]).encode()
    (directory / "journal.jsonl").write_bytes(signed(receipt) + rest)


def signed(receipt: dict[str, Any]) -> bytes:
    """A receipt that was changed, as a line with the checksum of what it says now."""
    return signed_line({key: value for key, value in receipt.items() if key != "sum"})


DAMAGES: dict[Callable[[Path], None], tuple[int, str]] = {
    lose_a_part: (1, "missing: 2 runs have no rows: `coldfleet resume"),
    truncate_a_part: (1, "its bytes have changed since it was written: 2 runs have no rows: `coldfleet resume"),
    flip_a_byte: (1, "its bytes have changed since it was written: 2 runs have no rows: `coldfleet resume"),
    leave_an_orphan: (1, "no valid receipt names it, so it isn't used: `coldfleet compact"),
    repeat_a_receipt: (2, "replicate 0 is there 2 times: `coldfleet compact"),
    take_the_plan_of_another_study: (1, "plan.parquet: row 0 isn't a run of study.json: it is another study's: delete"),
    shorten_the_plan: (1, "plan.parquet: has 5 runs, study.json has 18: it is another study's: delete it"),
    lose_the_plan: (1, "plan.parquet: missing: `coldfleet resume"),
    spoil_the_plan: (1, "plan.parquet: can't be read"),
    add_a_receipt_of_another_study: (1, "run 0123456789ab 0 is none of the plan: nothing is taken from this receipt"),
    flip_a_bit_of_the_journal: (1, "journal.jsonl:1: its checksum is not that of its text: nothing is taken"),
    sign_what_is_no_table: (1, "is what its receipt says, but no table"),
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_verify_finds_what_is_wrong_and_says_what_to_do(
    damage: Callable[[Path], None], done: Path, coldfleet: Command
) -> None:
    good = coldfleet("verify", done)
    assert (good.code, good.out.count("\n")) == (0, 1)
    assert "27 parts are as their receipts say" in good.out
    damage(done)
    before = {path: path.read_bytes() for path in done.rglob("*") if path.is_file()}
    said = coldfleet("verify", done)
    count, expected = DAMAGES[damage]
    assert said.code == 1
    assert expected in said.out
    # the other parts of a batch with a lost one aren't used either
    others = sum("so it isn't used" in line and "000099" not in line for line in said.out.splitlines())
    assert said.out.count("\n") - others == count
    assert {path: path.read_bytes() for path in done.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("damage", [lose_a_part, truncate_a_part, flip_a_byte, leave_an_orphan, repeat_a_receipt])
def test_what_verify_advises_mends_it(damage: Callable[[Path], None], done: Path, coldfleet: Command) -> None:
    before = tables(done)
    damage(done)
    advice = coldfleet("verify", done).out.splitlines()[0].split("`")[1].split()
    assert advice[0] == "coldfleet"
    serial = ["--executor", "serial"] if advice[1] == "resume" else []
    assert coldfleet(*advice[1:], *serial).code == 0
    assert coldfleet("verify", done).code == 0
    assert tables(done) == before


def test_verify_sees_rows_that_no_receipt_promises(done: Path, coldfleet: Command) -> None:
    receipt = json.loads(lines(done)[0])
    name = next(part["name"] for part in receipt["parts"] if part["table"] == "hosts")
    table = pq.read_table(done / "parts" / name)
    rows = [0, *range(len(table) - 1)]  # one run has a row of another's
    pq.write_table(table.take(rows), done / "parts" / name)
    for part in receipt["parts"]:
        part["sha256"] = open_storage(str(done)).sha256(f"parts/{part['name']}")
    (done / "journal.jsonl").write_bytes(signed(receipt) + "".join(lines(done)[1:]).encode())
    said = coldfleet("verify", done)
    assert said.code == 1
    assert "3 rows of cell" in said.out
    assert "where its receipt has 2" in said.out


def test_receipt_cannot_lead_out_of_the_directory(done: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.parquet").write_text("x")
    receipt = json.loads(lines(done)[0])
    receipt["parts"][0]["name"] = "../../secret.parquet"
    (done / "journal.jsonl").write_bytes(signed(receipt))
    assert Results.open(done).parts == ()
    assert len(Results.open(done).missing) == 18


def test_compact_keeps_every_row_in_fewer_files(done: Path, coldfleet: Command) -> None:
    before = tables(done)
    leave_an_orphan(done)
    said = coldfleet("compact", done)
    assert (said.code, said.out) == (0, f"{done}: 28 parts are now 3\n")
    assert len(list((done / "parts").iterdir())) == 3
    assert len(lines(done)) == 1
    assert tables(done) == before
    assert coldfleet("verify", done).code == 0
    assert coldfleet("status", done).code == 0


def test_compact_of_half_a_sweep_can_be_resumed(done: Path, coldfleet: Command) -> None:
    before = tables(done)
    lose_a_part(done)
    assert coldfleet("status", done).code == 1, "a part that a receipt names is gone"
    assert coldfleet("compact", done).code == 0
    said = coldfleet("status", done)
    assert (said.code, "2 to do" in said.out) == (0, True), "nothing is wrong: runs are to do"
    assert coldfleet("resume", done, "--executor", "serial").code == 0
    assert tables(done) == before
    assert coldfleet("verify", done).code == 0


def test_crash_in_compact_loses_nothing(done: Path, monkeypatch: pytest.MonkeyPatch, coldfleet: Command) -> None:
    before = tables(done)

    def crash(*arguments: object) -> None:
        raise KeyboardInterrupt

    for step in (
        "coldfleet.cluster.results.journal.Journal.replace",
        "coldfleet.cluster.results.storage.Storage.delete",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(step, crash)
            assert coldfleet("compact", done).code == 130
        assert tables(done) == before
    assert coldfleet("compact", done).code == 0
    assert coldfleet("verify", done).code == 0
    assert tables(done) == before


def test_status_of_half_a_sweep(done: Path, coldfleet: Command) -> None:
    lose_a_part(done)
    said = coldfleet("status", done)
    assert said.code == 1
    assert "16 runs done, 0 failed, 2 to do" in said.out
    assert f"continue with: coldfleet resume {done}" in said.out
    data = json.loads(coldfleet("status", done, "--json").out)
    assert (data["runs"], data["done"], data["missing"], data["failed"]) == (18, 16, 2, [])
    assert len(data["damaged"]) == 1
    assert "1 part missing or changed" in said.out


def test_resume_needs_no_study_file(done: Path, study_file: Path, coldfleet: Command) -> None:
    before = tables(done)
    flip_a_byte(done)
    study_file.unlink()
    said = coldfleet("resume", done, "--executor", "serial")
    assert said.code == 0
    assert "a small study" in said.out
    assert tables(done) == before


@pytest.mark.parametrize("command", ["status", "resume", "verify", "compact", "retry"])
def test_directory_that_is_none_is_one_line(command: str, tmp_path: Path, coldfleet: Command) -> None:
    more = ["--failed"] if command == "retry" else []
    said = coldfleet(command, tmp_path / "nowhere", *more)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "no results of a sweep" in said.err
    assert not (tmp_path / "nowhere").exists()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Makes six-steps fail in replicate 1, or work again."""
    from coldfleet.hostsim import host

    simulate = host.simulate_host
    state = {"broken": True}

    def fail_sometimes(spec: HostSpec, policy: Policy, *, seed: int, replicate: int, host: int) -> HostResult:
        if state["broken"] and replicate == 1 and policy.name == "six-steps":
            raise MemoryError("too small a machine")
        return simulate(spec, policy, seed=seed, replicate=replicate, host=host)

    monkeypatch.setattr(host, "simulate_host", fail_sometimes)
    return lambda broken: state.update(broken=broken)


def test_failures_are_rows_with_the_spec_of_their_cell(
    broken: Callable[[bool], None], plan: Plan, tmp_path: Path, study_file: Path, coldfleet: Command
) -> None:
    out = tmp_path / "out"
    assert coldfleet("sweep", study_file, "--out", out, "--executor", "serial").code == 1
    rows = pq.read_table(out / "failures.parquet")
    assert rows.schema.equals(schema("failures"), check_metadata=True)
    assert rows.num_rows == 3
    assert set(rows["error"].to_pylist()) == {"MemoryError: too small a machine"}
    assert set(rows["policy"].to_pylist()) == {"six-steps"}
    assert sorted(rows["nested_ratio"].to_pylist()) == [0, 0.5, 1]
    assert not Results.open(out).missing
    assert coldfleet("verify", out).code == 0
    assert coldfleet("compact", out).code == 0
    assert len(Results.open(out).failed) == 3
    said = coldfleet("status", out)
    assert (said.code, f"coldfleet retry {out} --failed" in said.out) == (1, True)


def test_retry_runs_the_failed_ones_only_and_a_success_counts(
    broken: Callable[[bool], None], plan: Plan, tmp_path: Path, coldfleet: Command, fake_engine: list[HostSpec]
) -> None:
    out = tmp_path / "out"
    sweep(plan, out, SerialExecutor())
    assert coldfleet("retry", out, "--failed", "--executor", "serial").code == 1
    assert len(Results.open(out).failed) == 3
    broken(False)
    fake_engine.clear()
    said = coldfleet("retry", out, "--failed", "--executor", "serial")
    assert said.code == 0, said.err
    hosts = [spec for spec in fake_engine if spec.ticks == 4]
    assert len(hosts) == 3 * 2
    assert not (out / "failures.parquet").exists()
    whole = sweep(plan, tmp_path / "whole", SerialExecutor())
    assert tables(out) == {table: whole.table(table) for table in TABLES}
    assert coldfleet("verify", out).code == 0
    fake_engine.clear()
    assert coldfleet("retry", out, "--failed", "--executor", "serial").code == 0
    assert fake_engine == []


def test_retry_of_what(tmp_path: Path, coldfleet: Command) -> None:
    said = coldfleet("retry", tmp_path)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "--failed" in said.err


def test_fail_fast_stops_at_the_first_failure(
    broken: Callable[[bool], None], study_file: Path, tmp_path: Path, coldfleet: Command
) -> None:
    said = coldfleet("sweep", study_file, "--out", tmp_path / "out", "--executor", "serial", "--fail-fast")
    assert said.code == 1
    assert "stopped at a failed run" in said.err
    assert f"continue with: coldfleet resume {tmp_path / 'out'}" in said.err
    results = Results.open(tmp_path / "out")
    assert len(results.failed) == 1
    assert results.missing
    assert list(verify(results)) == []


def test_full_disk_leaves_a_good_journal(done: Path, monkeypatch: pytest.MonkeyPatch, coldfleet: Command) -> None:
    before = tables(done)
    lose_a_part(done)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("coldfleet.cluster.results.storage.write_here", full)
        said = coldfleet("resume", done, "--executor", "serial")
        mend = f"once that is mended, continue with: coldfleet resume {done}"
        assert (said.code, said.err.splitlines()[-1]) == (2, f"coldfleet: {done}: No space left on device; {mend}")
    assert coldfleet("resume", done, "--executor", "serial").code == 0
    assert tables(done) == before
