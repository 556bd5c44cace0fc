"""File pages, asynchronous swap and min_ttl_ms by the written rules, one rule a test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import (
    ACCESS_MMAP,
    ACCESS_WRITE,
    ANON,
    FILE,
    PG_DIRTY,
    PG_RECLAIM,
    PG_WRITEBACK,
    REFERENCED,
    REFS_MASK,
    SWAPCACHE,
    WORKINGSET,
)
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.policies import get_policy

A_AND_B = ("6.1", "6.12")
C = ("6.16", "6.18")
CLASSES = (*A_AND_B, *C)
READ, WRITE, MMAP = 0, ACCESS_WRITE, ACCESS_MMAP


def process(
    kernel: str, file_pages: int, anon_pages: int = 64, *, async_swap: bool = False, min_ttl_ms: int = 0
) -> HostMemory:
    slot = Memslot(anon_pages, kvm=False, file_pages=file_pages)
    policy = get_policy(KERNELS[kernel].policy)
    return HostMemory([slot], KERNELS[kernel], policy, async_swap=async_swap, min_ttl_ms=min_ttl_ms)


def access(memory: HostMemory, first: int, end: int, how: int) -> None:
    memory.switch_to(0)
    memory.access_file(0, np.arange(first, end, dtype=np.uint32) | np.uint32(how))


def write_anon(memory: HostMemory, first: int, end: int) -> None:
    memory.touch(0, np.arange(first, end, dtype=np.uint32) | np.uint32(ACCESS_WRITE))


def read_anon(memory: HostMemory, first: int, end: int) -> None:
    memory.touch(0, np.arange(first, end, dtype=np.uint32))


def sequences(memory: HostMemory, kind: int = FILE) -> tuple[int, int]:
    lruvec = memory.lruvec(0)
    return int(lruvec["max_seq"]), int(lruvec["min_seq"][kind])


def counts(memory: HostMemory, kind: int = FILE) -> dict[int, int]:
    """Pages of a type by seq, where there are any."""
    max_seq, min_seq = sequences(memory, kind)
    by_gen = memory.lruvec(0)["nr_pages"][:, kind]
    return {seq: int(by_gen[seq % 4]) for seq in range(min_seq, max_seq + 1) if by_gen[seq % 4]}


def row(memory: HostMemory, page: int, kind: int = FILE) -> tuple[int, int]:
    """(state without generation, flags) of a page."""
    first = int(memory.machine.mms[0]["file_first" if kind == FILE else "first"])
    found = memory.machine.pages[first + page]
    return int(found["state"]) & ~7, int(found["flags"])


def events(memory: HostMemory, *names: str) -> tuple[int, ...]:
    return tuple(int(memory.events(0)[name]) for name in names)


@pytest.mark.parametrize(("kernel", "by_call", "by_mapping"), [("6.1", 1, 3), ("6.12", 1, 3), ("6.16", 0, 2)])
def test_a_read_page_is_born_old_and_a_mapped_one_young(kernel: str, by_call: int, by_mapping: int) -> None:
    memory = process(kernel, 2)
    access(memory, 0, 1, READ)
    assert counts(memory) == {by_call: 1}
    access(memory, 1, 2, MMAP)
    assert counts(memory) == {by_call: 1, by_mapping: 1}
    assert events(memory, "file_reads", "pgmajfault", "cached_pages") == (2, 1, 2)


@pytest.mark.parametrize("kernel", A_AND_B)
def test_each_read_is_a_reference_referenced_then_workingset_then_counted(kernel: str) -> None:
    memory = process(kernel, 2)
    seen = []
    for _ in range(6):
        access(memory, 0, 1, READ)
        seen.append(row(memory, 0)[0])
        access(memory, 0, 1, READ)  # where the last read of the file ended: it leaves no trace
        assert row(memory, 0)[0] == seen[-1]
        access(memory, 1, 2, READ)
    full = REFERENCED | WORKINGSET
    assert seen == [REFERENCED, full, full | 1 << 6, full | 2 << 6, full | 3 << 6, full | 3 << 6]


@pytest.mark.parametrize("kernel", CLASSES)
def test_a_write_leaves_no_trace_of_use(kernel: str) -> None:
    memory = process(kernel, 2)
    for _ in range(3):
        access(memory, 0, 2, WRITE)
    assert [row(memory, page)[0] for page in range(2)] == [0, 0]


@pytest.mark.parametrize(("kernel", "marked"), [("6.18", False), ("7.3", True)])
def test_a_read_page_joins_the_lists_marked_unless_it_fills_its_batch(kernel: str, marked: bool) -> None:
    """7.3: what was marked accessed while it waited in the batch starts above the oldest generation."""
    memory = process(kernel, 62)
    access(memory, 0, 62, READ)
    oldest = 1 if kernel == "6.12" else 0
    assert counts(memory) == ({0: 2, 1: 60} if marked else {oldest: 62})


def test_the_classic_lru_knows_no_birth_in_a_generation() -> None:
    kernel = replace(KERNELS["7.3"], lru_gen=False)
    memory = HostMemory([Memslot(64, kvm=False, file_pages=4)], kernel, get_policy(kernel.policy))
    memory.machine.cpus["added"] = 1  # by somebody else: as the recorder does
    access(memory, 0, 4, READ)
    assert not memory.lruvec(0)["nr_pages"].any()


@pytest.mark.parametrize("kernel", CLASSES)
def test_the_tree_of_a_file_is_kernel_memory(kernel: str) -> None:
    memory = process(kernel, 64 * 8)
    before = int(memory.machine.mms[0]["kernel_pages"])
    access(memory, 0, 64 * 6, READ)
    assert int(memory.machine.mms[0]["kernel_pages"]) == before + 1  # six nodes of 592 bytes
    access(memory, 64 * 6, 64 * 8, READ)
    access(memory, 0, 64 * 8, READ)
    assert int(memory.machine.mms[0]["kernel_pages"]) == before + 2


@pytest.mark.parametrize(("left", "nodes"), [(591, 0), (592, 1), (2047, 3)])
def test_the_first_nodes_come_from_what_small_objects_have_left_of_a_page(left: int, nodes: int) -> None:
    slot = Memslot(64, kvm=False, file_pages=64 * 8, node_bytes=left)
    memory = HostMemory([slot], KERNELS["6.12"], get_policy("locked-6.12"))
    before = int(memory.machine.mms[0]["kernel_pages"])
    access(memory, 0, 64 * nodes, READ)
    assert int(memory.machine.mms[0]["kernel_pages"]) == before
    access(memory, 64 * nodes, 64 * nodes + 1, READ)
    assert int(memory.machine.mms[0]["kernel_pages"]) == before + 1


def test_a_mapping_that_lies_apart_needs_tables_above_its_own_when_it_is_first_touched() -> None:
    slot = Memslot(64, kvm=False, file_pages=1024, file_upper_pages=2)
    memory = HostMemory([slot], KERNELS["6.12"], get_policy("locked-6.12"))
    write_anon(memory, 0, 64)
    access(memory, 0, 1024, READ)  # all nodes are there, and no page is mapped
    before = int(memory.machine.mms[0]["kernel_pages"])
    charged = []
    for page in (0, 1, 512):
        access(memory, page, page + 1, MMAP)
        charged.append(int(memory.machine.mms[0]["kernel_pages"]) - before)
    assert charged == [3, 3, 4]


@pytest.mark.parametrize("kernel", C)
def test_each_read_is_a_reference_workingset_comes_last_in_class_c(kernel: str) -> None:
    memory = process(kernel, 2)
    seen = []
    for _ in range(5):
        access(memory, 0, 1, READ)
        seen.append(row(memory, 0)[0])
        access(memory, 0, 1, READ)  # where the last read of the file ended: it leaves no trace
        assert row(memory, 0)[0] == seen[-1]
        access(memory, 1, 2, READ)
    counted = [REFERENCED | refs << 6 for refs in range(4)]
    assert seen == [*counted, counted[-1] | WORKINGSET]


@pytest.mark.parametrize("kernel", CLASSES)
def test_a_page_with_all_references_is_protected(kernel: str) -> None:
    memory = process(kernel, 8)
    access(memory, 0, 8, READ)
    for _ in range(5):
        access(memory, 3, 5, READ)
    (born,) = counts(memory)
    memory.evict(0, born, 0, 8)
    assert row(memory, 3)[0] & REFS_MASK == 0  # it went on without them
    assert events(memory, "cached_pages", "pgsteal_file") == (2, 6)


@pytest.mark.parametrize("kernel", CLASSES)
def test_a_read_fault_maps_its_cached_neighbours_young(kernel: str) -> None:
    memory = process(kernel, 40)
    access(memory, 0, 40, READ)
    access(memory, 17, 18, MMAP)
    assert int(memory.machine.mms[0]["file_mapped"]) == 16  # pages 16 to 31
    assert events(memory, "pgfault", "pgmajfault") == (1, 0)
    access(memory, 35, 36, MMAP | WRITE)
    assert int(memory.machine.mms[0]["file_mapped"]) == 17  # a write fault maps one page


@pytest.mark.parametrize("kernel", CLASSES)
def test_the_first_write_after_the_flusher_faults_again(kernel: str) -> None:
    memory = process(kernel, 1)
    for faults in (1, 1):
        access(memory, 0, 1, MMAP | WRITE)
        assert events(memory, "pgfault") == (faults,)
    memory.flush()
    assert row(memory, 0)[1] & (PG_DIRTY | PG_WRITEBACK) == PG_WRITEBACK
    access(memory, 0, 1, MMAP | WRITE)
    assert events(memory, "pgfault", "file_writes") == (2, 1)
    memory.complete_io()
    assert row(memory, 0)[1] & (PG_DIRTY | PG_WRITEBACK) == PG_DIRTY


def oldest_dirty(kernel: str, pages: int) -> HostMemory:
    """Dirty file pages, written by write(2), all in an oldest generation that may be evicted."""
    memory = process(kernel, pages)
    access(memory, 0, pages, WRITE)
    memory.age(0)
    return memory


@pytest.mark.parametrize("kernel", ["6.1", *C])
def test_dirty_pages_are_sorted_away_where_sort_folio_waits_for_writes(kernel: str) -> None:
    memory = oldest_dirty(kernel, 10)
    memory.evict(0, sequences(memory)[0] - 2, 0, 10)
    assert events(memory, "pgscan_file", "pgsteal_file", "pgactivate") == (0, 0, 0)
    assert row(memory, 5)[1] & PG_RECLAIM


def test_dirty_pages_are_isolated_and_activated_in_class_b() -> None:
    memory = oldest_dirty("6.12", 10)
    memory.evict(0, sequences(memory)[0] - 2, 0, 10)
    assert events(memory, "pgscan_file", "pgsteal_file", "pgactivate") == (10, 0, 10)
    assert counts(memory) == {4: 10}  # the youngest generation
    assert row(memory, 5)[1] & PG_RECLAIM


@pytest.mark.parametrize("kernel", CLASSES)
def test_a_page_that_reclaim_waited_for_is_evicted_first_once_it_is_written(kernel: str) -> None:
    memory = oldest_dirty(kernel, 10)
    memory.evict(0, sequences(memory)[0] - 2, 0, 10)
    access(memory, 4, 5, WRITE)  # dirty once more: no hurry any longer
    memory.flush()
    memory.complete_io()
    assert events(memory, "pgrotated", "file_writes") == (9, 10)
    min_seq = sequences(memory)[1]
    assert memory.generation(0, min_seq, FILE)[:9] == [9, 8, 7, 6, 5, 3, 2, 1, 0]


@pytest.mark.parametrize(("kernel", "woken"), [("6.1", False), ("6.12", True), ("6.18", True), ("7.3", True)])
def test_reclaim_that_meets_dirty_file_pages_only_wakes_the_flusher(kernel: str, woken: bool) -> None:
    memory = process(kernel, 200)
    access(memory, 0, 200, WRITE)
    assert memory.memory_reclaim(0, 64) >= 64  # it has waited for the flusher
    assert memory.flusher_woken == woken
    assert events(memory, "file_writes") == (200,)


@pytest.mark.parametrize(("kernel", "woken"), [("6.18", False), ("7.3", True)])
def test_one_batch_of_dirty_file_pages_wakes_the_flusher_since_7_3(kernel: str, woken: bool) -> None:
    """Before, a whole visit has to have met nothing else, which the debugfs file does not ask."""
    memory = process(kernel, 512)
    access(memory, 0, 64, WRITE)
    access(memory, 64, 512, READ)
    memory.evict(0, sequences(memory)[0] - 2, 0, 64)
    assert memory.flusher_woken == woken


@pytest.mark.parametrize(("kernel", "moved"), [("6.12", 0), ("6.18", 64), ("7.3", 0)])
def test_7_3_does_not_pass_over_dirty_file_pages(kernel: str, moved: int) -> None:
    memory = process(kernel, 512)
    access(memory, 0, 64, WRITE)
    access(memory, 64, 512, READ)
    memory.memory_reclaim(0, 64)
    pgrefill, pgscan, pgactivate = events(memory, "pgrefill", "pgscan", "pgactivate")
    assert pgrefill == moved
    assert pgactivate == 64 - moved
    assert pgscan >= 128 - moved


@pytest.mark.parametrize(("swappiness", "stolen"), [(60, 30 + 60), (0, 63)])
def test_a_batch_that_isolated_nothing_looks_at_as_many_again_since_7_3(swappiness: int, stolen: int) -> None:
    """Of 512 pages in the oldest of four generations the first 64 were promoted. Priorities 9 to 5 look at 1 to 16
    pages, each twice, which makes 62. Priority 4 looks once, at 2 more of them and 30 others, and priority 3 at an
    eighth of the 482 that are left.

    If only one type may be evicted, a batch looks once: 63 pages at priorities 9 to 4, then one more and 63 others.
    """
    memory = process("7.3", 512)
    memory.lruvec(0)["swappiness"] = swappiness
    access(memory, 0, 512, MMAP)
    memory.age(0)
    memory.age(0)
    access(memory, 448, 512, MMAP)  # they are met first: agings have turned the list round
    memory.age(0)
    assert counts(memory) == {3: 448, 5: 64}
    assert memory.memory_reclaim(0, 63) == stolen
    assert events(memory, "pgrefill", "pgsteal_file") == (64, stolen)


@pytest.mark.parametrize(("kernel", "counted"), [("6.1", [1, 0, 0]), ("6.12", [1, 1, 0]), ("6.18", [1, 0, 0])])
def test_a_refault_by_read_restores_nothing_unless_it_was_in_the_working_set(kernel: str, counted: list[int]) -> None:
    memory = process(kernel, 8)
    access(memory, 0, 8, READ)
    memory.age(0)
    assert memory.evict(0, sequences(memory)[0] - 2, 0, 8) == 8
    access(memory, 2, 3, READ)
    names = [f"workingset_{what}_file" for what in ("refault", "activate", "restore")]
    assert list(events(memory, *names)) == counted
    assert memory.lruvec(0)["refaulted"][FILE].sum() == 1


@pytest.mark.parametrize(("how", "activated"), [(READ, 0), (MMAP, 1)])
@pytest.mark.parametrize("kernel", [*C, "7.3"])
def test_only_a_fault_activates_a_page_of_the_working_set_that_comes_back(
    kernel: str, how: int, activated: int
) -> None:
    memory = process(kernel, 8)
    access(memory, 0, 8, READ)
    memory.machine.pages["state"][int(memory.machine.mms[0]["file_first"]) + 2] |= WORKINGSET
    memory.age(0)
    assert memory.evict(0, sequences(memory)[0] - 2, 0, 8) == 8
    access(memory, 2, 3, how)
    names = [f"workingset_{what}_file" for what in ("refault", "activate", "restore")]
    assert events(memory, *names) == (1, activated, 1)


@pytest.mark.parametrize("kernel", CLASSES)
def test_a_page_that_is_overwritten_is_no_refault(kernel: str) -> None:
    memory = process(kernel, 8)
    access(memory, 0, 8, READ)
    memory.age(0)
    assert memory.evict(0, sequences(memory)[0] - 2, 0, 8) == 8
    access(memory, 2, 3, WRITE)
    assert events(memory, "workingset_refault_file", "file_reads") == (0, 8)


@pytest.mark.parametrize("how", [READ, MMAP])
def test_a_first_read_of_a_file_is_no_refault_and_a_read_after_its_eviction_is_one(how: int) -> None:
    memory = process("6.12", 8)
    access(memory, 0, 8, how)
    assert events(memory, "file_reads", "refaults") == (8, 0)
    memory.memory_reclaim(0, 64)
    kept = events(memory, "cached_pages")[0]
    assert kept < 8
    access(memory, 0, 8, how)
    assert events(memory, "file_reads", "refaults") == (16 - kept, 8 - kept)


def reclaim_both(kernel: str, swappiness: int) -> tuple[int, int]:
    """Anonymous and file pages reclaimed of 1,000 each, all cold and clean."""
    memory = process(kernel, 1000, 1000)
    memory.lruvec(0)["swappiness"] = swappiness
    write_anon(memory, 0, 1000)
    access(memory, 0, 1000, READ)
    for _ in range(3):
        memory.age(0)
    memory.memory_reclaim(0, 300)
    steal, steal_file = events(memory, "pgsteal", "pgsteal_file")
    return steal - steal_file, steal_file


@pytest.mark.parametrize("kernel", CLASSES)
def test_swappiness_0_spares_anonymous_memory(kernel: str) -> None:
    anon, file = reclaim_both(kernel, 0)
    assert anon == 0
    assert file >= 300


@pytest.mark.parametrize("kernel", CLASSES)
def test_without_refaults_file_pages_go_first(kernel: str) -> None:
    anon, file = reclaim_both(kernel, 60)
    assert anon < file


@pytest.mark.parametrize("kernel", CLASSES)
def test_swappiness_200_takes_anonymous_memory_first(kernel: str) -> None:
    anon, file = reclaim_both(kernel, 200)
    assert anon > file


@pytest.mark.parametrize("kernel", C)
def test_swappiness_201_spares_file_pages(kernel: str) -> None:
    anon, file = reclaim_both(kernel, 201)
    assert anon >= 300
    assert file == 0


@pytest.mark.parametrize(("kernel", "anon", "file"), [("6.1", 1, 1), ("6.12", 1, 1), ("6.16", 1, 0), ("6.18", 1, 0)])
def test_empty_generations_of_one_type_wait_for_the_other_before_class_c(kernel: str, anon: int, file: int) -> None:
    memory = process(kernel, 200)
    write_anon(memory, 0, 64)  # the youngest generations: the oldest are empty
    access(memory, 0, 200, READ)
    memory.evict(0, 1, 60, 1)
    assert (sequences(memory, ANON)[1], sequences(memory, FILE)[1]) == (anon, file)


def swapped_out(kernel: str) -> HostMemory:
    """64 anonymous pages on an asynchronous device: written, not yet freed."""
    memory = process(kernel, 0, async_swap=True)
    write_anon(memory, 0, 64)
    for _ in range(3):
        memory.age(0)
    assert memory.evict(0, sequences(memory, ANON)[0] - 2, 200, 64) == 0
    return memory


@pytest.mark.parametrize("kernel", CLASSES)
def test_asynchronous_swap_scans_a_page_twice_and_steals_it_once(kernel: str) -> None:
    memory = swapped_out(kernel)
    assert events(memory, "pgscan", "pgsteal", "pswpout", "pgrotated") == (64, 0, 64, 0)
    max_seq, min_seq = sequences(memory, ANON)
    assert counts(memory, ANON) == {max_seq - 1: 64}
    memory.complete_io()
    assert events(memory, "pgrotated") == (64,)
    assert counts(memory, ANON) == {min_seq: 64}
    memory.age(0)
    assert memory.evict(0, max_seq - 1, 200, 64) == 64
    assert events(memory, "pgscan", "pgsteal", "pswpout") == (128, 64, 64)


@pytest.mark.parametrize("kernel", CLASSES)
def test_a_page_under_writeback_comes_back_by_a_minor_fault(kernel: str) -> None:
    memory = swapped_out(kernel)
    read_anon(memory, 0, 1)
    assert events(memory, "pgfault", "pgmajfault", "pswpin") == (65, 0, 0)
    assert row(memory, 0, ANON)[1] & (SWAPCACHE | PG_WRITEBACK) == SWAPCACHE | PG_WRITEBACK


def all_gone(kernel: str) -> HostMemory:
    memory = swapped_out(kernel)
    memory.complete_io()
    memory.age(0)
    assert memory.evict(0, sequences(memory, ANON)[0] - 2, 200, 64) == 64
    return memory


@pytest.mark.parametrize("kernel", CLASSES)
def test_a_page_that_was_only_read_needs_no_second_write(kernel: str) -> None:
    memory = all_gone(kernel)
    read_anon(memory, 0, 64)
    assert row(memory, 0, ANON)[1] & (SWAPCACHE | PG_DIRTY) == SWAPCACHE
    for _ in range(3):
        memory.age(0)
    memory.evict(0, sequences(memory, ANON)[0] - 2, 200, 64)
    assert events(memory, "pswpin", "pswpout", "pgsteal") == (64, 64, 128)


@pytest.mark.parametrize("kernel", CLASSES)
def test_a_page_that_is_written_gives_up_its_slot(kernel: str) -> None:
    memory = all_gone(kernel)
    write_anon(memory, 0, 64)
    assert row(memory, 0, ANON)[1] & SWAPCACHE == 0
    for _ in range(3):
        memory.age(0)
    memory.evict(0, sequences(memory, ANON)[0] - 2, 200, 64)
    assert events(memory, "pswpin", "pswpout", "pgsteal") == (64, 128, 64)


@pytest.mark.parametrize("kernel", CLASSES)
def test_under_a_limit_a_task_waits_for_its_own_writes(kernel: str) -> None:
    slot = Memslot(2000, kvm=False, max_pages=1000)
    memory = HostMemory([slot], KERNELS[kernel], get_policy(KERNELS[kernel].policy), async_swap=True)
    write_anon(memory, 0, 2000)
    assert int(memory.machine.mms[0]["charged"]) <= 1000
    scanned, stolen, rotated = events(memory, "pgscan", "pgsteal", "pgrotated")
    assert stolen >= 1000
    assert rotated >= stolen
    assert scanned >= 2 * stolen


@pytest.mark.parametrize("kernel", CLASSES)
@pytest.mark.parametrize(("now", "killed"), [(0, True), (999, True), (1000, False)])
def test_min_ttl_calls_the_oom_killer_while_every_oldest_generation_is_young(
    kernel: str, now: int, killed: bool
) -> None:
    memory = process(kernel, 64, min_ttl_ms=1000)
    write_anon(memory, 0, 64)
    access(memory, 0, 64, READ)
    memory.machine.node[0]["now_ms"] = now
    assert memory.age_node(0) == killed
    assert memory.oom_reason(0) == ("min_ttl" if killed else "")


@pytest.mark.parametrize("kernel", CLASSES)
def test_min_ttl_counts_from_when_the_oldest_generation_was_opened(kernel: str) -> None:
    memory = process(kernel, 64, min_ttl_ms=1000)
    access(memory, 0, 64, MMAP)
    for now in (400, 800, 1200, 1600):  # opens generations 4 to 7
        memory.machine.node[0]["now_ms"] = now
        memory.age(0, swappiness=200)
    oldest = 400 * (sequences(memory)[1] - 3)
    for age, killed in ((999, True), (1000, False)):
        memory.machine.node[0]["now_ms"] = oldest + age
        assert memory.age_node(0) == killed


@pytest.mark.parametrize("kernel", CLASSES)
def test_a_lruvec_too_small_for_the_priority_is_no_help(kernel: str) -> None:
    memory = process(kernel, 64, min_ttl_ms=1)
    access(memory, 0, 64, READ)
    memory.machine.node[0]["now_ms"] = 1000
    assert not memory.age_node(6)
    assert memory.age_node(7)


@pytest.mark.parametrize(("kernel", "agings"), [("6.1", 1), ("6.12", 0), ("6.18", 0)])
@pytest.mark.parametrize("now", [0, 100_000])
def test_only_in_class_a_kswapd_ages_before_it_evicts_and_not_what_is_protected(
    kernel: str, agings: int, now: int
) -> None:
    memory = process(kernel, 0, 2000, min_ttl_ms=5000)
    write_anon(memory, 0, 640)
    for _ in range(2):
        memory.age(0)
    memory.evict(0, sequences(memory, ANON)[0] - 2, 200, 1)
    write_anon(memory, 640, 2000)  # more than half of the pages are young now, in three generations
    before = events(memory, "agings")[0]
    memory.machine.node[0]["now_ms"] = now
    memory.age_node(0)
    assert events(memory, "agings")[0] - before == (agings if now else 0)


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "6.18"])
def test_a_mapping_with_madv_random_has_no_recency_but_for_the_eviction_of_6_1(kernel: str) -> None:
    slot = Memslot(64, kvm=False, file_pages=64, file_random=True)
    memory = HostMemory([slot], KERNELS[kernel], get_policy(KERNELS[kernel].policy))
    for _ in range(3):
        access(memory, 0, 64, MMAP)
    memory.age(0)
    assert sequences(memory)[0] not in counts(memory)  # the walk promotes nothing
    memory.memory_reclaim(0, 32)
    scanned, stolen = events(memory, "pgscan_file", "pgsteal_file")
    assert stolen > 0
    assert (scanned > stolen) == (kernel == "6.1")
