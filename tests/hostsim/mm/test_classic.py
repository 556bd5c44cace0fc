"""The classic LRU: the engine does what the plain reference model does, and both decide as the kernel's rules say."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import (
    ACCESS_WRITE,
    ACTIVE,
    ANON,
    FILE,
    IN_PAGE_CACHE,
    PRIMARY,
    REFERENCED,
    WORKINGSET,
    Record,
)
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.memory.audit import check_memory
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot, Watermarks
from coldfleet.hostsim.mm.classic import PARENT
from coldfleet.hostsim.mm.classic_reclaim import age_active_anon, prepare_pass, shrink_lruvec
from coldfleet.hostsim.mm.kswapd import NOBODY
from coldfleet.hostsim.replay.observe import page_states
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import GuestSpec, HostSpec
from coldfleet.policies import get_policy
from tests.hostsim.classic_side_by_side import ClassicSideBySide
from tests.hostsim.side_by_side import Operation, Shape, check_after_each, with_device
from tests.reference import POLICIES

SHARES = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
SIZES = st.sampled_from([1, 31, 64, 100, 448, 512, 600, 1024, 1500])
TOUCH = st.tuples(
    st.just("touch"), SHARES, SHARES, st.integers(1, 700), SHARES, SHARES, st.booleans(), st.integers(0, 99)
)
ACCESS_FILE = st.tuples(
    st.just("access_file"), SHARES, SHARES, st.integers(1, 500), SHARES, SHARES, st.booleans(), st.integers(0, 99)
)
OPERATIONS = st.one_of(
    st.tuples(st.just("populate"), SHARES),
    TOUCH,
    TOUCH,
    st.tuples(st.just("memory_reclaim"), st.integers(1, 900)),
    st.tuples(st.just("memory_reclaim"), st.integers(1, 900)),
    st.tuples(st.just("flush_stats")),
    ACCESS_FILE,
    ACCESS_FILE,
    st.tuples(st.just("flush")),
    st.tuples(st.just("complete_io")),
    st.tuples(st.just("stop_nested")),
    st.tuples(st.just("touch_own")),
)


@st.composite
def shapes(draw: st.DrawFn, kernel: str, policy: str) -> Shape:
    kind = draw(st.sampled_from(["process", "vm", "nested", "shadow"]))
    pages = draw(SIZES)
    limit = draw(st.sampled_from([0, pages // 2, pages * 3 // 4])) if pages >= 448 else 0
    file_pages = draw(st.sampled_from([0, 1, 100, 600]))
    swappiness = draw(st.sampled_from([0, 1, 60, 100, 200])) if not limit or file_pages else 60
    own_pages, swap_pages = draw(st.sampled_from([0, 1, 5])), draw(st.sampled_from([None, None, 0, 40, pages]))
    shape = Shape(kernel, policy, kind, pages, own_pages, limit, swappiness, file_pages, swap_pages=swap_pages)
    return with_device(draw, shape)


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


def prepare(memory: HostMemory, priority: int, pages: int = PAGES) -> Record:
    """A pass at this priority, which wants so many pages."""
    reclaim = memory.machine.reclaim[0]
    reclaim["priority"], reclaim["nr_to_reclaim"], reclaim["target"] = priority, pages, 0
    prepare_pass(memory.machine, reclaim)
    return reclaim


def deactivates(memory: HostMemory, kind: int = ANON) -> bool:
    return bool(prepare(memory, 0)["may_deactivate"][kind])


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
    for kind in (ANON, FILE):
        sizes = memory.machine.classic[0]["flushed_size"]
        sizes[:] = 0
        sizes[kind] = inactive, active
        assert deactivates(memory, kind) == low
        assert not deactivates(memory, 1 - kind)


def test_active_pages_may_go_when_refaults_show_a_change_of_the_working_set() -> None:
    memory = process()
    lru = memory.machine.classic[0]
    assert not deactivates(memory)
    lru["flushed_activations"] = 1, 0
    assert deactivates(memory)
    assert not deactivates(memory, FILE)
    memory.memory_reclaim(0, 32)  # a call takes note of them as it ends
    assert lru["seen_activations"].tolist() == [1, 0]
    assert not deactivates(memory)


@pytest.mark.parametrize(("kernel", "flushes"), [("6.1", True), ("6.12", False), ("6.18", False)])
def test_later_kernels_reclaim_by_old_statistics(kernel: str, flushes: bool) -> None:
    memory = process(kernel)
    memory.machine.classic[0]["flushed_size"][ANON] = 1, 2
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
    lru["flushed_size"][ANON] = 700, 300
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
        shrink_lruvec(memory.machine, 0, prepare(memory, 0))
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
    assert memory.events(0)["pgdeactivate"] == memory.events(0)["pgrefill"] == PAGES - lru["size"][ANON, 1]
    assert memory.events(0)["rmap_walks"] == memory.events(0)["pgdeactivate"]
    assert lru["size"].sum() == memory.resident(0) == PAGES - memory.events(0)["pgsteal"]


@pytest.mark.parametrize(("cost", "scanned"), [(0, 512 * 60 // 200), (10_000, 512 * 89 // (89 + 419))])
def test_anonymous_pages_are_scanned_by_their_share_of_the_cost(cost: int, scanned: int) -> None:
    memory = process()
    memory.machine.classic[0]["cost"][ANON] = cost
    shrink_lruvec(memory.machine, 0, prepare(memory, 1))
    assert memory.events(0)["pgscan"] == scanned


@pytest.mark.parametrize(("kernel", "cost"), [("6.1", 32), ("6.12", 32 * 32)])
def test_since_6_6_a_page_written_costs_as_much_as_32_kept(kernel: str, cost: int) -> None:
    memory = process(kernel)
    make_old(memory)
    memory.machine.classic[0]["flushed_size"][ANON] = (
        8 * PAGES,
        0,
    )  # the cost is halved where it passes a quarter of that
    shrink_lruvec(memory.machine, 0, prepare(memory, 0, 32))
    assert memory.events(0)["pgsteal"] == 32
    assert memory.machine.classic[0]["cost"].tolist() == [cost, 0]


def test_kvm_s_second_mark_activates_a_page_at_once_only_if_it_is_on_no_list_yet() -> None:
    """The page whose fault fills the batch is on the inactive list when KVM marks it: it needs the other batch."""
    memory = process(kvm=True)
    assert memory.events(0)["pgactivate"] == PAGES // KERNELS["6.12"].lru_batch
    assert memory.machine.classic[0]["size"].tolist() == [[0, PAGES], [0, 0]]


def test_a_limit_that_only_old_statistics_forbid_to_meet_is_met() -> None:
    """All of a guest's pages are active, but nobody has counted them yet: reclaim finds nothing until someone does."""
    features = replace(KERNELS["6.18"], lru_gen=False)
    memory = HostMemory([Memslot(PAGES, max_pages=PAGES // 2)], features, get_policy(features.policy))
    memory.touch(0, np.arange(PAGES, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    assert memory.resident(0) <= PAGES // 2
    assert memory.machine.mms[0]["charged"] <= PAGES // 2


FILE_PAGES = 512


def with_file(**options: Any) -> HostMemory:
    """A process of 1,024 pages, all written, which has read its file of 512 pages once; nothing is referenced."""
    features = replace(KERNELS["6.12"], lru_gen=False)
    slot = Memslot(PAGES, kvm=False, file_pages=FILE_PAGES, swappiness=options.pop("swappiness", 60))
    memory = HostMemory([slot], features, get_policy(features.policy), **options)
    memory.touch(0, np.arange(PAGES, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    memory.access_file(0, np.arange(FILE_PAGES, dtype=np.uint32))
    memory.drain()
    memory.machine.bits[:, PRIMARY] = 0
    memory.machine.pages["state"] &= ~np.uint8(REFERENCED)
    memory.flush_stats()
    return memory


def scanned(memory: HostMemory, priority: int, **scan_control: int) -> tuple[int, int]:
    """Anonymous and file pages that one visit looks at, which wants all there are."""
    memory.machine.classic[0]["flushed_activations"] += 1  # no cache_trim_mode
    reclaim = prepare(memory, priority, 2 * PAGES)
    for name, value in scan_control.items():
        reclaim[name] = value
    shrink_lruvec(memory.machine, 0, reclaim)
    events = memory.events(0)
    return int(events["pgscan"] - events["pgscan_file"]), int(events["pgscan_file"])


@pytest.mark.parametrize(
    ("swappiness", "priority", "shares"),
    [
        (60, 1, (512 * 60 // 200, 256 * 140 // 200)),
        (100, 1, (256, 128)),
        (200, 1, (512, 0)),
        (0, 1, (0, 256)),
        (0, 0, (0, 512)),  # a memcg with swappiness 0 never swaps ...
        (60, 0, (1024, 512)),  # ... any other, at the last priority, takes both types alike
        (201, 1, (512, 0)),
    ],
)
def test_swappiness_splits_a_visit_between_the_types(swappiness: int, priority: int, shares: tuple[int, int]) -> None:
    assert scanned(with_file(swappiness=swappiness), priority) == shares


def test_the_type_that_cost_less_is_scanned_more() -> None:
    memory = with_file(swappiness=100)
    memory.machine.classic[0]["cost"] = 90, 30  # weights 1/(120 + 90) and 1/(120 + 30), each plus 1
    anon, file = 100 * 361 // 211, 100 * 361 // 151
    assert scanned(memory, 1) == (512 * anon // (anon + file), 256 * file // (anon + file))


def test_without_a_free_slot_only_files_are_reclaimed() -> None:
    assert scanned(with_file(swap_pages=0), 0) == (0, 512)


@pytest.mark.parametrize(("priority", "trims"), [(9, True), (10, False)])
def test_enough_inactive_cache_that_nobody_misses_goes_first(priority: int, trims: bool) -> None:
    memory = with_file()
    assert bool(prepare(memory, priority)["cache_trim_mode"]) == trims  # 512 >> 9 is a page
    memory.machine.classic[0]["flushed_activations"][FILE] = 1
    assert not prepare(memory, priority)["cache_trim_mode"]


def test_a_visit_that_has_enough_scans_the_other_type_to_the_same_share() -> None:
    """It set out to scan 153 anonymous and 179 file pages, and has enough after 32 of each. 121 of 153 are left, or
    78 %: of the file's pages 22 % are scanned, 39, and no more anonymous ones."""
    memory = with_file()
    memory.machine.classic[0]["flushed_activations"] += 1
    reclaim = prepare(memory, 1, 64)
    shrink_lruvec(memory.machine, 0, reclaim)
    events = memory.events(0)
    assert reclaim["goals"][:, 0].tolist() == [153, 179]
    assert (events["pgscan"] - events["pgscan_file"], events["pgscan_file"]) == (32, 39)


@pytest.mark.parametrize(
    ("scan_control", "pages"),
    [({"root": 1}, (38, 44)), ({"root": 1, "kswapd": 1}, (32, 37)), ({"root": 0}, (32, 37))],
)
def test_the_first_pass_of_a_task_that_reclaims_from_the_host_scans_all_of_its_share(
    scan_control: dict[str, int], pages: tuple[int, int]
) -> None:
    memory = with_file()
    memory.machine.classic[0]["size"] *= 1 << 9  # as if there were so many pages that it wants more than 32
    assert scanned(memory, 12, nr_to_reclaim=1, **scan_control) == pages


def test_when_the_host_has_hardly_any_cache_left_it_swaps() -> None:
    memory = with_file(free_pages=5000, watermarks=Watermarks(10, 20, 20))
    memory.machine.reclaim[0]["root"] = 1
    assert not prepare(memory, 6)["file_is_tiny"]
    memory.machine.node["free_pages"] = 0
    memory.machine.node["high_pages"] = FILE_PAGES
    assert prepare(memory, 6)["file_is_tiny"]
    assert scanned(memory, 6, file_is_tiny=1) == (1024 >> 6, 0)
    memory.machine.reclaim[0]["root"] = 0  # a memcg's own reclaim doesn't ask
    assert not prepare(memory, 6)["file_is_tiny"]


def test_a_file_page_read_twice_is_active_and_one_read_once_goes() -> None:
    memory = with_file()
    for _ in range(2):
        memory.access_file(0, np.arange(100, dtype=np.uint32))
    memory.drain()
    assert memory.machine.classic[0]["size"][FILE].tolist() == [412, 100]
    memory.flush_stats()
    memory.memory_reclaim(0, 64)
    cached = memory.machine.pages["flags"][memory.pages(0).stop :][:FILE_PAGES] & IN_PAGE_CACHE != 0
    assert cached[:100].all()
    assert not cached[100:132].any()


def test_a_dirty_page_of_a_file_waits_on_the_active_list_and_goes_once_it_is_written() -> None:
    memory = with_file()
    memory.access_file(0, np.arange(FILE_PAGES, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    memory.machine.pages["state"] &= ~np.uint8(REFERENCED)
    shrink_lruvec(memory.machine, 0, prepare(memory, 4, 32))  # cache_trim_mode: 32 pages of the file
    assert memory.flusher_woken
    assert memory.machine.classic[0]["size"][FILE].tolist() == [480, 32]
    memory.flush()
    memory.complete_io()
    assert memory.events(0)["pgrotated"] == 32
    assert memory.machine.classic[0]["size"][FILE].tolist() == [512, 0]
    shrink_lruvec(memory.machine, 0, prepare(memory, 4, 32))
    assert memory.events(0)["pgsteal_file"] == 32


def test_a_page_written_asynchronously_goes_when_reclaim_meets_it_again() -> None:
    memory = with_file(async_swap=True, swappiness=201)
    shrink_lruvec(memory.machine, 0, prepare(memory, 0, 32))
    events = memory.events(0)
    assert (events["pswpout"], events["pgsteal"]) == (PAGES, 0)
    memory.complete_io()
    shrink_lruvec(memory.machine, 0, prepare(memory, 5, 32))
    assert (events["pswpout"], events["pgsteal"]) == (PAGES, 32)


@pytest.mark.parametrize(("active", "ages"), [(600, True), (400, False)])
def test_kswapd_shortens_a_long_active_list_before_each_pass(active: int, ages: bool) -> None:
    memory = process(kvm=True)  # KVM's marks made all pages active
    memory.machine.classic[PARENT]["flushed_size"][ANON] = PAGES - active, active
    age_active_anon(memory.machine)
    assert memory.events(0)["pgdeactivate"] == (32 if ages else 0)


@pytest.mark.parametrize("timed", [False, True])
def test_kswapd_keeps_a_host_above_its_watermarks(timed: bool) -> None:
    """Half of the memory is left for the guests, and nobody is killed for it."""
    features = replace(KERNELS["6.12"], lru_gen=False)
    memory = HostMemory(
        [Memslot(PAGES, kvm=kvm, file_pages=FILE_PAGES) for kvm in (False, True)],
        features,
        get_policy(features.policy),
        free_pages=PAGES + FILE_PAGES,
        watermarks=Watermarks(low=40, high=60, goal=60, min=20),
    )
    if timed:
        memory.let_kswapd_take_time()
    for _ in range(3):
        for guest in range(2):
            for part in range(0, PAGES, 64):
                memory.touch(guest, np.arange(part, part + 64, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
                if timed and memory.kswapd_woken:
                    list(iter(memory.balance_part, NOBODY))
            memory.access_file(guest, np.arange(FILE_PAGES, dtype=np.uint32))
            memory.complete_io()
            check_memory(memory)
    assert [memory.oom_reason(guest) for guest in range(2)] == ["", ""]
    assert sum(memory.events(guest)["kswapd_runs"] for guest in range(2)) > 0
    assert all(memory.events(guest)["pgsteal"] > 0 for guest in range(2))
    assert memory.machine.node[0]["free_pages"] >= (20 if timed else 40)


@pytest.mark.parametrize("ages", [{"mode": "debugfs"}, {"mode": "age"}, {"aging_every_ticks": 3}])
def test_nobody_ages_generations_that_are_not_there(ages: dict[str, Any]) -> None:
    """An aging took the active and the inactive list for generations, and could go round in them for ever."""
    spec = HostSpec("6.12", (GuestSpec("g", PAGES),), ticks=6, lru_gen=False, **ages)
    with pytest.raises(UserError, match="the classic LRU has no generations to age"):
        simulate_host(spec, get_policy("locked-6.12"), seed=1, replicate=0, host=0)
