"""A PMD that maps a huge page: one Accessed bit for 512 pages, and how such a page leaves memory (mm/huge_memory.c).

Each of the 512 pages keeps its own bits in Machine.bits, so that an access does the same whatever maps its page. The
one Accessed bit of the PMD, or of a 2 MiB SPTE, is set if any of theirs is: whoever asks gathers them first, in the
first page's.
"""

from __future__ import annotations

import numpy as np

from coldfleet.hostsim.engine.jit import compiled, inlined
from coldfleet.hostsim.engine.state import (
    MAPS_HUGE,
    PMD_POPULATED,
    PMD_YOUNG,
    PRIMARY,
    PTRS_PER_PTE,
    SMALL_SPTES,
    TDP,
    TOUCHED,
    WORDS_PER_TABLE,
    Machine,
)
from coldfleet.hostsim.kvm.mmu_notifier import unmap
from coldfleet.hostsim.mm.swap_slots import take_slot

HEAD = np.uint64(1)  # in the first word of a table, the page that stands for the folio
_NONE = np.uint64(0)


@inlined
def is_huge(m: Machine, page: int) -> bool:
    """Whether a page is part of a huge page."""
    return len(m.huge) != 0 and m.huge[page // PTRS_PER_PTE] & MAPS_HUGE != 0


@compiled
def gather_accessed(m: Machine, table: int) -> None:
    """Moves what says that any page of a huge page was accessed to its first page."""
    first = table * WORDS_PER_TABLE
    for column in (PRIMARY, TDP, TOUCHED):
        found = _NONE
        for word in range(first, first + WORDS_PER_TABLE):
            found |= m.bits[word, column]
            m.bits[word, column] = _NONE
        if found:
            m.bits[first, column] = HEAD


@compiled
def swap_out_huge(m: Machine, g: int, page: int) -> None:
    """A huge page goes to a synchronous swap device as a whole: its PMD is split into the entries of 512 slots.

    The page table in which they are was made with the huge page. From now on faults get small pages there.
    """
    for each in range(page, page + PTRS_PER_PTE):
        take_slot(m, each)
        unmap(m, each)
    table = page // PTRS_PER_PTE
    m.huge[table] &= SMALL_SPTES
    m.pmds[table] = PMD_YOUNG | PMD_POPULATED
    m.mms[g].unmapped += 1
    m.events[g].pswpout += PTRS_PER_PTE
    m.events[g].resident_pages -= PTRS_PER_PTE
