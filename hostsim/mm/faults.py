"""Accesses and the faults that they cause: primary MMU, TDP MMU, shadow MMU."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import boolean, int64

from coldfleet.hostsim.engine.far_calls import apart
from coldfleet.hostsim.engine.jit import compiled, inlined, not_negative, page_row, prefetch, spliced
from coldfleet.hostsim.engine.state import (
    ACCESS_L2,
    ACCESS_PAGE,
    ACCESS_WRITE,
    BUSY,
    DIRTY,
    PG_DIRTY,
    PG_WRITEBACK,
    PMD_POPULATED,
    PMD_YOUNG,
    PRESENT,
    PRIMARY,
    PTRS_PER_PTE,
    REFERENCED,
    SHADOW,
    SHADOW_MAPPED,
    SHADOW_UPPER_LEVELS,
    SMALL_SPTES,
    SPLIT_SPTES,
    SWAPCACHE,
    TDP,
    TDP_MAPPED,
    TOUCHED,
    UPPER_LEVELS,
    WORDS_PER_TABLE,
    WRITABLE,
    Machine,
    Record,
)
from coldfleet.hostsim.kvm.age_gfn import ALL
from coldfleet.hostsim.kvm.mmu_notifier import is_mapped
from coldfleet.hostsim.mm import classic
from coldfleet.hostsim.mm.huge_memory import add_huge, alloc_for_huge
from coldfleet.hostsim.mm.huge_pmd import folio_of, is_huge, splits
from coldfleet.hostsim.mm.lru import run_ahead
from coldfleet.hostsim.mm.memcontrol import handle_over_high
from coldfleet.hostsim.mm.oom_kill import exit_mmap
from coldfleet.hostsim.mm.page_alloc import alloc_page
from coldfleet.hostsim.mm.refs import marked_accessed
from coldfleet.hostsim.mm.swap_slots import give_back_swapped, give_slot, swap_is_full
from coldfleet.hostsim.mm.swap_state import add_anon, meet_in_swap_cache, read_around
from coldfleet.hostsim.mm.workingset import NEVER

KVM_CACHE_REFILL = 36  # page tables: KVM_ARCH_NR_OBJS_PER_MEMORY_CACHE less those that a fault may need
TDP_UPPER_TABLES = 5  # that a small guest's TDP MMU has beside those of its memory
ACCESSES_AHEAD = 16  # whose pages are brought into the CPU's cache: as many take longer than memory does
PTE_PREFETCH_NUM = 8  # pages: arch/x86/kvm/mmu/mmu.c


@inlined
def _refill_of_cache(mm: Record) -> int:
    """KVM takes a page table from its cache: the pages that are charged when that is filled anew, because only the few
    are left that a fault may need (mmu_topup_memory_caches)."""
    mm.tdp_tables += 1
    return mm.late_pages if (mm.tdp_tables + TDP_UPPER_TABLES) % KVM_CACHE_REFILL == 0 else 0


@compiled
def make_table(m: Machine, g: int, table: int) -> None:
    """A PTE table for 2 MiB, charged to the memcg as its pages are; its PMD is born young.

    The first one of an mm needs the tables above it, and all that KVM allocates for a first fault, too.
    """
    mm = m.mms[g]
    m.pmds[table] = PMD_YOUNG | PMD_POPULATED
    mm.tables += 1
    pages = 1
    if mm.tables == 1:
        pages += UPPER_LEVELS + mm.first_fault_pages
    if mm.file_upper_pages and table * PTRS_PER_PTE >= mm.file_first:
        pages += mm.file_upper_pages
        mm.file_upper_pages = 0
    if not mm.huge_pages and table * PTRS_PER_PTE < mm.own_first:
        pages += _refill_of_cache(mm)
    for _ in range(pages):
        mm.kernel_pages += alloc_page(m, g)


@spliced
def fault_in(m: Machine, g: int, page: int, write: bool) -> None:
    """handle_mm_fault: charges the page, reads it from swap if it was there, maps it young.

    A page that is still in the swap cache, or was read ahead, is only mapped. A guest that is killed for a page does
    not get it.
    """
    events = m.events[g]
    events.pgfault += 1
    m.mms[g].refaulted = 0
    run_ahead(m, g)
    if not m.pmds[np.uint64(page) // np.uint64(PTRS_PER_PTE)]:
        huge = len(m.huge) != 0 and alloc_for_huge(m, g, page // PTRS_PER_PTE)
        make_table(m, g, page // PTRS_PER_PTE)
        if huge:
            add_huge(m, g, page)
            return
    row = page_row(m, page)
    swapped = row.shadow != NEVER or row.flags & SWAPCACHE
    if row.flags & SWAPCACHE:
        if m.node[0].page_cluster:
            meet_in_swap_cache(m, g, page)
    else:
        drains = False
        if swapped and m.node[0].page_cluster:
            drains = read_around(m, g, page)
            if m.mms[g].oom_reason:
                return
        if not alloc_page(m, g):
            return
        row.flags = 0
        if swapped:
            events.pgmajfault += 1
            events.refaults += 1
            m.mms[g].refaulted = 1
            events.pswpin += 1
            if not m.node[0].async_swap:
                give_back_swapped(m, g, page)
        add_anon(m, g, page, swapped, write, drains)
        if drains:
            classic.lru_add_drain(m, m.mms[g].cpu)
    if row.flags & (SWAPCACHE | BUSY | PG_WRITEBACK) == SWAPCACHE and (write or swap_is_full(m)):
        row.flags &= ~(SWAPCACHE | PG_DIRTY)  # folio_free_swap: the copy will be out of date, nobody shares it
        give_slot(m, page)
    if write or not swapped or m.features[0].read_swapin_writable:
        row.flags |= WRITABLE
    bit = np.uint64(1) << np.uint64(page & 63)
    word = np.uint64(page >> 6)
    m.bits[word, PRESENT] |= bit
    m.bits[word, PRIMARY] |= bit
    events.resident_pages += 1


@inlined
def mark_accessed(m: Machine, g: int, page: int) -> None:
    """folio_mark_accessed, as the LRU in use understands it."""
    f = m.features[0]
    if f.lru_gen:
        page_row(m, page).state = marked_accessed(f, page_row(m, page).state)
    else:
        classic.mark_page_accessed(m, g, page)


@inlined
def _mark_by_fast_gup(m: Machine, g: int, page: int) -> None:
    """KVM takes a page that is mapped and writable: get_user_pages_fast sets referenced, KVM's release marks."""
    page_row(m, page).state |= REFERENCED
    mark_accessed(m, g, page)


