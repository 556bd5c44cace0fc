"""Swap readahead: how much is read around a fault, what of, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import ACCESS_WRITE, PG_READAHEAD, PRESENT, SWAPCACHE
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.memory.audit import check_memory
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.hostsim.mm.swap_state import FAR_AWAY, swapin_nr_pages
from coldfleet.hostsim.spec.host_spec import ClockSpec, GuestSpec, HostResult, HostSpec, WorkloadSpec
from coldfleet.policies import get_policy

PAGES = 2048


def swapped_out(order: list[int] | None = None, *, lru_gen: bool = True, **options: Any) -> HostMemory:
    """A process whose 2,048 pages are all on an asynchronous swap device; ``order``: those that left first."""
    options = {"page_cluster": 3, "async_swap": True, **options}
    features = replace(KERNELS["6.12"], lru_gen=lru_gen)
    slots = [Memslot(PAGES, kvm=False), Memslot(600, kvm=False)]
    memory = HostMemory(slots, features, get_policy(features.policy), **options)
    memory.touch(0, np.arange(PAGES, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    memory.drain()
    everything = [*(order or []), *(page for page in range(PAGES) if page not in set(order or []))]
    for _ in range(2):  # what is written is freed when it is met again
        for start in range(0, PAGES, 64):
            memory.page_out(0, np.array(everything[start : start + 64]))
        memory.complete_io()
    assert memory.resident(0) == 0
    return memory


def touch(memory: HostMemory, *pages: int, guest: int = 0, write: bool = False) -> None:
    memory.touch(guest, np.array(pages, np.uint32) | np.uint32(write * ACCESS_WRITE))


def in_cache(memory: HostMemory) -> set[int]:
    """Pages that were read ahead and wait in the swap cache."""
    flags = memory.machine.pages["flags"][:PAGES]
    return set(np.flatnonzero(flags & PG_READAHEAD).tolist())


def counters(memory: HostMemory) -> tuple[int, ...]:
    check_memory(memory)
    return tuple(int(memory.events(0)[name]) for name in ("pgfault", "pgmajfault", "pswpin", "swap_ra", "swap_ra_hit"))


@pytest.mark.parametrize(
    ("before", "here", "hits", "most", "last", "pages"),
    [
        (10, 50, 0, 8, 0, 1),  # nothing was of use, and this is somewhere else
        (49, 50, 0, 8, 0, 2),  # next door
        (51, 50, 0, 8, 0, 2),
        (10, 50, 1, 8, 0, 4),
        (10, 50, 2, 8, 0, 4),
        (10, 50, 3, 8, 0, 8),
        (10, 50, 60, 8, 0, 8),
        (10, 50, 7, 32, 0, 16),
        (10, 50, 0, 8, 8, 4),  # it shrinks by half at most
        (10, 50, 0, 8, 2, 1),
    ],
)
def test_a_window_is_as_large_as_the_last_one_was_of_use(
    before: int, here: int, hits: int, most: int, last: int, pages: int
) -> None:
    assert swapin_nr_pages(before, here, hits, most, last) == pages


def test_the_first_window_is_around_the_fault_and_later_ones_ahead_of_it() -> None:
    memory = swapped_out()
    touch(memory, 100)
    assert in_cache(memory) == set(range(97, 105)) - {100}  # 4 hits are taken for granted: 8 pages
    touch(memory, 101)
    assert counters(memory)[1:] == (1, 8, 7, 1)  # a minor fault, and a hit
    touch(memory, 102, 103, 104, 105)
    assert in_cache(memory) == {97, 98, 99, *range(106, 113)}  # from the next fault on, in the direction of the reader


def test_a_reader_towards_lower_addresses_has_the_pages_before_it_read() -> None:
    memory = swapped_out()
    touch(memory, 100, 99, 98, 97, 96)
    assert in_cache(memory) == {101, 102, 103, 104, *range(89, 96)}


def test_a_window_ends_with_its_page_table_and_with_the_memory() -> None:
    memory = swapped_out()
    touch(memory, 511)
    assert in_cache(memory) == {508, 509, 510}
    memory = swapped_out()
    touch(memory, PAGES - 1)
    assert in_cache(memory) == {PAGES - 4, PAGES - 3, PAGES - 2}


def test_faults_here_and_there_stop_it() -> None:
    memory = swapped_out()
    touch(memory, *range(0, PAGES, 200))
    assert counters(memory)[3] == 4 + 3 + 1  # windows of 8, three of them below the memory, 4, 2, and 1 from then on
    touch(memory, *range(50, PAGES, 200))
    assert counters(memory)[3] == 4 + 3 + 1


@pytest.mark.parametrize("options", [{"page_cluster": 0}, {"async_swap": False}])
def test_without_page_cluster_or_on_zram_a_page_comes_alone(options: dict[str, Any]) -> None:
    memory = HostMemory(
        [Memslot(PAGES, kvm=False, max_pages=PAGES // 2)],
        KERNELS["6.12"],
        get_policy("locked-6.12"),
        **{"async_swap": True, "page_cluster": 3, **options},
    )
    for _ in range(3):
        touch(memory, *range(PAGES), write=True)
        memory.complete_io()
    faults, major, read, *ahead = counters(memory)
    assert 0 < read == major < faults
    assert ahead == [0, 0]


def test_a_disk_is_read_in_blocks_of_slots() -> None:
    order = [900, 3, 77, 500, 1200, 8, 2000, 41, 12, 600]
    memory = swapped_out(order, rotating_swap=True)
    assert (memory.machine.slots[: len(order)] - 1).tolist() == order
    touch(memory, 500)
    assert in_cache(memory) == set(order[:8]) - {500}
    touch(memory, 41)
    assert counters(memory)[1:] == (1, 8, 7, 1)
    touch(memory, 600)
    assert in_cache(memory) == {900, 3, 77, 1200, 8, 2000, *order[8:9], *(memory.machine.slots[10:12] - 1).tolist()}


def test_a_slot_that_is_given_back_is_taken_again_after_a_round() -> None:
    memory = swapped_out(rotating_swap=True, page_cluster=0)
    assert (memory.machine.slots[:PAGES] - 1).tolist() == list(range(PAGES))
    touch(memory, 5, write=True)  # it will differ from its copy
    assert memory.machine.slots[5] == 0
    memory.page_out(0, np.array([5]))
    assert memory.machine.slots[PAGES] == 6
    check_memory(memory)


@pytest.mark.parametrize("lru_gen", [True, False])
def test_what_nobody_touches_is_evicted_without_a_write(lru_gen: bool) -> None:
    memory = swapped_out(lru_gen=lru_gen)
    touch(memory, 100)
    written = int(memory.events(0)["pswpout"])
    ahead = in_cache(memory)
    memory.drain()
    memory.page_out(0, np.array(sorted(ahead)))
    assert not in_cache(memory)
    assert memory.events(0)["pswpout"] == written
    flags = memory.machine.pages["flags"][sorted(ahead)]
    assert not (flags & SWAPCACHE).any()
    check_memory(memory)


def test_a_page_read_ahead_is_in_memory_and_not_mapped() -> None:
    memory = swapped_out()
    charged = int(memory.machine.mms[0]["charged"] - memory.machine.mms[0]["stock"])
    touch(memory, 100)
    mm = memory.machine.mms[0]
    assert mm["charged"] - mm["stock"] - charged == 8
    assert memory.resident(0) == 1
    assert int(memory.machine.bits[:, PRESENT].sum()) == 1 << 100 % 64


def test_nothing_is_next_to_far_away() -> None:
    assert swapin_nr_pages(FAR_AWAY, 0, 0, 8, 0) == 1


def run(device: str, page_cluster: int) -> HostResult:
    """A guest that goes through twice the memory that it may keep, in order."""
    load = WorkloadSpec(kind="scan", layout="ordered")
    guest = GuestSpec("g", 2048, 1024, 1500, workload=load)
    clock = ClockSpec(tick_ns=20_000_000_000 if device == "disk" else 200_000_000, access_ns=1_000, batch=16)
    spec = HostSpec("6.12", (guest,), 12, swap_device=device, page_cluster=page_cluster, clock=clock)
    return simulate_host(spec, get_policy("six-steps"), seed=5, replicate=0, host=0, audit=True)


@pytest.mark.parametrize("device", ["nvme", "disk"])
def test_readahead_shortens_the_waits_of_a_reader_in_order(device: str) -> None:
    alone, ahead = (run(device, order).totals() for order in (0, 3))
    assert alone["swap_ra"] == 0
    assert ahead["swap_ra_hit"] > 0.8 * ahead["swap_ra"] > 0
    assert ahead["pgmajfault"] / ahead["accesses"] < 0.3 * alone["pgmajfault"] / alone["accesses"]
    per_access = [each["swap_in_stall_ns"] / each["accesses"] for each in (alone, ahead)]
    assert per_access[1] < 0.3 * per_access[0]


def test_zram_s_results_do_not_know_of_page_cluster() -> None:
    assert run("zram", 0) == run("zram", 3)
