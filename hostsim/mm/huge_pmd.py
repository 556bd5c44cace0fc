"""A PMD that maps a huge page: one Accessed bit for 512 pages, and how such a page leaves memory (mm/huge_memory.c).

Each of the 512 pages keeps its own bits in Machine.bits, so that an access does the same whatever maps its page. The
one Accessed bit of the PMD, or of a 2 MiB SPTE, is set if any of theirs is: whoever asks gathers them first, in the
first page's. SPTEs may be small even so, each with an Accessed bit of its own: KVM looks at all.
"""

from __future__ import annotations

import numpy as np
from numba import int64

from coldfleet.hostsim.engine.far_calls import apart
from coldfleet.hostsim.engine.jit import compiled, inlined, page_row, popcount
from coldfleet.hostsim.engine.state import (
    CALLS,
    LOCKS,
    MAPS_HUGE,
    ORDER_SHIFT,
    PG_DIRTY,
    PMD_POPULATED,
    PMD_YOUNG,
    PRIMARY,
    PTRS_PER_PTE,
    SHADOW,
    SHADOW_MAPPED,
    SPLIT_SPTES,
    SWAPCACHE,
    TDP,
    TDP_MAPPED,
    TOUCHED,
    WORDS_PER_TABLE,
    Machine,
)
from coldfleet.hostsim.kvm.mmu_notifier import ask, unmap
from coldfleet.hostsim.mm.swap_slots import store_huge, take_huge_slots
from coldfleet.hostsim.mm.workingset import NEVER
from coldfleet.policies import Lock

GONE, KEPT, SPLIT = range(3)
HEAD = np.uint64(1)  # in the first word of a table, the page that stands for the folio
_NONE = np.uint64(0)
_OF_FOLIO = (1 << ORDER_SHIFT) - 1  # the flags of a page but how many it stands for
_RMAP = LOCKS + int(Lock.RMAP)


