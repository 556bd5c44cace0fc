"""Results on an object store: the same commands, on an S3 that the test starts on loopback."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pyarrow import fs

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.journal import JOURNAL_NAME, Journal
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.results.storage import ATTEMPTS, open_storage
from coldfleet.cluster.study.plan import Plan
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import HostSpec
from tests.cluster.conftest import Said

pytest.importorskip("moto", reason="needs the S3 server of moto: pip install '.[test]'")
pytestmark = pytest.mark.usefixtures("fake_engine")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The query of a URI that leads to a local S3 with an empty bucket "fleet"."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "for-a-test")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        endpoint = f"{host}:{port}"
        s3 = fs.S3FileSystem(scheme="http", endpoint_override=endpoint, region="us-east-1", allow_bucket_creation=True)
        s3.create_dir("fleet")
        yield f"scheme=http&endpoint_override={endpoint}&region=us-east-1"
    server.stop()


@pytest.fixture
def study_file(tmp_path: Path, study_text: str) -> Path:
    """A sixth of the usual runs: each costs a dozen requests."""
    path = tmp_path / "small.toml"
    path.write_text(study_text.replace("replicates = 3", "replicates = 1").replace("[0, 0.5, 1]", "[0.5]"))
    return path


@pytest.fixture
def where(bucket: str, request: pytest.FixtureRequest) -> str:
    """A place of its own for each test."""
    return f"s3://fleet/{request.node.name.replace('[', '-').rstrip(']')}?{bucket}"


def test_sweep_on_s3_has_the_tables_of_a_local_one(where: str, plan: Plan, tmp_path: Path) -> None:
    local = sweep(plan, tmp_path / "out", SerialExecutor())
    remote = sweep(plan, where, SerialExecutor())
    for table in TABLES:
        assert remote.table(table).equals(local.table(table), check_metadata=True)
    assert remote.storage.exists("plan.parquet")


def test_every_command_takes_a_uri(
    where: str, study_file: Path, coldfleet: Callable[..., Said], fake_engine: list[HostSpec]
) -> None:
    assert coldfleet("sweep", study_file, "--out", where, "--executor", "serial").code == 0
    storage = open_storage(where)
    before = {table: Results.open(storage).table(table) for table in TABLES}
    part = next(name for name in storage.sizes("parts") if name.startswith("hosts-"))
    storage.delete(f"parts/{part}")
    assert coldfleet("status", where).code == 1
    said = coldfleet("verify", where)
    assert (said.code, f"parts/{part}: missing" in said.out) == (1, True)
    assert coldfleet("resume", where, "--executor", "serial").code == 0
    assert coldfleet("status", where).code == 0
    assert {table: Results.open(storage).table(table) for table in TABLES} == before
    assert coldfleet("verify", where).code == 1  # parts beside the lost one: nothing is deleted under a running sweep
    assert coldfleet("compact", where).code == 0
    assert coldfleet("verify", where).code == 0
    assert len(storage.sizes("parts")) == 3
    assert {table: Results.open(storage).table(table) for table in TABLES} == before
    fake_engine.clear()
    assert coldfleet("sweep", study_file, "--out", where, "--executor", "serial").code == 0
    assert fake_engine == []


def test_two_sweeps_at_once_only_repeat_work(where: str, plan: Plan, tmp_path: Path) -> None:
    storage = open_storage(where)
    sweep(plan, where, SerialExecutor())
    first = {table: Results.open(storage).table(table) for table in TABLES}
    kept = {name: storage.read(name) for name in storage.sizes() if JOURNAL_NAME.fullmatch(name)}
    for name in kept:
        storage.delete(name)
    sweep(plan, where, SerialExecutor())  # knows nothing of the first ...
    for name, content in kept.items():
        storage.write(name, content)  # ... whose receipts come late
    results = Results.open(storage)
    assert results.status.repeats == len(plan)
    assert {table: results.table(table) for table in TABLES} == first


def test_journal_rolls_over_to_new_segments(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from coldfleet.cluster.results.journal import BatchReceipt, RunReceipt, read_journal

    monkeypatch.setattr("coldfleet.cluster.results.journal.SEGMENT_LINES", 2)
    receipts = [BatchReceipt(f"b{number}", (), (RunReceipt("c", number, "failed"),)) for number in range(5)]
    storage = open_storage(where)
    with Journal(storage) as journal:
        for number, receipt in enumerate(receipts):
            journal.append(receipt)
            assert list(read_journal(storage)) == receipts[: number + 1]
    assert len(storage.sizes()) == 3


@pytest.mark.parametrize(
    ("uri", "expected"),
    [("s4://bucket/x", "s4"), ("s3://", "s3://"), ("nonsense://x", "nonsense")],
)
def test_unusable_uri_is_one_line(uri: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        open_storage(uri)
    assert "\n" not in str(caught.value)


def test_bucket_that_is_none_is_one_line(bucket: str, study_file: Path, coldfleet: Callable[..., Said]) -> None:
    said = coldfleet("sweep", study_file, "--out", f"s3://nobody/x?{bucket}", "--executor", "serial")
    assert (said.code, said.out) == (2, "")
    assert "nobody" in said.err.splitlines()[-1]
    assert "Traceback" not in said.err


def test_damaged_receipt_is_dropped_and_its_runs_made_again(
    where: str, study_file: Path, coldfleet: Callable[..., Said], fake_engine: list[HostSpec]
) -> None:
    assert coldfleet("sweep", study_file, "--out", where, "--executor", "serial").code == 0
    storage = open_storage(where)
    before = {table: Results.open(storage).table(table) for table in TABLES}
    name = next(name for name in storage.sizes() if JOURNAL_NAME.fullmatch(name))
    content = bytearray(storage.read(name))
    content[content.index(b"\n") // 2] ^= 1
    storage.write(name, bytes(content))
    said = coldfleet("resume", where, "--executor", "serial")
    assert said.code == 0
    assert f"damaged receipt {name}:1" in said.err
    results = Results.open(storage)
    assert (results.damage, results.missing) == ((), [])
    assert {table: results.table(table) for table in TABLES} == before
    fake_engine.clear()
    assert "damaged" not in coldfleet("resume", where, "--executor", "serial").err
    assert fake_engine == []


@pytest.fixture(params=["no reply", "no connection"])
def silent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A URI whose endpoint takes connections and says nothing, or doesn't even take them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with socket.socket() as server, ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0 if request.param == "no connection" else 100)
        port = server.getsockname()[1]
        for _ in range(3 if request.param == "no connection" else 0):  # more than the queue holds
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield f"s3://fleet/study?scheme=http&endpoint_override=127.0.0.1:{port}&region=us-east-1"


@pytest.mark.parametrize(("command", "attempts"), [("sweep", 1), ("status", ATTEMPTS)])
def test_store_that_does_not_answer_is_one_line(
    command: str,
    attempts: int,
    silent: str,
    study_file: Path,
    coldfleet: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("coldfleet.cluster.results.storage.ATTEMPTS", attempts)
    begun = time.monotonic()
    arguments = [study_file, "--out", silent, "--executor", "serial"] if command == "sweep" else [silent]
    said = coldfleet(command, *arguments)
    assert time.monotonic() - begun < 16
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert silent in said.err
    assert "check the address, the credentials and the network" in said.err


def test_google_s_store_that_does_not_answer_is_one_line(
    study_file: Path, coldfleet: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldfleet.cluster.results.storage.ANSWER_WITHIN_S", 1.0)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(100)
        where = f"gs://anonymous@fleet/study?scheme=http&endpoint_override=127.0.0.1:{server.getsockname()[1]}"
        begun = time.monotonic()
        for arguments in (["sweep", study_file, "--out", where, "--executor", "serial"], ["status", where]):
            said = coldfleet(*arguments)
            assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
            assert f"{where}: no answer within 1 s: check the address, the credentials and the network" in said.err
        assert time.monotonic() - begun < 10


def test_a_question_keeps_its_runs_on_s3(
    where: str, study_file: Path, coldfleet: Callable[..., Said], fake_engine: list[HostSpec]
) -> None:
    question = ("compare", "evict-only", "six-steps", study_file, "--budget", 40, "--executor", "serial", "--json")
    alone, first = coldfleet(*question), coldfleet(*question, "--out", where)
    fake_engine.clear()
    again = coldfleet(*question, "--out", where)
    assert first.out == again.out == alone.out
    assert not fake_engine
    assert "reused 20 of 20 runs" in again.err
    assert coldfleet("verify", where).code == 0
