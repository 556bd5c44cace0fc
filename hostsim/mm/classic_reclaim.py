"""Reclaim from the classic LRU: mm/vmscan.c shrink_lruvec, shrink_inactive_list and shrink_active_list."""

from __future__ import annotations

import numpy as np

from coldfleet.hostsim.engine.jit import compiled, inlined, page_row
from coldfleet.hostsim.engine.state import ACTIVE, MAX_SWAPPINESS, REFERENCED, WORKINGSET, Machine, Record
from coldfleet.hostsim.kvm.age_gfn import NONE
from coldfleet.hostsim.kvm.mmu_notifier import ask, take_pg_young, unmap
from coldfleet.hostsim.mm.classic import (
    add_to_list,
    age_nonresident,
    drain,
    flush_stats,
    inactive_is_low,
    leave_shadow,
    note_cost,
    take_off_list,
)
from coldfleet.hostsim.mm.lru import list_tail
from coldfleet.hostsim.mm.swap_slots import give_slot, store, take_slot
from coldfleet.policies import Site

_EVICT = int(Site.EVICT)


@inlined
def _is_young(m: Machine, g: int, page: int) -> bool:
    """folio_referenced: asks all page tables that map the page, and clears their Accessed bits."""
    bit = np.uint64(1) << np.uint64(page & 63)
    young, _ = ask(m, g, page >> 6, bit, _EVICT)
    if m.mms[g].extras:
        young = take_pg_young(m, np.uint64(page >> 6), bit, young)
    return young != NONE


@inlined
def swap_out(m: Machine, g: int, page: int, reclaim: Record) -> bool:
    """Unmaps a page and writes it to zram, which is done at once; false if there is no room for it.

    A simplification: it stays mapped then, where the kernel would leave it in the swap cache if zram's pool is full.
    """
    if not take_slot(m):
        return False
    if not store(m, g, page):
        give_slot(m)
        return False
    leave_shadow(m, page, reclaim.target)
    unmap(m, page)
    page_row(m, page).state = 0
    page_row(m, page).flags = 0
    events = m.events[g]
    events.resident_pages -= 1
    events.pswpout += 1
    m.mms[g].unmapped += 1
    m.node[0].free_pages += 1
    m.mms[g].charged -= 1
    m.parent[0].charged -= 1
    reclaim.nr_reclaimed += 1
    return True


@compiled
def shrink_inactive(m: Machine, g: int, nr_pages: int, reclaim: Record) -> None:
    """shrink_inactive_list: old pages go; a young one stays, and is made active if it was met young before."""
    drain(m, m.mms[g].cpu)
    head = m.classic[g].lists
    scanned = kept = 0
    while scanned < nr_pages:
        page = list_tail(m, head)
        if page == head:
            break
        scanned += 1
        take_off_list(m, g, page)
        young = _is_young(m, g, page)
        if not young and swap_out(m, g, page, reclaim):
            m.events[g].pgsteal += 1
            continue
        row = page_row(m, page)
        if not young or row.state & REFERENCED:
            row.state |= ACTIVE
            m.events[g].pgactivate += 1
        row.state = row.state | REFERENCED if young else row.state & ~REFERENCED
        m.victims[kept] = page
        kept += 1
    for i in range(kept):
        page = m.victims[i]
        add_to_list(m, g, page)
        if page_row(m, page).state & ACTIVE:
            age_nonresident(m, g)
    m.events[g].pgscan += scanned
    note_cost(m, g, scanned - kept, kept)


@compiled
def shrink_active(m: Machine, g: int, nr_pages: int) -> None:
    """shrink_active_list: the oldest active pages become inactive, young or not; their Accessed bits are cleared."""
    drain(m, m.mms[g].cpu)
    head = m.classic[g].lists + 1
    taken = 0
    while taken < nr_pages:
        page = list_tail(m, head)
        if page == head:
            break
        taken += 1
        take_off_list(m, g, page)
        _is_young(m, g, page)
        page_row(m, page).state = (page_row(m, page).state & ~ACTIVE) | WORKINGSET
        add_to_list(m, g, page)
    m.events[g].pgrefill += taken
    m.events[g].pgdeactivate += taken


@inlined
def share_to_scan(f: Record, pages: int, reclaim: Record) -> int:
    """The pages of a list that a visit looks at: list >> priority.

    Where a page stands for several (hostsim.sampling), that of the whole list counts. Direct reclaim looks at as many,
    or so many fewer as its calls are smaller; other reclaim at a share, but no less than a batch if the whole is one.
    """
    of_whole = pages * f.scale >> reclaim.priority
    divisor = f.call_scale if reclaim.task >= 0 else f.scale
    share = (of_whole + divisor - 1) // divisor
    return min(max(share, min(of_whole, f.min_lru_batch)), pages)


@inlined
def scan_share(anon_cost: int, swappiness: int) -> tuple[int, int]:
    """get_scan_count: the share of anonymous pages in what is scanned, as (numerator, denominator).

    Each type is weighed by what reclaiming the other one cost; files cost nothing here.
    """
    total = 3 * anon_cost + 1
    anon = swappiness * total // (2 * anon_cost + 1)
    file = (MAX_SWAPPINESS - swappiness) * total // (anon_cost + 1)
    return anon, anon + file


@compiled
def shrink_lruvec(m: Machine, g: int, reclaim: Record) -> None:
    """One visit to a lruvec at one priority: the two lists alternately, until the inactive one's share is scanned."""
    f = m.features[0]
    lru = m.classic[g]
    nr_inactive = share_to_scan(f, lru.size[0], reclaim)
    nr_active = share_to_scan(f, lru.size[1], reclaim)
    if not reclaim.swappiness:
        nr_inactive = nr_active = 0
    elif reclaim.priority:
        share, whole = scan_share(m.classic[reclaim.target].anon_cost, reclaim.swappiness)
        nr_inactive = nr_inactive * share // whole
        nr_active = nr_active * share // whole
    enough = reclaim.nr_reclaimed + reclaim.nr_to_reclaim
    while nr_inactive and reclaim.nr_reclaimed < enough:
        nr_pages = min(nr_inactive, f.swap_cluster_max)
        shrink_inactive(m, g, nr_pages, reclaim)
        nr_inactive -= nr_pages
        nr_pages = min(nr_active, f.swap_cluster_max)
        if nr_pages and reclaim.may_deactivate:
            shrink_active(m, g, nr_pages)
        elif nr_pages:
            reclaim.skipped_deactivate = 1
        nr_active -= nr_pages
    if inactive_is_low(m.features[0], lru):
        shrink_active(m, g, f.swap_cluster_max)


@compiled
def prepare_pass(m: Machine, reclaim: Record) -> None:
    """prepare_scan_control: active pages may go if the inactive list is short, or if refaults since the last call show
    that the working set changes. By statistics, which may be old."""
    if m.features[0].reclaim_flushes_stats:
        flush_stats(m)
    lru = m.classic[reclaim.target]
    changes = lru.flushed_activations != lru.seen_activations
    reclaim.may_deactivate = reclaim.force_deactivate or changes or inactive_is_low(m.features[0], lru)


@compiled
def begins_anew(m: Machine, reclaim: Record) -> bool:
    """do_try_to_free_pages after its last priority: remembers the refaults. True if all priorities shall be gone
    through once more, because nothing was reclaimed and active pages were spared."""
    lru = m.classic[reclaim.target]
    lru.seen_activations = lru.flushed_activations
    if reclaim.nr_reclaimed or not reclaim.skipped_deactivate:
        return False
    reclaim.skipped_deactivate = 0
    reclaim.force_deactivate = 1
    return True
