"""Reclaim from the classic LRU: mm/vmscan.c shrink_lruvec, shrink_inactive_list and shrink_active_list."""

from __future__ import annotations

import numpy as np

from coldfleet.hostsim.engine.jit import compiled, inlined, page_row
from coldfleet.hostsim.engine.state import (
    ACTIVE,
    ANON,
    DEF_PRIORITY,
    FILE,
    FILE_PAGE,
    PARENT_MEMCG,
    PG_DIRTY,
    PG_RECLAIM,
    PG_WRITEBACK,
    REFERENCED,
    WORKINGSET,
    Machine,
    Record,
)
from coldfleet.hostsim.kvm.age_gfn import NONE
from coldfleet.hostsim.kvm.mmu_notifier import ask, is_mapped, take_pg_young
from coldfleet.hostsim.mm.classic import (
    INACTIVE,
    PG_ACTIVE,
    add_to_list,
    age_nonresident,
    classic_head,
    drain,
    flush_stats,
    inactive_is_low,
    leave_shadow,
    note_cost,
    take_off_list,
)
from coldfleet.hostsim.mm.evict import activate_isolated, activate_young, free_batch, unmap_and_write
from coldfleet.hostsim.mm.lru import list_tail
from coldfleet.hostsim.mm.protection import unprotected_part
from coldfleet.hostsim.spec.checks import MAX_SWAPPINESS
from coldfleet.policies import Site

_EVICT = int(Site.EVICT)


@inlined
def _is_young(m: Machine, g: int, page: int) -> bool:
    """folio_referenced: asks all page tables that map the page, and clears their Accessed bits."""
    if not is_mapped(m, page):
        return False
    bit = np.uint64(1) << np.uint64(page & 63)
    young, _ = ask(m, g, page >> 6, bit, _EVICT, 1)
    if len(m.extra_bits):
        young = take_pg_young(m, np.uint64(page >> 6), bit, young)
    return young != NONE


@compiled
def shrink_page(m: Machine, g: int, page: int, reclaim: Record) -> bool:
    """shrink_folio_list for a page off its list: true if it was freed, else it is to return to one.

    A page found young stays, and is made active if it was met young, or marked accessed, before. So is one that can't
    go because it is being written, is a dirty page of a file, or has no slot. What is written asynchronously returns
    to the inactive list, and to its tail when it is written.
    """
    row = page_row(m, page)
    if row.flags & PG_WRITEBACK:
        row.flags |= PG_RECLAIM
        activate_isolated(m, g, page)
        return False
    if not reclaim.ignore_references:
        young = _is_young(m, g, page)
        referenced = row.state & REFERENCED != 0
        row.state = row.state | REFERENCED if young else row.state & ~REFERENCED
        if young:
            if referenced:
                activate_young(m, g, page)
            return False
    if not unmap_and_write(m, g, page):
        return False
    leave_shadow(m, page, reclaim.target)
    row.state = 0
    row.flags &= FILE_PAGE
    reclaim.freed += 1
    return True


@compiled
def shrink_inactive(m: Machine, g: int, kind: int, nr_pages: int, reclaim: Record) -> None:
    """shrink_inactive_list; wakes the flusher if it met nothing but dirty pages of files."""
    drain(m, m.mms[g].cpu)
    events = m.events[g]
    head = classic_head(m, g, kind, INACTIVE)
    written = events.pswpout
    scanned = kept = unqueued_dirty = 0
    reclaim.freed = 0
    while scanned < nr_pages:
        page = list_tail(m, head)
        if page == head:
            break
        scanned += 1
        take_off_list(m, g, page)
        unqueued_dirty += kind == FILE and page_row(m, page).flags & (PG_DIRTY | PG_WRITEBACK) == PG_DIRTY
        if not shrink_page(m, g, page, reclaim):
            m.victims[kept] = page
            kept += 1
    for i in range(kept):
        page = m.victims[i]
        add_to_list(m, g, page)
        if page_row(m, page).state & ACTIVE:
            age_nonresident(m, g)
    if scanned and unqueued_dirty == scanned:
        m.node[0].flusher_woken = 1
    free_batch(m, g, kind, reclaim)
    reclaim.scanned += scanned
    events.pgscan += scanned
    events.pgsteal += reclaim.freed
    if kind == FILE:
        events.pgscan_file += scanned
        events.pgsteal_file += reclaim.freed
    note_cost(m, g, kind, events.pswpout - written, kept)


