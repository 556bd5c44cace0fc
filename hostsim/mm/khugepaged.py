"""khugepaged: 2 MiB of small pages become one huge page again (mm/khugepaged.c).

It looks through page tables, and collapses one of which at least one page was referenced, or half of them if some have
to be read from swap: at most max_ptes_swap; at most max_ptes_none may be absent. There is no max_ptes_shared: no page
has two owners. It may reclaim for a huge page (khugepaged/defrag, on by default).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from coldfleet.hostsim.engine.jit import compiled, inlined, page_row, popcount
from coldfleet.hostsim.engine.state import (
    ANON,
    BUSY,
    MAPS_HUGE,
    MONITOR,
    PG_WRITEBACK,
    PMD_POPULATED,
    PRESENT,
    PRIMARY,
    PTRS_PER_PTE,
    REFERENCED,
    SWAPCACHE,
    WORDS_PER_TABLE,
    Machine,
)
from coldfleet.hostsim.kvm.mmu_notifier import consult
from coldfleet.hostsim.mm.faults import fault_in_process
from coldfleet.hostsim.mm.huge_memory import map_huge
from coldfleet.hostsim.mm.huge_pmd import gather_touched, zap_sptes
from coldfleet.hostsim.mm.lru import change_gen, drain, list_del, page_gen
from coldfleet.hostsim.mm.oom_kill import exit_mmap
from coldfleet.hostsim.mm.page_alloc import alloc_huge
from coldfleet.hostsim.mm.swap_slots import give_slot
from coldfleet.hostsim.mm.workingset import NEVER

_NONE = np.uint64(0)
_IN_USE = BUSY | PG_WRITEBACK  # somebody else holds a reference, or the device does


@inlined
def _is_swapped(m: Machine, page: int) -> bool:
    return page_row(m, page).shadow != NEVER or page_row(m, page).flags & SWAPCACHE != 0


@compiled
def _is_worth_it(m: Machine, g: int, table: int, max_ptes_none: int, max_ptes_swap: int) -> bool:
    """hpage_collapse_scan_pmd: whether the pages of a table are to become a huge page."""
    none = swapped = referenced = 0
    for word in range(table * WORDS_PER_TABLE, (table + 1) * WORDS_PER_TABLE):
        present = m.bits[word, PRESENT]
        young = m.bits[word, PRIMARY] & present
        for i in range(64):
            page, bit = word * 64 + i, np.uint64(1) << np.uint64(i)
            m.events[g].khugepaged_ptes += 1
            if present & bit:
                if page_row(m, page).flags & _IN_USE:
                    return False
                if page_row(m, page).state & REFERENCED:
                    young |= bit
            elif _is_swapped(m, page):
                swapped += 1
            else:
                none += 1
        if none > max_ptes_none or swapped > max_ptes_swap:
            return False
        if m.mms[g].notifiers and present & ~young:
            young |= consult(m, g, MONITOR, word, present & ~young, False, False, False, False, 1)[0]
        referenced += popcount(young)
    return referenced >= (PTRS_PER_PTE // 2 if swapped else 1)


@compiled
def _read_swapped(m: Machine, g: int, table: int) -> bool:
    """__collapse_huge_page_swapin; false if some of it was reclaimed meanwhile, or the guest was killed for it."""
    first = table * PTRS_PER_PTE
    events = m.events[g]
    for page in range(first, first + PTRS_PER_PTE):
        if not m.bits[page >> 6, PRESENT] >> np.uint64(page & 63) & np.uint64(1) and _is_swapped(m, page):
            faults, refaults = events.pgfault, events.refaults
            fault_in_process(m, g, page, False)
            if m.mms[g].oom_reason:
                return False
            events.khugepaged_swpin += events.refaults - refaults  # one, unless it was in the swap cache
            events.pgfault, events.refaults = faults, refaults
    drain(m, m.mms[g].cpu)
    for page in range(first, first + PTRS_PER_PTE):
        present = m.bits[page >> 6, PRESENT] >> np.uint64(page & 63) & np.uint64(1)
        if page_row(m, page).flags & _IN_USE or (not present and _is_swapped(m, page)):
            return False
    return True


@compiled
def _free_small(m: Machine, g: int, page: int) -> None:
    """A small page whose contents the huge page has now."""
    row = page_row(m, page)
    gen = page_gen(row.state)
    if gen >= 0:
        list_del(m, page)
        change_gen(m.lruvecs[g], gen, -1, ANON, 1)
    if row.flags & SWAPCACHE:
        give_slot(m, page)
    row.state = row.flags = 0
    row.shadow = NEVER


@compiled
def collapse(m: Machine, g: int, table: int, max_ptes_none: int, max_ptes_swap: int) -> bool:
    """Makes a huge page of the small pages of a table of the guest's memslot, if that is worth it and there is room."""
    mm = m.mms[g]
    first = table * PTRS_PER_PTE
    whole = mm.first <= first and first + PTRS_PER_PTE <= mm.first + mm.pages
    if mm.oom_reason or not mm.huge_pages or not whole or not m.pmds[table] & PMD_POPULATED:
        return False
    if m.huge[table] & MAPS_HUGE or not _is_worth_it(m, g, table, max_ptes_none, max_ptes_swap):
        return False
    over_high = mm.over_high  # what a kernel thread charges nobody answers for
    if not alloc_huge(m, g, True, True):
        return False
    present = 0
    given_up = not _read_swapped(m, g, table)
    if given_up:
        present = PTRS_PER_PTE  # of the huge page itself
    else:
        for word in range(table * WORDS_PER_TABLE, (table + 1) * WORDS_PER_TABLE):
            present += popcount(m.bits[word, PRESENT])
            m.bits[word, PRIMARY] = _NONE
        for page in range(first, first + PTRS_PER_PTE):
            _free_small(m, g, page)
        zap_sptes(m, table)
        mm.unmapped += 1
        gather_touched(m, table)
        map_huge(m, g, table)
        m.bits[table * WORDS_PER_TABLE, PRIMARY] = np.uint64(1)  # a new PMD is young
        m.events[g].thp_collapse_alloc += 1
        m.events[g].resident_pages += PTRS_PER_PTE - present
    mm.over_high = over_high
    mm.charged -= present
    m.parent[0].charged -= present
    if m.node[0].high_pages:
        m.node[0].free_pages += present
    if mm.oom_reason:
        exit_mmap(m, g)
    return not given_up


