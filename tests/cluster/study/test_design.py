"""Studies beyond grids: zipped lists, samples, constraints; and what `coldfleet plan` says of them."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.study.constraint import read_constraint
from coldfleet.cluster.study.design import Choice, Range, sample
from coldfleet.cluster.study.model import merge
from coldfleet.cluster.study.plan import Plan, Run
from coldfleet.cluster.study.questions import study_for
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import HostSpec
from coldfleet.hostsim.spec.units import MEMORY, TIME
from tests.cluster.conftest import Said

SAMPLE = """
[sample]
method = "sobol"
points = 32
overcommit = { from = 1.1, to = 4.0, scale = "log" }
"guest.memory" = { from = "8 MiB", to = "64 MiB" }
guest.workload.phase_ticks = { from = 1, to = 10 }
"guest.workload.kind" = { of = ["zipf", "scan"] }
"""
ZIP = """
[zip]
overcommit = [1.2, 1.5, 2]
"guest.memory" = ["16 MiB", "8 MiB", "4 MiB"]
"""


DAY = Path(__file__).parents[3] / "configs" / "fleet_day.toml"


@pytest.fixture
def read(study_text: str, tmp_path: Path) -> Callable[..., Plan]:
    """The plan of the small study with more tables, and without keys that these set."""

    def call(more: str, *without: str, top: str = "") -> Plan:
        lines = [line for line in study_text.splitlines() if not line.startswith(without or ("#",))]
        path = tmp_path / "s.toml"
        path.write_text("\n".join([top, *lines, more]))
        return read_study(path)

    return call


def test_zipped_lists_go_together_and_cross_with_the_grid(read: Callable[..., Plan]) -> None:
    plan = read(ZIP, "overcommit", "memory")
    assert plan.cell_count == 6 * 3
    specs = [plan.cell(number).spec for number in range(plan.cell_count)]
    together = Counter((spec.overcommit, spec.guest.memory) for spec in specs)
    assert together == {(1.2, 4096): 6, (1.5, 2048): 6, (2.0, 1024): 6}
    assert len(set(plan.cell_ids)) == 18


def test_sample_covers_its_ranges(read: Callable[..., Plan]) -> None:
    plan = read(SAMPLE, "overcommit", "memory", "kind")
    (bundle,) = plan.bundles
    assert len(bundle.rows) == 32
    assert plan.cell_count == 6 * 32
    overcommit = [float(value) for value in bundle.column("overcommit")]
    assert all(1.1 <= value <= 4 for value in overcommit)
    assert sum(value < (1.1 * 4) ** 0.5 for value in overcommit) == 16  # half of them below the geometric mean
    pages = [MEMORY.parse(size) for size in bundle.column("guest.memory")]  # type: ignore[arg-type]
    assert all(2048 <= size <= 16384 and size % 512 == 0 for size in pages)
    assert set(bundle.column("guest.workload.phase_ticks")) == set(range(1, 11))
    assert Counter(bundle.column("guest.workload.kind")) == {"zipf": 16, "scan": 16}


@pytest.mark.parametrize("method", ["random", "latin-hypercube", "sobol"])
def test_points_depend_on_the_seed_only(method: str, read: Callable[..., Plan]) -> None:
    text = SAMPLE.replace("sobol", method)
    first, again = (read(text, "overcommit", "memory", "kind") for _ in range(2))
    assert first == again
    assert first.bundles != read(text, "overcommit", "memory", "kind", "seed", top="seed = 8").bundles


def test_any_number_of_sobol_points_begins_as_the_balanced_ones(
    read: Callable[..., Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    (balanced,) = read(SAMPLE, "overcommit", "memory", "kind").bundles
    assert capsys.readouterr().err == ""
    (some,) = read(SAMPLE.replace("32", "27"), "overcommit", "memory", "kind").bundles
    assert some.rows == balanced.rows[:27]
    said = capsys.readouterr().err
    assert "sample.points = 27: Sobol points are balanced in powers of two only, such as 16 or 32" in said
    assert said.count("\n") == 1


def test_latin_hypercube_has_a_point_in_every_stretch_of_every_key() -> None:
    rows = sample({key: Range(0, 1, "float") for key in "abc"}, "latin-hypercube", 50, 1).rows
    for place in range(3):
        assert sorted(int(float(row[place]) * 50) for row in rows) == list(range(50))


def test_points_that_come_out_twice_are_one_cell() -> None:
    rows = sample({"a": Choice(("x", "y")), "b": Range(1, 2, "int")}, "random", 100, 1).rows
    assert sorted(rows) == [("x", 1), ("x", 2), ("y", 1), ("y", 2)]


@given(st.floats(0, 1, exclude_max=True), st.booleans())
def test_values_stay_in_their_range(share: float, log: bool) -> None:
    assert 0.1 <= float(Range(0.1, 0.3, "float", log).value(share)) <= 0.3
    assert int(Range(3, 5, "int", log).value(share)) in (3, 4, 5)
    assert MEMORY.parse(Range(600, 5000, "pages", log).value(share)) in range(1024, 4609, 512)  # type: ignore[arg-type]


def test_times_are_sampled_and_constrained_as_times(read: Callable[..., Plan]) -> None:
    text = '[sample]\nmethod = "random"\npoints = 8\nclock.tick = { from = "250 ms", to = "2 s", scale = "log" }\n'
    plan = read(text, top="where = [\"clock.tick >= '500 ms'\"]")
    lengths = [TIME.parse(length) for length in plan.bundles[0].column("clock.tick")]  # type: ignore[arg-type]
    assert len(lengths) == 8
    assert all(250 * 10**6 <= length <= 2 * 10**9 for length in lengths)
    assert 0 < plan.cell_count < plan.combination_count
    assert min(plan.cell(number).spec.clock.tick for number in range(plan.cell_count)) >= 500 * 10**6


def test_constraints_leave_cells_out(read: Callable[..., Plan], fake_engine: list[HostSpec], tmp_path: Path) -> None:
    where = """where = ["nested_ratio > 0 or policy == 'evict-only'", "guest.memory <= '4 MiB'"]"""
    plan = read("", top=where)
    assert (plan.combination_count, plan.cell_count) == (6, 5)
    cells = {(plan.cell(n).spec.policy, plan.cell(n).spec.nested_ratio) for n in range(5)}
    assert ("six-steps", 0.0) not in cells
    results = sweep(plan, tmp_path / "out", SerialExecutor())
    assert results.table("cells").num_rows == 5 * 3
    assert Plan.thaw(json.loads(json.dumps(plan.frozen()))).cell_ids == plan.cell_ids
    assert "where" in plan.difference(read(""))


VALUES = {"overcommit": 1.5, "policy": "was-fast", "nested_ratio": 0, "guest.memory": 512, "clock.tick": 10**9}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("overcommit > 1", True), ("overcommit * 2 - 1 == 2", True), ("1 < overcommit <= 1.5", True),
     ("not nested_ratio > 0", True), ("policy in ['was-fast', 'y']", True), ("policy not in ('was-fast', 'y')", False),
     ("guest.memory == '2 MiB'", True), ("guest.memory < '2 MiB' or policy == 'y'", False),
     ("-overcommit < 0 and nested_ratio == 0", True), ("guest.memory * 2 - '1 MiB' == '3 MiB'", True),
     ("3 * clock.tick / '1 s' == 3", True), ("guest.memory in ['2 MiB', '4 MiB']", True), ("'fast' in policy", True),
     ("overcommit in []", False), ("(overcommit > 1) == (nested_ratio > 0)", False),
     ("nested_ratio != 0 and 1 / nested_ratio > 2", False)],
)  # fmt: skip
def test_constraint_reads_as_python_would(text: str, expected: bool) -> None:
    assert read_constraint(text, VALUES)(VALUES) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("overcomit > 1", "unknown key 'overcomit': did you mean 'overcommit'?"),
     ("overcommit >", "not a condition, such as"),
     ("__import__('os').system('x')", "can't use"), ("overcommit ** 9 ** 9 > 1", "can't use"),
     ("overcommit.__class__", "unknown key"), ("[x for x in overcommit]", "can't use"), ("lambda: 1", "can't use"),
     ("(" * 500 + ")" * 500, "not a condition, such as"), ("1+" * 600 + "1", "longer than 1000"),
     ("f'{policy}'", "can't use")],
)  # fmt: skip
def test_constraint_is_read_never_executed(text: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        read_constraint(text, ["overcommit", "policy"])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", "'1' is a number, not a condition"), ("overcommit", "'overcommit' is a number, not a condition"),
     ("overcommit > 1 or policy", "'policy' is a text, not a condition"), ("not nested_ratio", "not a condition"),
     ("True", "can't use 'True'"), ("policy > 1", "can't compare a text with a number"),
     ("policy < 'y'", "a text is not more or less than another: use ==, != or in"),
     ("policy in ['x', 1]", "'1' is a number, not a text"),
     ("overcommit in policy", "can't look for a number in a text"),
     ("overcommit in ['x']", "can't look for a number in a list whose first element is a text"),
     ("overcommit in 2", "write a list, [1, 2]"), ("[overcommit] == [1]", "can't compare a list with a list"),
     ("policy * 2 == 'xx'", "can't calculate with a text and a number"), ("-policy == 1", "a text, not a number"),
     ("guest.memory > 5", "'5' has no unit: write for example \"64 MiB\""),
     ("guest.memory > '5 MB'", "unknown unit 'MB': did you mean 'MiB'?"),
     ("guest.memory > '5 s'", "can't compare an amount of memory with a time"),
     ("guest.memory == overcommit", "can't compare an amount of memory with a number"),
     ("guest.memory + 1 > '5 MiB'", "can't calculate with an amount of memory and a number"),
     ("guest.memory * guest.memory > '5 MiB'", "can't calculate"), ("9" * 900 + " > 1", "beyond 64 bits")],
)  # fmt: skip
def test_constraint_that_mixes_kinds_is_refused_as_it_is_read(text: str, expected: str) -> None:
    with pytest.raises(UserError, match=re.escape(expected)):
        read_constraint(text, VALUES)


@pytest.mark.parametrize(
    "text", ["(" * 500 + "1", "overcommit + " + "1 + " * 200 + "1", "[" + "1, " * 200 + "] > 1", "x" * 900 + " > 1"]
)
def test_a_long_constraint_is_shortened_in_messages(text: str) -> None:
    with pytest.raises(UserError) as caught:
        read_constraint(text, VALUES)
    assert str(caught.value).startswith(f"'{text[:55]} ...: ")
    assert len(str(caught.value)) < 250


def test_division_by_zero_in_a_constraint_names_the_values(read: Callable[..., Plan]) -> None:
    with pytest.raises(UserError) as caught:
        read("", top='where = ["1 / nested_ratio > 0 or overcommit == 7"]')
    assert "s.toml:1: '1 / nested_ratio > 0 or overcommit == 7' divides by zero where" in str(caught.value)
    assert "overcommit = 1.5, nested_ratio = 0.0: put a condition that leaves such cells out" in str(caught.value)


MISTAKES = {
    "zip of unequal lengths": (ZIP.replace(", 2]", "]"), "", "have the same length: overcommit has 2, guest.memory"),
    "zip row twice": ("[zip]\novercommit = [1.2, 1.2]", "", "twice"),
    "grid and zip": ('[zip]\npolicy = ["was-fast"]', "", "policy is both in [grid] and in [zip]"),
    "unknown method": (SAMPLE.replace("sobol", "lhs"), "", "it should be one of"),
    "no points": (SAMPLE.replace("points = 32", ""), "", "sample.points has to be a number"),
    "unknown sampled key": (SAMPLE.replace("phase_ticks", "phase_tick"), "", "did you mean"),
    "not a range": (SAMPLE.replace("{ from = 1, to = 10 }", "[1, 10]"), "", "is not a range: write { from"),
    "half a range": (SAMPLE.replace(", to = 10", ""), "", "is not a range: write { from"),
    "empty range": (SAMPLE.replace("to = 10", "to = 1"), "", "the first must be smaller"),
    "bad scale": (SAMPLE.replace('"log"', '"ln"'), "", 'it should be "linear" or "log"'),
    "bound out of bounds": (SAMPLE.replace("1.1", "0.5"), "", "sample.overcommit = 0.5"),
    "names in a range": (SAMPLE.replace('{ of = ["zipf", "scan"] }', '{ from = "a", to = "b" }'), "", "names, not num"),
    "nothing to sample": ('[sample]\npoints = 4', "", "no key to sample"),
    "not a list of constraints": ("", 'where = "x > 1"', "not a list of texts"),
    "unknown key in a constraint": ("", 'where = ["tics > 1"]', "did you mean 'ticks'"),
    "nothing left": ("", 'where = ["ticks > 5"]', "no combination meets the constraints: 'ticks > 5'"),
}  # fmt: skip


@pytest.mark.parametrize(("more", "top", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_is_one_line_with_its_place(more: str, top: str, expected: str, read: Callable[..., Plan]) -> None:
    without = [key for key in ("overcommit", "memory", "kind") if f"{key}" in more and "[grid]" not in more]
    with pytest.raises(UserError) as caught:
        read(more, *without, top=top)
    assert expected in str(caught.value)
    assert "s.toml:" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_plan_command_counts_and_estimates(study_file: Path, coldfleet: Callable[..., Said], tmp_path: Path) -> None:
    said = coldfleet("plan", study_file, "--sample", 3, "--workers", 4)
    assert said.code == 0
    assert "18 runs = 6 cells x 3 replicates" in said.out
    assert "core-seconds, from 6 hosts of 3 cells" in said.out
    assert "on 4 workers, " in said.out
    data = json.loads(coldfleet("plan", study_file, "--sample", 3, "--json").out)
    assert (data["cells"], data["runs"], data["axes"]) == (6, 18, {"policy": 2, "nested_ratio": 3})
    assert 0 < data["estimate"]["core_hours"] < 0.1
    assert [path.name for path in tmp_path.iterdir()] == ["small.toml"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0187, "0.0187 ±0.0050 core-seconds"), (35.9, "35.9 ±0.0 core-seconds"), (150.0, "2.50 ±0.00 core-minutes"),
     (7200.0, "2 ±0 core-hours")],
)  # fmt: skip
def test_plan_prints_an_estimate_in_the_unit_that_fits(seconds: float, expected: str) -> None:
    from coldfleet.cluster.commands.plan import _costs
    from coldfleet.cluster.execution.estimate import Estimate
    from coldfleet.cluster.stats.statistics import Mean

    lines = _costs(Estimate(3, 6, Mean(seconds, 0.005), 0.01, disk_bytes=1536, worker_bytes=1), 1)
    assert lines[0].startswith(f"{expected}, from 6 hosts of 3 cells (95 % interval over these cells)")
    assert lines[0].endswith("the longest host takes 10 ms")
    assert lines[1].endswith(" ±5 ms on 1 worker with a core to itself and 1 B of memory")
    two = _costs(Estimate(3, 6, Mean(seconds, 0.005), 0.01, disk_bytes=1536, worker_bytes=1), 2)
    assert two[1].endswith(" on 2 workers, each with a core to itself and 1 B of memory")
    assert lines[2] == "1.5 KiB of disk for the results"
    serial = _costs(Estimate(3, 6, Mean(seconds, 0.005), 0.01, disk_bytes=1536, worker_bytes=1), 1, serial=True)
    assert serial[1].endswith(" ±5 ms without Ray, in one process with a core to itself and 1 B of memory")


def test_an_estimate_takes_no_longer_than_it_may_and_knows_the_price_of_a_tick(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coldfleet.cluster.execution import estimate as module

    fill_s, tick_s, ticks, now = 3.0, 0.5, 1000, [0.0]

    def time_it(run: Run, host: int, some: int) -> tuple[float, dict[str, list[dict[str, Any]]]]:
        now[0] += fill_s + tick_s * some
        return fill_s + tick_s * some, {table: [] for table in TABLES}

    long = replace(plan, base={**plan.base, "ticks": ticks})
    monkeypatch.setattr(module, "_time", time_it)
    monkeypatch.setattr(module, "warm_up", lambda plan: None)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    found = module.estimate(long, 6)
    assert 1 <= found.sampled < 6
    least_of_a_host = 3 * fill_s + (1 + 3 + 9) * tick_s
    assert now[0] <= module.SAMPLE_S + least_of_a_host
    assert found.longest_s == pytest.approx(fill_s + tick_s * ticks)
    assert found.core_s.mean == pytest.approx(len(plan) * 2 * (fill_s + tick_s * ticks))


def test_estimates_are_near_what_the_sweep_takes(study_file: Path, plan: Plan, tmp_path: Path) -> None:
    from coldfleet.cluster.execution.estimate import estimate

    found = estimate(plan, 6)
    results = sweep(plan, tmp_path / "out", SerialExecutor())
    size = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert found.disk_bytes == pytest.approx(size, rel=0.3)
    assert found.hosts == 12
    assert found.core_s.mean == pytest.approx(results.status.cpu_s, rel=0.9)


CLOCKED = """\
replicates = 2
ticks = 20
overcommit = 1.5

