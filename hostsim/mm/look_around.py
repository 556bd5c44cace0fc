"""The last check before a page goes, and the look-around that it leads to (mm/rmap.c folio_referenced_one,
mm/vmscan.c lru_gen_look_around)."""

from __future__ import annotations

import numpy as np
from numba import boolean, int64

from coldfleet.hostsim.engine.far_calls import apart
from coldfleet.hostsim.engine.jit import compiled, inlined, lowest_bit, not_negative, page_row, popcount, prefetch
from coldfleet.hostsim.engine.state import (
    FILE_PAGE,
    MIN_LRU_BATCH,
    PRESENT,
    PTRS_PER_PTE,
    REFERENCED,
    Machine,
)
from coldfleet.hostsim.kvm.age_gfn import ALL, NONE
from coldfleet.hostsim.kvm.mmu_notifier import ask, take_pg_young
from coldfleet.hostsim.mm.aging import DENSE_SHARE, STACK_PAGES, promote
from coldfleet.hostsim.mm.huge_pmd import ask_huge, is_huge
from coldfleet.hostsim.mm.lru import activate, gen_of, page_gen
from coldfleet.hostsim.mm.refs import checked_young
from coldfleet.hostsim.mm.writeback import carry_dirty_bit
from coldfleet.policies import Site

_EVICT = int(Site.EVICT)
_LOOK_AROUND = int(Site.LOOK_AROUND)
_ONE = np.uint64(1)


@inlined
def look_around_window(page: int, first: int, end: int) -> tuple[int, int]:
    """The pages [low, high) around a page: at most 64, inside its page table and the memslot."""
    low = max(page & ~(PTRS_PER_PTE - 1), first)
    high = min((page | (PTRS_PER_PTE - 1)) + 1, end)
    half = MIN_LRU_BATCH // 2
    if high - low > MIN_LRU_BATCH:
        if page - low < half:
            high = low + MIN_LRU_BATCH
        elif high - page < half:
            low = high - MIN_LRU_BATCH
        else:
            low = page - half
            high = page + half
    return low, high


@inlined
def _activate_neighbour(m: Machine, g: int, page: int) -> None:
    """A young neighbour, without a walk object: it goes to the youngest generation through the CPU's batch."""
    f = m.features[0]
    state = page_row(m, page).state
    gen = page_gen(state)
    if gen < 0:
        page_row(m, page).state = state | REFERENCED  # isolated: tells the shrinker to keep it
        return
    moves = True
    if f.two_touch:
        page_row(m, page).state, moves = checked_young(f, state)
    if moves and gen != gen_of(m.lruvecs[g].max_seq):
        activate(m, g, page)  # with its references: 6.12.107 clears them only where a walk object exists


@inlined
def _without_isolated(m: Machine, word: int, pages: np.uint64) -> np.uint64:
    """Of these pages of a word, those that this batch has not taken off the lists."""
    for i in range(m.node[0].isolated):
        if m.victims[i] >> 6 == word:
            pages &= ~(_ONE << np.uint64(m.victims[i] & 63))
    return pages


@inlined
def _bring_in(m: Machine, base: int, pages: np.uint64) -> None:
    """Has the CPU bring the rows of these pages of a word into its cache, all at a time."""
    while pages:
        prefetch(m.pages, base + lowest_bit(pages))
        pages &= pages - _ONE


@compiled
def look_around(m: Machine, g: int, page: int, walk: bool) -> None:
    """Asks for the neighbours of a young page, and tells the next aging if its table is worth a walk."""
    f = m.features[0]
    mm = m.mms[g]
    if page < mm.own_first:
        low, high = look_around_window(page, mm.first, mm.first + mm.pages)
    elif page < mm.stack_first:
        low, high = look_around_window(page, mm.own_first, mm.own_first + mm.buffer_pages)
    elif page < mm.file_first:
        low, high = look_around_window(page, mm.stack_first, mm.stack_first + STACK_PAGES)
    else:
        low, high = look_around_window(page, mm.file_first, mm.file_first + mm.file_pages)
    if high - low == 1 and not f.look_around_marks_target:
        return
    if f.look_around_marks_target:
        page_row(m, page).state |= REFERENCED
    m.events[g].look_arounds += 1
    count = 1
    candidates = 0
    for word in range(low >> 6, ((high - 1) >> 6) + 1):
        window = m.bits[word, PRESENT]
        base = word * 64
        if base < low:
            window &= ALL << np.uint64(low - base)
        if base + 64 > high:
            window &= ALL >> np.uint64(base + 64 - high)
        if word == page >> 6:
            window &= ~(_ONE << np.uint64(page & 63))
        if f.look_around_spares_isolated:
            window = _without_isolated(m, word, window)
        if not window:
            continue
        young, _ = ask(m, g, word, window, _LOOK_AROUND, 1)
        count += popcount(young)
        _bring_in(m, base, young)
        while young:
            neighbour = base + lowest_bit(young)
            young &= young - _ONE
            carry_dirty_bit(m, neighbour)
            if f.look_around_moves_many:
                gen = page_gen(page_row(m, neighbour).state)
                if gen < 0:
                    page_row(m, neighbour).state |= REFERENCED
                elif gen != gen_of(m.lruvecs[g].max_seq):
                    m.neighbours[candidates] = neighbour
                    candidates += 1
            elif walk:
                promote(m, g, neighbour)
            else:
                _activate_neighbour(m, g, neighbour)
    for i in range(candidates):
        if walk or candidates >= f.lru_batch:
            promote(m, g, m.neighbours[i])
        else:
            activate(m, g, m.neighbours[i])
    if count * DENSE_SHARE >= high - low:
        current = m.lruvecs[g].max_seq % 2
        if mm.filter_made[current]:
            m.filters[page // PTRS_PER_PTE, current] = 1


@apart(int64, int64, int64, boolean, boolean)
def check_references(m: Machine, g: int, page: int, untouched: int, walk: bool, walk_aged: bool) -> bool:
    """folio_referenced for an isolated page: true if it is young.

    Where ``untouched`` isn't 0, it counts what asking for that many such pages does, of which this is one.
    """
    not_negative(g)
    word = np.uint64(page) >> np.uint64(6)
    bit = _ONE << np.uint64(page & 63)
    random = False
    if not untouched:
        if not m.bits[word, PRESENT] & bit:
            return False  # unmapped before, left in the swap cache
        if is_huge(m, page):
            return ask_huge(m, g, page // PTRS_PER_PTE, _EVICT)  # by its PMD alone: there is no look-around
        random = m.mms[g].file_random != 0 and page_row(m, page).flags & FILE_PAGE != 0
        if random and not m.features[0].random_mapping_referenced:
            return False
    young, enter = ask(m, g, page >> 6, bit, _EVICT, max(untouched, 1))
    without_swap = m.features[0].look_around_needs_aged_walk and walk and not walk_aged
    if enter and not random and not (without_swap and not page_row(m, page).flags & FILE_PAGE):
        look_around(m, g, page, walk)
    if len(m.extra_bits):
        young = take_pg_young(m, word, bit, young)
    return young != NONE
