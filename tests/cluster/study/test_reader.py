"""A study file is checked once, and every mistake in it is one line with file, line and how to fix it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from coldfleet.cluster.study.fleet import build_hosts
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.toml import find_line, key_lines
from tests.cluster.conftest import Said

MISTAKES = {
    "unknown key": ("ticks = 4", "tics = 4", ":4: unknown key \"tics\": did you mean \"ticks\"?"),
    "unknown table": ("[fleet]", "[flet]", ":7: unknown table [flet]: did you mean \"fleet\"?"),
    "key in the wrong table": ("memory =", "skew = 1\nmemory =", ":12: unknown key \"skew\" in [guest]: it belongs in"),
    "head key below a table": ("memory =", "seed = 1\nmemory =", "it belongs at the top, before any [table]"),
    "unknown axis": ("nested_ratio =", "nested_ration =", ":26: unknown key \"nested_ration\" in [grid]: did you mean"),
    "short axis name": ("nested_ratio =", '"skew" =', "did you mean \"guest.workload.skew\"?"),
    "wrong unit": ('"4 MiB"', '"4 MB"', ":12: guest.memory: '4 MB': unknown unit 'MB': did you mean 'MiB'?"),
    "not a unit of memory": ('"4 MiB"', '"4 s"', "unknown unit 's': one of: B, KiB"),
    "no unit": ('"4 MiB"', "4", "guest.memory: 4 has no unit: write \"4 MiB\""),
    "negative size": ('"4 MiB"', '"-4 MiB"', "an amount of memory can't be negative"),
    "part of a page": ('"4 MiB"', '"4194305 B"', "not a whole number of 4096-byte pages"),
    "too small": ('"4 MiB"', '"1 MiB"', "guest.memory = '1 MiB': it should be greater than or equal to 2 MiB"),
    "ratio over 1": ("[0, 0.5, 1]", "[0, 1.5]", ":26: grid.nested_ratio = 1.5: it should be less than or equal to 1"),
    "share over 1": ("l2_only_share = 0.25", "access_share = 1.1", "nested.access_share = 1.1: it should be less"),
    "shares that don't fit": ("l2_only_share = 0.25", "l2_only_share = 0.75", "l2_only_share 0.75 is more than"),
    "empty axis": ("[0, 0.5, 1]", "[]", ":26: grid.nested_ratio is empty"),
    "empty grid": ('policy = ["evict-only", "six-steps"]\nnested_ratio = [0, 0.5, 1]', "", ":24: [grid] is empty"),
    "empty table in the grid": (
        "nested_ratio = [0, 0.5, 1]", "zzz = {}", ":26: grid.zzz is empty: give it at least one value"
    ),
    "table where there is none": ("[fleet]", "[vm.x]\n[fleet]", ":7: unknown table [vm.x]: there are none"),
    "axis that is no list": ("[0, 0.5, 1]", "0.5", "grid.nested_ratio is not a list: write nested_ratio = [0.5]"),
    "value twice": ("[0, 0.5, 1]", "[1, 0.5, 1.0]", "grid.nested_ratio has 1.0 twice"),
    "set twice": ("ticks = 4", "ticks = 4\nnested_ratio = 0.5", "nested_ratio is both in [grid] and set"),
    "unknown policy": ('"six-steps"', '"six-step"', "(`coldfleet policies` lists all): did you mean 'six-steps' or"),
    "unknown kernel": ("ticks = 4", 'ticks = 4\nkernel = "2.4"', ":5: kernel: unknown kernel '2.4': one of"),
    "unknown feature": (
        "ticks = 4", 'ticks = 4\nkernel = "6.12 with two_tuch of 6.18"', ":5: kernel: unknown kernel feature 'two_tuch'"
    ),
    "bad scenario": (
        "ticks = 4", 'ticks = 4\nscenario = "vm hotcld"', ":5: scenario: unknown workload 'hotcld' in 'vm hotcld'"
    ),
    "scenario and fleet": (
        "ticks = 4", 'ticks = 4\nscenario = "vm scan"', "guests_per_host is 2, but the scenario has 1"
    ),
    "scenario and nested": (
        "ticks = 4", 'ticks = 4\nscenario = "vm scan, vm scan"', "leave nested_ratio and [nested] out"
    ),
    "missing key": ("overcommit = 1.5", "", "overcommit is missing: set it, or limit, at the top of the file"),
    "missing table": ('[fleet]\nhosts = 2\nguests_per_host = 2', "", "fleet is missing: add a table [fleet]"),
    "text for a number": ("ticks = 4", 'ticks = "4"', ":4: ticks = '4' is not a whole number"),
    "not a number": ("overcommit = 1.5", "overcommit = nan", "overcommit = nan: it should be a finite number"),
    "unknown choice": ('"limit"', '"limits"', "reclaim.mode = 'limits': it should be 'limit', 'proactive'"),
    "classic, min_ttl": ('mode = "limit"', 'min_ttl_ms = 5\nlru = "classic"', "min_ttl_ms protects generations"),
    "pages that don't add up": (
        "[fleet]", "[swap]\nincompressible_share = 0.6\nsame_filled_share = 0.5\n[fleet]", "are more than 1 together"),
    "classic, debugfs": ('mode = "limit"', 'mode = "debugfs"\nlru = "classic"', "has none: use another mode"),
    "classic, aging": ('mode = "limit"', 'aging_every_ticks = 2\nlru = "classic"', "has none: leave it out"),
    "not TOML": ("[fleet]", "[fleet", "not valid TOML"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_is_one_line_and_nothing_is_written(
    old: str, new: str, expected: str, study_text: str, tmp_path: Path, coldfleet: Callable[..., Said]
) -> None:
    assert old in study_text
    study = tmp_path / "bad.toml"
    study.write_text(study_text.replace(old, new))
    said = coldfleet("sweep", study, "--out", tmp_path / "out", "--executor", "serial")
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith(f"coldfleet: {study}")
    assert said.err.count("\n") == 1
    assert expected in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.toml"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "no such file"), (b"\xff\xfe", "not a text file in UTF-8"), (b"", "is missing")],
)
def test_file_that_is_none(
    content: bytes | None, expected: str, tmp_path: Path, coldfleet: Callable[..., Said]
) -> None:
    study = tmp_path / "bad.toml"
    if content is not None:
        study.write_bytes(content)
    said = coldfleet("sweep", study, "--out", tmp_path / "out")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert expected in said.err


def test_cell_that_does_not_fit_is_named(study_text: str, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        study_text.replace("l2_only_share = 0.25", "") + "nested.l2_only_share = [0.1, 0.2]\n"
        "nested.exposed_share = [0.5, 0.15]\n"
    )
    with pytest.raises(UserError, match=r"nested.exposed_share = 0.15: l2_only_share 0.2 is more than"):
        read_study(path)


def test_grid_takes_dotted_keys_in_quotes_and_without(study_text: str, tmp_path: Path) -> None:
    plans = []
    for axis in ('"guest.memory"', "guest.memory"):
        path = tmp_path / "s.toml"
        text = study_text.replace('memory = "4 MiB"\n', "") + f'{axis} = ["4096 KiB", "8 MiB"]\n'
        path.write_text(text)
        plans.append(read_study(path))
    assert plans[0] == plans[1]
    assert plans[0].axes["guest.memory"] == ("4 MiB", "8 MiB")


def test_study_without_a_grid_is_one_cell(study_text: str, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('policy = "six-steps"\n' + study_text[: study_text.index("[grid]")])
    assert read_study(path).cell_count == 1


def test_error_names_the_line_of_an_axis_over_several_lines(study_text: str, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(study_text.replace("[0, 0.5, 1]", "[\n  0,  # none\n  2,\n]\nticks2 = []"))
    with pytest.raises(UserError, match=r':30: unknown key "ticks2"'):
        read_study(path)


@pytest.mark.parametrize(
    ("old", "new", "named", "why"),
    [
        ('mode = "limit"', 'mode = "pressure"', "mode =", 'reclaim.mode "pressure" needs time'),
        ('mode = "limit"', "min_ttl_ms = 100", "min_ttl_ms =", "reclaim.min_ttl_ms is a time"),
        (
            "[0, 0.5, 1]",
            '[0]\n"host.hugetlb" = ["2 MiB", "4 MiB"]',
            '"host.hugetlb" =',
            "host.hugetlb 2 MiB is a part of",
        ),
        ("[fleet]", 'scenario = "vm scan"\n[fleet]', "guests_per_host =", "fleet.guests_per_host is 2, but"),
        ("overcommit = 1.5", "overcommit = 1.5\nlimit = 0.5", "overcommit =", "overcommit 1.5 and limit 0.5"),
    ],
)
def test_a_check_of_several_keys_names_the_line_of_the_first_that_is_set(
    old: str, new: str, named: str, why: str, study_text: str, tmp_path: Path
) -> None:
    text = study_text.replace(old, new)
    (tmp_path / "s.toml").write_text(text)
    line = next(number for number, each in enumerate(text.splitlines(), 1) if each.startswith(named))
    with pytest.raises(UserError) as refused:
        read_study(tmp_path / "s.toml")
    assert str(refused.value).startswith(f"{tmp_path / 's.toml'}:{line}: "), refused.value
    assert why in str(refused.value)


def test_key_lines_skip_strings_and_arrays() -> None:
    text = 'a = """\nb = 1\n"""\nc = [\n  "d = 1", # ]\n]\n[t."u.v"]\ne.f = {g = 1}\n[[h]]\ni = "[" # [\nj = 1\n'
    lines = key_lines(text)
    assert lines[("a",)] == 1
    assert ("b",) not in lines
    assert lines[("c",)] == 4
    assert lines[("t", "u", "v", "e", "f")] == 8
    assert find_line(lines, ("t", "u", "v", "e", "f", "g")) == 8
    assert lines[("h", "j")] == 11
    assert find_line(lines, ("nowhere",)) == 0


@pytest.mark.parametrize("name", ["quickstart", "fast_only"])
def test_shipped_studies_are_good(name: str) -> None:
    plan = read_study(Path(__file__).parents[3] / "configs" / f"{name}.toml")
    assert len(plan.axes["policy"]) == 6
    assert plan.title


@pytest.mark.parametrize(
    ("tables", "cells"),
    [
        ('[zip]\n"nested.exposed_share" = [0.1, 0.6]\n"nested.l2_only_share" = [0.1, 0.6]\n', 2),
        ('[grid]\n"nested.exposed_share" = [0.1, 0.6]\n"nested.l2_only_share" = [0.6, 0.1]\n', 3),
        ('[grid]\n"nested.exposed_share" = [0.08, 0.5]\n', 2),
        ('[zip]\n"reclaim.swappiness" = [100, 201]\nkernel = ["6.12", "6.18"]\n', 2),
    ],
    ids=["zip", "where", "default", "kernels"],
)
def test_values_are_checked_in_cells_that_exist(tables: str, cells: int, study_text: str, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    where = 'where = ["nested.l2_only_share <= nested.exposed_share"]\n' if cells == 3 else ""
    plan_text = where + 'policy = "six-steps"\n' + study_text[: study_text.index("[grid]")].partition("[nested]")[0]
    path.write_text(plan_text.replace("nested_ratio", "# ") + tables)
    assert read_study(path).cell_count == cells


def test_l2_only_share_is_half_of_exposed_share_unless_it_is_set(study_text: str, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    text = 'policy = "six-steps"\n' + study_text[: study_text.index("[grid]")].partition("[nested]")[0]
    path.write_text(text + '[grid]\n"nested.exposed_share" = [0.08, 0.5, 1]\n')
    plan = read_study(path)
    assert [plan.cell(number).spec.nested.l2_only_share for number in range(3)] == [0.04, 0.25, 0.5]


def test_a_default_that_follows_another_key_is_in_no_constraint(study_text: str, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    text = 'policy = "six-steps"\n' + study_text[: study_text.index("[grid]")].partition("[nested]")[0]
    path.write_text('where = ["nested.l2_only_share < 1"]\n' + text + '[grid]\n"nested.exposed_share" = [0.6, 0.1]\n')
    with pytest.raises(UserError, match=r":1: where: nested.l2_only_share isn't set, so each cell has its default"):
        read_study(path)


def test_a_pair_that_cannot_be_is_named_with_its_values(study_text: str, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    text = 'policy = "six-steps"\n' + study_text[: study_text.index("[grid]")].partition("[nested]")[0]
    path.write_text(text + '[grid]\n"nested.exposed_share" = [0.6, 0.1]\n"nested.l2_only_share" = [0.1, 0.6]\n')
    with pytest.raises(UserError, match=r"exposed_share = 0.1, nested.l2_only_share = 0.6: l2_only_share 0.6 is more"):
        read_study(path)


OLD_NAMES = """
scene = "vm scan"
where = ['caller.every_ticks < 3 or scene == "caller"']
"""


def test_old_names_of_keys_are_read_everywhere_and_today_s_are_told(
    study_text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = '"caller.every_ticks" = [1, 2, 3]\npolicy'
    texts = []
    for number, (scenario, monitor) in enumerate((("scene", "caller"), ("scenario", "monitor"))):
        text = study_text.replace("policy = [", grid + " = [").replace("nested_ratio = [0, 0.5, 1]\n", "")
        head, _, rest = text.replace("guests_per_host = 2", "guests_per_host = 1").partition("[nested]")
        text = head + "[" + rest.partition("[")[2]
        text = OLD_NAMES + text + '\n[caller]\nkind = "idle"\n'
        text = text.replace("caller.", f"{monitor}.").replace("[caller]", f"[{monitor}]").replace("scene", scenario)
        file = tmp_path / str(number) / "study.toml"
        file.parent.mkdir()
        file.write_text(text)
        texts.append(file)
    old, new = map(read_study, texts)
    assert old == new
    assert old.cell_count == 4
    assert [old.cell(0).spec.scenario, old.cell(0).spec.monitor.kind] == ["vm scan", "idle"]
    said = capsys.readouterr().err
    assert said == f'coldfleet: {texts[0]}: "scene" is now called "scenario", "caller" is now called "monitor"\n'


def test_an_old_name_beside_today_s_is_refused(study_text: str, tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text('scene = "vm scan"\nscenario = "vm scan"\n' + study_text)
    with pytest.raises(UserError, match='"scene" is now called "scenario", which is there too'):
        read_study(file)


def test_a_mistake_below_an_old_name_has_its_line(study_text: str, tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(study_text + '\n[caller]\nkind = "idler"\n')
    lines = file.read_text().splitlines()
    with pytest.raises(UserError, match=f":{lines.index('[caller]') + 2}: monitor.kind = 'idler'"):
        read_study(file)


@pytest.mark.parametrize(("overcommit", "good"), [(4, False), (1.5, True)])
def test_a_host_has_room_for_the_kernel_memory_of_a_scenario(overcommit: float, good: bool, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        f'ticks = 4\novercommit = {overcommit}\npolicy = "evict-only"\nscenario = "rmap hotcold"\n'
        '[fleet]\nhosts = 1\nguests_per_host = 1\n[guest]\nmemory = "2 MiB"\n[reclaim]\nmode = "host"\n'
    )
    if good:
        assert read_study(path).cell_count == 1
        return
    with pytest.raises(UserError, match=r"a host of 512 KiB has no room for the 1016 KiB of kernel memory"):
        read_study(path)


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ("load = 'table'", 'load = "table" reads load_table'),
        ("load_table = [1]", 'load = "table" reads load_table'),
        ("load = 'table'\nload_table = [1, -1]", "not numbers from 0 to"),
        ("load = 'table'\nload_table = [0, 0]", "at least one above 0"),
        ("load = 'table'\nload_table = ['a']", "is no table of loads: write for example"),
        ("load = 'table'\nload_table = 'a, b'", "is no table of loads: write for example"),
        ("load = 'table'\nload_table = [nan]", "not numbers from 0 to"),
    ],
)
def test_a_table_of_loads_is_checked(load: str, said: str, study_text: str, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(study_text.replace('kind = "zipf"', f'kind = "zipf"\n{load}'))
    with pytest.raises(UserError, match=said):
        read_study(path)


def test_a_table_of_loads_reaches_the_guests(study_text: str, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    own = "load = 'table'\nload_table = [0.2, 1, 1.5]\nload_phase = 0.5\nload_ticks = 24"
    path.write_text(study_text.replace('kind = "zipf"', f'kind = "zipf"\n{own}'))
    plan = read_study(path)
    assert plan.cell(0).spec.guest.workload.load_table == "0.2, 1.0, 1.5"
    workload = build_hosts(plan.run(0))[0].guests[0].workload
    assert (workload.load_table, workload.load_phase, workload.load_ticks) == ((0.2, 1.0, 1.5), 0.5, 24)