@inlined
def map_shadow(m: Machine, g: int, page: int) -> None:
    """A shadow-MMU violation: one rmap entry, and the page tables above it if they are new."""
    mm = m.mms[g]
    table = page // PTRS_PER_PTE
    if not mm.indirect_shadow_pages:
        mm.had_rmaps = 1
        mm.indirect_shadow_pages = SHADOW_UPPER_LEVELS
    if not m.shadow_tables[table]:
        m.shadow_tables[table] = 1
        mm.indirect_shadow_pages += 1
    m.events[g].shadow_faults += 1


@inlined
def _mark_by_gup(m: Machine, g: int, page: int) -> None:
    """KVM takes a page by the slow path: GUP and KVM's release mark it once each."""
    mark_accessed(m, g, page)
    mark_accessed(m, g, page)


@compiled
def _prefetch_shadow(m: Machine, g: int, page: int) -> None:
    """FNAME(pte_prefetch): maps the resident pages of the aligned block of 8 around a shadow fault, upwards.

    The SPTEs are born old. It stops at the first page that is not resident, or not writable.
    """
    mm = m.mms[g]
    start = page & ~(PTE_PREFETCH_NUM - 1)
    for neighbour in range(start, min(start + PTE_PREFETCH_NUM, mm.first + mm.pages)):
        word = neighbour >> 6
        bit = np.uint64(1) << np.uint64(neighbour & 63)
        if m.bits[word, SHADOW_MAPPED] & bit:
            continue
        folio = folio_of(m, neighbour)
        if not (m.bits[word, PRESENT] & bit and page_row(m, folio).flags & WRITABLE):
            break
        m.bits[word, SHADOW_MAPPED] |= bit
        _mark_by_fast_gup(m, g, folio)