@compiled
def shrink_active(m: Machine, g: int, kind: int, nr_pages: int) -> None:
    """shrink_active_list: the oldest active pages become inactive, young or not; their Accessed bits are cleared.

    Only pages of programs, of which there are none here, would get another trip around the list for being young.
    """
    drain(m, m.mms[g].cpu)
    head = classic_head(m, g, kind, PG_ACTIVE)
    taken = 0
    while taken < nr_pages:
        page = list_tail(m, head)
        if page == head:
            break
        taken += 1
        take_off_list(m, g, page)
        m.events[g].rmap_walks += is_mapped(m, page)
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


@compiled
def scan_balance(m: Machine, g: int, reclaim: Record) -> tuple[int, int, int]:
    """What get_scan_count scans of the anonymous lists, and of the file lists, as shares of the third figure.

    By default each type is weighed by swappiness and by what reclaiming the other one cost. Without a free slot there
    are only files, and that is what swappiness 0 wants, unless it is the host that is short of memory.
    """
    swappiness = m.lruvecs[g].swappiness
    if m.node[0].free_slots < 1 or not (swappiness or reclaim.root):
        return 0, 1, 1
    if swappiness > MAX_SWAPPINESS:
        return 1, 0, 1
    if swappiness and not reclaim.priority:
        return 1, 1, 1
    if reclaim.file_is_tiny:
        return 1, 0, 1
    if reclaim.cache_trim_mode:
        return 0, 1, 1
    total = reclaim.cost[ANON] + reclaim.cost[FILE]
    anon_cost, file_cost = total + reclaim.cost[ANON], total + reclaim.cost[FILE]
    total = anon_cost + file_cost
    anon = swappiness * (total + 1) // (anon_cost + 1)
    file = (MAX_SWAPPINESS - swappiness) * (total + 1) // (file_cost + 1)
    return anon, file, anon + file


@compiled
def get_scan_count(m: Machine, g: int, reclaim: Record) -> None:
    """get_scan_count: fills ``reclaim.to_scan``. Of a memcg whose guest was killed at least a batch is scraped out."""
    f = m.features[0]
    anon, file, whole = scan_balance(m, g, reclaim)
    for kind in range(2):
        share = anon if kind == ANON else file
        for active in range(2):
            size = m.classic[g].size[kind, active]
            pages = share_to_scan(f, unprotected_part(m, g, size, reclaim), reclaim) * share
            if m.mms[g].exited:
                pages = max(pages, min(size, f.swap_cluster_max) * share) + whole - 1
            pages //= whole
            reclaim.to_scan[kind, active] = reclaim.goals[kind, active] = pages


