"""Huge pages at the first touch of 2 MiB (mm/huge_memory.c do_huge_pmd_anonymous_page)."""

from __future__ import annotations

from numba import int64

from coldfleet.hostsim.engine.far_calls import apart
from coldfleet.hostsim.engine.jit import page_row
from coldfleet.hostsim.engine.state import (
    ANON,
    HPAGE_PMD_ORDER,
    MAPS_HUGE,
    ORDER_SHIFT,
    PRESENT,
    PTRS_PER_PTE,
    WORDS_PER_TABLE,
    WRITABLE,
    Machine,
)
from coldfleet.hostsim.kvm.age_gfn import ALL
from coldfleet.hostsim.mm.lru import add_page
from coldfleet.hostsim.mm.memcontrol import charge_huge
from coldfleet.hostsim.mm.swap_state import birth_state


@apart(int64, int64, needed=lambda m: len(m.huge) != 0)
def charge_for_huge(m: Machine, g: int, table: int) -> bool:
    """Whether a first touch of these 2 MiB gets a huge page, for which the guest is then charged.

    False where not all of them are memory that is to be huge, or its memcg has no room: the fault gets a small page.
    """
    mm = m.mms[g]
    page = table * PTRS_PER_PTE
    if not mm.huge_pages or page < mm.first or page + PTRS_PER_PTE > mm.first + mm.pages:
        return False
    return charge_huge(m, g, PTRS_PER_PTE)


@apart(int64, int64, needed=lambda m: len(m.huge) != 0)
def add_huge(m: Machine, g: int, table: int) -> None:
    """A new huge page enters the lists at once, unlike small ones, and its PMD is set."""
    page = table * PTRS_PER_PTE
    row = page_row(m, page)
    row.flags = HPAGE_PMD_ORDER << ORDER_SHIFT | WRITABLE
    row.state = birth_state(m.features[0], 0)
    add_page(m, g, page, ANON)
    m.cpus[m.mms[g].cpu].added = 0  # the CPU's batch is drained with it
    m.mms[g].aged_at -= PTRS_PER_PTE  # to zero it takes as long as the faults of as many small pages
    m.huge[table] = MAPS_HUGE
    m.bits[table * WORDS_PER_TABLE : (table + 1) * WORDS_PER_TABLE, PRESENT] = ALL
    m.events[g].resident_pages += PTRS_PER_PTE