@compiled
def _make_tdp_table(m: Machine, g: int, table: int) -> None:
    """KVM's page table for 2 MiB of a guest with huge pages: made when the first of its small pages is mapped."""
    mm = m.mms[g]
    m.huge[table] |= SMALL_SPTES
    for _ in range(_refill_of_cache(mm)):
        mm.kernel_pages += alloc_page(m, g)


@apart(int64, int64, boolean, boolean, boolean, needed=lambda m: len(m.huge) != 0)
def _map_huge(m: Machine, g: int, page: int, new: bool, again: bool, shadow: bool) -> None:
    """The rest of a KVM fault on a page of a huge page, which the slow GUP does not mark if it is new.

    The TDP MMU gets one SPTE of 2 MiB, instead of the table that it may have had, unless KVM has to map small pages
    there. The shadow MMU gets one if the page tables that it shadows map 2 MiB at a time, too, or else small ones, as
    for small pages.
    """
    mm = m.mms[g]
    table = page // PTRS_PER_PTE
    head = table * PTRS_PER_PTE
    if new and (not again or m.features[0].stale_fault_marks):
        mark_accessed(m, g, head)
    if again:
        _mark_by_fast_gup(m, g, head)
    words = slice(table * WORDS_PER_TABLE, (table + 1) * WORDS_PER_TABLE)
    bit = np.uint64(1) << np.uint64(page & 63)
    if not shadow:
        m.events[g].tdp_faults += 1
        if m.huge[table] & SPLIT_SPTES:
            m.bits[page >> 6, TDP_MAPPED] |= bit
            if not m.huge[table] & SMALL_SPTES:
                _make_tdp_table(m, g, table)
            return
        m.bits[words, TDP_MAPPED] = ALL
        m.huge[table] &= ~SMALL_SPTES
        return
    had_table = m.shadow_tables[table]
    m.bits[page >> 6, SHADOW_MAPPED] |= bit
    map_shadow(m, g, page)
    if splits(m, g, table):
        _prefetch_shadow(m, g, page)
        return
    m.bits[words, SHADOW_MAPPED] = ALL
    m.shadow_tables[table] = had_table
    mm.indirect_shadow_pages -= not had_table


