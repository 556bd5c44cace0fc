"""Studies that mean harm, or slipped: one line and no work, or a plan. Sizes are counted before anything is built."""

from __future__ import annotations

import os
import re
import sqlite3
import time
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfleet.cluster.commands.cli import run_command
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.execution.work import simulate_run
from coldfleet.cluster.study import terminal
from coldfleet.cluster.study.azure import read_trace
from coldfleet.cluster.study.constraint import read_constraint
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.toml import read_toml
from coldfleet.hostsim.spec.units import MEMORY
from tests.fuzzing import BOUNDED, JUNK, LONG, Edit, edited, edits_with, outcome

STUDY = """\
title = "t"
seed = 1
replicates = 1
ticks = 4
overcommit = 1.5
where = ["overcommit > 1"]
[fleet]
hosts = 1
guests_per_host = 2
[guest]
memory = "4 MiB"
accesses_per_tick = 2048
[nested]
access_share = 0.5
[grid]
policy = ["locked-6.12", "mine"]
nested_ratio = [0, 0.5]
[policy.mine]
steps = ["age tdp under rcu"]
evict = "clear"
"""
CLASSES = """\
policy = "locked-6.12"
ticks = 4
overcommit = 1.5
replicates = {replicates}
[fleet.host.a]
count = {hosts}
memory = "64 MiB"
cpus = 64
[fleet.guest.g]
count = {guests}
memory = "2 MiB"
[guest]
memory = "4 MiB"
"""


def refusal(path: Path) -> str:
    """The one line of a study that is refused, "" for a plan. Anything else is a fault."""
    return outcome(lambda: read_study(path))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(text, errors="surrogatepass")
    return path


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("seed = 1", "seed = " + "9" * 5000, "study.toml:2: a whole number of thousands of digits"),
        ("seed = 1", "seed = 0x" + "f" * 9000, "study.toml:2: seed is a whole number of 36000 bits"),
        ("seed = 1", "seed = 9223372036854775808", "TOML has 64, one for the sign: write a smaller one"),
        ("hosts = 1", "hosts = 99999999999999999999", "study.toml:8: fleet.hosts is a whole number of 67 bits"),
        ("[0, 0.5]", "[0, 99999999999999999999]", "study.toml:17: grid.nested_ratio is a whole number of 67 bits"),
        ('["overcommit > 1"]', str(["overcommit > 1"] * 9999), "study.toml:6: where has 9,999 conditions; at most"),
        ('title = "t"', "title = " + "[" * 5000 + "]" * 5000, "deep within each other"),
        ('title = "t"', "title" + ".a" * 50_000 + " = 1", "a key of more than 32 names"),
        ('title = "t"', 'calibration = "a\\u0000b.toml"', "not the name of a file"),
        ('title = "t"', 'calibration = "/dev/zero.toml"', "no such file"),
        ('title = "t"', 'calibration = "fault_ns = 1e300"', "not a number from 0 to 1e+12"),
        ('title = "t"', 'scenario = "' + "vm scan, " * 3000 + 'vm scan"', "a scenario of 3001 guests"),
        ('memory = "4 MiB"', f'memory = "4{" " * 100_000}x"', "not an amount of memory"),
        ('memory = "4 MiB"', f'memory = "{"9" * 100_000} MiB"', "not an amount of memory"),
        ("[guest]", "[guest.x]", "unknown"),
        ("hosts = 1", "hosts = 2147483647", "2,147,483,647 hosts"),
        ("guests_per_host = 2", "guests_per_host = 2147483647", "2,147,483,647 guests"),
        ('memory = "4 MiB"', 'memory = "7 TiB"', "pages; at most"),
        ("accesses_per_tick = 2048", "accesses_per_tick = 2147483647", "less than or equal to 67108864"),
        ("nested_ratio = [0, 0.5]", f"guest.workload.phase_ticks = {list(range(1, 30_000))}", "30,00"),
        ("nested_ratio = [0, 0.5]", "nested_ratio = 0.5", "not a list"),
        ("nested_ratio = [0, 0.5]", "nested_ratio = [[0], {}]", "nested_ratio"),
        ("nested_ratio = [0, 0.5]", "nested_ratio = [1979-05-27, 07:32:00]", "nested_ratio"),
        ("[policy.mine]", f'[policy."{"m" * 200}"]\n', "at most 100 characters"),
    ],
)  # fmt: skip
def test_is_refused_in_one_line_at_once(tmp_path: Path, old: str, new: str, why: str) -> None:
    text = STUDY.replace(old, new, 1)
    assert why in refusal(written(tmp_path, text))


