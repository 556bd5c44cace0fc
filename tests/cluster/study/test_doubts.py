"""What plan says of studies that ask for what the simulator is weak at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coldfleet.cluster.study.doubts import WEAK, Asked, _spares_too_much, doubts, notes
from coldfleet.cluster.study.reader import read_study
from tests.cluster.conftest import Said

ROOT = Path(__file__).parents[3]
HEAD = """\
ticks = 2
replicates = 1
policy = "kernel"
overcommit = 2.0
fleet.hosts = 1
fleet.guests_per_host = 2
guest.memory = "4 MiB"
"""


CLASSES = """\
ticks = 2
replicates = 1
policy = "kernel"
overcommit = 2.0
guest.memory = "4 MiB"
[fleet.host.old]
count = 1
kernel = "6.12"
memory = "64 MiB"
[fleet.host.new]
count = 1
kernel = "6.18"
memory = "64 MiB"
[fleet.guest.plain]
count = 2
[fleet.guest.writing]
count = 2
page_cache = {memory = "4 MiB", write_share = 0.1}
"""

OVER_RECLAIM, BESIDE, PROTECTED, FILES, WRITTEN, KSWAPD, HUGE = (each.name for each in WEAK)
SCENARIO = 'scenario = "vm zipf, vm scan"\n'
CACHE = 'guest.page_cache = {memory = "4 MiB", write_share = 0.1}'


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ("", []),
        ('kernel = "6.18"', [OVER_RECLAIM]),
        ('kernel = "6.18 with two_touch of 6.12"', [OVER_RECLAIM]),
        ('kernel = "6.18"\nreclaim.mode = "proactive"', []),
        ('grid.kernel = ["6.12", "6.18"]', [OVER_RECLAIM]),
        ('grid.kernel = ["6.12", "6.18"]\nscenario = "process scan, process zipf"', []),
        ('scenario = "vm zipf, process zipf"', [BESIDE]),
        ('kernel = "6.18"\nscenario = "process zipf, vm zipf"', [OVER_RECLAIM, BESIDE]),
        (SCENARIO + 'guest.memory_low = "1 MiB"', [PROTECTED]),
        (SCENARIO + 'guest.memory_min = "1 MiB"\nreclaim.mode = "proactive"', []),
        ('guest.memory_low = "1 MiB"\nreclaim.mode = "host"\nhost.memory = "8 MiB"', []),
        ('kernel = "7.3"\nguest.page_cache.memory = "4 MiB"', [FILES]),
        ('kernel = "7.3"\nguest.page_cache.memory = "4 MiB"\nreclaim.mode = "proactive"', []),
        (f'grid.kernel = ["6.1", "6.12", "7.3"]\n{CACHE}', [FILES, WRITTEN]),
        (f'kernel = "6.12"\nreclaim.mode = "debugfs"\n{CACHE}', [WRITTEN]),
        ("guest.page_cache.write_share = 0.1", []),
        ('kernel = "6.18"\nreclaim.mode = "host"\nhost.memory = "8 MiB"', [KSWAPD]),
        ('kernel = "6.18"\nreclaim.mode = "proactive"\nhost.memory = "8 MiB"', [KSWAPD]),
        ('kernel = "6.12"\nreclaim.mode = "host"\nhost.memory = "8 MiB"', []),
        ('kernel = "6.18"\nguest.huge_pages = "always"', [OVER_RECLAIM, HUGE]),
    ],
)
def test_each_weak_combination_has_a_line(lines: str, names: list[str], tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text((lines + "\n" + HEAD) if not lines.startswith("grid") else HEAD + lines)
    plan = read_study(path)
    assert [each.name for each in WEAK if each.asks(Asked(plan))] == names
    assert doubts(plan) == [f"{each.says} (docs/truth.md)" for each in WEAK if each.name in names]


def test_classes_of_hosts_and_guests_are_asked_too(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(CLASSES)
    assert [each.name for each in WEAK if each.asks(Asked(read_study(path)))] == [
        OVER_RECLAIM, FILES, WRITTEN, KSWAPD,
    ]  # fmt: skip


@pytest.mark.parametrize("swappiness", ["0, 60", "60, 0", "1, 60"])
@pytest.mark.parametrize(
    "more",
    [
        'reclaim.mode = ["proactive", "limit"]',
        'reclaim.mode = ["limit", "host"]',
        "overcommit = [1, 2]",
        "overcommit = [1.5, 2]",
        'overcommit = [1]\n"guest.page_cache.memory" = ["0 pages", "8 MiB"]',
        'overcommit = [2]\n"guest.page_cache.memory" = ["2 MiB", "8 MiB"]',
        "overcommit = [1]\nnested_ratio = [0, 1]",
    ],
)
def test_swappiness_0_is_noted_if_any_cell_has_too_little_to_reclaim(
    swappiness: str, more: str, tmp_path: Path
) -> None:
    """Cells that differ in keys that don't matter to it are not looked at; the answer is that of all cells."""
    path = tmp_path / "s.toml"
    fixed = HEAD if "overcommit" not in more else HEAD.replace("overcommit = 2.0\n", "")
    grid = f'"reclaim.swappiness" = [{swappiness}]\n"guest.workload.write_share" = [0, 0.5]\n{more}\n'
    path.write_text(f"{fixed}[grid]\n{grid}".replace("reclaim.mode =", '"reclaim.mode" ='))
    plan = read_study(path)
    spared = [_spares_too_much(plan.cell(number).spec) for number in range(plan.cell_count)]
    assert len(notes(plan)) == any(spared)


