"""Ablation: the features that carry a difference are named, whatever way they work together."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from coldfleet.cluster.answers.ablation import CLOSE, Ablation, Switched, ablate
from coldfleet.cluster.answers.hybrid_runs import GuestMetric, HybridRuns
from coldfleet.cluster.stats.statistics import Mean
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.replay.recording import read_recording
from coldfleet.hostsim.spec.errors import UserError
from tests.cluster.conftest import Said

ROOT = Path(__file__).parents[3]
FINDINGS = sorted((ROOT / "configs" / "findings").glob("*.toml"))
FEATURES = ["one", "two", "three", "four", "five", "six", "seven"]

Model = Callable[[Switched], float]


def explain(model: Model, features: list[str] = FEATURES) -> tuple[Ablation, list[Switched]]:
    asked: list[Switched] = []

    def evaluate(hybrids: Collection[Switched]) -> dict[Switched, float]:
        asked.extend(hybrids)
        return {hybrid: model(hybrid) for hybrid in hybrids}

    return ablate(features, evaluate), asked


def names(found: Ablation) -> set[str]:
    return {effect.name for effect in found.named}


def test_effects_that_add_up_are_shared_out_as_they_are() -> None:
    weights = {"one": 60.0, "three": 30.0, "five": 10.0}
    found, asked = explain(lambda on: 500 + sum(weights.get(name, 0) for name in on))
    assert (found.old, found.new, found.shift) == (500, 600, 100)
    assert {effect.name: effect.share for effect in found.named} == weights
    assert [effect.name for effect in found.named] == list(weights)
    assert found.carried == found.taken_back == 100
    assert found.carried_alone == found.taken_back_alone == 100
    assert len(asked) == len(set(asked)), "a hybrid is run once"


def test_features_that_only_work_together_are_found() -> None:
    found, _ = explain(lambda on: 100.0 * ({"two", "six"} <= on))
    assert names(found) == {"two", "six"}
    assert (found.carried_alone, found.carried) == (0, 100)
    assert (found.taken_back_alone, found.taken_back) == (200, 100)
    assert [effect.share for effect in found.named] == [50, 50]


def test_features_of_which_one_is_enough_are_found() -> None:
    found, _ = explain(lambda on: 100.0 * bool({"two", "six"} & on))
    assert names(found) == {"two", "six"}
    assert [effect.off for effect in found.named] == [0, 0]
    assert [effect.share for effect in found.named] == [50, 50]


def test_features_that_do_nothing_alone_at_either_end_are_found() -> None:
    found, _ = explain(lambda on: 100.0 * (len(on & {"one", "four", "seven"}) >= 2))
    assert len(names(found)) == 2, "any two of them carry everything, both ways"
    assert names(found) < {"one", "four", "seven"}
    assert [(effect.on, effect.off, effect.share) for effect in found.named] == [(0, 0, 50)] * 2


def test_a_feature_that_overshoots_is_named_with_the_one_that_makes_up_for_it() -> None:
    found, _ = explain(lambda on: 200.0 * ("one" in on) - 100.0 * ("two" in on))
    assert [(effect.name, effect.share) for effect in found.named] == [("one", 200), ("two", -100)]


def test_a_falling_figure_is_explained_as_well() -> None:
    found, _ = explain(lambda on: 90.0 - 80.0 * ("four" in on))
    assert (found.shift, names(found), found.part(found.carried)) == (-80, {"four"}, 1)


def test_small_change_is_left_unnamed_and_said_to_be_left() -> None:
    found, _ = explain(lambda on: 97.0 * ("one" in on) + sum(0.5 for name in on if name != "one"))
    assert names(found) == {"one"}
    assert found.carried == 97
    assert found.taken_back == 97
    assert 1 - found.part(found.carried) <= CLOSE


def test_without_a_difference_nothing_is_named() -> None:
    found, asked = explain(lambda on: 7.0)
    assert (found.shift, found.named, found.carried, found.part(found.carried)) == (0, [], 0, 0)
    assert len(asked) == 2, "the ends are enough to know"


def test_a_difference_that_is_not_certain_is_not_explained() -> None:
    asked: list[Switched] = []

    def evaluate(hybrids: Collection[Switched]) -> dict[Switched, float]:
        asked.extend(hybrids)
        return {hybrid: float(len(hybrid)) for hybrid in hybrids}

    found = ablate(FEATURES, evaluate, lambda: len(asked) > 2)
    assert (found.shift, found.effects, len(asked)) == (len(FEATURES), (), 2)


def test_what_many_features_carry_evenly_is_said_to_be_carried_in_part() -> None:
    found, _ = explain(lambda on: float(len(on)), [f"f{number}" for number in range(12)])
    assert len(found.named) == 6
    assert found.part(found.carried) == found.part(found.taken_back) == 0.5


@pytest.mark.parametrize("text", ["pgscam", "pgsteal/limit", "pgsteal/", "/pgsteal", "residency/ticks", ""])
def test_an_unknown_metric_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"unknown (metric|column)|a column is missing|is no sum of columns"):
        GuestMetric.parse(text, None)


def test_a_metric_reads_one_guest_or_all() -> None:
    rows = [{"guest": 0, "resident_page_ticks": 30}, {"guest": 1, "resident_page_ticks": 50}]
    assert GuestMetric.parse("residency", 1).value(rows, 10) == 5
    assert GuestMetric.parse("residency", None).value(rows, 10) == 8
    assert GuestMetric.parse("pgscan / pgsteal", None).value([{"guest": 0, "pgscan": 0, "pgsteal": 0}], 1) == 0


SMALL = """\
title = "a small scenario"
policy = "kernel"
scenario = "vm hotcold, process hotcold"
ticks = 4
overcommit = 2.0
replicates = 2
fleet = { hosts = 1, guests_per_host = 2 }
guest = { memory = "4 MiB", accesses_per_tick = 1024 }
reclaim.mode = "proactive"
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def test_ablate_prints_a_table_and_json(small: Path, coldfleet: Callable[..., Said]) -> None:
    said = coldfleet("ablate", small, "--from", "6.12", "--to", "6.1", "--metric", "notifier_calls_walk", "--json")
    found = json.loads(said.out)
    assert (said.code, found["metric"], found["guest"], found["replicates"]) == (0, "notifier_calls_walk", 0, 2)
    assert "policy" in found["named"], "the walk of 6.1 doesn't ask KVM"
    assert found["new"]["mean"] == 0
    assert found["shift"]["mean"] == -found["old"]["mean"] < 0
    assert found["shift"]["ci95"] is not None
    shown = coldfleet("ablate", small, "--from", "6.12", "--to", "6.1", "--metric", "notifier_calls_walk")
    assert max(map(len, shown.out.splitlines())) <= 100
    for effect in found["features"]:
        assert effect["feature"] in shown.out
    assert "locked-6.12" in shown.out
    assert found["differ"] is True


