"""Anonymous pages on their way into memory, and swap readahead (mm/swap_state.c).

A fault that waits for a page of a device that is not synchronous has others read beside it, which stay in the swap
cache, unmapped, until somebody touches them or reclaim meets them. How many depends on how many of the last ones were
used. A device without moving parts is asked for neighbours in memory (VMA readahead), a rotating one for neighbours
on the device (cluster readahead), of any guest.

A simplification: the kernel has one bit for PG_readahead and PG_reclaim, so that it takes a page that comes back while
it is being written for one that was read ahead. Here they are two.
"""

from __future__ import annotations

from numba import int64

from coldfleet.hostsim.engine.far_calls import apart
from coldfleet.hostsim.engine.jit import compiled, inlined, page_row
from coldfleet.hostsim.engine.state import (
    ACTIVE,
    ANON,
    PG_READAHEAD,
    PTRS_PER_PTE,
    SWAPCACHE,
    WORKINGSET,
    Machine,
    Record,
)
from coldfleet.hostsim.mm import classic
from coldfleet.hostsim.mm.lru import add_page, fills_batch
from coldfleet.hostsim.mm.oom_kill import exit_mmap
from coldfleet.hostsim.mm.page_alloc import alloc_page
from coldfleet.hostsim.mm.refs import marked_accessed
from coldfleet.hostsim.mm.swap_slots import swap_is_full
from coldfleet.hostsim.mm.workingset import NEVER, refault

MOST_HITS = 63  # SWAP_RA_HITS_MAX
MOST_ORDER = 5  # SWAP_RA_ORDER_CEILING: VMA readahead reads no more than 32 pages
FIRST_HITS = 4  # hits that the kernel assumes before the first window
FAR_AWAY = -(1 << 40)  # in place of a page or a slot: not next to any


@inlined
def _add_from_batch(m: Machine, g: int, page: int, swapped: bool, write: bool, drained: bool) -> None:
    """Puts a page on its list as it is when its CPU's batch is full: the one that fills it is still in the swap cache,
    the fault of the others is over, and has kept their slot if the device is asynchronous and swap has enough."""
    row = page_row(m, page)
    flags = row.flags
    keeps_slot = m.node[0].async_swap and not write and not swap_is_full(m)
    in_cache = (fills_batch(m, g) or keeps_slot or drained) and swapped
    row.flags = SWAPCACHE if in_cache else 0
    add_page(m, g, page, ANON)
    row.flags = flags


@inlined
def birth_state(f: Record, state: int) -> int:
    """The state of a page that a fault brings into memory, given what its shadow told."""
    if f.birth_referenced and not state & WORKINGSET:
        return marked_accessed(f, state)
    return state | ACTIVE


@inlined
def add_anon(m: Machine, g: int, page: int, swapped: bool, write: bool, drained: bool) -> None:
    """A page enters the lists, new or from swap: then it is in the swap cache if the device is asynchronous.

    ``drained``: it was read with others, and then the CPU's batches are drained.
    """
    f = m.features[0]
    row = page_row(m, page)
    in_cache = swapped and m.node[0].async_swap
    if not f.lru_gen:
        classic.add_new(m, g, page)
        if in_cache:
            row.flags |= SWAPCACHE
        return
    row.state = 0
    if swapped:
        refault(m, g, page, ANON, True)
        if in_cache:
            row.flags = SWAPCACHE
    row.state = birth_state(f, row.state)
    if f.swapin_through_cache:
        _add_from_batch(m, g, page, swapped, write, drained)
    else:
        add_page(m, g, page, ANON)


