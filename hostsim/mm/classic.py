"""The classic LRU, which runs where MGLRU is off: an inactive and an active list of anonymous pages a memcg.

A faulted page waits in a per-CPU batch, then joins the head of the inactive list. Being marked accessed twice, or
found young twice at eviction, makes it active (mm/swap.c). An evicted page leaves the lruvec's ``nonresident_age``
as its shadow; if it comes back while that has moved on by no more than the size of the active list, it is active at
once (mm/workingset.c). A page's state byte has the same flags as under MGLRU, but no generation.
"""

from __future__ import annotations

import numpy as np

from coldfleet.hostsim.engine.jit import compiled, inlined, page_row
from coldfleet.hostsim.engine.state import ACTIVE, LRU, REFERENCED, WORKINGSET, Machine, Record
from coldfleet.hostsim.mm.lru import list_add, list_del
from coldfleet.hostsim.mm.workingset import NEVER

PARENT = -1  # row of Machine.classic that stands for the memcg above all guests'
NO_PAGE = -1  # in a CPU's batch: a page that is not a guest's
_COST_OF_IO = 32  # lru_note_cost since 6.6: a page written counts as much as 32 (SWAP_CLUSTER_MAX) pages kept
_AGE_SHIFT = 3  # of nonresident_age in a shadow, above: set, workingset, evicted on behalf of the parent
_AGE_MASK = (1 << (32 - _AGE_SHIFT)) - 1


@inlined
def add_to_list(m: Machine, g: int, page: int) -> None:
    """lruvec_add_folio: the head of the list that PG_active names."""
    row = page_row(m, page)
    active = row.state // ACTIVE & 1
    lru = m.classic[g]
    row.flags |= LRU
    list_add(m, lru.lists + active, page)
    lru.size[active] += 1


