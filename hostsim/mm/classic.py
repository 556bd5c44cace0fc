"""The classic LRU, which runs where MGLRU is off: an inactive and an active list of each type, ANON and FILE, a memcg.

A new page waits in a per-CPU batch, then joins the head of the inactive list. Being marked accessed twice, or found
young twice at eviction, makes it active (mm/swap.c). An evicted page leaves the lruvec's ``nonresident_age`` as its
shadow; if it comes back while that has moved on by no more than the pages that it could have been kept for, it is
active at once (mm/workingset.c). A page's state byte has the same flags as under MGLRU, but no generation.
"""

from __future__ import annotations

import numpy as np

from coldfleet.hostsim.engine.jit import compiled, inlined, page_row
from coldfleet.hostsim.engine.state import ACTIVE, ANON, BUSY, FILE, LRU, REFERENCED, WORKINGSET, Machine, Record
from coldfleet.hostsim.mm import lru
from coldfleet.hostsim.mm.lru import list_add, list_add_tail, list_del, page_kind
from coldfleet.hostsim.mm.workingset import NEVER, count_activated

PARENT = -1  # row of Machine.classic that stands for the memcg above all guests'
NO_PAGE = -1  # in a CPU's batch: a page that is not a guest's
INACTIVE, PG_ACTIVE = 0, 1  # the lists of a type
_COST_OF_IO = 32  # lru_note_cost since 6.6: a page written counts as much as 32 (SWAP_CLUSTER_MAX) pages kept
_AGE_SHIFT = 3  # of nonresident_age in a shadow, above: set, workingset, evicted on behalf of the parent
_AGE_MASK = (1 << (32 - _AGE_SHIFT)) - 1


@inlined
def classic_head(m: Machine, g: int, kind: int, active: int) -> int:
    """The row of ``pages`` that is the head of one of a memcg's lists."""
    return m.classic[g].lists + kind * 2 + active


@inlined
def add_to_list(m: Machine, g: int, page: int) -> None:
    """lruvec_add_folio: the head of the list that PG_active names."""
    row = page_row(m, page)
    kind, active = page_kind(row), row.state // ACTIVE & 1
    row.flags |= LRU
    list_add(m, classic_head(m, g, kind, active), page)
    m.classic[g].size[kind, active] += 1


