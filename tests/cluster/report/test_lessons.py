"""What the report says and draws of figures that are made up, so that the truth is known."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import numpy as np
import pytest

from coldfleet.cluster.report import lessons, panels
from coldfleet.cluster.report.charts import pictures, specification
from coldfleet.cluster.report.figures import Axis, Figures, merged
from coldfleet.cluster.stats.metrics import SUMMARY, Metric

POLICIES = ("evict-only", "six-steps", "was-fast")
RATIOS = (0.0, 0.5, 1.0)
KERNELS = ("6.1", "6.12")
REPLICATES = 4
REFAULTS = SUMMARY[0]


def make(refaults: Any, replicates: int = REPLICATES) -> Figures:
    """A study of policies, ratios and kernels; ``refaults(policy, ratio, kernel, replicate)`` gives that metric."""
    rows = list(product(POLICIES, RATIOS, KERNELS, range(replicates)))
    axes = {}
    for place, (path, labels) in enumerate((("policy", POLICIES), ("nested_ratio", RATIOS), ("kernel", KERNELS))):
        axes[path] = Axis(path, labels, np.array([labels.index(row[place]) for row in rows]))  # type: ignore[arg-type]
    values = {metric.key: np.zeros(len(rows)) for metric in SUMMARY}
    values["refaults"] = np.array([refaults(*row) for row in rows], float)
    cells = np.arange(len(rows)) // replicates
    return Figures(cells, np.array([row[3] for row in rows]), axes, SUMMARY, (), values)


def rows_of(spec: dict[str, Any], layer: int) -> list[dict[str, Any]]:
    """The data of a layer of a panel."""
    data = spec["layer"][layer]["data"]
    return data["values"] if "values" in data else spec["datasets"][data["name"]]


def noise(policy: str, ratio: float, kernel: str, replicate: int) -> float:
    return float(np.random.default_rng([len(policy), int(2 * ratio), len(kernel), replicate]).normal(0, 5))


def test_every_axis_has_a_picture_and_a_category_stands_beside_itself() -> None:
    found = {picture.name: picture for picture in pictures(make(lambda *at: 1000 + noise(*at)), None)}
    assert list(found) == ["map", "map-of-two", "curves-nested_ratio", "by-kernel"]
    curves = found["curves-nested_ratio"]
    assert (curves.columns, len(curves.panels)) == (2, 2 * len(SUMMARY))
    titles = [specification(panel)["title"]["subtitle"][0] for panel in curves.panels[:2]]
    assert titles == ["kernel = 6.1", "kernel = 6.12"]
    domains = [specification(panel)["layer"][1]["encoding"]["y"]["scale"]["domain"] for panel in curves.panels[:2]]
    assert domains[0] == domains[1]


def test_only_a_change_beyond_its_interval_is_stated() -> None:
    said = lessons.by_axis(make(lambda *at: 1000 + noise(*at)), "nested_ratio")
    assert "don't change by more than the interval" in said
    said = lessons.by_axis(make(lambda *at: (1000 + noise(*at)) * (1 - 0.2 * at[1])), "nested_ratio")
    assert "refaults change by −20." in said or "refaults change by −19." in said
    assert "alike as far as the intervals tell" in said
    steep = {"evict-only": 0.0, "six-steps": 0.2, "was-fast": 0.5}
    said = lessons.by_axis(make(lambda *at: (1000 + noise(*at)) * (1 - steep[at[0]] * at[1])), "nested_ratio")
    assert "under was-fast" in said
    assert "under evict-only, the others in between" in said


def test_categories_are_told_apart_or_not() -> None:
    said = lessons.by_axis(make(lambda *at: 1000 + noise(*at)), "kernel")
    assert said.startswith("The intervals don't tell the values of kernel apart")
    said = lessons.by_axis(make(lambda *at: 1000 + noise(*at) + 100 * (at[2] == "6.1")), "kernel")
    assert said.startswith("Refaults by kernel: the least with 6.12, ")
    assert "6.1 has 1" in said


def test_a_tie_names_its_members() -> None:
    figures = make(lambda *at: 1000 + 9 * at[3] + (100 if at[0] == "was-fast" else 0))
    assert lessons.where_each_wins(figures, "nested_ratio") == (
        "Refaults by nested_ratio, the least: at 0 to 1 evict-only and six-steps tie."
    )
    picture = next(pictures(figures, None))
    strips = rows_of(specification(picture.panels[0]), 0)
    assert {row["wins"] for row in strips if row["what"] == "refaults"} == {"evict-only = six-steps"}
    heights = [row["y2"] - row["y"] for row in strips if row["what"] == "refaults" and row["at"] == "0.5"]
    assert len(heights) == 2
    assert heights[0] == heights[1]


def test_one_replicate_claims_nothing() -> None:
    figures = make(lambda *at: 1000 + 500 * at[1], replicates=1)
    assert {picture.says for picture in pictures(figures, None)} == {lessons._NO_INTERVAL}


def two(a: Figures, b: Figures) -> Figures:
    """The figures of two results with all settings in common."""
    settings = dict(enumerate(product(POLICIES, RATIOS, KERNELS)))
    return merged({"A": a, "B": b}, {"A": settings, "B": settings}, ("policy", "nested_ratio", "kernel"))


def was_fast_is_least(policy: str, ratio: float, kernel: str, replicate: int) -> float:
    return 1000 + 9 * replicate - (100 if policy == "was-fast" else 0)


def test_a_setting_with_one_replicate_is_no_tie() -> None:
    both = two(make(was_fast_is_least), make(was_fast_is_least, replicates=1))
    says = "Refaults, the least at the 3 settings of nested_ratio and results: was-fast at 3."
    assert lessons.how_often_each_wins(both, ["nested_ratio", "results"]) == (
        f"{says} 3 settings with one replicate tell nothing."
    )
    assert lessons.where_each_wins(both, "results") == (
        "Refaults by results, the least: at A was-fast. 1 setting with one replicate tells nothing."
    )
    even = two(make(was_fast_is_least), make(was_fast_is_least, replicates=2))
    assert lessons.how_often_each_wins(even, ["nested_ratio", "results"]) == says.replace(" 3", " 6")
    tied = two(make(lambda *at: 1000 + 9 * at[3]), make(was_fast_is_least, replicates=1))
    assert "several tie at 3. 3 settings with one" in lessons.how_often_each_wins(tied, ["nested_ratio", "results"])


def test_results_with_other_replicates_are_not_called_unfinished() -> None:
    four = make(was_fast_is_least)
    for replicates, why in ((1, "One of the results has one replicate"), (2, "The values of results don't have the")):
        said = lessons.by_axis(two(four, make(was_fast_is_least, replicates=replicates)), "results")
        assert said.startswith(why)
        assert said.endswith("so nothing is said of refaults by results.")


def test_what_is_the_same_in_each_replicate_is_said_so() -> None:
    figures = make(lambda *at: 1000 + noise(*at))
    assert lessons.by_axis(two(figures, figures), "results") == (
        "Refaults by results: the same in each replicate, as means over all else."
    )
    alike = make(lambda *at: 1000 + noise("", *at[1:]))
    assert lessons.least(alike, REFAULTS) == "Refaults: the same under every policy in each replicate."
    assert "the same" not in lessons.least(figures, REFAULTS)


def test_equal_curves_take_turns_and_their_points_are_rings() -> None:
    figures = make(lambda *at: 1000 + 100 * at[1] + (500 if at[0] == "was-fast" else 0))
    means = figures.group_means("refaults", ["policy", "nested_ratio"])
    spec = panels.curves(means, figures.axes["nested_ratio"], REFAULTS, POLICIES).to_dict()
    lines, points = rows_of(spec, 1), rows_of(spec, 2)
    assert {row["policy"]: row["turn"] for row in lines} == {
        "evict-only": "0/2", "six-steps": "1/2", "was-fast": "0/1"
    }  # fmt: skip
    assert {row["policy"]: row["same"] for row in points} == {
        "evict-only": "six-steps", "six-steps": "evict-only", "was-fast": "none"
    }  # fmt: skip
    sizes = {row["policy"]: row["size"] for row in points}
    assert sizes["evict-only"] > sizes["six-steps"] == sizes["was-fast"]


@pytest.mark.parametrize("size", [2, 3, 7])
def test_turns_share_a_round(size: int) -> None:
    drawn = np.zeros(1000)
    for rank in range(size):
        gap, before, dash, after = panels._turn(rank, size)
        assert gap == 0
        place = np.linspace(0, 0.999 * (before + dash + after), 1000)
        drawn += (place >= before) & (place < before + dash)
    assert set(drawn.tolist()) == {1.0}


@pytest.mark.parametrize(("low", "high", "begins_at_0"), [(0, 10, True), (5, 10, True), (9, 10, False)])
def test_an_axis_begins_at_0_or_says_so(low: float, high: float, begins_at_0: bool) -> None:
    figures = make(lambda *at: low + (high - low) * at[1])
    means = figures.group_means("refaults", ["policy", "nested_ratio"])
    spec = panels.curves(means, figures.axes["nested_ratio"], REFAULTS, POLICIES).to_dict()
    domain = spec["layer"][1]["encoding"]["y"]["scale"]["domain"]
    assert (domain[0] == 0) is begins_at_0
    assert ("does not begin at 0" in json.dumps(spec["title"])) is not begins_at_0
    assert panels.bars(means, figures.axes["nested_ratio"], REFAULTS, POLICIES).to_dict()["layer"][0]["encoding"]["x"][
        "scale"
    ]["domain"][0] == 0  # fmt: skip


def test_names_can_be_read_on_every_colour_and_all_colours_differ() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    colours = [panels.colour_of(number) for number in range(20)]
    assert len(set(colours)) == 20
    for colour in colours:
        ink = {"#000": 0.0, "#fff": 1.0}[panels.text_on(colour)]
        light, dark = max(luminance(colour), ink), min(luminance(colour), ink)
        assert (light + 0.05) / (dark + 0.05) > 4.5


@pytest.mark.parametrize(
    ("unit", "title", "largest", "mean", "half", "said", "heading"),
    [("s", "reclaim CPU s", 0.2, 0.15, 0.005, "150 ±5 ms", "reclaim CPU (ms)"),
     ("s", "reclaim CPU s", 20, 15.0, None, "15 s", "reclaim CPU (s)"),
     ("share", "fault rate", 0.3, 0.25, 0.01, "25 ±1 %", "fault rate (%)"),
     ("faults", "refaults", 8e5, 769_000, 880, "769k ±880", "refaults")],
)  # fmt: skip
def test_figures_have_plain_units(
    unit: str, title: str, largest: float, mean: float, half: float | None, said: str, heading: str
) -> None:
    scaled = panels.Scaled(Metric("key", title, ("column",), unit=unit), largest)
    assert scaled.read(mean, half) == said
    assert scaled.title == heading


def test_merged_figures_have_the_means_of_each() -> None:
    a, b = make(lambda *at: 1000 + noise(*at)), make(lambda *at: 2000 + noise(*at))
    paths = ("policy", "nested_ratio", "kernel")
    settings = dict(enumerate(product(POLICIES, RATIOS, KERNELS)))
    both = merged({"A": a, "B": b}, {"A": settings, "B": settings}, paths)
    means = {
        (each.at["results"], each.at["policy"]): each for each in both.group_means("refaults", ["results", "policy"])
    }
    for name, figures in (("A", a), ("B", b)):
        for each in figures.group_means("refaults", ["policy"]):
            assert means[name, each.at["policy"]].mean == pytest.approx(each.mean)
            assert means[name, each.at["policy"]].half_width == pytest.approx(each.half_width)
    assert both.axes["kernel"].labels == KERNELS
    assert list(both.axes)[2] == "results"