[fleet]
hosts = 2
guests_per_host = 4

[guest]
memory = "16 MiB"

[clock]
mode = "timed"
tick = "100 ms"
pcpus = 8

[grid]
policy = ["evict-only", "lockless-6.15"]
nested_ratio = [0, 0.5]
"""


def test_an_estimate_of_disk_counts_lives_and_fleet(tmp_path: Path, fake_engine: list[HostSpec]) -> None:
    from coldfleet.cluster.execution.estimate import _look_at, estimate

    tree = tomllib.loads(DAY.read_text())
    plan = read_study(merge(tree, {"replicates": 1, "output": {"epochs": "on", "every_ticks": 1}}))
    found = estimate(plan, 3)
    results = sweep(plan, tmp_path / "out", SerialExecutor())
    rows = _look_at(plan.run(0), 0.0, np.random.default_rng(1)).run_rows
    for table in ("lives", "fleet"):
        assert results.table(table).num_rows == rows[table] * plan.cell_count > 100
    size = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert found.disk_bytes == pytest.approx(size, rel=0.3)


@pytest.mark.parametrize("name", ["clocked", "fleet"])
def test_estimates_of_clocked_and_of_unlike_hosts_are_near_too(name: str, tmp_path: Path) -> None:
    from coldfleet.cluster.execution.estimate import estimate

    file = tmp_path / f"{name}.toml"
    file.write_text(CLOCKED if name == "clocked" else study_for("fleet", file))
    plan = read_study(file)
    found = estimate(plan, 8)
    results = sweep(plan, tmp_path / "out", SerialExecutor())
    size = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert found.disk_bytes == pytest.approx(size, rel=0.3)
    assert found.core_s.mean == pytest.approx(results.status.cpu_s, rel=0.5)  # others may use the machine


def test_plan_says_if_a_worker_needs_more_memory_than_there_is(
    study_file: Path, coldfleet: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    from coldfleet.cluster.execution import cluster_check

    assert coldfleet("plan", study_file, "--sample", 0).err == ""
    monkeypatch.setattr(cluster_check, "size_of", lambda address: cluster_check.ClusterSize(256 << 20, 2))
    said = coldfleet("plan", study_file, "--sample", 0)
    assert (said.code, said.err.count("\n")) == (0, 1)
    assert "a worker needs up to 0.4 GiB of memory, and this machine has 0.2: none would start" in said.err
    there = coldfleet("plan", study_file, "--sample", 0, "--address", "head:6379")
    assert "and no node of the cluster at head:6379 has more than 0.2" in there.err


def test_wall_time_has_a_start_and_is_not_below_the_longest_host() -> None:
    from coldfleet.cluster.execution.estimate import START_S, Estimate
    from coldfleet.cluster.stats.statistics import Mean

    found = Estimate(3, 6, Mean(600.0, None), 40.0, 1, 1)
    assert [found.wall_s(workers) - START_S for workers in (1, 2, 10, 60, 600)] == [600, 300, 60, 40, 40]
    assert found.wall_s(1, serial=True) == 600


def test_plan_without_a_sample_runs_nothing(
    study_file: Path, coldfleet: Callable[..., Said], fake_engine: list[HostSpec]
) -> None:
    said = coldfleet("plan", study_file, "--sample", 0)
    assert said.code == 0
    assert "core-hours" not in said.out
    assert fake_engine == []