@pytest.mark.parametrize("table", ["grid", "zip", "sample", "guest", "nested", "fleet", "policy", "where", "argument"])
@pytest.mark.parametrize("value", ["1", "1.0", "[]", '["a"]', "true", '"text"', "1979-05-27", "{}", "[[1]]", "[{}]"])
def test_a_value_of_any_type_where_a_table_is_meant_is_one_line(tmp_path: Path, table: str, value: str) -> None:
    tree = tomllib.loads(STUDY)
    lines = [f"{table} = {value}"]
    keep = [line for name in ("title", "seed", "ticks", "overcommit") for line in STUDY.splitlines() if name in line]
    for name in ("fleet", "guest", "grid"):
        if name != table:
            keep += [f"[{name}]", *(f"{key} = {inner!r}" for key, inner in tree[name].items())]
    head = [line for line in keep[:5] if not line.startswith(("[", "where"))]
    refusal(written(tmp_path, "\n".join([*lines, *head, *keep[5:]])))


@pytest.mark.parametrize("table", ["guest", "nested", "nested_ratio"])
def test_a_scalar_beside_classes_is_one_line(tmp_path: Path, table: str) -> None:
    text = CLASSES.format(replicates=1, hosts=1, guests=1).replace('[guest]\nmemory = "4 MiB"\n', "")
    assert refusal(written(tmp_path, f"{table} = 'x'\n{text}"))


@pytest.mark.parametrize(
    ("replicates", "hosts", "guests", "why"),
    [
        (1, 2**31 - 1, 2**31 - 1, "2,147,483,647 hosts"),
        (1, 1, 2**31 - 1, "2,147,483,647 guests"),
        (100_000, 1000, 10_000, "would take"),
        (1, 100_000, 1_000_000, "would take"),
        (3, 1000, 10_000, ""),
        (50_000, 1, 3, ""),
    ],
)
def test_fleets_are_counted_before_they_are_placed(
    tmp_path: Path, replicates: int, hosts: int, guests: int, why: str
) -> None:
    said = refusal(written(tmp_path, CLASSES.format(replicates=replicates, hosts=hosts, guests=guests)))
    assert why in said if why else not said


@pytest.mark.usefixtures("fake_engine")
def test_a_grid_that_takes_long_says_so_to_who_wants_to_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert terminal.SAY_AFTER_S < 2
    monkeypatch.setattr(terminal, "SAY_AFTER_S", 0.001)
    text = STUDY.replace("nested_ratio = [0, 0.5]", f"ticks = {list(range(1, 101))}").replace("ticks = 4\n", "")
    told: list[str] = []
    with terminal.telling(told.append):
        assert not refusal(written(tmp_path, text))
    assert any(re.fullmatch(r"\d+ of 200 cells checked ...", text) for text in told)
    assert run_command(["plan", str(tmp_path / "study.toml"), "--sample", "0"]) == 0
    assert re.search(r"(?m)^coldfleet: \d+ of 200 cells checked", capsys.readouterr().err)
    assert not refusal(tmp_path / "study.toml")
    sweep(tmp_path / "study.toml", tmp_path / "out", SerialExecutor(), progress=False)
    assert capsys.readouterr().err == ""
    sweep(tmp_path / "study.toml", tmp_path / "out", SerialExecutor(), progress=True)
    assert " of 200 cells checked" in capsys.readouterr().err


