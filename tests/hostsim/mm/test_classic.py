"""The classic LRU: the engine does what the plain reference model does, and both decide as the kernel's rules say."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import ACCESS_WRITE, ACTIVE, REFERENCED, WORKINGSET
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.hostsim.mm.classic_reclaim import prepare_pass, shrink_lruvec
from coldfleet.hostsim.replay.observe import page_states
from coldfleet.policies import get_policy
from tests.hostsim.classic_side_by_side import ClassicSideBySide
from tests.hostsim.side_by_side import Operation, Shape, check_after_each
from tests.reference import POLICIES

SHARES = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
SIZES = st.sampled_from([1, 31, 64, 100, 448, 512, 600, 1024, 1500])
TOUCH = st.tuples(
    st.just("touch"), SHARES, SHARES, st.integers(1, 700), SHARES, SHARES, st.booleans(), st.integers(0, 99)
)
OPERATIONS = st.one_of(
    st.tuples(st.just("populate"), SHARES),
    TOUCH,
    TOUCH,
    st.tuples(st.just("memory_reclaim"), st.integers(1, 900)),
    st.tuples(st.just("memory_reclaim"), st.integers(1, 900)),
    st.tuples(st.just("flush_stats")),
    st.tuples(st.just("stop_nested")),
    st.tuples(st.just("touch_own")),
)


@st.composite
def shapes(draw: st.DrawFn, kernel: str, policy: str) -> Shape:
    kind = draw(st.sampled_from(["process", "vm", "nested", "shadow"]))
    pages = draw(SIZES)
    limit = draw(st.sampled_from([0, pages // 2, pages * 3 // 4])) if pages >= 448 else 0
    swappiness = draw(st.sampled_from([0, 1, 60, 100, 200])) if not limit else 60
    own_pages, swap_pages = draw(st.sampled_from([0, 1, 5])), draw(st.sampled_from([None, None, 0, 40, pages]))
    return Shape(kernel, policy, kind, pages, own_pages, limit, swappiness, swap_pages=swap_pages)


def check_many(kernel: str, policy: str, examples: int) -> None:
    @seed(zlib.crc32(f"classic {kernel} {policy}".encode()))
    @settings(max_examples=examples, deadline=None, database=None)
    @given(shape=shapes(kernel, policy), operations=st.lists(OPERATIONS, min_size=3, max_size=14))
    def engine_equals_reference(shape: Shape, operations: list[Operation]) -> None:
        check_after_each(ClassicSideBySide(shape), operations)

    engine_equals_reference()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_engine_equals_reference(kernel: str, policy: str) -> None:
    check_many(kernel, policy, examples=8)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_engine_equals_reference_over_thousands_of_sequences(kernel: str, policy: str) -> None:
    check_many(kernel, policy, examples=200)


GIB = 1 << 18  # pages
PAGES = 1024


def process(kernel: str = "6.12", *, kvm: bool = False) -> HostMemory:
    """1,024 pages of one process or guest, all written once, in order."""
    features = replace(KERNELS[kernel], lru_gen=False)
    memory = HostMemory([Memslot(PAGES, kvm=kvm)], features, get_policy(features.policy))
    memory.touch(0, np.arange(PAGES, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    memory.drain()
    memory.flush_stats()
    return memory


def touch(memory: HostMemory, *pages: int) -> None:
    memory.touch(0, np.array(pages, np.uint32))
    memory.drain()


def make_old(memory: HostMemory) -> None:
    """Nobody has touched any page of late."""
    memory.machine.bits[:, 1:4] = 0


def deactivates(memory: HostMemory) -> bool:
    reclaim = memory.machine.reclaim[0]
    reclaim["target"] = 0
    prepare_pass(memory.machine, reclaim)
    return bool(reclaim["may_deactivate"])


@pytest.mark.parametrize(
    ("inactive", "active", "low"),
    [
        (0, 0, False),
        (100, 100, False),
        (100, 101, True),
        (GIB // 2, GIB // 2, False),  # from 1 GiB on the ratio is sqrt(10 x GiB), rounded down: 3
        (GIB // 4, 3 * GIB // 4, False),
        (GIB // 4 - 1, 3 * GIB // 4 + 1, True),
        (GIB, 10 * GIB, False),  # 11 GiB: 10
        (GIB, 10 * GIB + 1, True),
    ],
)
def test_active_pages_may_go_when_the_inactive_list_is_low(inactive: int, active: int, low: bool) -> None:
    memory = process()
    memory.machine.classic[0]["flushed_size"] = inactive, active
    assert deactivates(memory) == low


def test_active_pages_may_go_when_refaults_show_a_change_of_the_working_set() -> None:
    memory = process()
    lru = memory.machine.classic[0]
    assert not deactivates(memory)
    lru["flushed_activations"] = 1
    assert deactivates(memory)
    memory.memory_reclaim(0, 32)  # a call takes note of them as it ends
    assert lru["seen_activations"] == 1
    assert not deactivates(memory)


@pytest.mark.parametrize(("kernel", "flushes"), [("6.1", True), ("6.12", False), ("6.18", False)])
def test_later_kernels_reclaim_by_old_statistics(kernel: str, flushes: bool) -> None:
    memory = process(kernel)
    memory.machine.classic[0]["flushed_size"] = 1, 2
    assert deactivates(memory) == (not flushes)


@pytest.mark.parametrize(("distance", "active"), [(0, True), (300, True), (301, False), (100_000, False)])
def test_a_refault_is_active_if_the_active_list_would_have_kept_the_page(distance: int, active: bool) -> None:
    memory = process()
    make_old(memory)
    lru = memory.machine.classic[0]
    lru["nonresident_age"] = (1 << 29) - 1  # shadows have 29 bits for it
    memory.memory_reclaim(0, 32)
    assert page_states(memory, 0)[0] == 256
    lru["nonresident_age"] = (1 << 29) - 1 + distance
    lru["flushed_size"] = 700, 300
    touch(memory, 0)
    assert page_states(memory, 0)[0] == (ACTIVE if active else 0)
    assert memory.events(0)["workingset_refault_anon"] == 1
    assert memory.events(0)["workingset_activate_anon"] == active
    assert memory.events(0)["workingset_restore_anon"] == 0


def test_a_page_found_young_twice_at_eviction_is_active() -> None:
    memory = process()
    seen = []
    for _ in range(2):
        touch(memory, *range(PAGES))
        reclaim = memory.machine.reclaim[0]
        reclaim["priority"], reclaim["nr_to_reclaim"], reclaim["swappiness"], reclaim["target"] = 0, PAGES, 60, 0
        shrink_lruvec(memory.machine, 0, reclaim)
        seen.append(set(page_states(memory, 0).tolist()))
    assert seen == [{REFERENCED}, {ACTIVE | REFERENCED}]
    assert memory.events(0)["pgactivate"] == PAGES
    assert memory.resident(0) == PAGES


def test_a_deactivated_page_is_remembered_as_workingset() -> None:
    memory = process(kvm=True)  # KVM's marks made all pages active
    assert set(page_states(memory, 0).tolist()) == {ACTIVE}
    memory.memory_reclaim(0, 100)
    lru = memory.machine.classic[0]
    assert set(page_states(memory, 0).tolist()) == {ACTIVE, WORKINGSET, 256}
    assert memory.events(0)["pgdeactivate"] == memory.events(0)["pgrefill"] == PAGES - lru["size"][1]
    assert lru["size"].sum() == memory.resident(0) == PAGES - memory.events(0)["pgsteal"]


@pytest.mark.parametrize(("cost", "scanned"), [(0, 512 * 60 // 200), (10_000, 512 * 89 // (89 + 419))])
def test_anonymous_pages_are_scanned_by_their_share_of_the_cost(cost: int, scanned: int) -> None:
    memory = process()
    memory.machine.classic[0]["anon_cost"] = cost
    reclaim = memory.machine.reclaim[0]
    reclaim["priority"], reclaim["nr_to_reclaim"], reclaim["swappiness"], reclaim["target"] = 1, PAGES, 60, 0
    shrink_lruvec(memory.machine, 0, reclaim)
    assert memory.events(0)["pgscan"] == scanned


@pytest.mark.parametrize(("kernel", "cost"), [("6.1", 32), ("6.12", 32 * 32)])
def test_since_6_6_a_page_written_costs_as_much_as_32_kept(kernel: str, cost: int) -> None:
    memory = process(kernel)
    make_old(memory)
    memory.machine.classic[0]["flushed_size"] = 8 * PAGES, 0  # the cost is halved where it passes a quarter of that
    reclaim = memory.machine.reclaim[0]
    reclaim["priority"], reclaim["nr_to_reclaim"], reclaim["swappiness"], reclaim["target"] = 0, 32, 60, 0
    shrink_lruvec(memory.machine, 0, reclaim)
    assert memory.events(0)["pgsteal"] == 32
    assert memory.machine.classic[0]["anon_cost"] == cost


def test_kvm_s_second_mark_activates_a_page_at_once_only_if_it_is_on_no_list_yet() -> None:
    """The page whose fault fills the batch is on the inactive list when KVM marks it: it needs the other batch."""
    memory = process(kvm=True)
    assert memory.events(0)["pgactivate"] == PAGES // KERNELS["6.12"].lru_batch
    assert memory.machine.classic[0]["size"].tolist() == [0, PAGES]


def test_a_limit_that_only_old_statistics_forbid_to_meet_is_met() -> None:
    """All of a guest's pages are active, but nobody has counted them yet: reclaim finds nothing until someone does."""
    features = replace(KERNELS["6.18"], lru_gen=False)
    memory = HostMemory([Memslot(PAGES, max_pages=PAGES // 2)], features, get_policy(features.policy))
    memory.touch(0, np.arange(PAGES, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    assert memory.resident(0) <= PAGES // 2
    assert memory.machine.mms[0]["charged"] <= PAGES // 2
