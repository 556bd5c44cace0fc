"""Ensembles: ranks are uniform if the recording is one of the runs, and wrong rules are told from right ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coldfleet.cluster.validation.ensembles import CONTROLS, Ensemble, draw_all, judge, rank, rank_range
from coldfleet.cluster.validation.replays import Refusal
from coldfleet.hostsim.replay.comparison import RANGED
from tests.cluster.conftest import Said
from tests.hostsim.small_recordings import make_recording

RECORDINGS = Path(__file__).parents[2] / "recordings"


@pytest.fixture(scope="module")
def limit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("limit") / "limit_r1.jsonl.gz"
    make_recording(path, kind="vm", mode="limit", n=3000, acc=3000, target=1500)
    return path


def drawn(path: Path, members: int = 5, seed: int = 1, control: str | None = None) -> Ensemble:
    (ensemble,) = draw_all([path], members, seed, 1, control)
    assert isinstance(ensemble, Ensemble)
    return ensemble


def test_the_rank_of_an_ordinary_run_is_uniform() -> None:
    random = np.random.default_rng(1)
    ps = [rank(runs[0], runs[1:], random.random()) for runs in random.normal(size=(2000, 10, 6, 4))]
    assert np.histogram(ps, 10, (0, 1))[0] == pytest.approx(np.full(10, 200), abs=60)


def test_the_rank_of_a_run_that_is_far_off_is_the_last_one() -> None:
    runs = np.random.default_rng(1).normal(size=(9, 6, 4))
    assert rank(runs[0] + 50, runs, 0.5) == pytest.approx(0.05)


def test_equal_runs_are_in_any_order() -> None:
    runs = np.ones((9, 6, 4))
    assert [rank(runs[0], runs, number) for number in (0.0, 0.25, 0.999)] == pytest.approx([0, 0.25, 0.999])
    assert rank_range(runs[0], runs) == (0, 1)


def test_p_is_in_its_range_which_is_one_place_wide_among_different_runs() -> None:
    random = np.random.default_rng(1)
    for runs in random.normal(size=(50, 10, 6, 4)):
        low, high = rank_range(runs[0], runs[1:])
        assert high - low == pytest.approx(0.1)
        assert low <= rank(runs[0], runs[1:], random.random()) <= high


def test_without_the_random_part_equal_runs_would_not_give_a_uniform_p() -> None:
    """A figure of two values: the luck among equal runs is what makes p uniform."""
    random = np.random.default_rng(1)
    runs = random.integers(0, 2, size=(2000, 10, 1, 1)) * 1000.0
    drawn = [rank(each[0], each[1:], random.random()) for each in runs]
    assert np.histogram(drawn, 10, (0, 1))[0] == pytest.approx(np.full(10, 200), abs=60)
    at_least_as_far = [rank_range(each[0], each[1:])[1] for each in runs]
    assert np.mean(at_least_as_far) > 0.6


def test_luck_goes_by_seed_and_name(limit: Path) -> None:
    one = drawn(limit)
    assert one.as_json() == drawn(limit).as_json()
    assert one.as_json() != drawn(limit, seed=2).as_json()
    assert one.low.keys() == set(RANGED) - {"fres"}
    for name in one.low:
        assert one.low[name] <= one.middle[name] <= one.high[name]


def test_where_a_kernel_repeats_itself_there_is_no_ensemble(tmp_path: Path) -> None:
    path = tmp_path / "made.jsonl.gz"
    make_recording(path, mode="reclaim")
    assert list(draw_all([path], 3, 1)) == [None]
    (refusal,) = draw_all([tmp_path / "absent.jsonl.gz"], 3, 1)
    assert isinstance(refusal, Refusal)


def test_spread_is_the_width_over_that_of_the_repeats(limit: Path) -> None:
    one = drawn(limit)
    values = np.full_like(one.values, 1000.0)
    low, high = (replace(one, width=0.03, values=values + off) for off in (-20, 20))
    assert judge("", [one]).spread is None
    assert judge("", [low, low]).spread is None
    own = 0.04 / np.sqrt(2) / 0.7979  # the standard deviation of two values
    assert judge("", [low, high]).spread == pytest.approx(0.03 / own, rel=1e-3)


def test_a_group_with_small_ps_is_rejected(limit: Path) -> None:
    one = drawn(limit)
    one = replace(one, p_range=(0.0, 0.2))
    right = judge("", [replace(one, p=p) for p in np.linspace(0.05, 0.95, 10).tolist()])
    assert (right.unlikely, right.mean_p) == pytest.approx((0.1, 0.5))
    assert right.rejected_at == pytest.approx(0.5)
    wrong = judge("", [replace(one, p=0.1) for _ in range(10)])
    assert wrong.rejected_at is not None
    assert wrong.rejected_at < 0.001


def test_luck_alone_rejects_nothing(limit: Path) -> None:
    one = replace(drawn(limit), p=0.02, p_range=(0.0, 1.0))
    for equal in ([one], [one, one]):
        assert judge("", equal).rejected_at is None
    assert judge("", [one]).mean_p == 0.5
    assert judge("", [one]).unlikely == 0
    assert judge("", [replace(one, p_range=(0.0, 0.1))]).mean_p == pytest.approx(0.05)
    assert judge("", [one, replace(one, p_range=(0.0, 0.1))]).mean_p == pytest.approx(0.02)


def test_a_file_has_its_own_residency_among_the_figures() -> None:
    read = drawn(RECORDINGS / "k6.12_fmix_zipf_limit_r2.jsonl.gz", members=2)
    assert read.recorded.keys() == set(RANGED)
    assert read.recorded["fres"] > 0
    assert 0 < read.low["fres"] <= read.high["fres"]


@pytest.mark.parametrize("control", CONTROLS)
def test_a_wrong_rule_moves_the_ensemble(limit: Path, control: str) -> None:
    right, wrong = drawn(limit), drawn(limit, control=control)
    assert right.middle != wrong.middle


def test_the_command_judges_and_says_what_it_needs(limit: Path, coldfleet: Callable[..., Said]) -> None:
    said = coldfleet("replay", limit, "--ensemble", 3, "--json")
    found = json.loads(said.out)
    assert (said.code, found["members"], len(found["recordings"])) == (0, 3, 1)
    assert found["all"]["recordings"] == 1
    assert 0 <= found["recordings"][0]["p"] < 1
    text = coldfleet("replay", limit, "--ensemble", 3).out
    assert "limit, 6.12, vm" in text
    low, high = found["recordings"][0]["p_range"]
    assert low <= found["recordings"][0]["p"] <= high
    assert f"p of this recording is between {low:.2f} and {high:.2f}" in text
    for options, reason in (
        (("--control", "birth"), "add --ensemble"),
        (("--ensemble", 3, "--control", "luck"), "known are blind"),
        (("--ensemble", 3, "--out", limit.parent / "out"), "leave out --ensemble"),
    ):
        wrong = coldfleet("replay", limit, *options)
        assert (wrong.code, reason in wrong.err) == (2, True)
