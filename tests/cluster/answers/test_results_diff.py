"""Two results directories: which cells are matched, how replicates are paired, and what is said of differences."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from coldfleet.cluster.answers.results_diff import ResultsDiff, diff_results, left_out, told
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.summary import summarise
from coldfleet.cluster.stats.statistics import Mean, mean_interval, signed_percent, welch_interval
from coldfleet.cluster.study.reader import read_study
from tests.cluster.conftest import STUDY, Said

Command = Callable[..., Said]
VARIANTS = {
    "base": ("seed = 7", "seed = 7"),
    "seeded": ("seed = 7", "seed = 8"),
    "crowded": ("overcommit = 1.5", "overcommit = 2.0"),
    "fewer": ("nested_ratio = [0, 0.5, 1]", "nested_ratio = [0.5, 0.75]"),
    "kernels": ("[grid]", '[grid]\nkernel = ["6.12", "6.18"]'),
    "single": ("replicates = 3", "replicates = 1"),
    "alone": ('policy = ["evict-only", "six-steps"]', 'policy = ["was-fast"]'),
}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    folder = tmp_path_factory.mktemp("diff")
    found = {}
    for name, (old, new) in VARIANTS.items():
        (folder / f"{name}.toml").write_text(STUDY.replace(old, new))
        found[name] = sweep(read_study(folder / f"{name}.toml"), folder / name, SerialExecutor())
    return found


def keys_of(found: ResultsDiff) -> dict[str, tuple[str, str]]:
    return {each.key: (each.a, each.b) for each in found.keys}


def test_results_are_equal_to_themselves(swept: dict[str, Results]) -> None:
    found = diff_results(swept["base"], swept["base"])
    assert (found.keys, found.only_a, found.only_b) == ((), (), ())
    assert all(each.equal and not each.certain for each in found.differences)
    assert told(found)[-1] == "The 6 cells in both are equal in every replicate and figure."


def test_same_accesses_are_paired(swept: dict[str, Results]) -> None:
    found = diff_results(swept["base"], swept["crowded"])
    assert keys_of(found) == {"overcommit": ("1.5", "2.0")}
    assert all(each.paired for each in found.differences)
    tables = [swept[name].table("cells", ["policy", "nested_ratio", "replicate", "pgmajfault"]) for name in
              ("base", "crowded")]  # fmt: skip
    counts = [{tuple(row.values())[:3]: row["pgmajfault"] for row in table.to_pylist()} for table in tables]
    for each in found.differences:
        if each.metric.key == "refaults":
            at = (each.setting["policy"], each.setting["nested_ratio"])
            expected = mean_interval([counts[1][*at, r] - counts[0][*at, r] for r in range(3)])
            assert each.difference == pytest.approx(expected)
            assert each.certain
    assert any(line.startswith("refaults: B has ") and line.endswith(" more than A.") for line in told(found))


def test_other_accesses_are_independent_samples(swept: dict[str, Results]) -> None:
    found = diff_results(swept["base"], swept["seeded"])
    assert keys_of(found) == {"seed": ("7", "8")}
    assert not any(each.paired or each.equal for each in found.differences)


@pytest.mark.parametrize("other", ["crowded", "seeded", "fewer", "kernels"])
def test_a_difference_turns_its_sign_with_the_order(swept: dict[str, Results], other: str) -> None:
    there, back = diff_results(swept["base"], swept[other]), diff_results(swept[other], swept["base"])
    assert (there.only_a, there.only_b) == (back.only_b, back.only_a)
    found = {(tuple(sorted(map(str, each.setting.items()))), each.metric.key): each for each in back.differences}
    for each in there.differences:
        other_way = found[tuple(sorted(map(str, each.setting.items()))), each.metric.key]
        assert (each.a, each.b) == (other_way.b, other_way.a)
        assert each.difference.mean == pytest.approx(-other_way.difference.mean)
        assert each.difference.half_width == pytest.approx(other_way.difference.half_width)
        assert each.b.mean - each.a.mean == pytest.approx(each.difference.mean)


def test_cells_are_matched_by_what_varies_in_either(swept: dict[str, Results]) -> None:
    found = diff_results(swept["base"], swept["fewer"])
    assert {setting["nested_ratio"] for setting in found.only_a} == {0, 1}
    assert {setting["nested_ratio"] for setting in found.only_b} == {0.75}
    assert all(each.equal for each in found.differences)
    found = diff_results(swept["base"], swept["kernels"])  # the one kernel of the base is among these
    assert (len(found.only_a), len(found.cells)) == (0, 6)
    assert {setting["kernel"] for setting in found.only_b} == {"6.18"}
    assert all(each.equal for each in found.differences)


def test_means_are_those_of_the_summary(swept: dict[str, Results]) -> None:
    found = diff_results(swept["base"], swept["seeded"])
    for side, name in (("a", "base"), ("b", "seeded")):
        rows = {(row.axes["policy"], row.axes["nested_ratio"]): row.means for row in summarise(swept[name])}
        for each in found.differences:
            mean = getattr(each, side)
            assert mean == pytest.approx(rows[each.setting["policy"], each.setting["nested_ratio"]][each.metric.key])  # type: ignore[index]


def test_one_replicate_in_common_leaves_no_interval(swept: dict[str, Results]) -> None:
    found = diff_results(swept["crowded"], swept["single"])
    assert all(each.paired and each.difference.half_width is None for each in found.differences)
    assert not any(each.certain for each in found.differences)
    assert any("in one replicate, which leaves no interval" in line for line in told(found))


def test_nothing_in_common_is_said(swept: dict[str, Results], coldfleet: Command, tmp_path: Path) -> None:
    said = coldfleet("diff", swept["base"].storage, swept["alone"].storage)
    assert said.code == 0
    assert "No cell is in both" in said.out
    said = coldfleet("report", swept["base"].storage, swept["alone"].storage, "--out", tmp_path / "r.html")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "no cell in common" in said.err
    assert not list(tmp_path.iterdir())


def test_table_and_json_say_the_same(swept: dict[str, Results], coldfleet: Command) -> None:
    base, crowded = swept["base"].storage, swept["crowded"].storage
    said = coldfleet("diff", base, crowded)
    assert said.code == 0
    assert "overcommit: 1.5 in A, 2.0 in B." in said.out
    assert len([line for line in said.out.splitlines() if line.startswith(("evict-only", "six-steps"))]) == 6
    data = json.loads(coldfleet("diff", base, crowded, "--metric", "refaults", "--json").out)
    assert [each["key"] for each in data["keys"]] == ["overcommit"]
    assert len(data["cells"]) == 6
    assert all(each["paired"] and each["difference"]["mean"] > 0 for each in data["cells"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["nowhere"], "there are no results"), ([], "Missing argument 'B'"), (["--metric", "refalts"], "refaults")],
)
def test_mistake_is_one_line(
    arguments: list[str], expected: str, swept: dict[str, Results], coldfleet: Command
) -> None:
    more = [swept["base"].storage] if "--metric" in arguments else []
    said = coldfleet("diff", swept["base"].storage, *more, *arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert expected in said.err


def test_a_metric_that_is_named_twice_is_printed_once(swept: dict[str, Results], coldfleet: Command) -> None:
    base, crowded = swept["base"].storage, swept["crowded"].storage
    once = coldfleet("diff", base, crowded, "--metric", "refaults")
    assert once.out.count("refaults: B has") == 1
    assert coldfleet("diff", base, crowded, "--metric", "refaults", "--metric", "refaults").out == once.out


@pytest.mark.parametrize("other", ["fewer", "crowded"])
def test_report_of_two_says_which_settings_its_means_are_over(swept: dict[str, Results], other: str) -> None:
    pytest.importorskip("altair", reason='needs the extra "report"')
    from coldfleet.cluster.report.page import page_of_two

    text = page_of_two(swept["base"], swept[other])
    assert "over all settings" not in text
    if other == "crowded":
        assert "Means per run over the 3 settings that both have, with" in text
        assert "Left out of" not in text
        return
    assert "Means per run over the 1 setting that both have, with" in text
    alone = left_out(diff_results(swept["base"], swept[other]))
    assert [cells.partition(":")[0] for cells in alone.values()] == ["4 cells", "2 cells"]
    assert all(f" Left out of {name}: {cells}." in text for name, cells in alone.items())


def test_report_of_two_has_both_and_what_differs(swept: dict[str, Results], coldfleet: Command, tmp_path: Path) -> None:
    pytest.importorskip("altair", reason='needs the extra "report"')
    out = tmp_path / "two.html"
    said = coldfleet("report", swept["base"].storage, swept["crowded"].storage, "--out", out)
    assert said.code == 0
    text = out.read_text()
    for part in ("What differs", "overcommit: 1.5 in A, 2.0 in B.", "B less A, by policy", "By results", "A: seed"):
        assert part in text
    said = coldfleet("report", swept["base"].storage, swept["crowded"].storage, "--observe", "a")
    assert (said.code, "of one directory" in said.err) == (2, True)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 5), (10, 4)])
def test_interval_of_independent_samples_is_welchs(sizes: tuple[int, int]) -> None:
    random = np.random.default_rng(sizes)
    a, b = random.normal(10, 1, sizes[0]).tolist(), random.normal(12, 5, sizes[1]).tolist()
    low, high = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    found = welch_interval(a, b)
    assert found.mean == pytest.approx((low + high) / 2)
    assert found.half_width == pytest.approx((high - low) / 2)
    assert welch_interval([1.0], b).half_width is None
    assert welch_interval([1.0, 1.0], [3.0, 3.0]) == (2.0, 0.0)


@pytest.mark.parametrize(
    ("mean", "half", "said"),
    [(12.34, 0.42, "+12.3 ±0.4 %"), (-0.163, 1.1, "−0.2 ±1.1 %"), (0.0213, 0.0042, "+0.021 ±0.004 %"),
     (2248.0, 35.0, "+2,248.0 ±35.0 %"), (5.0, None, "+5.0 %"), (10.0, 0.0, "+10.0 ±0.0 %"),
     (-0.0, None, "0.0 %"), (-0.001, 1.1, "0.0 ±1.1 %"), (-0.0213, None, "−0.02 %"), (-1e-9, None, "0.0000 %"),
     (0.72, 0.68, "+0.72 ±0.68 %"), (-0.7012, 0.7004, "−0.701 ±0.700 %"), (0.68, 0.72, "+0.68 ±0.72 %"),
     (0.5, 0.5, "+0.5 ±0.5 %")],
)  # fmt: skip
def test_change_in_percent_has_the_decimals_of_its_interval(mean: float, half: float | None, said: str) -> None:
    assert signed_percent(Mean(mean, half)) == said
