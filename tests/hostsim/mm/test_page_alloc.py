"""Allocation on a host with watermarks where kswapd takes time: who is woken, who reclaims, and how far it goes."""

from __future__ import annotations

import pytest

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.memory.host_memory import HostMemory, Watermarks
from coldfleet.hostsim.memory.watermarks import kernel_watermarks
from coldfleet.hostsim.mm.kswapd import NOBODY
from tests.hostsim.mm.test_kswapd import FREE, free_pages, host, write

MARKS = Watermarks(low=200, high=260, goal=320, min=150)


def timed(kernel: str, guests: int = 1, pages: int = 8192) -> HostMemory:
    memory = host(kernel, guests, pages)
    node = memory.machine.node[0]
    node["low_pages"], node["high_pages"], node["goal_pages"], node["min_pages"] = MARKS
    node["kswapd_takes_time"] = 1
    return memory


@pytest.mark.parametrize("kernel", KERNELS)
def test_kswapd_is_woken_and_does_nothing_before_its_turn(kernel: str) -> None:
    memory = timed(kernel)
    write(memory, 0, 0, FREE - MARKS.low - 20)
    assert not memory.kswapd_woken
    write(memory, 0, FREE - MARKS.low - 20, FREE - MARKS.low + 5)
    assert memory.kswapd_woken
    assert memory.events(0)["pgsteal"] == memory.events(0)["allocstall"] == memory.events(0)["kswapd_runs"] == 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_whoever_allocates_below_the_min_watermark_reclaims(kernel: str) -> None:
    memory = timed(kernel)
    write(memory, 0, 0, 6000)
    events = memory.events(0)
    assert events["allocstall"] > 0
    assert events["kswapd_runs"] == 0
    assert MARKS.min - 1 <= free_pages(memory) < MARKS.low
    assert events["pgsteal"] >= 32 * events["allocstall"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_kswapd_in_parts_comes_as_far_as_at_once(kernel: str) -> None:
    """The same host, filled in the same steps: kswapd at the end of a step, or as soon as it is woken."""
    memory, other = timed(kernel, guests=3, pages=2048), host(kernel, guests=3, pages=2048)
    for first in range(0, 2048, 8):
        for guest in range(3):
            for each in (memory, other):
                write(each, guest, first, first + 8)
            visited = list(iter(memory.balance_part, NOBODY)) if memory.kswapd_woken else []
            assert all(0 <= number < 3 for number in visited)
            assert not memory.kswapd_woken
            assert free_pages(memory) >= MARKS.min
    for guest in range(3):
        assert memory.events(guest)["allocstall"] == 0
    runs, stolen = (sum(int(memory.events(g)[name]) for g in range(3)) for name in ("kswapd_runs", "pgsteal"))
    runs_at_once, stolen_at_once = (sum(int(other.events(g)[n]) for g in range(3)) for n in ("kswapd_runs", "pgsteal"))
    assert runs == pytest.approx(runs_at_once, abs=2)
    assert stolen == pytest.approx(stolen_at_once, rel=0.03)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_task_may_reclaim_between_two_visits_of_kswapd(kernel: str) -> None:
    memory = timed(kernel, guests=2, pages=4096)
    write(memory, 0, 0, 2000)
    pages = iter(range(0, 4096, 16))
    while not memory.kswapd_woken:
        first = next(pages)
        write(memory, 1, first, first + 16)
    memory.balance_part()
    while not memory.events(1)["allocstall"]:
        first = next(pages)
        write(memory, 1, first, first + 16)
    stalls = int(memory.events(1)["allocstall"])
    while memory.balance_part() != NOBODY:
        pass
    assert free_pages(memory) >= MARKS.high
    assert memory.events(1)["allocstall"] == stalls
    assert not memory.kswapd_woken


@pytest.mark.parametrize(
    ("gib", "factor", "expected_mib"),  # min, low, high as /proc/zoneinfo would have them, in MiB
    [(1, 10, (4, 5.02, 6.05)), (64, 10, (32, 97.5, 163.1)), (64, 200, (32, 1342.7, 2653.4))],
)
def test_watermarks_are_those_of_the_kernel(gib: int, factor: int, expected_mib: tuple[float, ...]) -> None:
    marks = kernel_watermarks(gib << 18, factor)
    assert [pages / 256 for pages in (marks.min, marks.low, marks.high)] == pytest.approx(expected_mib, rel=0.01)
    assert marks.goal == marks.high
    part = kernel_watermarks((gib << 18) // 16, factor, scale=16)
    assert [pages * 16 for pages in part] == pytest.approx(list(marks), rel=0.01)
