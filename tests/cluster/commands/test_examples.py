"""Every example in every --help runs as it is printed; every table is JSON too, fits, and has whole words."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coldfleet.cluster.commands import output
from coldfleet.cluster.commands.cli import COMMANDS, command_line
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.published.rows import V4
from tests.cluster.conftest import STUDY, Said, pretend
from tests.cluster.study.test_own_policy import GRID, HEAD, MINE
from tests.hostsim.trace.files import oracle_general, packed, page_idle

Command = Callable[..., Said]
ROOT = Path(__file__).parents[3]
ENGINE = ("ablate", "replay", "argue", "validate", "calibrate")  # of no use without the real simulator, and slow
WATCHED = ("explain", "report")  # simulate a host again: their results are real ones of a small study
ELSEWHERE = re.compile(
    r"s3://|--address|--follow|^coldfleet job |^coldfleet submit (?!.*--print)"
)  # a cluster, a store
QUESTIONS = ("compare", "capacity", "map", "search")  # run until they are sure, or their budget is spent


def examples() -> list[str]:
    """All of them, as the help shows them."""
    found = []
    for command in COMMANDS:
        _, head, text = (inspect.getdoc(command) or "").partition("Examples:")
        assert head, f"{command.__name__} has no examples"
        found += [line.strip() for line in text.splitlines() if line.strip()]
    return found


def marked(line: str) -> Any:
    slow = line.split()[1] in ENGINE or "--audit" in line
    return pytest.param(line, id=line.removeprefix("coldfleet "), marks=[pytest.mark.slow] if slow else [])


RUN_HERE = [line for line in examples() if not ELSEWHERE.search(line)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout as the examples need it: with the results of the quickstart, by a simulator that pretends."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "configs" / "fast_only.toml").write_text(STUDY)
    (folder / "tests").symlink_to(ROOT / "tests")
    (folder / "my.toml").write_text(HEAD + GRID + MINE)
    shutil.copy(ROOT / "configs" / "arguments" / "c05.toml", folder / "my_claim.toml")
    (folder / "mine.csv").write_text(V4.read_text())
    with sqlite3.connect(folder / "packing_trace_zone_a_v1.sqlite") as trace:
        trace.execute("CREATE TABLE vmType (id, vmTypeId, machineId, core, memory, hdd, ssd, nic)")
        trace.execute("CREATE TABLE vm (vmId, tenantId, vmTypeId, priority, starttime, endtime)")
        trace.execute("INSERT INTO vmType VALUES (1, 10, 3, 0.25, 0.125, 0, 0.1, 0.1)")
        trace.execute("INSERT INTO vm VALUES (1, 7, 10, 0, 0.0, NULL)")
    (folder / "web.oracleGeneral.bin.zst").write_bytes(packed(oracle_general())["zstd"])
    (folder / "blocks.csv").write_text("version,time,op,size,lbn\n1,5633898,2a,512,42932745\n")
    for number in range(3):
        (folder / f"idle.{number}").write_bytes(page_idle())
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch)
        for name in ("quickstart", "fast_only"):
            sweep(read_study(folder / "configs" / f"{name}.toml"), folder / "results" / name, SerialExecutor())
    copy_twice(folder)
    return folder


def copy_twice(folder: Path) -> None:
    """Results to compare: the quickstart's before a change that changed nothing, and after it."""
    for name in ("before", "after"):
        shutil.copytree(folder / "results" / "quickstart", folder / "results" / name)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real results of a small study in the place of the quickstart's, with its policies."""
    folder = tmp_path_factory.mktemp("watched")
    study = folder / "small.toml"
    study.write_text(STUDY.replace('["evict-only", "six-steps"]', '["fast-only-v5", "lockless-6.15"]'))
    sweep(read_study(study), folder / "results" / "quickstart", SerialExecutor())
    copy_twice(folder)
    return folder


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs everything in this process, without Ray."""
    for place in ("sweep", "trials"):
        monkeypatch.setattr(f"coldfleet.cluster.execution.{place}.make_executor", lambda *arguments: SerialExecutor())


def words_of(line: str) -> list[str]:
    """The arguments of an example, in a budget that a test has."""
    words = shlex.split(line.partition(" > ")[0])[1:]
    return [*words, "--budget", "2000" if words[0] == "search" else "600"] if words[0] in QUESTIONS else words


@pytest.mark.parametrize("line", [marked(line) for line in RUN_HERE])
def test_an_example_runs_as_printed(
    line: str, request: pytest.FixtureRequest, coldfleet: Command, monkeypatch: pytest.MonkeyPatch, here: None
) -> None:
    words = words_of(line)
    for package in {
        "query": ["duckdb"],
        "report": ["altair", "vl_convert"],
        "map": ["altair"],
        "trace": ["altair", "vl_convert"],
    }.get(words[0], []):
        pytest.importorskip(package)
    place: Path = request.getfixturevalue("watched" if words[0] in WATCHED else "folder")
    if words[0] in WATCHED:
        cell = read_study(place / "small.toml").cell_ids[2]  # fast-only-v5, all guests nested
        words = [cell if re.fullmatch("[0-9a-f]{6}", word) else word for word in words]
        words = ["0xd2" if word == "0x4d2" else "1" if word == "3" else word for word in words]  # its hosts are small
    elif words[0] not in ENGINE:
        pretend(monkeypatch)
    words = [word.replace("/data/", "data/") for word in words]
    (place / "data").mkdir(exist_ok=True)
    monkeypatch.chdir(request.getfixturevalue("tmp_path") if words[0] == "new" else place)
    for name in ("simulated", "audited"):
        shutil.rmtree(name, ignore_errors=True)
    said = coldfleet(*words)
    assert said.code in ((0, 1) if words[0] == "replay" else (0,)), said.err
    assert said.out or "--parquet" in words
    if "--json" in words:
        json.loads(said.out)


@pytest.mark.parametrize("line", [line for line in examples() if ELSEWHERE.search(line)])
def test_an_example_that_needs_a_cluster_is_understood(line: str) -> None:
    name, *words = shlex.split(line.partition(" > ")[0])[1:]
    command = command_line().commands[name]
    command.make_context(name, words)


def test_cells_in_examples_are_those_of_the_quickstart() -> None:
    ids = read_study(ROOT / "configs" / "quickstart.toml").cell_ids
    named = {word for line in examples() for word in re.findall(r"\b(?=\w*\d)[0-9a-f]{6}\b", line)}
    assert named
    assert all(any(cell_id.startswith(name) for cell_id in ids) for name in named), f"{named}: take some of {ids}"


WITHOUT_A_TABLE = {
    "new": "writes a study",
    "report": "writes a file",
    "compact": "says one sentence",
    "submit": "says one sentence, or prints a manifest",
    "fleet": "prints a part of a study",
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_whatever_prints_a_table_prints_json(command: Callable[..., Any]) -> None:
    named = "json" in inspect.signature(command).parameters
    assert named != (command.__name__ in WITHOUT_A_TABLE)


TABLES = (
    "plan configs/quickstart.toml", "sweep configs/quickstart.toml", "status results/quickstart",
    "resume results/quickstart", "retry results/quickstart --failed", "verify results/quickstart",
    "run results/quickstart --cell 872b28", "query results/quickstart 'SELECT * FROM cells LIMIT 2'",
    "query results/quickstart 'SELECT policy, nested_ratio, refaults FROM cells LIMIT 9'", "columns", "columns cells",
    "policies", "policies was-fast", "policies --steps",
    "compare kernel=6.12 kernel=6.18 configs/quickstart.toml --at nested_ratio=1",
    "capacity configs/quickstart.toml --at nested_ratio=1 --slo 'fault_rate<10%' --hosts 1000",
    "map configs/quickstart.toml --x nested_ratio --y exposed_share",
    "explain results/quickstart 872b28", "explain results/quickstart 872b28 --against lockless-6.15",
    "replay tests/recordings/k6.12_host_hotcold_debugfs_r1.jsonl.gz", "argue C5 --quick", "calibrate published",
    "validate", "ablate configs/findings/blind-aging.toml --from 6.12 --to 6.1",
)  # fmt: skip


@pytest.mark.parametrize("line", [marked(f"coldfleet {line}") for line in TABLES])
def test_tables_fit_and_words_are_whole(
    line: str, request: pytest.FixtureRequest, coldfleet: Command, monkeypatch: pytest.MonkeyPatch, here: None
) -> None:
    words = words_of(line)
    if words[0] == "query":
        pytest.importorskip("duckdb")
    if words[0] in QUESTIONS:
        words += ["--out", str(request.getfixturevalue("tmp_path") / "runs")]  # which are simulated once
    place: Path = request.getfixturevalue("watched" if words[0] in WATCHED else "folder")
    monkeypatch.chdir(place)
    if words[0] in WATCHED:
        words[2] = read_study(place / "small.toml").cell_ids[2]
    elif words[0] not in ENGINE:
        pretend(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(output, "WIDTH", 10_000)
        patch.setenv("COLUMNS", "10000")
        whole = set(coldfleet(*words).out.split())
    for columns in ("60", "80", "100", None):
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", columns) if columns else patch.delenv("COLUMNS", raising=False)
            lines = coldfleet(*words).out.splitlines()
        at_most = int(columns or output.WIDTH)
        broken = {word for text in lines for word in text.split() if not re.fullmatch(r"row|\d+", word)} - whole
        assert not broken or words[0] == "plan", f"{columns}: {broken}"  # which measures times
        for text in lines:
            assert len(text) <= at_most or is_one_word(text), f"{columns}: {text}"


def is_one_word(text: str) -> bool:
    """A line that can't be broken: a name, or a name and a word."""
    return len(text.split()) <= 2