def test_a_grid_is_counted_before_its_cells_are_made(tmp_path: Path) -> None:
    lists = "".join(f"{key} = {list(range(1, 1001))}\n" for key in ("ticks", "guest.workload.phase_ticks"))
    text = STUDY.replace("nested_ratio = [0, 0.5]", lists + f"reclaim.period_ticks = {list(range(1, 101))}")
    assert "200,000,000 runs" in refusal(written(tmp_path, text.replace("ticks = 4\n", "", 1)))


@pytest.mark.parametrize(
    ("text", "why"),
    [("[1]*1000000*10000 == 1", "a list and a number"), ("'a'*1000000000 == 'b'", "a text and a number"),
     ("1000000*'a' == 1", "a number and a text"), ("[1]+[2] == 3", "a list and a list"), ("-[1] == 1", "not a number"),
     (f"{'9' * 400} * {'9' * 400} > 1", "beyond 64 bits"), ("1 / 0 > 1", "divides by zero"),
     (f"1 * {'9' * 900} > 1", "beyond 64 bits")],
)  # fmt: skip
def test_a_constraint_calculates_with_numbers_only(text: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        read_constraint(text, ["ticks"])({"ticks": 4})
    assert read_constraint("9e999 - 9e999 > 1", ["ticks"])({"ticks": 4}) is False


@pytest.mark.parametrize("text", ["1or ticks > 0", "ticks is 1", "'\\d' == ticks", "ticks\0", "0777 > 1",
                                  "\ud800 > 1", "(" * 400, "ticks" + ".a" * 400, "x := 1", "f()", "{1}"])  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_what_python_would_warn_of_is_no_constraint(text: str) -> None:
    with pytest.raises(UserError) as caught:
        read_constraint(text, ["ticks"])
    assert len(str(caught.value).splitlines()) == 1


def test_an_amount_is_read_in_linear_time() -> None:
    start = time.monotonic()
    for text in ("4" + " " * 10**6 + "x", " " * 10**6, "1" * 10**6, "4" + " a" * 10**6):
        with pytest.raises(UserError) as caught:
            MEMORY.parse(text)
        assert len(str(caught.value)) < 300
    assert time.monotonic() - start < 1


def test_a_file_that_never_ends_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    for path in (tmp_path / "pipe.toml", Path("/dev/zero"), tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError):
            read_toml(path)
    (tmp_path / "large.toml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(UserError, match="more than 1 MiB"):
        read_toml(tmp_path / "large.toml")


@pytest.mark.parametrize(
    ("core", "memory", "why"),
    [("0.1", "NULL", "memory"), ("'x'", "0.1", "core"), ("0.1", "9e999", "inf"), ("-1", "0.1", "core"),
     ("0.1", "x'00'", "memory"), ("0.1", "0", "memory"), ("0.1", "1e300", "memory")],
)  # fmt: skip
def test_a_trace_has_shares(tmp_path: Path, core: str, memory: str, why: str) -> None:
    path = tmp_path / "trace.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE vm(vmId, vmTypeId, starttime, endtime)")
        db.execute("CREATE TABLE vmType(id, vmTypeId, machineId, core, memory)")
        db.execute("INSERT INTO vm VALUES (1, 1, 0, NULL)")
        db.execute(f"INSERT INTO vmType VALUES (1, 1, 0, {core}, {memory})")
        db.commit()
    with pytest.raises(UserError, match=why):
        read_trace(path, 1.0, 0, 8)


def test_a_trace_whose_tables_are_views_is_refused(tmp_path: Path) -> None:
    """A view could count for ever."""
    path = tmp_path / "trace.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE VIEW vm AS WITH RECURSIVE n(vmId) AS (SELECT 1 UNION ALL SELECT vmId + 1 FROM n) "
                   "SELECT vmId, 1 AS vmTypeId, 0 AS starttime, 1 AS endtime FROM n")  # fmt: skip
        db.commit()
    with pytest.raises(UserError, match="vm is a view"):
        read_trace(path, 1.0, 0, 8)


