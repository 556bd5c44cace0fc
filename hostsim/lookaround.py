"""The last check before a page goes, and the look-around that it leads to (mm/rmap.c folio_referenced_one,
mm/vmscan.c lru_gen_look_around)."""

from __future__ import annotations

import numpy as np

from hostsim.aging import DENSE_SHARE, promote
from hostsim.jit import inlined, lowest_bit, popcount
from hostsim.lru import activate, forget_references, gen_of, page_gen
from hostsim.notifier import ALL, ask
from hostsim.state import ACTIVE, MIN_LRU_BATCH, PRESENT, PTRS_PER_PTE, REFERENCED, Machine
from policies import Site

_EVICT = int(Site.EVICT)
_LOOK_AROUND = int(Site.LOOK_AROUND)


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
def _reference_neighbour(m: Machine, g: int, page: int, walk: bool) -> None:
    """A young neighbour: with a walk object its generation changes at once, else it is activated."""
    if walk:
        promote(m, g, page)
        return
    state = m.pages[page].state
    gen = page_gen(state)
    if gen < 0:
        m.pages[page].state = state | REFERENCED
    elif gen != gen_of(m.lruvecs[g].max_seq):
        m.pages[page].state = forget_references(state)
        if not state & ACTIVE:
            activate(m, g, page)


@inlined
def look_around(m: Machine, g: int, page: int, walk: bool) -> None:
    """Asks for the neighbours of a young page, and tells the next aging if its table is worth a walk."""
    mm = m.mms[g]
    if page < mm.own_first:
        low, high = look_around_window(page, mm.first, mm.first + mm.pages)
    else:
        low, high = look_around_window(page, mm.own_first, mm.own_first + mm.own_pages)
    if high - low == 1:
        return
    m.events[g].look_arounds += 1
    young_count = 1
    for word in range(low >> 6, ((high - 1) >> 6) + 1):
        window = m.bits[word, PRESENT]
        base = word * 64
        if base < low:
            window &= ALL << np.uint64(low - base)
        if base + 64 > high:
            window &= ALL >> np.uint64(base + 64 - high)
        if word == page >> 6:
            window &= ~(np.uint64(1) << np.uint64(page & 63))
        if not window:
            continue
        young, _ = ask(m, g, word, window, _LOOK_AROUND)
        young_count += popcount(young)
        while young:
            neighbour = base + lowest_bit(young)
            young &= young - np.uint64(1)
            _reference_neighbour(m, g, neighbour, walk)
    if young_count * DENSE_SHARE >= high - low:
        current = m.lruvecs[g].max_seq % 2
        if mm.filter_made[current]:
            m.filters[page // PTRS_PER_PTE, current] = 1


@inlined
def check_references(m: Machine, g: int, page: int, walk: bool) -> bool:
    """folio_referenced for an isolated page: true if it is young."""
    bit = np.uint64(1) << np.uint64(page & 63)
    young, enter = ask(m, g, page >> 6, bit, _EVICT)
    if enter:
        look_around(m, g, page, walk)
    return young != np.uint64(0)
