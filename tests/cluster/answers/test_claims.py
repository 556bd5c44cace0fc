"""Arguments: what a check measures, when it is decided, and what is wrong with a file in one line."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coldfleet.cluster.answers.claims import Outcome, Verdict, find_arguments, judge, verdict
from coldfleet.cluster.stats.statistics import Mean
from coldfleet.cluster.study.argument import Argument, Check
from coldfleet.cluster.study.reader import read_study
from tests.cluster.conftest import Said

ROOT = Path(__file__).parents[3]
Command = Callable[..., Said]
CELLS: dict[str, dict[str, str | int | float]] = {
    "a": {"policy": "old", "nested_ratio": 0},
    "b": {"policy": "new", "nested_ratio": 0},
}
STUDY = """\
ticks = 2
replicates = 4
overcommit = 1.5
[fleet]
hosts = 1
guests_per_host = 1
[guest]
memory = "2 MiB"
accesses_per_tick = 512
[grid]
policy = ["evict-only", "lockless-6.15"]
[argument]
number = 7
claim = "asking at eviction alone takes mmu_lock"
by = "a test"
decides = "the locks"
[[argument.checks]]
says = "locks of 6.15"
measure = "mmu_lock_write_acquisitions"
of = { policy = "lockless-6.15" }
bound = "== 0"
"""


def rows(**values: list[int]) -> list[dict[str, Any]]:
    """One guest a replicate: pgmajfault of each cell; accesses is 10 everywhere."""
    return [
        {"cell_id": cell, "replicate": r, "guest": 0, "pgmajfault": value, "accesses": 10}
        for cell, some in values.items()
        for r, value in enumerate(some)
    ]


def argument(**check: Any) -> Argument:
    one = Check(**{"says": "x", "measure": "pgmajfault", "bound": "> 1", **check})
    return Argument(number=1, claim="c", by="b", decides="d", checks=[one])


@pytest.mark.parametrize(
    ("check", "mean"),
    [
        ({"of": {"policy": "old"}}, 20),
        ({}, 30),  # all cells, added up
        ({"measure": "pgmajfault / accesses", "of": {"policy": "new"}}, 1),
        ({"measure": "pgmajfault / accesses + pgmajfault", "of": {"policy": "new"}}, 0.5),
        ({"measure": "pgmajfault - accesses", "of": {"policy": "old"}}, 10),
        ({"of": {"policy": "old"}, "over": {"policy": "new"}}, 2),
        ({"of": {"policy": "old"}, "guest": 1}, 0),
    ],
)
def test_a_measure_is_a_sum_or_a_ratio_over_some_cells(check: dict[str, Any], mean: float) -> None:
    (outcome,) = judge(argument(**check), rows(a=[20, 20], b=[10, 10]), CELLS)
    assert outcome.mean == (mean, 0)


@pytest.mark.parametrize(
    ("values", "bound", "found"),
    [
        ([20, 20, 20], "> 19", Verdict.CONFIRMED),
        ([20, 20, 20], "<= 19", Verdict.REFUTED),
        ([18, 20, 22], "> 19", Verdict.OPEN),  # the interval reaches to both sides
        ([200, 202, 201], "> 19", Verdict.CONFIRMED),
        ([0, 0, 0], "== 0", Verdict.CONFIRMED),
        ([0, 0, 1], "== 0", Verdict.REFUTED),
    ],
)
def test_a_check_is_decided_by_its_whole_interval(values: list[int], bound: str, found: Verdict) -> None:
    (outcome,) = judge(argument(of={"policy": "old"}, bound=bound), rows(a=values), CELLS)
    assert outcome.verdict is found


def test_ratios_are_taken_replicate_by_replicate() -> None:
    (outcome,) = judge(
        argument(of={"policy": "old"}, over={"policy": "new"}, bound="== 2"), rows(a=[20, 2, 60], b=[10, 1, 30]), CELLS
    )
    assert outcome.mean == (2, 0)
    assert outcome.verdict is Verdict.CONFIRMED


@pytest.mark.parametrize(("bound", "found"), [("> 2", Verdict.CONFIRMED), ("< 2", Verdict.REFUTED)])
def test_something_over_nothing_is_more_than_any_bound(bound: str, found: Verdict) -> None:
    compared = argument(of={"policy": "old"}, over={"policy": "new"}, bound=bound)
    assert judge(compared, rows(a=[20, 2], b=[0, 0]), CELLS)[0].verdict is found


def test_a_claim_is_refuted_by_one_check_and_confirmed_by_all() -> None:
    confirmed, open_, refuted = (
        judge(argument(of={"policy": "old"}, bound=bound), rows(a=[18, 20, 22]), CELLS)[0]
        for bound in ("> 1", "> 19", "< 1")
    )
    assert verdict([confirmed, confirmed]) is Verdict.CONFIRMED
    assert verdict([confirmed, open_]) is Verdict.OPEN
    assert verdict([confirmed, open_, refuted]) is Verdict.REFUTED


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (
            "mmu_lock_write_acq",
            "mmu_lock_writ_acq",
            "argument.checks.0.measure: unknown metric 'mmu_lock_writ_acquisitions'",
        ),
        ("== 0", "about 0", "argument.checks.0.bound: 'about 0' is not a bound: write for example '>= 0.9'"),
        ('policy = "lockless', 'policy = "lockles', "check 'locks of 6.15': the study has no cell with"),
        ("of = { policy", "of = { polcy", "check 'locks of 6.15': unknown key 'polcy'"),
        ("says =", "sasy =", 'unknown key "sasy" in [argument.checks.0]: did you mean "says"?'),
        ("claim =", "clame =", 'unknown key "clame" in [argument]: did you mean "claim"?'),
        ('by = "a test"\n', "", "argument.by is missing: set it in [argument]"),
        (
            'by = "a test"\n',
            'by = "x"\nbound_set = "May"\n',
            "'May' is not a date: write for example 2026-11-23, without",
        ),
        ('by = "a test"\n', 'by = "x"\nbound_set = 2026\n', "argument.bound_set: '2026' is not a date"),
        ('by = "a test"\n', 'by = "x"\nbound_se = 2026-11-23\n', 'in [argument]: did you mean "bound_set"?'),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, coldfleet: Command, old: str, new: str, why: str) -> None:
    assert old in STUDY
    study = tmp_path / "claim.toml"
    study.write_text(STUDY.replace(old, new, 1))
    said = coldfleet("argue", study)
    assert said.code == 2
    assert why in said.err
    assert len(said.err.splitlines()) == 1


def test_a_study_without_a_claim_can_t_be_argued(study_file: Path, coldfleet: Command) -> None:
    assert "this study makes no claim: it has no [argument]" in coldfleet("argue", study_file).err
    assert "no claim 'C99': there are C1, C2" in coldfleet("argue", "C99").err


def test_argue_prints_claim_figures_and_verdict(tmp_path: Path, coldfleet: Command) -> None:
    study = tmp_path / "claim.toml"
    study.write_text(STUDY)
    said = coldfleet("argue", study, "--quick", "--executor", "serial", "--json")
    (found,) = json.loads(said.out)
    assert found["verdict"] == "confirmed"
    assert found["replicates"] == 3
    assert found["checks"][0]["mean"] == 0
    assert found["bound_set"] is None
    refuted = tmp_path / "refuted.toml"
    text = STUDY.replace("lockless-6.15", "locked-6.12").replace('"a test"', '"a test"\nbound_set = 2026-11-23')
    refuted.write_text(text)
    said = coldfleet("argue", study, refuted, "--quick", "--executor", "serial")
    assert "C7 confirmed: asking" in said.out
    assert "C7 refuted: asking at eviction alone takes mmu_lock\n   a test; bounds set 2026-11-23\n" in said.out
    assert said.out.splitlines()[-1] == "1 confirmed, 1 refuted, 0 open"


def test_all_28_claims_come_along_and_can_be_run() -> None:
    found = find_arguments([])
    assert [one.argument.number for one in found] == list(range(1, 29))
    assert [one.study.name for one in found] == [f"c{number:02d}.toml" for number in range(1, 29)]
    assert all(len(one.argument.checks) >= 2 for one in found)
    assert sum(len(one.plan) for one in found) < 2000  # 20 minutes on 2 cores


@pytest.mark.parametrize("claim", ["C1", "C7"])
def test_that_failures_are_needless_is_more_than_that_few_pages_are_exposed(claim: str) -> None:
    (one,) = find_arguments([claim])
    checks = [check for check in one.argument.checks if check.measure == "needless_failures"]
    assert checks
    for check in checks:
        exposed = check.of.get("nested.exposed_share", one.plan.base.get("nested.exposed_share"))
        assert isinstance(exposed, float)
        assert exposed < 0.1  # the mail's
        assert not check.holds(1 - exposed)


def test_files_say_when_bounds_were_set_and_not_what_comes_out() -> None:
    for one in find_arguments([]):
        assert "verdict" not in one.study.read_text()
        assert one.argument.bound_set is not None


def test_a_date_in_a_comment_is_that_of_the_key() -> None:
    dated = {one.study: re.findall(r"\d{4}-\d\d-\d\d", one.study.read_text()) for one in find_arguments([])}
    assert all(len(set(dates)) == 1 for dates in dated.values())
    assert sum(len(dates) > 1 for dates in dated.values()) == 5


@pytest.mark.slow
@pytest.mark.cluster
def test_every_control_in_the_claims_is_told_from_what_is_right(coldfleet: Command) -> None:
    found = json.loads(coldfleet("argue", "--quick", "--json").out)
    assert [one["claim"] for one in found] == [f"C{number}" for number in range(1, 28)]
    assert {one["verdict"] for one in found} <= set(Verdict)


def test_a_study_with_a_claim_is_a_study(tmp_path: Path) -> None:
    study = tmp_path / "claim.toml"
    study.write_text(STUDY)
    plan = read_study(study)
    assert plan.cell_count == 2
    assert plan.argument is not None
    assert "argument" not in plan.frozen()


def number(text: str) -> float:
    """What a figure of the page says."""
    if text == "∞":
        return math.inf
    return float(text.rstrip("kMµ")) * {"k": 1e3, "M": 1e6, "µ": 1e-6}.get(text[-1], 1)


def test_the_page_says_what_the_files_say_and_its_verdicts_follow_from_its_figures() -> None:
    page = (ROOT / "docs" / "arguments.md").read_text()
    rows = re.findall(r"^\| \*\*C(\d+)\*\* (.+) \*\((.+)\)\* \| (\w+) \| (.+) \|$", page, re.M)
    found = find_arguments([])
    assert len(rows) == len(found)
    for one, (place, claim, source, said, checks) in zip(found, rows, strict=True):
        argument = one.argument
        assert (int(place), claim) == (argument.number, argument.claim)
        assert source == f"{argument.by}; bounds set {argument.bound_set}"
        outcomes = []
        for check, text in zip(argument.checks, checks.split("<br>"), strict=True):
            shown = re.fullmatch(r"(?:\*\*(\w+)\*\*: )?(.+): (\S+?)(?: ±(\S+))? \((.+)\)", text)
            assert shown is not None
            assert (shown[2], shown[5]) == (check.says, check.bound)
            mean, half = number(shown[3]), number(shown[4] or "0")
            ends = {check.holds(mean - half), check.holds(mean + half)}
            says = Verdict(shown[1] or "confirmed")
            assert says == (Verdict.OPEN if len(ends) > 1 else Verdict.CONFIRMED if True in ends else Verdict.REFUTED)
            outcomes.append(Outcome(check, Mean(mean, half), says))
        assert said == verdict(outcomes)
    counts = Counter(row[3] for row in rows)
    told = f"{counts['confirmed']} confirmed, {counts['refuted']} refuted, {counts['open']} open."
    assert f"\n{told}\n" in page
    assert told in (ROOT / "README.md").read_text()
