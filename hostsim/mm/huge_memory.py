"""Huge pages at the first touch of 2 MiB (mm/huge_memory.c do_huge_pmd_anonymous_page)."""

from __future__ import annotations

import numpy as np
from numba import int64

from coldfleet.hostsim.engine.far_calls import apart
from coldfleet.hostsim.engine.jit import compiled, page_row
from coldfleet.hostsim.engine.state import (
    ANON,
    HPAGE_PMD_ORDER,
    MAPS_HUGE,
    ORDER_SHIFT,
    PRESENT,
    PRIMARY,
    PTRS_PER_PTE,
    WORDS_PER_TABLE,
    WRITABLE,
    Machine,
)
from coldfleet.hostsim.kvm.age_gfn import ALL
from coldfleet.hostsim.mm.lru import add_page
from coldfleet.hostsim.mm.page_alloc import alloc_huge
from coldfleet.hostsim.mm.swap_state import birth_state


@apart(int64, int64, needed=lambda m: len(m.huge) != 0)
def alloc_for_huge(m: Machine, g: int, table: int) -> bool:
    """Whether a first touch of these 2 MiB gets a huge page, for which the guest is then charged.

    False where not all of them are memory that is to be huge, or there is no room: the fault gets a small page.
    """
    mm = m.mms[g]
    page = table * PTRS_PER_PTE
    if not mm.huge_pages or page < mm.first or page + PTRS_PER_PTE > mm.first + mm.pages:
        return False
    if alloc_huge(m, g, mm.huge_wakes != 0, mm.huge_reclaims != 0):
        return True
    m.events[g].thp_fault_fallback += 1
    return False


@apart(int64, int64, needed=lambda m: len(m.huge) != 0)
def add_huge(m: Machine, g: int, page: int) -> None:
    """The new huge page of a fault on a page of it. It enters the lists at once, unlike small ones; a guest that was
    killed for its page table does not get it."""
    if m.mms[g].oom_reason:
        m.node[0].free_pages += PTRS_PER_PTE
        return
    table = page // PTRS_PER_PTE
    page_row(m, table * PTRS_PER_PTE).state = birth_state(m.features[0], 0)
    map_huge(m, g, table)
    m.bits[page >> 6, PRIMARY] |= np.uint64(1) << np.uint64(page & 63)
    m.cpus[m.mms[g].cpu].added = 0  # the CPU's batch is drained with it
    m.mms[g].aged_at -= PTRS_PER_PTE  # to zero it takes as long as the faults of as many small pages
    m.events[g].thp_fault_alloc += 1
    m.events[g].resident_pages += PTRS_PER_PTE


@compiled
def map_huge(m: Machine, g: int, table: int) -> None:
    """A new huge page, whose state is set, enters the lists, and its PMD is set."""
    page = table * PTRS_PER_PTE
    page_row(m, page).flags = HPAGE_PMD_ORDER << ORDER_SHIFT | WRITABLE
    add_page(m, g, page, ANON)
    m.huge[table] |= MAPS_HUGE
    m.bits[table * WORDS_PER_TABLE : (table + 1) * WORDS_PER_TABLE, PRESENT] = ALL
