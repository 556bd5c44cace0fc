"""Search: the best is found with few runs, what breaks an SLO never wins, and what can't be told apart is said."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

import coldfleet
from coldfleet.cluster.answers.race import FIRST_LOOK, Place, Racer, looks, race
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.summary import summarise
from coldfleet.cluster.stats.statistics import short
from coldfleet.cluster.study.lives import all_lives
from coldfleet.cluster.study.model import merge
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.host_spec import HostSpec
from tests.cluster.answers.test_capacity_over_time import STUDY, SyntheticHost
from tests.cluster.conftest import Said

Command = Callable[..., Said]
SERIAL = ("--executor", "serial")


class Synthetic:
    """Settings with known means and excesses, and noise of which most is common to all."""

    def __init__(self, means: Sequence[float], excesses: Sequence[float], noise: float, seed: int) -> None:
        self.means, self.excesses, self.noise, self.seed = means, excesses, noise, seed
        self.runs = 0

    def __call__(self, wanted: Mapping[int, range]) -> dict[int, list[tuple[float, Sequence[float]]]]:
        self.runs += sum(map(len, wanted.values()))
        return {setting: [self.replicate(setting, r) for r in some] for setting, some in wanted.items()}

    def replicate(self, setting: int, replicate: int) -> tuple[float, Sequence[float]]:
        shared = np.random.default_rng((self.seed, replicate)).normal()
        own, luck = np.random.default_rng((self.seed, replicate, setting + 1)).normal(size=2)
        figure = self.means[setting] + self.noise * (0.8 * shared + 0.6 * own)
        return figure, [self.excesses[setting] + self.noise * luck, -1.0]


def run(some: Synthetic, replicates: int = 40, budget: int | None = None) -> list[Racer]:
    left = (lambda: None) if budget is None else (lambda: budget - some.runs)
    return race(len(some.means), replicates, some, confidence=95, runs_left=left)


def of(racers: Sequence[Racer], place: Place) -> set[int]:
    return {number for number, racer in enumerate(racers) if racer.place is place}


def misses(trials: int, noise: float) -> int:
    """In how many trials the best that is allowed neither wins nor ties, or what breaks the SLO does."""
    wrong = 0
    rng = np.random.default_rng(3)
    for trial in range(trials):
        means, excesses = rng.uniform(0, 1, 30), rng.choice([-1.0, 1.0], 30)
        racers = run(Synthetic(list(means), list(excesses), noise, trial))
        allowed = [number for number in range(30) if excesses[number] < 0]
        kept = of(racers, Place.WINS) | of(racers, Place.TIES)
        best = min(allowed, key=lambda number: means[number])
        wrong += best not in kept | of(racers, Place.OPEN) or not kept <= set(allowed)
    return wrong


def test_the_best_that_is_allowed_is_kept() -> None:
    assert misses(20, 0.1) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_the_best_is_kept_as_often_as_it_says(noise: float) -> None:
    assert misses(200, noise) <= 10


def test_what_is_clearly_worse_gets_few_replicates() -> None:
    some = Synthetic([0, *np.linspace(1, 2, 29)], [-1.0] * 30, 0.02, 1)
    racers = run(some)
    assert (of(racers, Place.WINS), of(racers, Place.WORSE)) == ({0}, set(range(1, 30)))
    assert len(racers[0].values) == 40
    assert some.runs == 30 * FIRST_LOOK + 35


def test_equals_tie_and_none_wins_that_breaks_an_slo() -> None:
    racers = run(Synthetic([1, 1, 0, 0.5], [-1, -1, 1, 0], 0.05, 2))
    assert of(racers, Place.WINS) | of(racers, Place.TIES) == {0, 1}
    assert (of(racers, Place.BREAKS), of(racers, Place.OPEN)) == ({2}, {3})
    nobody = run(Synthetic([1, 2], [1, 1], 0.05, 2))
    assert of(nobody, Place.BREAKS) == {0, 1}


def test_a_budget_ends_the_race_before_the_next_look() -> None:
    some = Synthetic([1, 1.01], [-99, -99], 0.5, 4)
    racers = run(some, budget=15)
    assert some.runs == 2 * FIRST_LOOK
    assert of(racers, Place.WINS) | of(racers, Place.TIES) == {0, 1}
    assert list(looks(2)) == [(0, 2)]
    assert list(looks(40)) == [(0, 5), (5, 10), (10, 20), (20, 40)]


def test_the_command_finds_the_best_of_a_sweep(study_file: Path, tmp_path: Path, coldfleet: Command) -> None:
    study_file.write_text(study_file.read_text().replace("replicates = 3", "replicates = 6"))
    rows = summarise(sweep(read_study(study_file), tmp_path / "out", SerialExecutor()))
    for more in ((), ("--highest",)):
        said = coldfleet("search", study_file, "--metric", "refaults", "--replicates", 6, *more, *SERIAL, "--json")
        assert said.code == 0, said.err
        answer = json.loads(said.out)
        assert (answer["grid_runs"], len(answer["settings"])) == (36, 6)
        assert answer["settings"][0]["place"] == "wins"
        best = (max if more else min)(row.means["refaults"].mean for row in rows)
        assert answer["settings"][0]["mean"] == best
    text = coldfleet("search", study_file, "--metric", "refaults", "--replicates", 6, *SERIAL).out
    assert answer["title"] in text
    assert f"runs, where the whole grid takes {answer['grid_runs']}" in " ".join(text.split())


def test_ranges_and_lists_replace_the_grid(study_file: Path, coldfleet: Command, fake_engine: list[HostSpec]) -> None:
    over = ("policy=evict-only,was-fast", "overcommit=1.2..1.6/0.2", "nested_ratio=0.5", "guests_per_host=2..3")
    words = [word for each in over for word in ("--over", each)]
    said = coldfleet("search", study_file, "--metric", "refaults", *words, *SERIAL, "--json")
    settings = [each["setting"] for each in json.loads(said.out)["settings"]]
    assert {each["policy"] for each in settings} == {"evict-only", "was-fast"}
    assert {each["overcommit"] for each in settings} == {1.2, 1.4, 1.6}
    assert {each["fleet_guests_per_host"] for each in settings} == {2, 3}
    assert len(settings) == 12


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--over", "overcommit"), "over overcommit: write KEY=LOW..HIGH"),
        (("--over", "overcomit=1,2"), "did you mean 'overcommit'"),
        (("--over", "overcommit=1..x"), "1..x is not a range of numbers"),
        (("--over", "overcommit=2..1"), "overcommit from 2 to 1 is not a range"),
        (("--over", "overcommit=1..2/0"), "the step must cut the range"),
        (("--over", "policy=1..2"), "policy has no range of numbers"),
        (("--over", "policy=evict-only", "--at", "nested_ratio=0"), "the search has 1 setting"),
        (("--slo", "fault_rat<1%"), "unknown metric 'fault_rat'"),
        (("--budget", "10"), "budget 10: the first look takes 30 runs"),
        (("--metric", "slowdown"), "slowdown is measured by a clock"),
    ],
)
def test_a_mistake_is_one_line(study_file: Path, coldfleet: Command, words: tuple[str, ...], why: str) -> None:
    said = coldfleet("search", study_file, "--metric", "refaults", *words, *SERIAL)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1), said.err
    assert why in said.err


def test_a_winner_that_refuses_guests_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldfleet.hostsim.host.simulate_host", SyntheticHost(9.0, 0.0))
    study = merge(STUDY, {"fleet": {"guest": {"web": {"arrivals": {"per_hour": 3.0}}}}})
    more = {"over": ["fleet.host.node.count=1,7"], "replicates": 3, "executor": "serial"}
    few, many = (coldfleet.search(study, "dram_pages", highest=highest, **more) for highest in (False, True))  # type: ignore[arg-type]
    for each in few.settings:
        there = read_study(merge(study, {"replicates": 3, "fleet": {"host": {"node": {
            "count": each.setting["fleet.host.node.count"]}}}}))  # fmt: skip
        lives = [life for run in there.runs() for life in all_lives(run)]
        assert each.refused == pytest.approx(sum(bool(each.life.refused) for each in lives) / 3)
    assert [each.setting["fleet.host.node.count"] for each in few.settings] == [1, 7]
    assert few.settings[0].refused
    assert few.settings[1].refused == 0
    often = f"; but {short(few.settings[0].refused)} times in a run a guest gets no place there, "
    assert f"{often}with fleet.host.node.count = 7 0 times: it has fewer guests to serve" in few.sentence
    assert many.settings[0].refused == 0
    assert "gets no place" not in many.sentence