@inlined
def _keep_proportion(reclaim: Record) -> bool:
    """A visit has what it wants: it gives up the type of which less is left, and scans the other one to the same share
    of its goal. False if one of them is through."""
    left, goals = reclaim.to_scan, reclaim.goals
    left_anon, left_file = left[ANON, 0] + left[ANON, 1], left[FILE, 0] + left[FILE, 1]
    if not left_anon or not left_file:
        return False
    less = ANON if left_file > left_anon else FILE
    percentage = min(left_anon, left_file) * 100 // (goals[less, 0] + goals[less, 1] + 1)
    for active in range(2):
        left[less, active] = 0
        scanned = goals[1 - less, active] - left[1 - less, active]
        left[1 - less, active] = max(goals[1 - less, active] * (100 - percentage) // 100 - scanned, 0)
    return True


@compiled
def shrink_lruvec(m: Machine, g: int, reclaim: Record) -> None:
    """One visit to a lruvec at one priority: the lists in turn, until it has enough or their shares are scanned.

    The first pass of a task's reclaim of the whole host scans all of its share.
    """
    f = m.features[0]
    get_scan_count(m, g, reclaim)
    left = reclaim.to_scan
    enough = reclaim.nr_reclaimed + reclaim.nr_to_reclaim
    scans_all = reclaim.root and not reclaim.kswapd and reclaim.priority == DEF_PRIORITY
    while left[ANON, INACTIVE] or left[FILE, INACTIVE] or left[FILE, PG_ACTIVE]:
        for kind in range(2):
            for active in range(2):
                nr_pages = min(left[kind, active], f.swap_cluster_max)
                if not nr_pages:
                    continue
                left[kind, active] -= nr_pages
                if active == INACTIVE:
                    shrink_inactive(m, g, kind, nr_pages, reclaim)
                elif reclaim.may_deactivate[kind]:
                    shrink_active(m, g, kind, nr_pages)
                else:
                    reclaim.skipped_deactivate = 1
        if reclaim.nr_reclaimed >= enough and not scans_all and not _keep_proportion(reclaim):
            break
    if m.node[0].swap_pages and inactive_is_low(f, m.classic[g], ANON):
        shrink_active(m, g, ANON, f.swap_cluster_max)


@compiled
def age_active_anon(m: Machine) -> None:
    """kswapd before each pass: pages get a chance to be found young before they are evicted."""
    f = m.features[0]
    if m.node[0].swap_pages and inactive_is_low(f, m.classic[PARENT_MEMCG], ANON):
        for g in range(len(m.mms)):
            shrink_active(m, g, ANON, f.swap_cluster_max)


@compiled
def prepare_pass(m: Machine, reclaim: Record) -> None:
    """prepare_scan_control: active pages of a type may go if its inactive list is short, or if refaults since the last
    call show that the working set changes. By statistics, which may be old.

    If so many inactive file pages are there that a pass looks at some, and the active ones need not go, it takes them
    first. If the host has hardly any file pages, but inactive anonymous ones, it leaves the former alone.
    """
    f, node = m.features[0], m.node[0]
    if f.reclaim_flushes_stats:
        flush_stats(m)
    own = m.classic[reclaim.target]
    for kind in range(2):
        changes = own.flushed_activations[kind] != own.seen_activations[kind]
        reclaim.may_deactivate[kind] = reclaim.force_deactivate or changes or inactive_is_low(f, own, kind)
        reclaim.cost[kind] = own.cost[kind]
    inactive = own.flushed_size[FILE, INACTIVE] * f.scale
    reclaim.cache_trim_mode = inactive >> reclaim.priority > 0 and not reclaim.may_deactivate[FILE]
    reclaim.file_is_tiny = 0
    if reclaim.root:
        file, inactive_anon = 0, 0
        for g in range(len(m.mms)):
            file += m.classic[g].size[FILE, INACTIVE] + m.classic[g].size[FILE, PG_ACTIVE]
            inactive_anon += m.classic[g].size[ANON, INACTIVE]
        few = file + node.free_pages <= node.high_pages and not reclaim.may_deactivate[ANON]
        reclaim.file_is_tiny = few and inactive_anon * f.scale >> reclaim.priority > 0


@compiled
def note_refaults(m: Machine, target: int) -> None:
    """snapshot_refaults: what the next call of reclaim will not take for a change of the working set."""
    own = m.classic[target]
    for kind in range(2):
        own.seen_activations[kind] = own.flushed_activations[kind]


@compiled
def begins_anew(m: Machine, reclaim: Record) -> bool:
    """do_try_to_free_pages after its last priority: remembers the refaults. True if it has to go through all
    priorities once more, because nothing was reclaimed and active pages were spared."""
    note_refaults(m, reclaim.target)
    if reclaim.nr_reclaimed or not reclaim.skipped_deactivate:
        return False
    reclaim.skipped_deactivate = 0
    reclaim.force_deactivate = 1
    return True