@inlined
def take_off_list(m: Machine, g: int, page: int) -> None:
    """lruvec_del_folio, and PG_lru is cleared."""
    row = page_row(m, page)
    row.flags &= ~LRU
    list_del(m, page)
    m.classic[g].size[page_kind(row), row.state // ACTIVE & 1] -= 1


@compiled
def rotate(m: Machine, g: int, page: int) -> None:
    """lru_move_tail_fn: to where eviction finds it first."""
    take_off_list(m, g, page)
    row = page_row(m, page)
    kind = page_kind(row)
    row.state &= ~ACTIVE
    row.flags |= LRU
    list_add_tail(m, classic_head(m, g, kind, INACTIVE), page)
    m.classic[g].size[kind, INACTIVE] += 1


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
        if page == NO_PAGE:
            continue
        page_row(m, page).flags &= ~BUSY
        if page_row(m, page).state & ACTIVE:
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
def lru_add_drain(m: Machine, c: int) -> None:
    """The same under whichever LRU is in use."""
    if m.features[0].lru_gen:
        lru.drain(m, c)
    else:
        drain(m, c)


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
    """folio_activate: the same with the lru_activate batch, which holds a reference."""
    cpu = m.cpus[c]
    if page != NO_PAGE:
        page_row(m, page).flags |= BUSY
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
def note_cost(m: Machine, g: int, kind: int, pages_written: int, pages_kept: int) -> None:
    """lru_note_cost: the recent cost of reclaiming a type of pages, here and above; it fades faster on short lists."""
    cost = pages_written * _COST_OF_IO + pages_kept if m.features[0].rotations_cost else pages_written
    for memcg in (g, PARENT):
        own = m.classic[memcg]
        own.cost[kind] += cost
        if own.cost[ANON] + own.cost[FILE] > (list_pages(own, ANON) + list_pages(own, FILE)) // 4:
            own.cost[ANON] //= 2
            own.cost[FILE] //= 2


@inlined
def list_pages(own: Record, kind: int) -> int:
    """Pages on both lists of a type, by the statistics."""
    return own.flushed_size[kind, INACTIVE] + own.flushed_size[kind, PG_ACTIVE]


@inlined
def leave_shadow(m: Machine, page: int, target: int) -> None:
    """workingset_eviction: the age of the memcg that reclaim was asked to shrink, and whether the page was hot once."""
    row = page_row(m, page)
    workingset = row.state // WORKINGSET & 1
    age = m.classic[target].nonresident_age & _AGE_MASK
    row.shadow = np.uint32(1 | workingset << 1 | (target == PARENT) << 2 | age << _AGE_SHIFT)
    age_nonresident(m, target)


@inlined
def _would_have_kept(m: Machine, evictor: Record, kind: int) -> int:
    """Pages that could have made room for a refaulting one: the active ones of its type, and both lists of the other.

    Anonymous pages count only if there are free slots for them. The slot of the page itself, which a synchronous device
    has back by now, is not free yet.
    """
    size = evictor.flushed_size
    own_slot = kind == ANON and not m.node[0].async_swap
    could_swap = m.node[0].free_slots > own_slot
    if kind == ANON:
        return list_pages(evictor, FILE) + (size[ANON, PG_ACTIVE] if could_swap else 0)
    return size[FILE, PG_ACTIVE] + (list_pages(evictor, ANON) if could_swap else 0)


@compiled
def _refault(m: Machine, g: int, page: int) -> None:
    """workingset_refault: the page starts active if all the memory could have kept it for so long."""
    row = page_row(m, page)
    kind = page_kind(row)
    shadow: int = np.int64(row.shadow)  # type: ignore[assignment]
    row.shadow = NEVER
    events = m.events[g]
    if kind == ANON:
        events.workingset_refault_anon += 1
    else:
        events.workingset_refault_file += 1
    evictor = m.classic[PARENT if shadow & 4 else g]
    distance = (evictor.nonresident_age - (shadow >> _AGE_SHIFT)) & _AGE_MASK
    if distance > _would_have_kept(m, evictor, kind):
        return
    row.state |= ACTIVE
    age_nonresident(m, g)
    count_activated(events, kind, 1)
    if shadow & 2:
        row.state |= WORKINGSET
        note_cost(m, g, kind, 1, 0)
        if kind == ANON:
            events.workingset_restore_anon += 1
        else:
            events.workingset_restore_file += 1


@compiled
def add_new(m: Machine, g: int, page: int) -> None:
    """A page comes into memory: new, from swap, or from its file."""
    page_row(m, page).state = 0
    if page_row(m, page).shadow != NEVER:
        _refault(m, g, page)
    queue_new(m, m.mms[g].cpu, g, page)


@compiled
def flush_stats(m: Machine) -> None:
    """mem_cgroup_flush_stats: what the kernel believes of list sizes and activations becomes true."""
    parent = m.classic[PARENT]
    for kind in (ANON, FILE):
        parent.flushed_activations[kind] = 0
        for active in (INACTIVE, PG_ACTIVE):
            parent.flushed_size[kind, active] = 0
    for g in range(len(m.mms)):
        own = m.classic[g]
        own.flushed_activations[ANON] = m.events[g].workingset_activate_anon
        own.flushed_activations[FILE] = m.events[g].workingset_activate_file
        for kind in (ANON, FILE):
            parent.flushed_activations[kind] += own.flushed_activations[kind]
            for active in (INACTIVE, PG_ACTIVE):
                own.flushed_size[kind, active] = own.size[kind, active]
                parent.flushed_size[kind, active] += own.size[kind, active]


@inlined
def inactive_is_low(f: Record, own: Record, kind: int) -> bool:
    """Whether a type's active list is too large: more than the inactive one, or sqrt(10 x GiB) times that from 1 GiB
    on."""
    inactive = own.flushed_size[kind, INACTIVE]
    active = own.flushed_size[kind, PG_ACTIVE]
    gib = (inactive + active) * f.scale >> 18
    ratio = int(np.sqrt(10 * gib)) if gib else 1
    return inactive * ratio < active
