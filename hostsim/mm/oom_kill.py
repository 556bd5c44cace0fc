"""The OOM killer (mm/oom_kill.c): whom it kills, and what that frees.

Each guest is one process in a memcg of its own. A victim makes no more accesses. Its anonymous memory, swap and page
tables are free at once, or when the fault is over in which it ran out of memory itself; the page cache of its file
stays until it is reclaimed, as that of a removed memcg does. hostsim.mm.lifetime has those who leave.
"""

from __future__ import annotations

from numba import int64

from coldfleet.hostsim.engine.far_calls import apart
from coldfleet.hostsim.engine.jit import compiled, inlined, page_row
from coldfleet.hostsim.engine.state import (
    ANON,
    BIT_COLUMNS,
    LRU,
    PARENT_MEMCG,
    PTRS_PER_PTE,
    SPLIT_SPTES,
    SWAPCACHE,
    UPPER_LEVELS,
    WRITABLE,
    Machine,
)
from coldfleet.hostsim.kvm.mmu_notifier import is_mapped
from coldfleet.hostsim.mm import classic
from coldfleet.hostsim.mm.lru import change_gen, folio_pages, list_del, page_gen
from coldfleet.hostsim.mm.swap_slots import give_back_swapped, give_slot
from coldfleet.hostsim.mm.workingset import NEVER
from coldfleet.hostsim.mm.writeback import end_writeback

OOM_MEMCG, OOM_PARENT, OOM_HOST, OOM_MIN_TTL = 1, 2, 3, 4
OOM_REASONS = ("", "memcg", "parent", "host", "min_ttl")
"""Why a guest was killed, by the number that its mm has: it lives; its memory.max; that of the memcg above all guests;
the host had no free page; all memory of the host was younger than min_ttl_ms."""


@compiled
def oom_badness(m: Machine, g: int) -> int:
    """Pages that killing a guest frees: those that it has mapped (rss), its swap entries, and its page tables."""
    mm = m.mms[g]
    points = m.events[g].resident_pages + mm.file_mapped
    if mm.tables:
        points += mm.tables + UPPER_LEVELS
    for page in range(mm.first, mm.file_first):
        row = page_row(m, page)
        points += not is_mapped(m, page) and (row.shadow != NEVER or row.flags & SWAPCACHE != 0)
    return points


@apart(int64)
def exit_mmap(m: Machine, g: int) -> None:
    """A guest's process is gone: it was killed, or leaves. What was being written of its memory counts as written."""
    mm = m.mms[g]
    if mm.exited:
        return
    mm.exited = 1
    end_writeback(m, g, mm.under_writeback)
    classic.lru_add_drain(m, mm.cpu)
    m.node[0].free_pages += mm.kernel_pages
    for page in range(mm.first, mm.file_first):
        _zap(m, g, page)
    for page in range(mm.file_first, mm.file_first + mm.file_pages):
        page_row(m, page).flags &= ~WRITABLE
    end = mm.file_first + mm.file_pages
    for column in range(BIT_COLUMNS):
        m.bits[mm.first >> 6 : (end + 63) >> 6, column] = 0
    tables = mm.first // PTRS_PER_PTE, (end + PTRS_PER_PTE - 1) // PTRS_PER_PTE
    m.pmds[tables[0] : tables[1]] = 0
    m.shadow_tables[tables[0] : tables[1]] = 0
    for table in range(tables[0], tables[1] if len(m.huge) else 0):
        m.huge[table] &= SPLIT_SPTES
    cached = m.events[g].cached_pages
    m.parent[0].charged -= mm.charged - cached
    mm.charged = cached
    mm.memory_min = mm.memory_low = 0  # a removed memcg protects nothing
    mm.stock = mm.tables = mm.kernel_pages = mm.file_mapped = mm.indirect_shadow_pages = 0
    m.events[g].resident_pages = 0


@inlined
def free_page(m: Machine, g: int, page: int, kind: int) -> None:
    """A page in memory leaves its list, and is free."""
    row = page_row(m, page)
    gen = page_gen(row.state)
    if row.flags & LRU:
        classic.take_off_list(m, g, page)
    elif m.features[0].lru_gen and gen >= 0:
        list_del(m, page)
        change_gen(m.lruvecs[g], gen, -1, kind, folio_pages(row))
    m.node[0].free_pages += 1


@inlined
def _zap(m: Machine, g: int, page: int) -> None:
    """zap_pte_range for an anonymous page: it is freed if it is in memory, else its swap slot is."""
    row = page_row(m, page)
    if is_mapped(m, page) or row.flags & SWAPCACHE:
        free_page(m, g, page, ANON)
        if row.flags & SWAPCACHE:
            give_slot(m, page)
    elif row.shadow != NEVER:
        give_back_swapped(m, g, page)
    row.state = 0
    row.flags = 0
    row.shadow = NEVER


@apart(int64, int64, int64)
def out_of_memory(m: Machine, target: int, task: int, reason: int) -> bool:
    """Kills the guest with the most oom_badness, of equal ones the last; false if none is left to kill.

    ``target``: the guest whose memcg has no room, or PARENT_MEMCG. ``task``: the guest in whose fault this happens (its
    memory is freed when it leaves it: whoever made the access calls :func:`exit_mmap`), -1: none. While a victim has
    not left nobody else is killed.
    """
    chosen = most = -1
    for g in range(len(m.mms)):
        if target != PARENT_MEMCG and g != target:
            continue
        mm = m.mms[g]
        if mm.exited:
            continue
        if mm.oom_reason:
            return True
        points = oom_badness(m, g)
        if points >= most:
            chosen, most = g, points
    if chosen < 0:
        return False
    m.mms[chosen].oom_reason = reason
    m.mms[chosen].oom_tick = m.node[0].tick
    m.events[chosen].oom_kills += 1
    if chosen != task:
        exit_mmap(m, chosen)
    return True