@pytest.mark.parametrize("page", ["README.md", "docs/truth.md"])
def test_the_texts_name_each_weak_combination(page: str) -> None:
    text = " ".join((ROOT / page).read_text().split())
    assert [each.name for each in WEAK if each.name not in text] == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("reclaim.swappiness = 0", True),
        ("grid.reclaim.swappiness = [0, 60]", True),
        ("reclaim.swappiness = 1", False),
        ('reclaim.swappiness = 0\nreclaim.mode = "proactive"', False),
        ('reclaim.swappiness = 0\nguest.page_cache.memory = "3 MiB"', True),
        ('reclaim.swappiness = 0\nguest.page_cache.memory = "4 MiB"', False),
        ('reclaim.swappiness = 0\nreclaim.mode = "host"\nhost.memory = "6 MiB"', True),
        ('reclaim.swappiness = 0\nreclaim.mode = "host"\nhost.memory = "9 MiB"', False),
        ('reclaim.swappiness = 0\nreclaim.mode = "host"\nguest.page_cache.memory = "2 MiB"', True),
        ('reclaim.swappiness = 0\nreclaim.mode = "host"\nguest.page_cache.memory = "6 MiB"', False),
    ],
)
def test_plan_warns_where_swappiness_0_leaves_too_little_to_reclaim(
    lines: str, said: bool, tmp_path: Path, coldfleet: Callable[..., Said]
) -> None:
    path = tmp_path / "s.toml"
    path.write_text((lines + "\n" + HEAD) if not lines.startswith("grid") else HEAD + lines)
    assert len(json.loads(coldfleet("plan", path, "--sample", 0, "--json").out)["notes"]) == said
    assert ("note: reclaim.swappiness = 0" in coldfleet("plan", path, "--sample", 0).out) == said


def test_plan_says_so(tmp_path: Path, coldfleet: Callable[..., Said]) -> None:
    path = tmp_path / "s.toml"
    path.write_text('kernel = "6.18"\n' + HEAD)
    assert "weak: kernel 6.18 with reclaim.mode" in " ".join(coldfleet("plan", path, "--sample", 0).out.split())
    assert len(json.loads(coldfleet("plan", path, "--sample", 0, "--json").out)["weak"]) == 1
