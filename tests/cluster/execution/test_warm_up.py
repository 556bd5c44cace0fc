"""Warm-up: whatever a plan uses is compiled, or loaded, before its first run; and little else is simulated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from coldfleet.cluster.execution.work import warm_up_shapes
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study

_CODE = """
import sys
from pathlib import Path
from numba.core.dispatcher import Dispatcher
from coldfleet.cluster.execution.work import simulate_run, warm_up
from coldfleet.cluster.study.reader import read_study

made = []
compile = Dispatcher.compile

def count(self, signature):
    before = len(self.overloads)
    found = compile(self, signature)
    if len(self.overloads) > before:
        made.append(self.py_func.__qualname__)
    return found

Dispatcher.compile = count
plan = read_study(Path(sys.argv[1]))
warm_up(plan)
assert made, "nothing was counted"
made.clear()
for run in plan.runs():
    simulate_run(run)
print(" ".join(made))
"""

HEAD = """\
replicates = 1
ticks = 6
overcommit = 1.5
policy = "lockless-6.15"
fleet = { hosts = 1, guests_per_host = 2 }
guest.memory = "4 MiB"
guest.accesses_per_tick = 4096
"""
STUDIES = {
    "clock": """
        nested_ratio = 0.5
        clock.mode = "timed"
        [grid]
        clock.pcpus = [0, 1]
        reclaim.mode = ["limit", "proactive", "pressure"]""",
    "extras": """
        nested_ratio = 0.5
        vm = { tlb_hit = 0.1, numa_zap_share = 0.1 }
        truth = "on"
        output.epochs = "on"
        [grid]
        clock.mode = ["replay", "timed"]""",
    "monitors": """
        [grid]
        monitor.kind = ["none", "idle", "damon-vaddr", "damon-paddr", "khugepaged"]
        clock.mode = ["replay", "timed"]""",
    "schemes": """
        monitor.action = "pageout"
        monitor.scheme.min_age = 0
        monitor.aggregation_samples = 2
        [grid]
        monitor.kind = ["damon-vaddr", "damon-paddr"]
        reclaim.lru = ["mglru", "classic"]
        clock.mode = ["replay", "timed"]""",
    "zram sizes": """
        host.memory = "6 MiB"
        reclaim.mode = "host"
        swap.ratio_spread = 1.0
        [grid]
        clock.mode = ["replay", "timed"]""",
    "page cache": """
        guest.page_cache = { mmap_share = 0.5, write_share = 0.2 }
        [zip]
        guest.page_cache.memory = ["0 pages", "4 MiB"]
        clock.mode = ["replay", "timed"]""",
    "sampled": """
        [grid]
        host.sample = ["1", "1/4"]
        nested_ratio = [0, 0.5]
        clock.mode = ["replay", "timed"]""",
    "reclaim": """
        [grid]
        reclaim.mode = ["limit", "proactive", "debugfs", "age"]
        swap.device = ["zram", "nvme"]
        reclaim.aging_every_ticks = [0, 3]""",
    "classic": """
        reclaim.lru = "classic" """,
    "scene": """
        scene = "vm hotcold, process scan"
        reclaim.mode = "proactive" """,
}


@pytest.fixture(params=STUDIES)
def study(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(HEAD + STUDIES[request.param])
    return path


def test_nothing_compiles_after_warm_up(study: Path) -> None:
    command = [sys.executable, "-c", _CODE, str(study)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    assert done.stdout.split() == []


def test_warm_up_is_for_what_the_plan_has(study: Path) -> None:
    plan = read_study(study)
    shapes = warm_up_shapes(plan)
    specs = [plan.cell(number).spec for number in range(plan.cell_count)]
    assert {shape.mode for shape in shapes} == {spec.reclaim.mode for spec in specs}
    assert {shape.clock is not None for shape in shapes} == {spec.clock.mode == "timed" for spec in specs}
    assert {shape.sample > 1 for shape in shapes} == {spec.host.sample != "1" for spec in specs}
    nested = any(guest.nested for shape in shapes for guest in shape.guests)
    assert nested == any(spec.nested_ratio for spec in specs)


def test_warm_up_is_as_short_for_many_values_as_for_few(plan: Plan) -> None:
    axes = {**plan.axes, "guest.workload.skew": tuple(number / 100 for number in range(1, 100))}
    base = {path: value for path, value in plan.base.items() if path not in axes}
    many = Plan("", "", 1, 1, base, axes)
    assert warm_up_shapes(many)
    assert len(warm_up_shapes(many)) <= 2
    assert max(guest.memory_pages for shape in warm_up_shapes(many) for guest in shape.guests) <= 1024
