"""Accesses and the faults that they cause: primary MMU, TDP MMU, shadow MMU."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hostsim.jit import compiled, inlined
from hostsim.lru import add_page
from hostsim.reclaim import charge
from hostsim.state import (
    ACCESS_L2,
    ACCESS_PAGE,
    ACCESS_WRITE,
    DIRTY,
    PRESENT,
    PRIMARY,
    PTRS_PER_PTE,
    REFERENCED,
    REFS_MASK,
    REFS_SHIFT,
    SHADOW,
    SHADOW_MAPPED,
    TDP,
    TDP_MAPPED,
    TOUCHED,
    WORKINGSET,
    Machine,
)
from hostsim.workingset import NEVER, refault

PTE_PREFETCH_NUM = 8  # pages: arch/x86/kvm/mmu/mmu.c
SHADOW_UPPER_LEVELS = 3  # levels of L1's nested page tables above the leaf tables (4-level paging)


@inlined
def mark_page_accessed(m: Machine, page: int) -> None:
    """folio_mark_accessed as KVM calls it: referenced, then workingset, then LRU_REFS up to 3."""
    state = m.pages[page].state
    if not state & REFERENCED:
        m.pages[page].state = state | REFERENCED
    elif not state & WORKINGSET:
        m.pages[page].state = state | WORKINGSET
    elif state >> REFS_SHIFT < 3:
        m.pages[page].state = (state & ~REFS_MASK) | ((state >> REFS_SHIFT) + 1) << REFS_SHIFT


@inlined
def fault_in(m: Machine, g: int, page: int) -> None:
    """handle_mm_fault: charges the page, reads it from swap if it was there, maps it young."""
    events = m.events[g]
    events.pgfault += 1
    charge(m, g)
    m.pages[page].state = 0
    if m.pages[page].shadow != NEVER:
        events.pgmajfault += 1
        refault(m, g, page)
    add_page(m, g, page)
    bit = np.uint64(1) << np.uint64(page & 63)
    m.bits[page >> 6, PRESENT] |= bit
    m.bits[page >> 6, PRIMARY] |= bit
    m.pmd_young[page // PTRS_PER_PTE] = 1
    events.resident_pages += 1


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
def mark_after_fast_gup(m: Machine, g: int, page: int) -> None:
    """The marks on a page that was present already: get_user_pages_fast sets referenced, KVM's release marks."""
    if m.mms[g].kvm_marks:
        m.pages[page].state |= REFERENCED
        mark_page_accessed(m, page)


@compiled
def prefetch_shadow(m: Machine, g: int, page: int) -> None:
    """FNAME(pte_prefetch): maps the resident pages behind a shadow fault, up to the end of its block of 8.

    The SPTEs are born old. It stops at the first page that is not resident.
    """
    mm = m.mms[g]
    end = min((page | (PTE_PREFETCH_NUM - 1)) + 1, mm.first + mm.pages)
    for neighbour in range(page & ~(PTE_PREFETCH_NUM - 1), end):
        word = neighbour >> 6
        bit = np.uint64(1) << np.uint64(neighbour & 63)
        if m.bits[word, SHADOW_MAPPED] & bit:
            continue
        if not m.bits[word, PRESENT] & bit:
            break
        m.bits[word, SHADOW_MAPPED] |= bit
        mark_after_fast_gup(m, g, neighbour)


@inlined
def kvm_fault(m: Machine, g: int, page: int, shadow: bool) -> None:
    """An EPT/NPT violation: faults the page in by GUP if it is not present, maps it, marks it accessed.

    Up to 6.12 a fault that GUP resolved the slow way marks the page twice (by GUP and by KVM's release).
    """
    word = page >> 6
    bit = np.uint64(1) << np.uint64(page & 63)
    if m.bits[word, PRESENT] & bit:
        mark_after_fast_gup(m, g, page)
    else:
        fault_in(m, g, page)
        for _ in range(m.mms[g].kvm_marks):
            mark_page_accessed(m, page)
    if shadow:
        m.bits[word, SHADOW_MAPPED] |= bit
        map_shadow(m, g, page)
        prefetch_shadow(m, g, page)
    else:
        m.bits[word, TDP_MAPPED] |= bit
        m.events[g].tdp_faults += 1


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
def touch_own_pages(m: Machine, g: int) -> None:
    """The process (VMM) touches each of its own pages beside the memslot, once, by the primary MMU."""
    mm = m.mms[g]
    for page in range(mm.own_first, mm.own_first + mm.own_pages):
        bit = np.uint64(1) << np.uint64(page & 63)
        if not m.bits[page >> 6, PRESENT] & bit:
            fault_in(m, g, page)
        m.bits[page >> 6, PRIMARY] |= bit
        m.bits[page >> 6, TOUCHED] |= bit


@inlined
def _touch_process(m: Machine, g: int, accesses: npt.NDArray[np.uint32]) -> None:
    first = m.mms[g].first
    for access in accesses:
        page = first + np.int64(access & ACCESS_PAGE)
        word = page >> 6
        bit = np.uint64(1) << np.uint64(page & 63)
        m.pmd_young[page // PTRS_PER_PTE] = 1
        if not m.bits[word, PRIMARY] & m.bits[word, TOUCHED] & bit:
            if not m.bits[word, PRESENT] & bit:
                fault_in(m, g, page)
            m.bits[word, PRIMARY] |= bit
            m.bits[word, TOUCHED] |= bit
        if access & ACCESS_WRITE:
            m.bits[word, DIRTY] |= bit


@inlined
def _touch_guest(m: Machine, g: int, accesses: npt.NDArray[np.uint32]) -> int:
    """The same by a VM's vCPUs: L1 through the TDP MMU if there is one, L2 through the shadow MMU."""
    first = m.mms[g].first
    without_tdp = m.mms[g].tdp == 0
    level2_count = 0
    for access in accesses:
        page = first + np.int64(access & ACCESS_PAGE)
        word = page >> 6
        bit = np.uint64(1) << np.uint64(page & 63)
        level2_count += access >> 31
        shadow = without_tdp or access & ACCESS_L2 != 0
        accessed = SHADOW if shadow else TDP
        if not m.bits[word, accessed] & m.bits[word, TOUCHED] & bit:
            if not m.bits[word, SHADOW_MAPPED if shadow else TDP_MAPPED] & bit:
                kvm_fault(m, g, page, shadow)
            m.bits[word, accessed] |= bit
            m.bits[word, TOUCHED] |= bit
        if access & ACCESS_WRITE:
            m.bits[word, DIRTY] |= bit
    return level2_count


@compiled
def touch_pages(m: Machine, g: int, accesses: npt.NDArray[np.uint32]) -> None:
    """The guest makes these accesses, in order: the loop that everything else hangs on.

    A page whose Accessed bit and TOUCHED are set is present and mapped, so that one test is enough for it.
    """
    if m.mms[g].notifiers:
        m.events[g].l2_accesses += _touch_guest(m, g, accesses)
    else:
        _touch_process(m, g, accesses)
    m.events[g].accesses += len(accesses)
