"""Swap space: its slots, the pool in which zram keeps what was written, and what reclaim does when there is none left.

Without a free slot an anonymous page can't be evicted (mm/swapfile.c folio_alloc_swap), and with hardly any left MGLRU
doesn't look at them (mm/vmscan.c get_swappiness). A slot is held by a page that is swapped out, and by one in the swap
cache. zram may have a slot and no room: its pool is limited (mem_limit), or the host has no free page for it; then the
write fails, and the page stays in the swap cache (drivers/block/zram/zram_drv.c zram_write_page).
"""

from __future__ import annotations

from coldfleet.hostsim.engine.jit import compiled, inlined
from coldfleet.hostsim.engine.state import MIN_LRU_BATCH, PTRS_PER_PTE, Machine

UNLIMITED = 1 << 48  # slots: as many as are needed
POOL_UNIT = 1 << 20  # parts of a page, in which the pool is counted exactly


@inlined
def get_swappiness(m: Machine, g: int) -> int:
    """The swappiness that reclaim of a guest goes by: 0 if swap is all but full, else its memcg's.

    MGLRU wants a batch of free slots, the classic LRU one (can_reclaim_anon_pages).
    """
    least = MIN_LRU_BATCH if m.features[0].lru_gen else 1
    return m.lruvecs[g].swappiness if m.node[0].free_slots * m.features[0].scale >= least else 0


@inlined
def take_slot(m: Machine, page: int) -> bool:
    """get_swap_page: true if there was a free slot."""
    if m.node[0].free_slots < 1:
        return False
    m.node[0].free_slots -= 1
    if len(m.slots):
        _choose_slot(m, page)
    return True


@compiled
def _choose_slot(m: Machine, page: int) -> None:
    """The next free slot behind the one that was taken last: pages that leave together lie together.

    A simplification: the kernel first looks for 256 of them in a row (SWAPFILE_CLUSTER).
    """
    slot = m.node[0].next_slot
    while m.slots[slot]:
        slot = (slot + 1) % len(m.slots)
    m.slots[slot], m.slot_of[page] = page + 1, slot
    m.node[0].next_slot = (slot + 1) % len(m.slots)


@compiled
def take_huge_slots(m: Machine, page: int) -> bool:
    """The same for all of a huge page, in one cluster of as many slots (SWAPFILE_CLUSTER); true if one was free.

    A device without limit always has one.
    """
    node = m.node[0]
    if node.free_slots < PTRS_PER_PTE:
        return False
    if len(m.slots):
        cluster = _free_cluster(m)
        if cluster < 0:
            return False
        for i in range(PTRS_PER_PTE):
            m.slots[cluster + i], m.slot_of[page + i] = page + i + 1, cluster + i
        node.next_slot = (cluster + PTRS_PER_PTE) % len(m.slots)
    node.free_slots -= PTRS_PER_PTE
    return True


@compiled
def _free_cluster(m: Machine) -> int:
    """The first slot of the next cluster in which all are free; -1: there is none."""
    clusters = len(m.slots) // PTRS_PER_PTE
    following = (m.node[0].next_slot + PTRS_PER_PTE - 1) // PTRS_PER_PTE
    for number in range(following, following + clusters):
        first = number % clusters * PTRS_PER_PTE
        used = 0
        while used < PTRS_PER_PTE and not m.slots[first + used]:
            used += 1
        if used == PTRS_PER_PTE:
            return first
    return -1


@inlined
def give_slot(m: Machine, page: int) -> None:
    """The slot of a page whose copy, if there is one, takes no memory."""
    m.node[0].free_slots += 1
    if len(m.slots):
        m.slots[m.slot_of[page]] = 0


@inlined
def swap_is_full(m: Machine) -> bool:
    """vm_swap_full: more than half of it is used, so that pages in memory don't keep their slots."""
    return m.node[0].free_slots * 2 < m.node[0].swap_pages


@inlined
def give_back_swapped(m: Machine, g: int, page: int) -> None:
    """A page that was swapped out gives back its slot, and what it takes of the pool."""
    give_slot(m, page)
    if len(m.size_classes):
        _unstore(m, g, page)


@inlined
def store(m: Machine, g: int, page: int) -> bool:
    """A page is written to the swap device; false if the device's pool has no room for it."""
    return len(m.size_classes) == 0 or _store(m, g, page)


@compiled
def _store(m: Machine, g: int, page: int) -> bool:
    return _add_to_pool(m, g, m.class_units[m.size_classes[page]])


@compiled
def store_huge(m: Machine, g: int, page: int) -> bool:
    """The same for all of a huge page; without room it gives back its slots."""
    units = 0
    if len(m.size_classes):
        for each in range(page, page + PTRS_PER_PTE):
            units += m.class_units[m.size_classes[each]]
    if not units or _add_to_pool(m, g, units):
        return True
    for each in range(page, page + PTRS_PER_PTE):
        give_slot(m, each)
    return False


@compiled
def _add_to_pool(m: Machine, g: int, units: int) -> bool:
    """The pool grows by so many units, unless it may not, or the host has no page for it."""
    node = m.node[0]
    takes = _whole_pages(node.pool_units + units)
    more = takes - node.pool_pages
    if more and ((node.pool_limit and takes > node.pool_limit) or (node.high_pages and more > node.free_pages)):
        return False
    node.pool_units += units
    node.pool_pages = takes
    node.free_pages -= more
    m.mms[g].pool_units += units
    return True


@compiled
def _unstore(m: Machine, g: int, page: int) -> None:
    node = m.node[0]
    units = m.class_units[m.size_classes[page]]
    node.pool_units -= units
    m.mms[g].pool_units -= units
    node.free_pages += node.pool_pages - _whole_pages(node.pool_units)
    node.pool_pages = _whole_pages(node.pool_units)


@inlined
def _whole_pages(units: int) -> int:
    return (units + POOL_UNIT - 1) // POOL_UNIT
