"""What is true of every page, held against what reclaim believes: ages, the working set, cold pages.

The truth is the tick in which a page was last touched (Machine.last_touch). The true working set are the most recently
touched pages, as many as the guest may keep: what LRU would have in memory.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled, inlined, page_row, popcount
from coldfleet.hostsim.engine.state import (
    ACTIVE,
    ANON,
    MIN_NR_GENS,
    PMD_POPULATED,
    PRESENT,
    PTRS_PER_PTE,
    SHADOW_UPPER_LEVELS,
    SMALL_SPTES,
    UPPER_LEVELS,
    Machine,
)
from coldfleet.hostsim.mm.huge_pmd import count_huge
from coldfleet.hostsim.mm.lru import gen_of, page_gen
from coldfleet.hostsim.mm.swap_slots import POOL_UNIT


@compiled
def _note_generations(m: Machine, g: int, tick: int) -> None:
    """Writes down when each generation became the youngest."""
    vm = m.vms[g]
    while vm.newest_seq < m.lruvecs[g].max_seq:
        vm.newest_seq += 1
        vm.born[gen_of(vm.newest_seq)] = tick


@compiled
def _find_working_set(m: Machine, g: int, limit: int, touched: npt.NDArray[np.int64]) -> None:
    """Sets hot_since: the pages touched after that tick are as many as fit the limit, and no tick is split."""
    mm = m.mms[g]
    vm = m.vms[g]
    for page in range(mm.first, mm.first + mm.pages):
        touched[m.last_touch[page] + 1] += 1
    since = vm.tick
    hot = 0
    while since >= 0 and hot + touched[since + 1] <= limit:
        hot += touched[since + 1]
        since -= 1
    vm.hot_since = since


@compiled
def take_sample(m: Machine, g: int, limit: int, touched: npt.NDArray[np.int64]) -> None:
    """Compares every page in memory with the truth, at the end of a tick.

    ``limit``: pages that the guest may keep. ``touched``: scratch, zeroed, two longer than the number of this tick.
    A generation says that its pages were last touched between its birth and that of the next; the oldest also holds
    what was pushed into it, and says nothing of how long ago. The classic LRU says no ages; its inactive list may be
    evicted.
    """
    mm = m.mms[g]
    vm = m.vms[g]
    lruvec = m.lruvecs[g]
    lru_gen = m.features[0].lru_gen
    events = m.events[g]
    _note_generations(m, g, vm.tick)
    _find_working_set(m, g, limit, touched)
    for page in range(mm.first, mm.first + mm.pages):
        state = page_row(m, page).state
        gen = page_gen(state)
        if not m.bits[page >> 6, PRESENT] >> np.uint64(page & 63) & np.uint64(1) or (lru_gen and gen < 0):
            continue
        last = m.last_touch[page]
        events.resident_samples += 1
        if lru_gen:
            behind = (lruvec.max_seq - gen) % len(vm.born)  # generations behind the youngest
            until = vm.tick if behind == 0 else vm.born[gen_of(gen + 1)]
            events.too_old_ticks += max(0, last - until)
            if lruvec.max_seq - behind > lruvec.min_seq[ANON]:
                events.too_young_ticks += max(0, vm.born[gen] - last)
            evictable = behind >= MIN_NR_GENS
        else:
            evictable = state & ACTIVE == 0
        cold = last <= vm.hot_since
        events.cold_samples += cold
        events.cold_found += cold and evictable
        events.cold_mistaken += evictable and not cold


@compiled
def resident_pages(m: Machine, g: int) -> int:
    """Pages of the guest's memslot that are in memory."""
    mm = m.mms[g]
    found = 0
    for word in range(mm.first // 64, (mm.first + mm.pages + 63) // 64):
        found += popcount(m.bits[word, PRESENT])
    return found


@compiled
def kvm_tables(m: Machine, g: int) -> int:
    """Page tables that KVM has for a guest, in pages; nobody charges them.

    The TDP MMU has a table for every 2 MiB that it mapped once, and keeps it, or none as long as one SPTE maps them;
    those of the shadow MMU are counted as they come.
    """
    mm = m.mms[g]
    tables = 0
    if mm.notifiers and mm.tdp:
        first = mm.first // PTRS_PER_PTE
        for table in range(first, first + (mm.pages + PTRS_PER_PTE - 1) // PTRS_PER_PTE):
            tables += m.huge[table] & SMALL_SPTES != 0 if len(m.huge) else m.pmds[table] & PMD_POPULATED != 0
    if tables:
        tables += UPPER_LEVELS
    return tables + mm.indirect_shadow_pages


@inlined
def _tables_above(m: Machine, g: int) -> int:
    """Of a guest's page tables, those above the leaves: a few, however large it is."""
    mm = m.mms[g]
    above = 0
    if mm.tables:
        above += UPPER_LEVELS * (1 + (mm.notifiers and mm.tdp))
    if mm.indirect_shadow_pages:
        above += SHADOW_UPPER_LEVELS
    return above


@compiled
def count_memory(m: Machine, g: int) -> int:
    """A tick has passed with what a guest has in memory now; returns its own pages, those of its file included.

    What else is charged to it is kernel memory, but for a page or two in the swap cache and those of its VMM. A sample
    leaves out the tables above the leaves, which would count many times.
    """
    mm, events = m.mms[g], m.events[g]
    if not mm.online:
        return 0
    resident = resident_pages(m, g) + events.cached_pages
    kernel = mm.charged - mm.stock - resident + kvm_tables(m, g)
    if m.features[0].scale > 1:
        kernel -= _tables_above(m, g)
    if len(m.huge):
        count_huge(m, g)
    events.resident_page_ticks += resident
    events.pool_page_ticks += int(np.rint(mm.pool_units / POOL_UNIT))
    events.kernel_page_ticks += kernel
    return resident


@compiled
def count_tick(m: Machine) -> None:
    """The same for all guests."""
    for g in range(len(m.mms)):
        count_memory(m, g)