def test_an_interval_that_contains_0_is_nothing_to_explain(
    small: Path, coldfleet: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HybridRuns, "shift", lambda *ends: Mean(1.0, 2.0))
    ask = ("ablate", small, "--from", "6.12", "--to", "6.1", "--metric", "notifier_calls_walk")
    said = coldfleet(*ask)
    assert said.code == 0
    why = "The two kernels don't differ: the interval of the shift over 2 replicates, 1 ±2, contains 0."
    assert " ".join(said.out.split()).endswith(f"There is nothing to explain. {why}")
    found = json.loads(coldfleet(*ask, "--json").out)
    assert (found["differ"], found["features"], found["runs"]) == (False, [], 2)


def test_guests_of_classes_have_numbers_on_their_host(small: Path, coldfleet: Callable[..., Said]) -> None:
    classes = "[fleet]\nhosts = 1\n[fleet.guest.one]\ncount = 1\n[fleet.guest.other]\ncount = 2\n"
    base = [line for line in SMALL.splitlines() if not line.startswith(("scenario", "fleet"))]
    small.write_text("\n".join(base) + "\n" + classes)
    asked = ("ablate", small, "--from", "6.12", "--to", "6.1", "--metric", "pgscan", "--guest")
    assert json.loads(coldfleet(*asked, 2, "--json").out)["guest"] == 2
    said = coldfleet(*asked, 3)
    assert (said.code, said.err.strip()) == (2, "coldfleet: --guest 3: a host has the guests 0 to 2")


def test_a_policy_that_the_study_sets_is_not_switched(small: Path, coldfleet: Callable[..., Said]) -> None:
    small.write_text(SMALL.replace('"kernel"', '"six-steps"'))
    found = json.loads(coldfleet("ablate", small, "--from", "6.12", "--to", "6.1", "--json").out)
    assert "policy" not in {effect["feature"] for effect in found["features"]}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--from", "6.12", "--to", "6.12"), "--from 6.12 --to 6.12: the same kernel twice"),
        (("--from", "6.12", "--to", "6.13"), "unknown kernel '6.13'"),
        (("--from", "6.12", "--to", "6.1", "--guest", "2"), "--guest 2: a host has the guests 0 to 1"),
        (("--from", "6.12", "--to", "6.1", "--metric", "scans"), "unknown metric 'scans'"),
        (("--from", "6.12", "--to", "6.1", "--cell", "zz"), "no cell 'zz' among"),
        (("--from", "6.12", "--to", "6.1", "--workers", "2"), "workers and address are for ray"),
    ],
)
def test_what_can_not_be_ablated_is_refused(
    small: Path, coldfleet: Callable[..., Said], options: tuple[str, ...], why: str
) -> None:
    said = coldfleet("ablate", small, *options)
    assert (said.code, said.out) == (2, "")
    assert why in said.err
    assert said.err.count("\n") == 1


