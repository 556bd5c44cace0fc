"""Policies that a study brings along, and policies of other packages: they work wherever names do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.policies import POLICIES, Enter, Policy, PolicyError, Step, get_policy, installed, policy
from tests.cluster.conftest import Said

Command = Callable[..., Said]
HEAD = """\
ticks = 2
replicates = 1
overcommit = 1.5
[fleet]
hosts = 1
guests_per_host = 2
[guest]
memory = "2 MiB"
accesses_per_tick = 512
"""
MINE = """\
[policy.mine]
steps = [
  "if tdp: age tdp under rcu",
  "if young and not clearing: return fast",
  "if shadow sptes: age shadow under rmap lock",
  "return fast",
]
walk = "clear"
look_around = "clear"
evict = "clear"
"""
GRID = """\
[grid]
policy = ["mine", "lockless-6.15"]
nested_ratio = [0, 1]
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def to_file(text: str) -> Path:
        path = tmp_path / "own.toml"
        path.write_text(text)
        return path

    return to_file


def test_a_policy_of_the_study_gives_what_its_twin_in_the_catalogue_gives(
    write: Callable[[str], Path], tmp_path: Path, coldfleet: Command
) -> None:
    study = write(HEAD + MINE + GRID)
    out = tmp_path / "out"
    assert coldfleet("sweep", study, "--out", out, "--executor", "serial").code == 0
    rows = Results.open(out).table("cells").to_pylist()
    mine, twin = ([row for row in rows if row["policy"] == name] for name in ("mine", "lockless-6.15"))
    assert {row["policy_digest"] for row in rows} == {POLICIES["lockless-6.15"].digest}
    for ours, theirs in zip(*(sorted(some, key=lambda row: row["nested_ratio"]) for some in (mine, twin)), strict=True):
        assert {k: v for k, v in ours.items() if k not in ("policy", "cell_id")} == {
            k: v for k, v in theirs.items() if k not in ("policy", "cell_id")
        }
    cell = next(row["cell_id"] for row in mine)
    assert json.loads(coldfleet("run", study, "--cell", cell, "--json").out)["cells"][0]["policy"] == "mine"


def test_a_single_policy_of_the_study_is_its_policy(write: Callable[[str], Path]) -> None:
    plan = read_study(write(HEAD + MINE))
    assert plan.cell(0).policy.name == "mine"
    assert Plan.thaw(json.loads(json.dumps(plan.frozen()))) == plan


def test_another_policy_of_the_same_name_makes_another_study(write: Callable[[str], Path]) -> None:
    plan = read_study(write(HEAD + MINE))
    other = read_study(write(HEAD + MINE.replace("rmap lock", "mmu_lock write")))
    assert "policy.mine is" in plan.difference(other)
    assert plan.cell_ids != other.cell_ids


def test_the_command_shows_it(write: Callable[[str], Path], coldfleet: Command) -> None:
    study = write(HEAD + MINE)
    assert "mine" in coldfleet("policies", "--study", study).out
    shown = json.loads(coldfleet("policies", "mine", "--study", study, "--json").out)
    assert shown["steps"] == [step.text for step in POLICIES["lockless-6.15"].steps]


