"""Huge pages: the engine does what the plain reference model does, and what no recording can show."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, seed, settings
from hypothesis import strategies as st

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_WRITE, CALLS, MAPS_HUGE, PTRS_PER_PTE, SHADOW, SPLIT_SPTES
from coldfleet.hostsim.memory.audit import check_memory
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.hostsim.mm.khugepaged import collapse
from coldfleet.policies import Site, get_policy
from tests.hostsim.mm.test_reference import SHARES, TOUCH
from tests.hostsim.side_by_side import Operation, Shape, SideBySide, check_after_each, with_device

OPERATIONS = st.one_of(
    st.tuples(st.just("populate"), SHARES),
    TOUCH,
    TOUCH,
    st.tuples(st.just("age"), st.sampled_from([0, 1, 60, 200]), st.booleans()),
    st.tuples(st.just("evict"), st.integers(2, 3), st.sampled_from([0, 60, 200]), st.integers(1, 2000)),
    st.tuples(st.just("memory_reclaim"), st.integers(1, 2000)),
    st.tuples(st.just("touch_own")),
    st.tuples(
        st.just("collapse"), st.integers(0, 5), st.sampled_from([0, 100, 511]), st.sampled_from([0, 64, 300, 511])
    ),
    st.tuples(st.just("stop_nested")),
    st.tuples(st.just("complete_io")),
)


@st.composite
def shapes(draw: st.DrawFn, kernel: str) -> Shape:
    pages = draw(st.sampled_from([512, 1023, 1024, 1600, 2048, 3000]))
    shape = Shape(
        kernel,
        KERNELS[kernel].policy,
        draw(st.sampled_from(["process", "vm", "nested", "shadow"])),
        pages,
        own_pages=draw(st.sampled_from([0, 3])),
        limit=draw(st.sampled_from([0, pages // 2, pages * 3 // 4, pages + 64])),
        swappiness=draw(st.sampled_from([0, 1, 60, 200])),
        file_pages=draw(st.sampled_from([0, 0, 40])),
        huge_pages=True,
        huge_reclaims=draw(st.booleans()),
        swap_pages=draw(st.sampled_from([None, 700, 1300, 2600])),
        l1_huge=draw(st.booleans()),
        split_share=draw(st.sampled_from([0.0, 0.5, 1.0])),
    )
    return with_device(draw, shape)


def check_many(kernel: str, examples: int) -> None:
    @seed(zlib.crc32(kernel.encode()))
    @settings(max_examples=examples, deadline=None, database=None)
    @given(shape=shapes(kernel), operations=st.lists(OPERATIONS, min_size=3, max_size=10))
    def engine_equals_reference(shape: Shape, operations: list[Operation]) -> None:
        both = SideBySide(shape)
        check_after_each(both, operations)
        event(f"{np.count_nonzero(both.engine.machine.huge & MAPS_HUGE)} huge pages at the end")

    engine_equals_reference()


@pytest.mark.parametrize("kernel", KERNELS)
def test_engine_equals_reference_with_huge_pages(kernel: str) -> None:
    check_many(kernel, examples=12)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
def test_engine_equals_reference_with_huge_pages_over_many_sequences(kernel: str) -> None:
    check_many(kernel, examples=250)


def guest(
    max_pages: int = 0, huge_reclaims: bool = False, swap_pages: int | None = None, async_swap: bool = False
) -> HostMemory:
    """Four huge pages of a guest under 6.12, all touched."""
    slot = Memslot(4 * PTRS_PER_PTE, max_pages=max_pages, huge_pages=True, huge_reclaims=huge_reclaims)
    memory = HostMemory(
        [slot], KERNELS["6.12"], get_policy("locked-6.12"), swap_pages=swap_pages, async_swap=async_swap
    )
    memory.touch(0, np.arange(4 * PTRS_PER_PTE, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    return memory


def test_a_notifier_call_asks_for_a_whole_huge_page() -> None:
    huge, small = guest(), HostMemory([Memslot(4 * PTRS_PER_PTE)], KERNELS["6.12"], get_policy("locked-6.12"))
    small.touch(0, np.arange(4 * PTRS_PER_PTE, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    for memory in (huge, small):
        memory.age(0)
    calls = [int(memory.machine.sites[0, Site.WALK, CALLS]) for memory in (huge, small)]
    assert calls == [4, 4 * PTRS_PER_PTE]
    assert int(huge.events(0)["tdp_faults"]) == 4


def test_one_page_keeps_its_huge_page_and_the_others_leave_whole() -> None:
    memory = guest()
    memory.age(0)
    memory.age(0)
    memory.touch(0, np.array([PTRS_PER_PTE + 77], np.uint32))
    memory.age(0)
    memory.evict(0, int(memory.lruvec(0)["max_seq"]) - 2, 200, 4 * PTRS_PER_PTE)
    assert np.flatnonzero(memory.machine.huge & MAPS_HUGE).tolist() == [1]
    assert memory.resident(0) == PTRS_PER_PTE
    assert int(memory.events(0)["pswpout"]) == 3 * PTRS_PER_PTE
    memory.touch(0, np.array([0, 3], np.uint32))  # back as small pages, one by one
    assert memory.resident(0) == PTRS_PER_PTE + 2
    assert np.flatnonzero(memory.machine.huge & MAPS_HUGE).tolist() == [1]
    check_memory(memory)


@pytest.mark.parametrize("reclaims", [False, True])
def test_at_the_limit_a_fault_gets_a_huge_page_only_if_it_reclaims(reclaims: bool) -> None:
    memory = guest(max_pages=2 * PTRS_PER_PTE + 100, huge_reclaims=reclaims)
    still_huge = np.flatnonzero(memory.machine.huge & MAPS_HUGE).tolist()
    assert (3 in still_huge) == reclaims
    assert len(still_huge) <= 2
    check_memory(memory)


def test_a_huge_page_counts_for_memory_high() -> None:
    memory = HostMemory(
        [Memslot(4 * PTRS_PER_PTE, huge_pages=True, high_pages=PTRS_PER_PTE + 300)],
        KERNELS["6.12"],
        get_policy("locked-6.12"),
    )
    memory.touch(0, np.arange(PTRS_PER_PTE, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    assert int(memory.events(0)["high_events"]) == 0
    memory.touch(0, np.arange(PTRS_PER_PTE, 2 * PTRS_PER_PTE, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    assert int(memory.events(0)["high_events"]) > 0
    check_memory(memory)


def test_without_512_slots_in_a_row_a_huge_page_is_split_and_its_pages_go_one_by_one() -> None:
    memory = guest(swap_pages=900)
    memory.age(0)
    memory.age(0)
    memory.evict(0, int(memory.lruvec(0)["max_seq"]) - 2, 200, 900)
    events = memory.events(0)
    assert (int(events["thp_swpout"]), int(events["thp_split_page"])) == (1, 1)
    assert int(events["pswpout"]) == 900
    assert np.flatnonzero(memory.machine.huge & MAPS_HUGE).tolist() == [2, 3]
    assert int(memory.events(0)["tdp_faults"]) == 4
    check_memory(memory)


def test_a_huge_page_stays_in_memory_until_a_device_that_takes_time_has_written_it() -> None:
    memory = guest(async_swap=True)
    memory.age(0)
    memory.age(0)
    seq = int(memory.lruvec(0)["max_seq"]) - 2
    memory.evict(0, seq, 200, PTRS_PER_PTE)
    events = memory.events(0)
    written = [int(events[name]) for name in ("thp_swpout", "pswpout", "pgsteal", "resident_pages")]
    assert written == [4, 4 * PTRS_PER_PTE, 0, 0]  # nothing is free yet, so it went on
    memory.complete_io()
    memory.age(0)
    memory.evict(0, seq + 1, 200, PTRS_PER_PTE)
    assert (int(events["pgsteal"]), int(events["pswpout"])) == (PTRS_PER_PTE, 4 * PTRS_PER_PTE)
    check_memory(memory)


def test_khugepaged_makes_a_huge_page_of_small_ones_and_reads_a_few_from_swap() -> None:
    memory = guest()
    memory.age(0)
    memory.age(0)
    memory.evict(0, int(memory.lruvec(0)["max_seq"]) - 2, 200, PTRS_PER_PTE)
    assert np.flatnonzero(memory.machine.huge & MAPS_HUGE).tolist() == [1, 2, 3]
    memory.touch(0, np.arange(40, PTRS_PER_PTE, dtype=np.uint32))  # small pages; 40 stay in swap
    events, faults = memory.events(0), int(memory.events(0)["tdp_faults"])
    memory.drain()
    assert not collapse(memory.machine, 0, 0, 511, 39)
    assert collapse(memory.machine, 0, 0, 511, 40)
    assert (int(events["khugepaged_swpin"]), int(events["thp_collapse_alloc"])) == (40, 1)
    assert memory.resident(0) == memory.anon_huge_pages(0) == 4 * PTRS_PER_PTE
    check_memory(memory)
    memory.touch(0, np.arange(PTRS_PER_PTE, dtype=np.uint32))
    assert int(events["tdp_faults"]) == faults + 1  # one SPTE of 2 MiB in place of those that were zapped


def test_khugepaged_reads_nothing_that_the_swap_cache_has() -> None:
    memory = guest(async_swap=True)
    memory.age(0)
    memory.age(0)
    memory.evict(0, int(memory.lruvec(0)["max_seq"]) - 2, 200, PTRS_PER_PTE)
    memory.touch(0, np.arange(40, PTRS_PER_PTE, dtype=np.uint32))
    memory.complete_io()
    memory.drain()
    events, refaults = memory.events(0), int(memory.events(0)["refaults"])
    collapse(memory.machine, 0, 0, 511, 40)
    assert (int(events["khugepaged_swpin"]), int(events["refaults"])) == (0, refaults)
    check_memory(memory)


def test_bloat_is_what_nobody_touches_in_a_huge_page_that_is_touched() -> None:
    memory = guest()
    memory.count_tick()
    before = int(memory.events(0)["bloat_page_ticks"])
    assert before == 0  # all was touched
    memory.touch(0, np.array([PTRS_PER_PTE + 77, PTRS_PER_PTE + 300], np.uint32))
    memory.count_tick()
    events = memory.events(0)
    assert int(events["bloat_page_ticks"]) == PTRS_PER_PTE - 1 - 2
    assert int(events["huge_page_ticks"]) == 2 * 4 * PTRS_PER_PTE


@pytest.mark.parametrize(("l1_huge", "faults", "sptes"), [(True, 1, 1), (False, 64, 512)])
def test_the_shadow_mmu_maps_by_the_page_size_of_l1(l1_huge: bool, faults: int, sptes: int) -> None:
    slot = Memslot(PTRS_PER_PTE, huge_pages=True, l1_huge=l1_huge)
    memory = HostMemory([slot], KERNELS["6.12"], get_policy("locked-6.12"))
    by_l2 = np.arange(PTRS_PER_PTE, dtype=np.uint32) | np.uint32(ACCESS_WRITE | ACCESS_L2)
    memory.touch(0, by_l2)
    assert int(memory.events(0)["shadow_faults"]) == faults  # a fault of 4 KiB maps eight pages
    memory.age(0)
    assert int(memory.events(0)["rmap_sptes"]) == sptes
    assert int(memory.machine.sites[0, Site.WALK, CALLS]) == 1
    assert not memory.machine.bits[:, SHADOW].any()
    check_memory(memory)


@pytest.mark.parametrize(
    ("share", "faults", "sptes"), [(0, 4, 0), (0.5, 2 + 2 * 512, 2 * 511), (1.0, 4 * 512, 4 * 511)]
)
def test_kvm_maps_what_it_has_to_split_by_small_sptes_and_one_call_looks_at_all(
    share: float, faults: int, sptes: int
) -> None:
    slot = Memslot(4 * PTRS_PER_PTE, huge_pages=True, split_share=share)
    memory = HostMemory([slot], KERNELS["6.12"], get_policy("locked-6.12"))
    memory.touch(0, np.arange(4 * PTRS_PER_PTE, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    assert memory.anon_huge_pages(0) == 4 * PTRS_PER_PTE
    memory.age(0)
    memory.count_tick()
    events = memory.events(0)
    assert int(events["tdp_faults"]) == faults
    assert int(memory.machine.sites[0, Site.WALK, CALLS]) == 4
    assert int(events["split_sptes"]) == sptes
    assert int(events["split_page_ticks"]) == share * int(events["huge_page_ticks"])
    memory.touch(0, np.array([PTRS_PER_PTE + 77], np.uint32))
    memory.age(0)
    memory.evict(0, int(memory.lruvec(0)["max_seq"]) - 2, 200, 4 * PTRS_PER_PTE)
    assert np.flatnonzero(memory.machine.huge & MAPS_HUGE).tolist() == [1]  # one small SPTE speaks for all
    check_memory(memory)


@pytest.mark.parametrize("policy", ["evict-only", "fast-only-v5"])
def test_what_a_small_spte_says_and_nobody_clears_stays_with_an_spte(policy: str) -> None:
    slot = Memslot(2 * PTRS_PER_PTE, huge_pages=True, split_share=1.0)
    memory = HostMemory([slot], KERNELS["6.12"], get_policy(policy))
    memory.touch(0, np.array([77, PTRS_PER_PTE + 300], np.uint32))
    memory.touch(0, np.array([5, 6], np.uint32) | np.uint32(ACCESS_L2))
    for _ in range(3):
        memory.age(0)
        check_memory(memory)
    memory.evict(0, int(memory.lruvec(0)["max_seq"]) - 2, 200, 2 * PTRS_PER_PTE)
    check_memory(memory)


def test_split_sptes_are_spread_over_all_guests_of_a_host() -> None:
    slot = Memslot(4 * PTRS_PER_PTE, huge_pages=True, split_share=0.1)
    memory = HostMemory([slot] * 5, KERNELS["6.12"], get_policy("evict-only"))
    assert np.count_nonzero(memory.machine.huge & SPLIT_SPTES) == 2  # of 20


@pytest.mark.parametrize("given", [{"scale": 64}, {"kernel": replace(KERNELS["6.12"], lru_gen=False)}])
def test_huge_pages_are_refused_where_they_are_not_modelled(given: dict[str, Any]) -> None:
    machine: dict[str, Any] = {"kernel": KERNELS["6.12"], "policy": get_policy("locked-6.12"), **given}
    with pytest.raises(ValueError, match="huge pages: not with this"):
        HostMemory([Memslot(1024, huge_pages=True)], **machine)