def test_a_study_with_a_grid_needs_a_cell(study_file: Path, coldfleet: Callable[..., Said]) -> None:
    said = coldfleet("ablate", study_file, "--from", "6.12", "--to", "6.1")
    assert said.code == 2
    assert "the study varies policy, nested_ratio: choose one cell, such as --cell " in said.err
    assert "or by --at KEY=VALUE" in said.err


def test_a_grid_of_one_value_varies_nothing(small: Path, coldfleet: Callable[..., Said]) -> None:
    small.write_text(
        SMALL.replace('policy = "kernel"\n', "") + '[grid]\npolicy = ["kernel"]\nkernel = ["6.1", "6.12"]\n'
    )
    ask = ("ablate", small, "--from", "6.12", "--to", "6.1", "--metric", "notifier_calls_walk", "--json")
    plain = coldfleet(*ask)
    assert (plain.code, plain.out) == (0, coldfleet(*ask, "--at", "policy=kernel").out)


@pytest.mark.parametrize(
    ("more", "keys"),
    [
        ("[zip]\novercommit = [1.5, 2]\nticks = [2, 3]\n", "overcommit, ticks"),
        ("where = [\"kernel != '6.1'\"]\n[grid]\novercommit = [1.5, 2]\n", "overcommit"),
    ],
    ids=["zip", "where"],
)
def test_one_cell_of_what_varies_is_ablated(
    more: str, keys: str, tmp_path: Path, coldfleet: Callable[..., Said]
) -> None:
    study = tmp_path / "varied.toml"
    text = SMALL.replace("overcommit = 2.0\n", "").replace("replicates = 2\n", "")
    study.write_text((text.replace("ticks = 4\n", "") if "ticks" in more else text) + more)
    ask = ("ablate", study, "--from", "6.16", "--to", "6.18", "--metric", "pgscan", "--json")  # which differ in little
    said = coldfleet(*ask)
    assert (said.code, said.out) == (2, "")
    assert f"the study varies {keys}: choose one cell" in said.err
    first = read_study(study).cell_ids[0]
    said = coldfleet(*ask, "--cell", first)
    assert (said.code, said.err.count("Traceback")) == (0, 0)
    assert json.loads(said.out)["replicates"] == 3


FINDINGS_PAGE = (ROOT / "docs" / "findings.md").read_text()
COMMANDS = re.findall(r"^ {4}coldfleet (ablate configs/.*)$", FINDINGS_PAGE, re.M)


@pytest.mark.parametrize("study", FINDINGS, ids=lambda path: path.stem)
def test_a_finding_has_its_command_at_its_head_and_a_place_in_the_docs(study: Path) -> None:
    commands = re.findall(r"^# {5}coldfleet (\w+) (\S+)", study.read_text(), re.M)
    assert {name for name, _ in commands} <= {"ablate", "sweep"}
    assert {path for _, path in commands} == {f"configs/findings/{study.name}"}
    assert f"({Path('..') / 'configs' / 'findings' / study.name})" in FINDINGS_PAGE
    assert read_study(study).axes["kernel"] == ("6.1", "6.12", "6.16", "6.18")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_finding_has_the_figures_of_the_docs(
    command: str, coldfleet: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    found = json.loads(coldfleet(*command.split(), "--json").out)
    assert found["carried_share"] > 0.8
    assert found["taken_back_share"] > 0.8
    said = coldfleet(*command.split()).out
    assert said.splitlines()[1] in FINDINGS_PAGE
    for effect in found["features"]:
        if effect["named"] and abs(effect["carries_share"]) > 0.2:
            assert f"`{effect['feature']}`" in FINDINGS_PAGE or effect["feature"] == "policy"


def recorded_residency(kernel: str) -> float:
    """The guest's mean residency at the ends of the rounds."""
    path = ROOT / "tests" / "recordings" / f"k{kernel}_duovm_hotcold-hotcold_reclaim_r2.jsonl.gz"
    recording = read_recording(path)
    last = {step["r"]: step["res"] for step in recording.steps if step.get("c") == "a" and step["r"] > 0}
    return sum(last.values()) / recording.header.rounds


@pytest.mark.parametrize(("new", "first"), [("6.18", "two_touch"), ("6.1", "policy")])
def test_guest_beside_process_is_explained_from_recording_to_recording(
    new: str, first: str, coldfleet: Callable[..., Said]
) -> None:
    study = ROOT / "configs" / "findings" / "guest-beside-process.toml"
    found = json.loads(coldfleet("ablate", study, "--from", "6.12", "--to", new, "--json").out)
    assert found["old"]["mean"] == pytest.approx(recorded_residency("6.12"), abs=1e-6)
    assert found["new"]["mean"] == pytest.approx(recorded_residency(new), abs=1e-6)
    assert found["named"][0] == first
    assert 0.8 <= found["carried_share"] <= 1.2
    assert 0.8 <= found["taken_back_share"] <= 1.2
    shares = [effect["carries"] for effect in found["features"] if effect["named"]]
    assert sum(shares) == pytest.approx((found["carried"] + found["taken_back"]) / 2)