@pytest.mark.parametrize(
    ("old", "new", "line", "why"),
    [
        ('return fast",\n]', 'retrun fast",\n]', 11, "policy.mine.steps.3: step 'retrun fast': starts with none of"),
        (
            "if tdp:",
            "if tpd:",
            11,
            "policy.mine.steps.0: step 'if tpd: age tdp under rcu': unknown condition 'tpd'",
        ),
        ('walk = "clear"', 'walk = "clera"', 17, "policy.mine.walk: call 'clera': write 'clear' or 'test'"),
        ("walk =", "wlak =", 17, 'unknown key "wlak" in [policy.mine]: did you mean "walk"?'),
        ('evict = "clear"\n', "", 10, "policy.mine.evict is missing: set it in [policy.mine]"),
        ('evict = "clear"', 'evict = ""', 10, "policy 'mine': the eviction check asks nobody"),
        ("[policy.mine]", "[policy.six-steps]", 10, "policy 'six-steps' is in the catalogue: give yours another name"),
        (
            "[policy.mine]",
            "[policy.mien]",
            21,
            "grid.policy: unknown policy 'mine' (`coldfleet policies` lists all): did you",
        ),
        ('evict = "clear"', 'evict = "clear"\nenter = "hot"', 20, "policy.mine.enter = 'hot': it should be 'young'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    write: Callable[[str], Path], coldfleet: Command, old: str, new: str, line: int, why: str
) -> None:
    text = HEAD + MINE + GRID
    assert old in text
    study = write(text.replace(old, new, 1))
    said = coldfleet("sweep", study)
    assert said.code == 2
    assert said.err.startswith(f"coldfleet: {study}:{line}: {why}" if line else f"coldfleet: {study}: {why}")
    assert len(said.err.splitlines()) == 1


def test_several_policies_need_a_choice(write: Callable[[str], Path], coldfleet: Command) -> None:
    study = write(HEAD + MINE + MINE.replace("mine", "other"))
    assert "which of them? add [grid] with policy = ['mine', 'other']" in coldfleet("sweep", study).err


def from_a_package() -> Policy:
    return policy(
        "packaged", summary="One of another package.", source="test", date="", status="experiment",
        steps=tuple(f"if {condition}age tdp under rcu" for condition in ("tdp: ",)),
        walk="clear", look_around="", evict="clear", enter=Enter.YOUNG,
    )  # fmt: skip


def fails() -> Policy:
    raise RuntimeError("no data")


@pytest.fixture
def entry_point(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    def install(name: str, attribute: str) -> None:
        point = EntryPoint(name, f"{__name__}:{attribute}", installed.GROUP)
        monkeypatch.setattr(installed, "entry_points", lambda group: [point] if group == installed.GROUP else [])
        installed.installed.cache_clear()

    yield install
    monkeypatch.undo()
    installed.installed.cache_clear()


def test_a_policy_of_another_package_is_known_by_its_name(
    entry_point: Callable[[str, str], None], write: Callable[[str], Path], coldfleet: Command
) -> None:
    entry_point("packaged", "from_a_package")
    assert get_policy("packaged").digest == from_a_package().digest
    plan = read_study(write(HEAD + '[grid]\npolicy = ["packaged", "evict-only"]\n'))
    assert plan.cell(0).policy == from_a_package()
    assert "experiment (of another package)" in coldfleet("policies").out


def changed() -> Policy:
    return replace(from_a_package(), steps=(Step.parse("return"),))


def test_results_open_where_the_package_is_not_installed(
    entry_point: Callable[[str, str], None], write: Callable[[str], Path], tmp_path: Path, coldfleet: Command
) -> None:
    study, out = write(HEAD + '[grid]\npolicy = ["packaged", "evict-only"]\n'), tmp_path / "out"
    entry_point("packaged", "from_a_package")
    assert coldfleet("sweep", study, "--out", out, "--executor", "serial").code == 0
    cell = Results.open(out).plan.cell(0)
    reads = [
        ("status", out),
        ("query", out, "SELECT policy, pgmajfault FROM cells"),
        ("verify", out),
        ("run", out, "--cell", cell.cell_id),
        ("explain", out, cell.cell_id),
        ("report", out, "--out", tmp_path / "report.html"),
        ("resume", out, "--executor", "serial"),
        ("sweep", study, "--out", out, "--executor", "serial"),
    ]
    said = [coldfleet(*command) for command in reads]
    assert [each.code for each in said] == [0] * len(reads), said
    entry_point("other", "from_a_package")  # so the one is gone
    assert Results.open(out).plan.cell(0) == cell
    for command, before in zip(reads[:-1], said, strict=False):
        said_now = coldfleet(*command)
        assert (said_now.code, said_now.out) == (before.code, before.out)  # progress is said where it takes long
    assert "unknown policy 'packaged'" in coldfleet(*reads[-1]).err


def test_the_results_own_steps_win_and_no_sweep_mixes_them(
    entry_point: Callable[[str, str], None], write: Callable[[str], Path], tmp_path: Path, coldfleet: Command
) -> None:
    study, out = write(HEAD + '[grid]\npolicy = ["packaged", "evict-only"]\n'), tmp_path / "out"
    entry_point("packaged", "from_a_package")
    sweep(read_study(study), out, SerialExecutor())
    entry_point("packaged", "changed")
    results = Results.open(out)
    assert results.plan.cell(0).policy == from_a_package()
    assert coldfleet("status", out).code == coldfleet("resume", out, "--executor", "serial").code == 0
    next((out / "parts").glob("cells-*")).unlink()
    for command in (("resume", out), ("retry", out, "--failed"), ("sweep", study, "--out", out)):
        said = coldfleet(*command, "--executor", "serial")
        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
        assert from_a_package().digest in said.err
        assert changed().digest in said.err


@pytest.mark.parametrize(
    ("name", "attribute", "why"),
    [
        ("packaged", "fails", "can't be made: RuntimeError: no data"),
        ("packaged", "missing", "can't be made: AttributeError: "),
        ("other", "from_a_package", "must be a policies.Policy named 'other'"),
    ],
)
def test_a_package_s_mistake_is_said_in_one_line(
    entry_point: Callable[[str, str], None], name: str, attribute: str, why: str
) -> None:
    entry_point(name, attribute)
    with pytest.raises(PolicyError) as caught:
        get_policy(name)
    assert why in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