PIECES = [
    "=", "\n", "[", "]", "{", "}", '"', "'", ".", "-", "#", ",", " ", "0", "1e999", "nan", "true", "9" * 20, "-1",
    "2147483648", '"4 s"', '"\\u0000"', '"\\u001b[31m"', "[grid]\n", "[sample]\n", "[zip]\n", "[policy.x]\n", "policy",
    "guest.memory", "where = ['ticks * ticks > 1']\n", "points = 4\n", "ticks = { from = 1, to = 9 }\n", "=1+1", "[/x]",
    "\u2028", "\x7f", "[fleet.host.a]\n", "count = 3\n", "steps = ['age tdp']\n", "evict = 'clear'\n", "{of=[1, 2]}",
]  # fmt: skip
EDITS = edits_with(PIECES, len(STUDY))


@pytest.fixture(scope="module")
def compiled() -> None:
    """The first run takes a minute."""
    simulate_run(read_study(tomllib.loads(STUDY)).run(0), audit=True)


def check_edited(tmp_path: Path, edits: list[Edit]) -> None:
    path = written(tmp_path, edited(STUDY, edits))
    outcome(lambda: run_small(read_study(path)))


def check_junk(path: list[str], value: Any) -> None:
    """A study as a mapping with one value of any kind at one place."""
    tree = tomllib.loads(STUDY)
    table: Any = tree
    for name in path[:-1]:
        table = table.setdefault(name, {}) if isinstance(table, dict) else {}
    if isinstance(table, dict):
        table[path[-1]] = value
    outcome(lambda: run_small(read_study(tree)))


def run_small(plan: Plan) -> None:
    """Simulates the first run of a study under audit, if that is soon done."""
    spec = plan.cell(0).spec
    guests = spec.fleet.hosts * spec.fleet.guests_per_host
    work = guests * (spec.guest.memory + spec.ticks * spec.guest.accesses_per_tick)
    if 0 < work < 200_000 and spec.clock.mode == "replay" and spec.host.sample == "1":
        simulate_run(plan.run(0), audit=True)


PATHS = st.sampled_from(
    [["title"], ["seed"], ["ticks"], ["where"], ["grid"], ["grid", "policy"], ["grid", "nested_ratio"],
     ["zip", "truth"], ["sample"], ["sample", "points"], ["sample", "ticks"], ["guest"], ["guest", "memory"],
     ["guest", "workload"],
     ["fleet"], ["fleet", "hosts"], ["fleet", "host"], ["fleet", "host", "a"], ["fleet", "guest", "b"], ["nested"],
     ["policy"], ["policy", "mine"], ["policy", "mine", "steps"], ["policy", "mine", "evict"], ["calibration"],
     ["scenario"], ["argument"], ["argument", "checks"], ["kernel"], ["clock", "tick"], ["host", "sample"]]
)  # fmt: skip


@pytest.mark.usefixtures("compiled")
@BOUNDED
@given(EDITS)
def test_an_edited_study_is_a_plan_or_one_line(tmp_path: Path, edits: list[Edit]) -> None:
    check_edited(tmp_path, edits)


@pytest.mark.usefixtures("compiled")
@BOUNDED
@given(PATHS, JUNK)
def test_a_study_with_junk_in_it_is_a_plan_or_one_line(path: list[str], value: Any) -> None:
    check_junk(path, value)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled")
@LONG
@given(EDITS)
def test_fuzz_studies(tmp_path: Path, edits: list[Edit]) -> None:
    check_edited(tmp_path, edits)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled")
@LONG
@given(PATHS, JUNK)
def test_fuzz_junk_in_studies(path: list[str], value: Any) -> None:
    check_junk(path, value)
