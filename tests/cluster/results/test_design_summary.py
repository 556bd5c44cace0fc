"""The summary of a large design: its quantiles and main effects obey their laws, and are what the cells say."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfleet.cluster.commands import output
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.report.page import page
from coldfleet.cluster.results import summary
from coldfleet.cluster.results.design_summary import GROUPS, SHARES, main_effect, quantiles, summarise_design
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.summary import MOST_CELLS
from coldfleet.cluster.stats.metrics import SUMMARY
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.host_spec import HostSpec
from tests.cluster.conftest import Said

SAMPLED = """\
title = "a sampled design"
replicates = 2
ticks = 4

[fleet]
hosts = 1
guests_per_host = 2

[guest]
memory = "4 MiB"
accesses_per_tick = 512

[grid]
policy = ["evict-only", "six-steps"]

[sample]
points = 64
nested_ratio = { from = 0, to = 1 }
overcommit = { from = 1.1, to = 2.0 }
guest.memory = { from = "4 MiB", to = "8 MiB" }
""".replace('memory = "4 MiB"\naccesses', "accesses")

numbers = st.lists(st.integers(-1000, 1000), min_size=1, max_size=60).map(lambda some: np.array(some, float))


@pytest.fixture
def design(tmp_path: Path, fake_engine: list[HostSpec]) -> Results:
    (tmp_path / "sampled.toml").write_text(SAMPLED)
    return sweep(read_study(tmp_path / "sampled.toml"), tmp_path / "out", SerialExecutor())


@given(numbers, st.randoms())
def test_quantiles_are_in_order_and_between_the_least_and_the_most(values: np.ndarray, random: object) -> None:
    found = quantiles(values)
    assert list(found) == sorted(found)
    assert (found[0], found[3], found[-1]) == (values.min(), statistics.median(values.tolist()), values.max())
    assert quantiles(values[::-1]) == found
    assert quantiles(3 * values + 1) == pytest.approx([3 * number + 1 for number in found])


@given(numbers, st.data())
def test_a_main_effect_is_a_share_that_units_and_order_do_not_change(values: np.ndarray, data: st.DataObject) -> None:
    places = st.lists(st.integers(0, 30), min_size=len(values), max_size=len(values))
    axis = np.array(data.draw(places), float)
    share = main_effect(axis, values)
    if share is None:
        assert len(set(values.tolist())) == 1
        return
    assert -1e-9 <= share <= 1 + 1e-9
    assert main_effect(axis, 7 - 2 * values) == pytest.approx(share)
    assert main_effect(2 * axis + 5, values) == pytest.approx(share)
    order = np.array(data.draw(st.permutations(range(len(values)))))
    assert main_effect(axis[order], values[order]) == pytest.approx(share)


def test_in_a_full_grid_without_interactions_main_effects_add_up_to_1() -> None:
    cells = np.array(list(itertools.product([1, 2, 3], [10, 20], [0, 5, 7, 9])), float)
    additive = cells[:, 0] ** 3 - 0.5 * cells[:, 1] + 0 * cells[:, 2]
    shares = [main_effect(axis, additive) for axis in cells.T]
    assert sum(share or 0 for share in shares) == pytest.approx(1)
    assert shares[2] == pytest.approx(0)
    assert main_effect(cells[:, 0], cells[:, 0] ** 3) == pytest.approx(1)
    centred = cells - cells.mean(axis=0)
    interaction = centred[:, 0] * centred[:, 1]
    assert [main_effect(axis, interaction) for axis in cells.T] == pytest.approx([0, 0, 0])


def test_an_axis_of_many_values_is_put_into_groups_of_equally_many_cells() -> None:
    axis = np.exp(np.linspace(0, 9, 800))  # however it is scaled
    steps = np.repeat(np.arange(GROUPS), 800 // GROUPS).astype(float)
    assert main_effect(axis, steps) == pytest.approx(1)
    assert main_effect(axis, np.tile([0.0, 1.0], 400)) == pytest.approx(0)
    assert main_effect(axis, np.full(800, 0.1)) is None


def test_the_summary_of_a_design_is_what_its_cells_say(design: Results) -> None:
    found = summarise_design(design)
    rows = summary.summarise(design)
    assert found.cells == len(rows) == 128
    for metric in SUMMARY:
        for policy in ("evict-only", "six-steps"):
            mine = sorted(row.means[metric.key].mean for row in rows if row.axes["policy"] == policy)
            least, *_, most = found.quantiles[metric.key][policy]
            assert (least, most) == pytest.approx((mine[0], mine[-1]))
            assert found.quantiles[metric.key][policy][3] == pytest.approx(statistics.median(mine))
    assert set(found.effects) == {"policy", "nested_ratio", "overcommit", "guest.memory"}
    refaults = [row.means["refaults"].mean for row in rows]
    by_policy = {name: [row.means["refaults"].mean for row in rows if row.axes["policy"] == name] for name in
                 ("evict-only", "six-steps")}  # fmt: skip
    between = sum(len(each) * (statistics.fmean(each) - statistics.fmean(refaults)) ** 2 for each in by_policy.values())
    total = sum((value - statistics.fmean(refaults)) ** 2 for value in refaults)
    assert found.effects["policy"]["refaults"] == pytest.approx(between / total)


def test_a_large_design_is_two_tables_in_the_terminal_and_data_in_json(
    design: Results, coldfleet: Callable[..., Said], tmp_path: Path
) -> None:
    said = coldfleet("sweep", tmp_path / "sampled.toml", "--out", design.storage, "--executor", "serial")
    lines = said.out.splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= output.WIDTH
    for text in ("evict-only", "six-steps", "main effects", "guest.memory", *SHARES):
        assert text in said.out
    data = summary.as_json(design)
    assert data["design"]["cells"] == 128
    assert set(data["design"]["quantiles"]["refaults"]["six-steps"]) == set(SHARES)


def test_the_report_of_a_large_design_has_both_tables(tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_text(SAMPLED.replace("points = 64", "points = 51").replace("ticks = 4", "ticks = 1"))
    html = page(sweep(read_study(tmp_path / "real.toml"), tmp_path / "out", SerialExecutor()))
    assert "Over the whole design" in html
    assert html.count("<td>six-steps</td>") == len(SUMMARY)
    assert "<td>guest.memory</td>" in html


def test_a_small_design_is_shown_cell_by_cell(tmp_path: Path, fake_engine: list[HostSpec]) -> None:
    text = SAMPLED.replace("points = 64", f"points = {MOST_CELLS // 2}")
    (tmp_path / "small.toml").write_text(text)
    results = sweep(read_study(tmp_path / "small.toml"), tmp_path / "out", SerialExecutor())
    assert summary.as_json(results)["design"] is None