@compiled
def swapin_nr_pages(before: int, here: int, hits: int, most: int, last: int) -> int:
    """__swapin_nr_pages: how many pages are read at once, after ``hits`` pages read ahead that were used.

    ``before``, ``here``: page or slot of the last fault and of this one. ``last``: how many were read then.
    """
    pages = hits + 2
    if pages == 2:
        if abs(here - before) != 1:
            pages = 1
    else:
        rounded = 4
        while rounded < pages:
            rounded *= 2
        pages = rounded
    return max(min(pages, most), last // 2)


@compiled
def _read_page(m: Machine, g: int, page: int) -> bool:
    """Reads a page of a guest ahead, if it is on the device alone; false if the guest was killed for it."""
    row = page_row(m, page)
    if row.flags & SWAPCACHE or row.shadow == NEVER:
        return True
    if not alloc_page(m, g):
        return False
    row.flags = 0
    m.events[g].pswpin += 1
    m.events[g].swap_ra += 1
    add_anon(m, g, page, True, False, True)
    row.flags |= PG_READAHEAD
    return True


@compiled
def _read_vma(m: Machine, g: int, page: int) -> bool:
    """swap_vma_readahead: pages around this one, in the direction in which faults go; within the VMA and the table.

    True if the window is of more than the page itself.
    """
    mm = m.mms[g]
    vma = int(page >= mm.own_first)
    before = mm.swap_ra_page[vma]
    most = 1 << min(m.node[0].page_cluster, MOST_ORDER)
    window = swapin_nr_pages(before, page, mm.swap_ra_hits[vma], most, mm.swap_ra_window[vma])
    mm.swap_ra_page[vma], mm.swap_ra_hits[vma], mm.swap_ra_window[vma] = page, 0, window
    low = page - (window - 1) // 2
    if page == before + 1:
        low = page
    elif page == before - 1:
        low = page - window + 1
    first, pages = (mm.own_first, mm.file_first - mm.own_first) if vma else (mm.first, mm.pages)
    table = page & ~(PTRS_PER_PTE - 1)
    for other in range(max(low, first, table), min(low + window, first + pages, table + PTRS_PER_PTE)):
        if other != page and not _read_page(m, g, other):
            break
    return window > 1


@compiled
def _owner(m: Machine, page: int) -> int:
    """The guest whose memory a page belongs to."""
    g = 0
    while page >= m.mms[g].file_first:
        g += 1
    return g


@compiled
def _read_cluster(m: Machine, g: int, page: int) -> bool:
    """swap_cluster_readahead: the same for the aligned block of slots around this one. Of a sample, slots are so many
    fewer."""
    node = m.node[0]
    slot = m.slot_of[page]
    hits = node.swap_ra_hits
    window = swapin_nr_pages(node.swap_ra_slot, slot, hits, 1 << node.page_cluster, node.swap_ra_window)
    node.swap_ra_hits, node.swap_ra_window = 0, window
    if not hits:
        node.swap_ra_slot = slot
    slots = max(window // m.features[0].scale, 1)
    start = slot - slot % slots
    for other in range(start, min(start + slots, len(m.slots))):
        found = m.slots[other] - 1
        if found < 0 or found == page:
            continue
        owner = _owner(m, found)
        if not _read_page(m, owner, found):
            if owner == g:
                break
            exit_mmap(m, owner)
        elif owner != g:
            classic.lru_add_drain(m, m.mms[owner].cpu)
    return window > 1


@apart(int64, int64, needed=lambda m: bool(m.node[0]["page_cluster"]))
def read_around(m: Machine, g: int, page: int) -> bool:
    """swapin_readahead, but for the page that the fault waits for, which comes last so that nothing reclaims it.

    True if the CPU's batches have to be drained after that.
    """
    if m.node[0].rotating_swap:
        return _read_cluster(m, g, page)
    return _read_vma(m, g, page)


@inlined
def meet_in_swap_cache(m: Machine, g: int, page: int) -> None:
    """swap_cache_get_folio: a fault on a page that the swap cache has, so that whether it was read ahead counts."""
    row = page_row(m, page)
    mm = m.mms[g]
    ahead = int(row.flags & PG_READAHEAD != 0)
    row.flags &= ~PG_READAHEAD
    m.events[g].swap_ra_hit += ahead
    if m.node[0].rotating_swap:
        m.node[0].swap_ra_hits += ahead
    else:
        vma = int(page >= mm.own_first)
        mm.swap_ra_hits[vma] = min(mm.swap_ra_hits[vma] + ahead, MOST_HITS)
        mm.swap_ra_page[vma] = page