class Khugepaged:
    """Goes round and round through the page tables of all guests that may have huge pages.

    ``pages_to_scan``: in a wake-up. ``max_ptes_none``, ``max_ptes_swap``: of a table that is collapsed.
    """

    def __init__(self, m: Machine, *, pages_to_scan: int, max_ptes_none: int, max_ptes_swap: int) -> None:
        self._m, self._limits, self._tables_to_scan = m, (max_ptes_none, max_ptes_swap), pages_to_scan // PTRS_PER_PTE
        self._tables = [
            (g, table)
            for g, mm in enumerate(m.mms)
            if mm["huge_pages"]
            for table in range(int(mm["first"]) // PTRS_PER_PTE, int(mm["first"] + mm["pages"]) // PTRS_PER_PTE)
        ]
        self._next = 0

    def wake_up(self) -> Iterator[int]:
        """One wake-up; yields the guest after every table."""
        for cpu in range(len(self._m.cpus)):
            drain(self._m, cpu)
        count, online = len(self._tables), self._m.mms["online"].tolist()
        there = (number for number in range(self._next, self._next + count) if online[self._tables[number % count][0]])
        for number in islice(there, self._tables_to_scan):
            g, table = self._tables[number % count]
            self._next = (number + 1) % count
            collapse(self._m, g, table, *self._limits)
            yield g