@spliced
def kvm_fault(m: Machine, g: int, page: int, shadow: bool, write: bool) -> None:
    """An EPT/NPT violation: faults the page in by GUP if need be, maps it, and marks it accessed.

    KVM tries the fast GUP first, for writing. A fault that had to reclaim the guest's own pages is repeated.
    """
    word = page >> 6
    bit = np.uint64(1) << np.uint64(page & 63)
    again = True
    if not m.bits[word, PRESENT] & bit:
        unmapped = m.mms[g].unmapped
        fault_in(m, g, page, write)
        if m.mms[g].oom_reason:
            return
        # the notifier sequence may have moved on meanwhile: then KVM tries again
        again = m.mms[g].unmapped != unmapped
        if is_huge(m, page):
            _map_huge(m, g, page, True, again, shadow)
            return
        _mark_by_gup(m, g, page)
        again = again and m.features[0].stale_fault_marks != 0
    elif is_huge(m, page):
        _map_huge(m, g, page, False, True, shadow)
        return
    if again:
        if page_row(m, page).flags & WRITABLE:
            _mark_by_fast_gup(m, g, page)
        else:
            _mark_by_gup(m, g, page)
    if write:
        page_row(m, page).flags |= WRITABLE
    if shadow:
        m.bits[word, SHADOW_MAPPED] |= bit
        map_shadow(m, g, page)
        _prefetch_shadow(m, g, page)
    else:
        m.bits[word, TDP_MAPPED] |= bit
        m.events[g].tdp_faults += 1
        if len(m.huge) and not m.huge[page // PTRS_PER_PTE] & SMALL_SPTES:
            _make_tdp_table(m, g, page // PTRS_PER_PTE)


@compiled
def fault_in_vm(m: Machine, g: int, page: int, shadow: bool, write: bool) -> None:
    """:func:`kvm_fault` for callers that are not in a hurry."""
    kvm_fault(m, g, page, shadow, write)


@compiled
def fault_in_process(m: Machine, g: int, page: int, write: bool) -> None:
    """:func:`fault_in` for callers that are not in a hurry."""
    fault_in(m, g, page, write)


@compiled
def return_to_vm(m: Machine, g: int, page: int, shadow: bool, write: bool) -> None:
    """After a fault with which the guest went above memory.high. If what it faulted for was reclaimed with the
    rest, it faults again, which is the same access waiting; what that charges it answers for the next time."""
    refaulted = m.mms[g].refaulted
    handle_over_high(m, g)
    mapped = m.bits[page >> 6, SHADOW_MAPPED if shadow else TDP_MAPPED] >> np.uint64(page & 63) & np.uint64(1)
    if not mapped and not m.mms[g].oom_reason:
        fault_in_vm(m, g, page, shadow, write)
        m.events[g].refaults -= refaulted & m.mms[g].refaulted


@compiled
def return_to_process(m: Machine, g: int, page: int, write: bool) -> None:
    """The same for a process."""
    refaulted = m.mms[g].refaulted
    handle_over_high(m, g)
    if not is_mapped(m, page) and not m.mms[g].oom_reason:
        fault_in_process(m, g, page, write)
        m.events[g].refaults -= refaulted & m.mms[g].refaulted


@compiled
def drop_shadow_mmu(m: Machine, g: int) -> None:
    """L1 stops its nested VM: every shadow page is zapped, the rmaps are empty; had_rmaps stays."""
    mm = m.mms[g]
    first = mm.first // PTRS_PER_PTE
    tables = (mm.pages + PTRS_PER_PTE - 1) // PTRS_PER_PTE
    m.shadow_tables[first : first + tables] = 0
    first = mm.first >> 6
    words = (mm.pages + 63) // 64
    m.bits[first : first + words, SHADOW] = 0
    m.bits[first : first + words, SHADOW_MAPPED] = 0
    mm.indirect_shadow_pages = 0


@compiled
def touch_own_pages(m: Machine, g: int, begin: int, end: int) -> None:
    """The process (VMM) writes to its own pages beside the memslot, once each, by the primary MMU.

    Of these, the ones from ``begin`` to before ``end``; none if it was killed before.
    """
    mm = m.mms[g]
    if mm.exited:
        return
    for own in range(begin, end):
        page = mm.own_first + own if own < mm.buffer_pages else mm.stack_first + own - mm.buffer_pages
        bit = np.uint64(1) << np.uint64(page & 63)
        if not m.bits[page >> 6, PRESENT] & bit:
            fault_in(m, g, page, True)
            if mm.over_high:
                return_to_process(m, g, page, True)
            if mm.oom_reason:
                exit_mmap(m, g)
                return
        m.pmds[page // PTRS_PER_PTE] = PMD_YOUNG | PMD_POPULATED
        m.bits[page >> 6, PRIMARY] |= bit
        m.bits[page >> 6, TOUCHED] |= bit
        m.bits[page >> 6, DIRTY] |= bit
    m.events[g].accesses += end - begin


@inlined
def _has_been_written(m: Machine, word: np.uint64, access: np.uint32) -> np.uint64:
    """The dirty pages of a word, or all for an access that doesn't write.

    Which accesses write is random, and that one makes a page dirty is rare: so the CPU isn't to guess the former.
    """
    writes = np.uint64(access) // np.uint64(ACCESS_WRITE) & np.uint64(1)
    return m.bits[word, DIRTY] | writes - np.uint64(1)


@inlined
def _bring_in(m: Machine, first: int, accesses: npt.NDArray[np.uint32], i: int) -> None:
    """Has the CPU bring the row and the words of the page that will be accessed soon into its cache.

    Which pages those are is known before, and their faults would wait for memory one after the other.
    """
    page = first + np.int64(accesses[min(i + ACCESSES_AHEAD, len(accesses) - 1)] & ACCESS_PAGE)
    prefetch(m.pages, page)
    prefetch(m.bits[np.uint64(page) >> np.uint64(6)], 0)


@compiled
def touch_process(m: Machine, g: int, accesses: npt.NDArray[np.uint32]) -> int:
    """A process' accesses in order; returns how many it has made, all unless it was killed."""
    not_negative(g)
    first = m.mms[g].first
    made = len(accesses)
    for i in range(len(accesses)):
        _bring_in(m, first, accesses, i)
        access = accesses[i]
        page = first + np.int64(access & ACCESS_PAGE)
        word = np.uint64(page) >> np.uint64(6)
        bit = np.uint64(1) << np.uint64(page & 63)
        known = m.bits[word, PRIMARY] & m.bits[word, TOUCHED]
        if not known & _has_been_written(m, word, access) & bit:
            if not known & bit:
                if not m.bits[word, PRESENT] & bit:
                    fault_in(m, g, page, access & ACCESS_WRITE != 0)
                    if m.mms[g].over_high:
                        return_to_process(m, g, page, access & ACCESS_WRITE != 0)
                    if m.mms[g].oom_reason:
                        made = i
                        break
                m.bits[word, PRIMARY] |= bit
                m.bits[word, TOUCHED] |= bit
            if access & ACCESS_WRITE:
                m.bits[word, DIRTY] |= bit
        m.pmds[np.uint64(page) >> np.uint64(9)] = PMD_YOUNG | PMD_POPULATED
    m.events[g].accesses += made
    return made


@compiled
def touch_guest(m: Machine, g: int, accesses: npt.NDArray[np.uint32]) -> int:
    """The same by a VM's vCPUs: L1 through the TDP MMU if there is one, L2 through the shadow MMU."""
    not_negative(g)
    first = m.mms[g].first
    without_tdp = m.mms[g].tdp == 0
    level2_count = 0
    made = len(accesses)
    for i in range(len(accesses)):
        _bring_in(m, first, accesses, i)
        access = accesses[i]
        page = first + np.int64(access & ACCESS_PAGE)
        word = np.uint64(page) >> np.uint64(6)
        bit = np.uint64(1) << np.uint64(page & 63)
        level2_count += access >> 31
        shadow = without_tdp or access & ACCESS_L2 != 0
        accessed = SHADOW if shadow else TDP
        known = m.bits[word, accessed] & m.bits[word, TOUCHED]
        if not known & _has_been_written(m, word, access) & bit:
            if not known & bit:
                if not m.bits[word, SHADOW_MAPPED if shadow else TDP_MAPPED] & bit:
                    kvm_fault(m, g, page, shadow, access & ACCESS_WRITE != 0)
                    if m.mms[g].over_high:
                        return_to_vm(m, g, page, shadow, access & ACCESS_WRITE != 0)
                    if m.mms[g].oom_reason:
                        level2_count -= access >> 31
                        made = i
                        break
                    m.events[g].nested_faults += access >> 31
                m.bits[word, accessed] |= bit
                m.bits[word, TOUCHED] |= bit
            if access & ACCESS_WRITE:
                m.bits[word, DIRTY] |= bit
    m.events[g].l2_accesses += level2_count
    m.events[g].accesses += made
    return made
