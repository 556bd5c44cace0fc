"""What plan says of studies that ask for what the simulator is weak at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coldfleet.cluster.study.doubts import doubts
from coldfleet.cluster.study.reader import read_study
from tests.cluster.conftest import Said

HEAD = """\
ticks = 2
replicates = 1
policy = "kernel"
overcommit = 2.0
fleet.hosts = 1
fleet.guests_per_host = 2
guest.memory = "4 MiB"
"""


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("", []),
        ('kernel = "6.18"', ["kernel 6.18"]),
        ('kernel = "6.18 with two_touch of 6.12"', ["kernel 6.18"]),
        ('kernel = "6.18"\nreclaim.mode = "proactive"', []),
        ('grid.kernel = ["6.12", "6.18"]', ["kernel 6.18"]),
        ('grid.kernel = ["6.12", "6.18"]\nscenario = "process scan, process zipf"', []),
        ('scenario = "vm zipf, process zipf"', ["a process beside a guest"]),
        ('kernel = "6.18"\nscenario = "process zipf, vm zipf"', ["kernel 6.18", "a process beside a guest"]),
        ('kernel = "7.3"\nguest.page_cache.memory = "4 MiB"', []),
        ('kernel = "7.3"\nguest.page_cache = {memory = "4 MiB", write_share = 0.1}', ["kernel 7.3"]),
        ('kernel = "6.12"\nguest.page_cache = {memory = "4 MiB", write_share = 0.1}', []),
    ],
)
def test_each_weak_combination_has_a_line(lines: str, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text((lines + "\n" + HEAD) if not lines.startswith("grid") else HEAD + lines)
    found = doubts(read_study(path))
    assert [line.split(" with ")[0].split(" under ")[0] for line in found] == words


def test_plan_says_so(tmp_path: Path, coldfleet: Callable[..., Said]) -> None:
    path = tmp_path / "s.toml"
    path.write_text('kernel = "6.18"\n' + HEAD)
    assert "weak: kernel 6.18 with reclaim.mode" in " ".join(coldfleet("plan", path, "--sample", 0).out.split())
    assert len(json.loads(coldfleet("plan", path, "--sample", 0, "--json").out)["weak"]) == 1
