"""A host without memcg limits: when kswapd runs, how far it goes, whom it visits, and what min_ttl_ms protects."""

from __future__ import annotations

import numpy as np
import pytest

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import ACCESS_WRITE
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot, Watermarks
from coldfleet.hostsim.mm.kswapd import NOBODY
from coldfleet.policies import get_policy

MARKS = Watermarks(low=200, high=260, goal=320)
FREE = 4000


def host(kernel: str, guests: int = 1, pages: int = 8192, min_ttl_ms: int = 0) -> HostMemory:
    slots = [Memslot(pages, kvm=False) for _ in range(guests)]
    policy = get_policy(KERNELS[kernel].policy)
    return HostMemory(
        slots, KERNELS[kernel], policy, shared_cpu=True, free_pages=FREE, watermarks=MARKS, min_ttl_ms=min_ttl_ms
    )


def write(memory: HostMemory, guest: int, first: int, end: int) -> None:
    memory.touch(guest, np.arange(first, end, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    memory.drain()


def free_pages(memory: HostMemory) -> int:
    return int(memory.machine.node[0]["free_pages"])


@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_is_reclaimed_above_the_low_watermark(kernel: str) -> None:
    memory = host(kernel)
    tables = 8 + 2  # of 3,700 pages, and the two levels above them
    write(memory, 0, 0, 3700)
    assert free_pages(memory) == FREE - 3700 - tables
    assert memory.events(0)["kswapd_runs"] == 0
    assert memory.resident(0) == 3700


@pytest.mark.parametrize("kernel", KERNELS)
def test_kswapd_keeps_the_free_pages_above_the_low_watermark(kernel: str) -> None:
    memory = host(kernel)
    for end in range(512, 8193, 512):
        write(memory, 0, end - 512, end)
        assert free_pages(memory) >= MARKS.low
        tables = int(memory.machine.mms[0]["tables"]) + 2
        assert free_pages(memory) + memory.resident(0) + tables == FREE
    assert memory.events(0)["kswapd_runs"] > 0
    assert memory.events(0)["pgsteal"] == 8192 - memory.resident(0)


@pytest.mark.parametrize("kernel", ["6.12", "6.16", "6.18", "7.3"])
def test_a_run_fills_up_to_the_high_watermark_and_ends_at_its_goal(kernel: str) -> None:
    memory = host(kernel)
    write(memory, 0, 0, 8192)
    per_run = int(memory.events(0)["pgsteal"]) / int(memory.events(0)["kswapd_runs"])
    assert MARKS.high - MARKS.low <= per_run <= MARKS.goal + 64


def test_6_1_goes_from_watermark_to_watermark_in_batches() -> None:
    memory = host("6.1")
    write(memory, 0, 0, 8192)
    per_run = int(memory.events(0)["pgsteal"]) / int(memory.events(0)["kswapd_runs"])
    assert MARKS.high - MARKS.low <= per_run <= MARKS.high - MARKS.low + 2 * 64


@pytest.mark.parametrize("kernel", KERNELS)
def test_who_fills_the_host_does_not_matter_to_whom_kswapd_takes_from(kernel: str) -> None:
    memory = host(kernel, guests=2, pages=3072)
    write(memory, 0, 0, 3072)  # idle from now on
    write(memory, 1, 0, 3072)
    assert memory.events(0)["pgsteal"] > memory.events(1)["pgsteal"]
    assert memory.events(0)["kswapd_runs"] == 0
    assert memory.events(1)["kswapd_runs"] > 0


@pytest.mark.parametrize("kernel", ["6.12", "6.18"])
def test_the_memcg_lru_takes_turns_between_memcgs_that_are_aged(kernel: str) -> None:
    memory = host(kernel, guests=3, pages=4096)
    for round_number in range(3):
        for guest in range(3):
            write(memory, guest, round_number * 1024, (round_number + 1) * 1024)
    steals = [int(memory.events(guest)["pgsteal"]) for guest in range(3)]
    assert min(steals) > 0
    assert max(steals) < 3 * min(steals)


@pytest.mark.parametrize("kernel", KERNELS)
def test_guests_that_have_nothing_keep_nobody_from_being_visited(kernel: str) -> None:
    """An empty lruvec never ages; it leaves the older half of the memcg LRU all the same."""
    memory = host(kernel, guests=5, pages=4096)
    write(memory, 0, 0, 3000)
    write(memory, 1, 0, 4096)
    assert free_pages(memory) >= MARKS.low
    assert [memory.oom_reason(guest) for guest in range(5)] == [""] * 5
    assert sum(int(memory.events(guest)["pgsteal"]) for guest in range(2)) > 3000


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_oom_killer_is_called_when_all_memory_is_younger_than_min_ttl(kernel: str) -> None:
    young = host(kernel, min_ttl_ms=1000)
    write(young, 0, 0, 5000)
    assert young.events(0)["oom_kills"] == 1
    assert young.oom_reason(0) == "min_ttl"
    assert FREE - MARKS.low - 20 < young.events(0)["accesses"] < FREE - MARKS.low
    assert free_pages(young) == FREE
    old = host(kernel, min_ttl_ms=1000)
    old.machine.node[0]["now_ms"] = 1001  # the generations of a fresh lruvec were opened at 0
    write(old, 0, 0, 3700)
    assert old.events(0)["oom_kills"] == 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_kswapd_waits_for_writes_where_a_pass_frees_nothing(kernel: str) -> None:
    """With an asynchronous device all pages of a pass can be under writeback."""
    memory = HostMemory(
        [Memslot(8192)], KERNELS[kernel], get_policy("six-steps"), async_swap=True, free_pages=FREE, watermarks=MARKS
    )
    write(memory, 0, 0, 8192)
    assert free_pages(memory) >= MARKS.low
    assert memory.events(0)["reclaim_write_waits"] > 0
    assert memory.events(0)["pgscan"] < 10 * memory.events(0)["pgsteal"]


def test_the_batch_after_an_aging_ends_a_visit_of_kswapd_since_7_3() -> None:
    """From priority 5 on a visit looks at 1/32 of 3,800 pages or more, in batches of 64."""
    memory = host("7.3")
    memory.let_kswapd_take_time()
    write(memory, 0, 0, 3800)
    looked_at, agings = [0], [0]
    while memory.balance_part() != NOBODY:
        events = memory.events(0)
        looked_at.append(int(events["pgscan"] + events["pgrefill"]))
        agings.append(int(events["agings"]))
    visits = np.diff([looked_at, agings])
    assert visits[0, visits[1] > 0].tolist() == [64, 64]
    assert visits[0].max() > 64