@inlined
def take_off_list(m: Machine, g: int, page: int) -> None:
    """lruvec_del_folio, and PG_lru is cleared."""
    row = page_row(m, page)
    row.flags &= ~LRU
    list_del(m, page)
    m.classic[g].size[row.state // ACTIVE & 1] -= 1


@compiled
def _drain_added(m: Machine, c: int) -> None:
    cpu = m.cpus[c]
    for i in range(cpu.added_count):
        if cpu.added_pages[i] != NO_PAGE:
            add_to_list(m, cpu.added_guests[i], cpu.added_pages[i])
    cpu.added_count = 0


@compiled
def _drain_activated(m: Machine, c: int) -> None:
    cpu = m.cpus[c]
    for i in range(cpu.count):
        page = cpu.pages[i]
        if page == NO_PAGE or page_row(m, page).state & ACTIVE:
            continue
        g = cpu.guests[i]
        take_off_list(m, g, page)
        page_row(m, page).state |= ACTIVE
        add_to_list(m, g, page)
        m.events[g].pgactivate += 1
    cpu.count = 0


@compiled
def drain(m: Machine, c: int) -> None:
    """lru_add_drain of a CPU: new pages join their lists, then those marked accessed go to the active list."""
    _drain_added(m, c)
    _drain_activated(m, c)


@compiled
def queue_new(m: Machine, c: int, g: int, page: int) -> None:
    """folio_add_lru: a page waits in the CPU's lru_add batch. NO_PAGE: one of another memcg takes the place."""
    cpu = m.cpus[c]
    cpu.added_pages[cpu.added_count] = page
    cpu.added_guests[cpu.added_count] = g
    cpu.added_count += 1
    if cpu.added_count == m.features[0].lru_batch:
        _drain_added(m, c)


@compiled
def queue_activation(m: Machine, c: int, g: int, page: int) -> None:
    """folio_activate: the same with the lru_activate batch."""
    cpu = m.cpus[c]
    cpu.pages[cpu.count] = page
    cpu.guests[cpu.count] = g
    cpu.count += 1
    if cpu.count == m.features[0].lru_batch:
        _drain_activated(m, c)


@compiled
def mark_page_accessed(m: Machine, g: int, page: int) -> None:
    """folio_mark_accessed: referenced, then active. A page that still waits in lru_add is active at once, uncounted."""
    row = page_row(m, page)
    if not row.state & REFERENCED:
        row.state |= REFERENCED
    elif not row.state & ACTIVE:
        if row.flags & LRU:
            queue_activation(m, m.mms[g].cpu, g, page)
        else:
            row.state |= ACTIVE
        row.state &= ~REFERENCED
        age_nonresident(m, g)


@inlined
def age_nonresident(m: Machine, memcg: int) -> None:
    """workingset_age_nonresident: the inactive list lost a page, seen from the memcg and from all above it."""
    m.classic[memcg].nonresident_age += 1
    if memcg != PARENT:
        m.classic[PARENT].nonresident_age += 1


@inlined
def note_cost(m: Machine, g: int, pages_written: int, pages_kept: int) -> None:
    """lru_note_cost: what reclaim of anonymous pages cost of late, here and above."""
    cost = pages_written * _COST_OF_IO + pages_kept if m.features[0].rotations_cost else pages_written
    for memcg in (g, PARENT):
        lru = m.classic[memcg]
        lru.anon_cost += cost
        if lru.anon_cost > (lru.flushed_size[0] + lru.flushed_size[1]) // 4:
            lru.anon_cost //= 2


@inlined
def leave_shadow(m: Machine, page: int, target: int) -> None:
    """workingset_eviction: the age of the memcg that reclaim was asked to shrink, and whether the page was hot once."""
    row = page_row(m, page)
    workingset = row.state // WORKINGSET & 1
    age = m.classic[target].nonresident_age & _AGE_MASK
    row.shadow = np.uint32(1 | workingset << 1 | (target == PARENT) << 2 | age << _AGE_SHIFT)
    age_nonresident(m, target)


@compiled
def _refault(m: Machine, g: int, page: int) -> None:
    """workingset_refault: the page starts active if it was away for less than the active list would have kept it."""
    row = page_row(m, page)
    shadow: int = np.int64(row.shadow)  # type: ignore[assignment]
    row.shadow = NEVER
    events = m.events[g]
    events.workingset_refault_anon += 1
    evictor = m.classic[PARENT if shadow & 4 else g]
    distance = (evictor.nonresident_age - (shadow >> _AGE_SHIFT)) & _AGE_MASK
    if distance > evictor.flushed_size[1]:
        return
    row.state |= ACTIVE
    age_nonresident(m, g)
    events.workingset_activate_anon += 1
    if shadow & 2:
        row.state |= WORKINGSET
        note_cost(m, g, 1, 0)
        events.workingset_restore_anon += 1


@compiled
def fault_page(m: Machine, g: int, page: int) -> None:
    """A page comes into memory, new or from swap."""
    page_row(m, page).state = 0
    if page_row(m, page).shadow != NEVER:
        _refault(m, g, page)
    queue_new(m, m.mms[g].cpu, g, page)


@compiled
def flush_stats(m: Machine) -> None:
    """mem_cgroup_flush_stats: what the kernel believes of list sizes and activations becomes true."""
    parent = m.classic[PARENT]
    parent.flushed_size[0] = parent.flushed_size[1] = parent.flushed_activations = 0
    for g in range(len(m.mms)):
        lru = m.classic[g]
        lru.flushed_size[0] = lru.size[0]
        lru.flushed_size[1] = lru.size[1]
        lru.flushed_activations = m.events[g].workingset_activate_anon
        parent.flushed_size[0] += lru.size[0]
        parent.flushed_size[1] += lru.size[1]
        parent.flushed_activations += lru.flushed_activations


@inlined
def inactive_is_low(f: Record, lru: Record) -> bool:
    """Whether the active list is too large: more than the inactive one, or sqrt(10 x GiB) times that from 1 GiB on."""
    inactive = lru.flushed_size[0]
    active = lru.flushed_size[1]
    gib = (inactive + active) * f.scale >> 18
    ratio = int(np.sqrt(10 * gib)) if gib else 1
    return inactive * ratio < active