@inlined
def is_huge(m: Machine, page: int) -> bool:
    """Whether a page is part of a huge page."""
    return len(m.huge) != 0 and m.huge[page // PTRS_PER_PTE] & MAPS_HUGE != 0


@inlined
def folio_of(m: Machine, page: int) -> int:
    """page_folio: the page that stands for the folio that a page is part of."""
    return page // PTRS_PER_PTE * PTRS_PER_PTE if is_huge(m, page) else page


@inlined
def _gather(m: Machine, table: int, column: int) -> None:
    """Moves what a column says of any page of a huge page to its first page."""
    first = table * WORDS_PER_TABLE
    found = _NONE
    for word in range(first, first + WORDS_PER_TABLE):
        found |= m.bits[word, column]
        m.bits[word, column] = _NONE
    if found:
        m.bits[first, column] = HEAD


@compiled
def gather_touched(m: Machine, table: int) -> None:
    """The same of what was touched, which is noted page by page before."""
    for word in range(table * WORDS_PER_TABLE, (table + 1) * WORDS_PER_TABLE):
        m.huge_touched[word] |= m.bits[word, TOUCHED]
    _gather(m, table, TOUCHED)


@inlined
def splits(m: Machine, g: int, table: int) -> bool:
    """Whether the shadow MMU maps a huge page by small SPTEs: KVM has to, or the page tables that it shadows do."""
    return m.huge[table] & SPLIT_SPTES != 0 or not m.mms[g].l1_huge


@compiled
def _mapped(m: Machine, table: int, column: int) -> int:
    """How many of a table's pages have an SPTE."""
    mapped = 0
    for word in range(table * WORDS_PER_TABLE, (table + 1) * WORDS_PER_TABLE):
        mapped += popcount(m.bits[word, column])
    return mapped


@compiled
def _ask_head(m: Machine, g: int, table: int, site: int) -> bool:
    """The call, about the first page; for that it gets what the shadow SPTEs of any page say."""
    first = table * WORDS_PER_TABLE
    mapped = _mapped(m, table, SHADOW_MAPPED) if m.mms[g].had_rmaps or not m.mms[g].tdp else 0
    if not mapped:
        return ask(m, g, first, HEAD, site, 1)[0] != _NONE
    accessed, own_mapped = m.bits[first, SHADOW], m.bits[first, SHADOW_MAPPED]
    found = _NONE
    for word in range(first, first + WORDS_PER_TABLE):
        found |= m.bits[word, SHADOW]
    m.bits[first, SHADOW] = HEAD if found else _NONE
    m.bits[first, SHADOW_MAPPED] = HEAD
    looked, locked = m.events[g].rmap_sptes, m.sites[g, site, _RMAP]
    young = ask(m, g, first, HEAD, site, 1)[0] != _NONE
    if splits(m, g, table):
        m.events[g].rmap_sptes += (m.events[g].rmap_sptes - looked) * (mapped - 1)
        m.sites[g, site, _RMAP] += (m.sites[g, site, _RMAP] - locked) * (mapped - 1)
    if found and not m.bits[first, SHADOW]:
        m.bits[first : first + WORDS_PER_TABLE, SHADOW] = _NONE
    else:
        m.bits[first, SHADOW] = accessed
    m.bits[first, SHADOW_MAPPED] = own_mapped
    return young


@compiled
def _give_back(m: Machine, table: int) -> None:
    """What the TDP MMU's small SPTEs said, and nobody cleared, is theirs again: of the first that is there."""
    first = table * WORDS_PER_TABLE
    if not m.bits[first, TDP] & ~m.bits[first, TDP_MAPPED]:
        return
    m.bits[first, TDP] = _NONE
    for word in range(first, first + WORDS_PER_TABLE):
        mapped = m.bits[word, TDP_MAPPED]
        if mapped:
            m.bits[word, TDP] = mapped & (~mapped + HEAD)
            return


@apart(int64, int64, int64, needed=lambda m: len(m.huge) != 0)
def ask_huge(m: Machine, g: int, table: int, site: int) -> bool:
    """Is a huge page young: one call for all of it, with what KVM's SPTEs say, however small they are."""
    _gather(m, table, PRIMARY)
    _gather(m, table, TDP)
    gather_touched(m, table)
    calls = m.sites[g, site, CALLS]
    young = _ask_head(m, g, table, site)
    if m.huge[table] & SPLIT_SPTES:
        more = max(_mapped(m, table, TDP_MAPPED) - 1, 0)
        m.events[g].split_sptes += (m.sites[g, site, CALLS] - calls) * more
        _give_back(m, table)
    return young


@compiled
def zap_sptes(m: Machine, table: int) -> None:
    """The notifier's invalidation of 2 MiB: KVM unmaps them, and maps them anew at the next faults."""
    for word in range(table * WORDS_PER_TABLE, (table + 1) * WORDS_PER_TABLE):
        for column in (TDP, TDP_MAPPED, SHADOW, SHADOW_MAPPED):
            m.bits[word, column] = _NONE


@inlined
def _install_table(m: Machine, table: int) -> None:
    """The page table that was made with a huge page takes its place: from now on faults get small pages there."""
    m.huge[table] &= ~MAPS_HUGE
    m.pmds[table] = PMD_YOUNG | PMD_POPULATED


@compiled
def _unmap_huge(m: Machine, g: int, page: int) -> None:
    """A huge page that has its slots is unmapped, and counts as written as a whole."""
    for each in range(page, page + PTRS_PER_PTE):
        unmap(m, each)
    _install_table(m, page // PTRS_PER_PTE)
    m.mms[g].unmapped += 1
    m.events[g].thp_swpout += 1
    m.events[g].resident_pages -= PTRS_PER_PTE


@compiled
def _swap_out(m: Machine, g: int, page: int) -> int:
    """A huge page goes to a synchronous swap device as a whole.

    A simplification: without room in the pool it stays as it was, where the kernel keeps it unmapped in the swap cache.
    """
    if not store_huge(m, g, page):
        return KEPT
    _unmap_huge(m, g, page)
    m.events[g].pswpout += PTRS_PER_PTE
    return GONE


@compiled
def _break_up(m: Machine, page: int, flags: int) -> None:
    """An isolated huge page becomes small ones with these flags: all but the first are taken next after those that are
    isolated already."""
    row = page_row(m, page)
    row.flags = (row.flags & _OF_FOLIO) | flags
    for each in range(page + 1, page + PTRS_PER_PTE):
        other = page_row(m, each)
        other.state, other.flags, other.shadow = row.state, row.flags, NEVER
        m.victims[m.node[0].isolated] = each
        m.node[0].isolated += 1


@compiled
def _split(m: Machine, g: int, page: int) -> None:
    """split_folio_to_list, where swap can't take a huge page whole. The PTEs are as old as the PMD was."""
    _break_up(m, page, 0)
    zap_sptes(m, page // PTRS_PER_PTE)
    _install_table(m, page // PTRS_PER_PTE)
    m.mms[g].unmapped += 1
    m.events[g].thp_split_page += 1
    m.events[g].thp_swpout_fallback += 1


@apart(int64, int64, needed=lambda m: len(m.huge) != 0)
def write_huge(m: Machine, g: int, page: int) -> int:
    """What becomes of an isolated huge page that is to go: GONE, KEPT, or SPLIT, if swap has no 512 slots in a row.

    SPLIT also if the device is asynchronous. A simplification: the kernel keeps it as one in the swap cache until it
    is written; here it is unmapped and written as one, and small pages in the swap cache wait for that.
    """
    if not take_huge_slots(m, page):
        _split(m, g, page)
        return SPLIT
    if not m.node[0].async_swap:
        return _swap_out(m, g, page)
    _unmap_huge(m, g, page)
    _break_up(m, page, SWAPCACHE | PG_DIRTY)
    return SPLIT


@compiled
def count_huge(m: Machine, g: int) -> None:
    """A tick has passed for a guest's huge pages: how many there are, and what of them nobody touched."""
    mm, events = m.mms[g], m.events[g]
    for table in range(mm.first // PTRS_PER_PTE, (mm.first + mm.pages) // PTRS_PER_PTE):
        if not m.huge[table] & MAPS_HUGE:
            continue
        gather_touched(m, table)
        first = table * WORDS_PER_TABLE
        touched = 0
        for word in range(first, first + WORDS_PER_TABLE):
            touched += popcount(m.huge_touched[word] & ~HEAD if word == first else m.huge_touched[word])
            m.huge_touched[word] = _NONE
        events.huge_page_ticks += PTRS_PER_PTE
        if m.huge[table] & SPLIT_SPTES:
            events.split_page_ticks += PTRS_PER_PTE
        if touched:
            events.bloat_page_ticks += PTRS_PER_PTE - 1 - touched
