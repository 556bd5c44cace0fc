"""The map of policies: borders are found where they are, ties are shown as ties, the budget is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from coldfleet.cluster.answers.policy_map import COARSE, LOOKS, Entry, Point, PolicyMap, draw_map, side
from tests.cluster.conftest import STUDY, Said

Command = Callable[..., Said]
SERIAL = ("--executor", "serial")
POLICIES = ("left", "right", "twin", "bad")


class Country:
    """ "left" wins left of a slanting border, "right" and its "twin" right of it, "bad" nowhere; with noise."""

    def __init__(self, noise: float = 0.01) -> None:
        self.noise = noise
        self.asked: dict[Entry, int] = {}

    def truth(self, point: Point, policy: str) -> float:
        """Lower is better."""
        border = 5.35 + 0.3 * point.y
        return {"left": point.x - border, "bad": 50.0}.get(policy, border - point.x)

    def __call__(self, wanted: Mapping[Entry, range]) -> dict[Entry, Sequence[float]]:
        found: dict[Entry, Sequence[float]] = {}
        for entry, some in wanted.items():
            self.asked[entry] = self.asked.get(entry, 0) + len(some)
            name = "right" if entry.policy == "twin" else entry.policy
            draws = [np.random.default_rng((*entry.point, len(name), r)).normal() for r in some]
            found[entry] = [self.truth(entry.point, entry.policy) + self.noise * draw for draw in draws]
        return found

    @property
    def runs(self) -> int:
        return sum(self.asked.values())


def everywhere(depth: int) -> dict[Point, tuple[str, ...]]:
    return {Point(x, y): POLICIES for x in range(side(depth)) for y in range(side(depth))}


def make(country: Country, depth: int = 2, runs: int = 10**9) -> PolicyMap:
    return draw_map(everywhere(depth), depth, country, confidence=95, runs_left=lambda: runs - country.runs)


def wrong(drawn: PolicyMap, country: Country) -> int:
    """Points of which the map says something else than the truth."""
    size = drawn.size
    points = [Point(x, y) for x in range(size) for y in range(size)]
    return sum(
        (drawn.winners(p) == ("left",)) != (country.truth(p, "left") < country.truth(p, "right")) for p in points
    )


def test_the_border_is_found_without_simulating_all_points() -> None:
    country = Country()
    drawn = make(country)
    assert wrong(drawn, country) <= 3, "next to the border only"
    assert len(drawn.found) < 0.5 * side(2) ** 2
    assert wrong(drawn, country) < wrong(make(country, runs=0), country)


def test_policies_that_can_t_be_told_apart_tie() -> None:
    assert set(make(Country()).regions()) == {("left",), ("right", "twin")}


def test_who_has_lost_on_all_sides_doesn_t_compete_within() -> None:
    country = Country()
    make(country)
    step = 1 << 2
    assert {entry.point for entry in country.asked if entry.policy == "bad"} == {
        Point(x, y) for x in range(0, side(2), step) for y in range(0, side(2), step)
    }


def test_only_what_is_open_gets_more_replicates() -> None:
    here = Point(3, 0)  # left wins by 4.7
    calm, noisy = countries = [Country(noise) for noise in (0.01, 5.0)]
    found = [draw_map({here: POLICIES}, 0, each, confidence=95, runs_left=lambda: None) for each in countries]
    assert set(calm.asked.values()) == {LOOKS[0]}
    assert noisy.asked[Entry(here, "left")] == LOOKS[-1]
    assert noisy.asked[Entry(here, "bad")] == LOOKS[0]
    assert found[0].winners(here) == ("left",)
    assert set(found[1].winners(here)) >= {"left", "right"}, "nobody can tell"


def test_a_budget_ends_the_refinement() -> None:
    coarse = (COARSE + 1) ** 2
    poor, rich = make(Country(), runs=0), make(Country(), runs=700)
    assert len(poor.found) == coarse
    assert coarse < len(rich.found) < len(make(Country()).found)


def test_points_that_can_t_be_are_left_out() -> None:
    possible = {point: who for point, who in everywhere(1).items() if point.y > 1}
    drawn = draw_map(possible, 1, Country(), confidence=95, runs_left=lambda: None)
    assert drawn.winners(Point(0, 1)) == ()
    assert drawn.winners(Point(0, 2)) == ("left",)
    assert sum(drawn.regions().values()) == len(possible)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    text = STUDY.replace("hosts = 2", "hosts = 1").replace("4 MiB", "2 MiB")
    path.write_text(text.replace('"six-steps"]', '"locked-6.12", "lockless-6.15"]'))
    return path


def test_map_in_characters_json_and_svg(study: Path, tmp_path: Path, coldfleet: Command) -> None:
    pytest.importorskip("altair")
    where = ("--out", tmp_path / "runs")
    ask = (
        "map",
        study,
        "--x",
        "nested_ratio",
        "--y",
        "exposed_share",
        "--depth",
        "1",
        "--at",
        "ticks=2",
        *where,
        *SERIAL,
    )
    said = coldfleet(*ask, "--picture", tmp_path / "map.svg")
    assert said.code == 0
    assert max(map(len, said.out.splitlines())) <= 100
    assert "locked-6.12 = lockless-6.15 (tie)" in said.out
    assert said.out.endswith("the nearest capital\n.  the study allows no such cell\n")  # less exposed than L2's alone
    drawing = ElementTree.parse(tmp_path / "map.svg").getroot()
    assert "locked-6.12 = lockless-6.15" in "".join(drawing.itertext())
    data = json.loads(coldfleet(*ask, "--json").out)
    assert (data["x"], data["y"], data["metric"]) == ("nested_ratio", "nested.exposed_share", "refaults")
    assert len(data["points"]) == side(1) ** 2
    assert sum(region["share"] for region in data["regions"]) == pytest.approx(1)
    for point in data["points"]:
        assert point["possible"] is (point["y"] >= 0.25), "L2 can touch what only L2 touches"
        assert bool(point["winners"]) is point["possible"]
        if point["simulated"]:
            assert min(point["means"], key=point["means"].__getitem__) in point["winners"]
    # 2 guests: nested ratios come to 0, 1 or 2 of them, and L2 has no share in 0
    assert data["runs"] < 3 * sum(len(point["means"]) for point in data["points"])


def test_help_shows_a_default_that_can_be_understood(coldfleet: Command) -> None:
    said = " ".join(coldfleet("map", "--help").out.replace("│", " ").split())
    assert said.count("From where to where. [default: what is usual for the key, else the study's values]") == 2
    assert "[default: :]" not in said


def test_the_highest_can_win(study: Path, coldfleet: Command) -> None:
    ask = ("map", study, "--x", "nested_ratio", "--y", "overcommit", "--y-range", "1.5:2", "--depth", "0", *SERIAL)
    data = json.loads(coldfleet(*ask, "--metric", "missed_young", "--highest", "--json").out)
    assert [region["winners"] for region in data["regions"]] == [["evict-only"]], "it misses what it doesn't ask for"
    assert {point["y"] for point in data["points"]} == {1.5, 1.625, 1.75, 1.875, 2}
    assert all(min(point["means"].values()) >= 0 for point in data["points"])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--x", "nested_ratio", "--y", "exposed_shar"), "unknown key 'exposed_shar'"),
        (("--x", "nested_ratio", "--y", "nested_ratio"), "the same key twice"),
        (("--x", "overcommit", "--y", "exposed_share"), "the study varies nested_ratio (0, 0.5, 1): choose one value"),
        (("--x", "nested_ratio", "--y", "kernel"), "kernel has no range of numbers"),
        (("--x", "nested_ratio", "--y", "skew"), "guest.workload.skew: give its range, from where to where"),
        (("--x", "nested_ratio", "--y", "skew", "--y-range", "low"), "'low' is not a range: write FROM:TO"),
        (("--x", "nested_ratio", "--y", "skew", "--y-range", "2:1"), "guest.workload.skew from 2 to 1 is not a range"),
        (("--x", "nested_ratio", "--y", "exposed_share", "--metric", "refault"), "unknown metric 'refault'"),
        (("--x", "nested_ratio", "--y", "exposed_share", "--at", "policy=evict-only"), "a map needs several"),
        (("--x", "nested_ratio", "--y", "exposed_share", "--picture", "map.pdf"), "map.pdf: pictures are .png or"),
        (("--x", "nested_ratio", "--y", "exposed_share", "--picture", "no/map.png"), "there is no folder no"),
        (("--x", "nested_ratio", "--y", "overcommit", "--y-range", "0:0.5"), "overcommit = 0.5: it should be greater"),
    ],
)
def test_a_mistake_is_one_line(study: Path, coldfleet: Command, arguments: tuple[str, ...], why: str) -> None:
    said = coldfleet("map", study, *arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert why in said.err
