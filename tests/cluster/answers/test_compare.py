"""Comparing policies: intervals that keep their confidence, the right sign, and nothing wasted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path

import pytest

from coldfleet.cluster.answers.comparison import PILOT, Comparison, Precision, compare
from coldfleet.cluster.answers.question import Budget
from coldfleet.cluster.answers.study_comparison import headline
from coldfleet.cluster.execution.work import simulate_run
from coldfleet.cluster.results.metrics import find_metric
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.host_spec import HostSpec
from tests.cluster.conftest import STUDY, Said

Command = Callable[..., Said]
SERIAL = ("--executor", "serial")
TINY = STUDY.replace("hosts = 2", "hosts = 1").replace("4 MiB", "2 MiB").replace("2048", "512")
REFAULTS = find_metric("refaults")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def equal_policies(plan: Plan, trial: int) -> Comparison:
    """A policy against itself, on other accesses: the true difference is 0, the seen one is not.

    (On the same accesses equal policies don't differ at all.)
    """
    cell = next(n for n in range(plan.cell_count) if plan.cell(n).spec.nested_ratio == 0.5)
    first = 200 * trial

    def figure(replicate: int) -> float:
        index = (first + replicate) * plan.cell_count + cell
        return REFAULTS.value(simulate_run(plan.run(index))["cells"][0])

    def draw(wanted: Mapping[int, range]) -> dict[int, list[list[tuple[float, float]]]]:
        return {0: [[(figure(2 * r), figure(2 * r + 1)) for r in wanted[0]]]}

    ((found,),) = compare(
        ("one", "other"), 1, [REFAULTS], draw, confidence=95, precision=Precision(0.05, True), runs_left=lambda: 60
    )
    return found


def share_of_hits(path: Path, trials: int) -> tuple[float, float]:
    found = [equal_policies(read_study(path), trial) for trial in range(trials)]
    assert len({len(each.pairs) for each in found}) > 1, "pilots ask for more or less"
    hits = [sum(0 in interval for interval in some) / trials for some in zip(*_intervals(found), strict=True)]
    return hits[0], hits[1]


def _intervals(found: list[Comparison]) -> list[list[object]]:
    return [[each.interval, each.bootstrap] for each in found]


def test_intervals_of_equal_policies_mostly_contain_zero(tiny: Path) -> None:
    assert min(share_of_hits(tiny, 20)) >= 0.8


@pytest.mark.slow
def test_intervals_of_equal_policies_contain_zero_as_often_as_they_say(tiny: Path) -> None:
    for share in share_of_hits(tiny, 400):
        assert 0.93 <= share <= 0.97


def test_what_does_the_same_doesn_t_differ(tiny: Path, coldfleet: Command) -> None:
    options = ("--metric", "refaults", "--at", "nested_ratio=0.5", "--json")
    said = coldfleet("compare", "locked-6.12", "lockless-6.15", tiny, *SERIAL, *options)
    (found,) = json.loads(said.out)["comparisons"]
    assert (found["difference"], found["interval"], found["bootstrap"]) == (0, [0, 0], [0, 0])
    assert found["replicates"] == PILOT
    assert found["sentence"].startswith("locked-6.12 and lockless-6.15 don't differ in refaults")


def test_the_sign_is_right_with_few_replicates(tmp_path: Path, coldfleet: Command) -> None:
    study = tmp_path / "pressed.toml"
    study.write_text(STUDY.replace("ticks = 4", "ticks = 12").replace("overcommit = 1.5", "overcommit = 2"))
    said = coldfleet("compare", "evict-only", "lockless-6.15", study, *SERIAL, "--metric", "refaults", "--json")
    data = json.loads(said.out)
    assert [found["nested_ratio"] for found in data["comparisons"]] == [0, 0.5, 1]
    for found in data["comparisons"]:
        low, high = found["interval"]
        assert low < found["difference"] < high < 0, "asking at every site finds more of what is young"
        assert found["difference"] == pytest.approx(found["b"] - found["a"])
        assert found["bootstrap"][1] < 0
        assert found["replicates"] < 30
        assert found["narrow_enough"]
        assert found["sentence"].startswith("lockless-6.15 lowers refaults by ")
        assert "against evict-only, between " in found["sentence"]


def test_replicates_are_added_until_the_interval_is_narrow_or_the_budget_is_spent(
    tiny: Path, coldfleet: Command
) -> None:
    ask = ["compare", "evict-only", "lockless-6.15", tiny, *SERIAL, "--at", "nested_ratio=1", "--json"]
    ask += ["--metric", "refaults"]
    (rough,), (fine,), (poor,) = (
        json.loads(coldfleet(*ask, *options).out)["comparisons"]
        for options in (("--precision", "5%"), ("--precision", "1%"), ("--precision", "1%", "--budget", "24"))
    )
    assert PILOT <= rough["replicates"] < fine["replicates"]
    assert fine["interval"][1] - fine["interval"][0] <= 2 * 0.0101 * fine["a"]
    assert fine["narrow_enough"]
    assert (poor["replicates"], poor["narrow_enough"]) == (12, False)
    shown = coldfleet(*(x for x in ask if x != "--json"), "--precision", "1%", "--budget", "24").out
    assert "12*" in shown
    assert "* the budget was spent before the interval was as narrow as asked" in shown
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize(
    ("a", "b", "varied"),
    [("kernel=6.1", "kernel=6.12", ["policy", "nested_ratio"]),
     ("guest_workload_skew=0.5", "skew=1.1", ["policy", "nested_ratio"]),
     ("guest.memory=2 MiB", "guest.memory=4 MiB", ["policy", "nested_ratio"]),
     ("nested_ratio=0", "nested_ratio=0.25", ["policy"])],
)  # fmt: skip
def test_two_values_of_any_key_are_compared(
    a: str, b: str, varied: list[str], tiny: Path, coldfleet: Command, fake_engine: list[HostSpec]
) -> None:
    said = coldfleet("compare", a, b, tiny, *SERIAL, "--metric", "refaults", "--budget", "300", "--json")
    data = json.loads(said.out)
    assert (data["a"], data["b"]) == (a, b)
    settings = [tuple(found[path] for path in varied) for found in data["comparisons"]]
    policies, ratios = ["evict-only", "six-steps"], [0, 0.5, 1]
    expected = list(product(policies, ratios)) if "nested_ratio" in varied else [(policy,) for policy in policies]
    assert settings == expected


def test_kernels_are_compared_on_identical_accesses(tiny: Path, coldfleet: Command) -> None:
    options = ("--metric", "refaults", "--at", "nested_ratio=1", "--at", "policy=evict-only", "--json")
    (found,) = json.loads(coldfleet("compare", "kernel=6.1", "kernel=6.18", tiny, *SERIAL, *options).out)["comparisons"]
    swapped = coldfleet("compare", "kernel=6.18", "kernel=6.1", tiny, *SERIAL, *options)
    (back,) = json.loads(swapped.out)["comparisons"]
    assert found["difference"] == pytest.approx(-back["difference"])
    assert found["a"] == back["b"]


def found(key: str, pairs: list[tuple[float, float]]) -> Comparison:
    return Comparison(find_metric(key), ("a", "b"), pairs, 95, Precision(1, True))


FEWER = [(100.0 + n % 3, 80.0 + n % 3) for n in range(10)]
MORE = [(a, 2 * a) for a, _ in FEWER]
SAME = [(100.0, 99.0 + n % 3) for n in range(9)] + [(100.0, 100.0)]


@pytest.mark.parametrize(
    ("cpu", "end"),
    [(MORE, "replicates on identical accesses), but raises reclaim CPU s by 100 %"),
     (FEWER, "replicates on identical accesses), and lowers reclaim CPU s by 19.8 %"),
     (SAME, "replicates on identical accesses); by reclaim CPU s they can't be told apart")],
)  # fmt: skip
def test_a_win_that_costs_time_says_so(cpu: list[tuple[float, float]], end: str) -> None:
    said = headline([found("refaults", FEWER), found("missed_young", MORE), found("reclaim_cpu_s", cpu)])
    assert said.startswith("b lowers refaults by 19.8 % against a, between ")
    assert said.endswith(end)
    assert "missed" not in said


def test_a_budget_is_shared_by_all_settings(plan: Plan) -> None:
    asked: list[dict[int, range]] = []

    def draw(wanted: Mapping[int, range]) -> dict[int, list[list[tuple[float, float]]]]:
        asked.append(dict(wanted))
        return {s: [[(100.0, 100.0 + s * (-1) ** r) for r in some]] for s, some in wanted.items()}

    precision = Precision(0.5, False)
    settings = compare(
        ("a", "b"), 3, [REFAULTS], draw, confidence=95, precision=precision, runs_left=lambda: 40
    )  # of setting 0 the pilot is enough, of the others it wants 13 and 81 more: 188 runs
    assert asked == [dict.fromkeys(range(3), range(PILOT)), {1: range(10, 12), 2: range(10, 27)}]
    assert [len(found[0].pairs) for found in settings] == [10, 12, 27]


def test_runs_are_done_once(tiny: Path, coldfleet: Command, fake_engine: list[HostSpec]) -> None:
    coldfleet("compare", "evict-only", "six-steps", tiny, *SERIAL, "--at", "nested_ratio=0", "--budget", "20")
    of_cells = [spec for spec in fake_engine if len(spec.guests) == 2 and spec.ticks == 4]
    assert len(of_cells) == 20


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("evict-only", "lockles-6.15"), "`coldfleet policies` lists all): did you mean 'lockless-6.15' or 'locked"),
        (("evict-only", "evict-only"), "evict-only evict-only: the same policy twice"),
        (("kernel=6.99", "kernel=6.1"), "unknown kernel '6.99': one of 6.1, 6.12"),
        (("reclaim_lru=classc", "reclaim_lru=mglru"), "reclaim.lru = 'classc': it should be 'mglru' or 'classic'"),
        (("kernl=6.1", "kernl=6.12"), "unknown key 'kernl': did you mean 'kernel'?"),
        (("seed=1", "seed=2"), "seed is a key of the whole study, replicates differ in it: choose a key of a cell"),
        (("--at", "replicates=2"), "replicates is a key of the whole study, all cells have the same: choose"),
        (("kernel=6.1", "skew=1"), "kernel=6.1 skew=1: two policies, or two values of one key"),
        (("kernel=6.1", "kernel=6.1"), "kernel=6.1 kernel=6.1: the same kernel twice"),
        (("kernel=6.1", "kernel=6.12", "--at", "kernel=6.1"), "--at kernel: kernel is what is compared"),
        (("--metric", "refalts"), "unknown metric 'refalts': did you mean 'refaults'"),
        (("--metric", "pgsteal / pgscam"), "unknown column 'pgscam' in 'pgsteal / pgscam': did you mean 'pgscan'"),
        (("--at", "nested_ratoi=1"), "unknown key 'nested_ratoi': did you mean 'nested_ratio'"),
        (("--at", "memory=1"), "'memory' is the end of 3 keys: write guest.memory or guest.page_cache.memory or"),
        (("--at", "nested_ratio"), "--at nested_ratio: write KEY=VALUE"),
        (("--at", "nested_ratio=half"), "nested_ratio = 'half' is not a number"),
        (("--at", "nested_ratio=2"), "nested_ratio = 2.0: it should be less than or equal to 1"),
        (("--at", "guest.memory=3"), "'3' has no unit"),
        (("--budget", "5x"), "budget 5x: write a time, such as 5m, or a number of runs, such as 600"),
        (("--budget", "7"), "the pilot takes 60 runs: give more, or choose one setting, such as --at nested_ratio=0"),
        (("--precision", "0%"), "precision 0%: write a share, such as 2%"),
        (("--confidence", "100"), "--confidence"),
        (("--workers", "2", *SERIAL), "workers and address are for ray"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(tiny: Path, coldfleet: Command, arguments: tuple[str, ...], why: str) -> None:
    names = () if not arguments[0].startswith("-") else ("evict-only", "lockless-6.15")
    said = coldfleet("compare", *names, *arguments, tiny)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert why in said.err


@pytest.mark.parametrize(
    ("text", "budget"),
    [("5m", Budget(300)), ("90 s", Budget(90)), ("1.5h", Budget(5400)), ("60", Budget(runs=60))],
)  # fmt: skip
def test_a_budget_is_time_or_runs(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget


def test_what_is_left_of_a_budget() -> None:
    assert Budget(runs=60).runs_left(50, 1e9, 1.0, 7) == 10
    assert Budget(runs=60).runs_left(70, 1e9, None, 7) == 0
    assert Budget(seconds=100).runs_left(50, 25, 2.0, 7) == 157
    assert Budget(seconds=100).runs_left(50, 200, 2.0, 7) == 0
    assert Budget(seconds=100).runs_left(0, 0, None, 0) is None


COMING = """\
seed = 2
ticks = 6
overcommit = 1.5
policy = "evict-only"
[fleet]
tick = "1 h"
[fleet.host.node]
count = 1
memory = "8 MiB"
[fleet.guest.web]
arrivals = { per_hour = 3.0, mean_lifetime = "2 h" }
[guest]
memory = "2 MiB"
accesses_per_page = 0.5
"""


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("overcommit=1", "overcommit=2"), "10 replicates whose guests don't make the same accesses"),
        (("evict-only", "lockless-6.15"), "10 replicates on identical accesses"),
    ],
)
def test_whether_accesses_are_the_same_is_seen_in_the_runs(
    settings: tuple[str, str], said: str, tmp_path: Path, coldfleet: Command
) -> None:
    (tmp_path / "study.toml").write_text(COMING)
    found = coldfleet("compare", *settings, tmp_path / "study.toml", "--budget", 20, *SERIAL, "--json")
    sentences = [each["sentence"] for each in json.loads(found.out)["comparisons"]]
    told = [each for each in sentences if "replicates on" in each or "replicates whose" in each]
    assert told
    assert all(said in each for each in told)
