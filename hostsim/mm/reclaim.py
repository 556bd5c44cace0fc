"""Who calls eviction, and how much it asks for: reclaim of a memcg, memory.reclaim and the debugfs file."""

from __future__ import annotations

from numba import int64

from coldfleet.hostsim.engine.far_calls import RECLAIM_RECORD, apart
from coldfleet.hostsim.engine.jit import compiled, inlined, spliced
from coldfleet.hostsim.engine.state import DEF_PRIORITY, MIN_NR_GENS, NO_TASK, PARENT_MEMCG, TASK, Machine, Record
from coldfleet.hostsim.mm import classic_reclaim
from coldfleet.hostsim.mm.aging import age
from coldfleet.hostsim.mm.classic_reclaim import share_to_scan
from coldfleet.hostsim.mm.evict import evict_pages, oldest_evictable
from coldfleet.hostsim.mm.lru import drain, gen_of
from coldfleet.hostsim.mm.pid import is_evictable
from coldfleet.hostsim.mm.protection import goes_below_low, is_protected_by_now, may_reclaim, unprotected_part
from coldfleet.hostsim.mm.scheduler import switch_before_aging
from coldfleet.hostsim.mm.swap_slots import get_swappiness
from coldfleet.hostsim.mm.writeback import flush, wait_for_writes

MAX_RECLAIM_RETRIES = 16


@inlined
def lruvec_sizes(lruvec: Record, swappiness: int) -> tuple[int, int, int]:
    """Evictable pages of a lruvec: all, those of the youngest generation, those of the third."""
    total = young = old = 0
    for kind in range(2):
        if not is_evictable(kind, swappiness):
            continue
        for seq in range(lruvec.min_seq[kind], lruvec.max_seq + 1):
            pages = max(lruvec.nr_pages[gen_of(seq), kind], 0)
            total += pages
            if seq == lruvec.max_seq:
                young += pages
            elif seq + MIN_NR_GENS == lruvec.max_seq:
                old += pages
    return total, young, old


@inlined
def should_run_aging(f: Record, lruvec: Record, swappiness: int) -> tuple[bool, int]:
    """Whether the cold pages run out; and the pages that may be scanned (0 if aging must come first)."""
    oldest = oldest_evictable(f, lruvec, swappiness)
    total, young, old = lruvec_sizes(lruvec, swappiness)
    if oldest + MIN_NR_GENS > lruvec.max_seq:
        return True, 0 if f.aging_ends_visit else total
    if f.aging_by_generations_only:
        return oldest + MIN_NR_GENS == lruvec.max_seq, total
    if oldest + MIN_NR_GENS < lruvec.max_seq:
        return False, total
    return young * MIN_NR_GENS > total or old * (MIN_NR_GENS + 2) < total, total


@compiled
def _age(m: Machine, g: int, reclaim: Record) -> None:
    """An aging in the course of reclaim."""
    reclaim.walk = reclaim.walk_aged = 1
    switch_before_aging(m, g, reclaim)
    reclaim.checked = 0
    age(m, g, reclaim.swappiness, False)


@compiled
def get_nr_to_scan(m: Machine, g: int, reclaim: Record) -> int:
    """Pages to scan on this visit; ages first if cold pages run out. -1 ends the visit."""
    f = m.features[0]
    lruvec = m.lruvecs[g]
    if is_protected_by_now(m, g, reclaim):
        return -1
    aging, total = should_run_aging(f, lruvec, reclaim.swappiness)
    total = unprotected_part(m, g, total, reclaim)
    if not aging:
        return share_to_scan(f, total, reclaim)
    if reclaim.priority < DEF_PRIORITY:
        if reclaim.kswapd and f.kswapd_ages_first:
            return 0
        _age(m, g, reclaim)
        return -1 if f.aging_ends_visit else share_to_scan(f, total, reclaim)
    two_left = oldest_evictable(f, lruvec, reclaim.swappiness) + MIN_NR_GENS > lruvec.max_seq
    return 0 if two_left else share_to_scan(f, total, reclaim)


@compiled
def _shrink_by_goal(m: Machine, g: int, reclaim: Record) -> None:
    """A visit that looks at as many pages as it set out to, in batches of 64, and ages on the way; it stops at its
    target, unlike its predecessors (7.3.4, as the recordings show it)."""
    f = m.features[0]
    lruvec = m.lruvecs[g]
    _, total = should_run_aging(f, lruvec, reclaim.swappiness)
    left = share_to_scan(f, unprotected_part(m, g, total, reclaim), reclaim)
    aged = False
    while left > 0:
        aging, _ = should_run_aging(f, lruvec, reclaim.swappiness)
        two_left = oldest_evictable(f, lruvec, reclaim.swappiness) + MIN_NR_GENS > lruvec.max_seq
        if two_left or (aging and reclaim.priority < DEF_PRIORITY):
            _age(m, g, reclaim)
            aged = True
        progress = evict_pages(m, g, reclaim, reclaim.swappiness, min(left, f.min_lru_batch))
        if not progress or (aged and reclaim.root):
            break
        left -= progress
        if reclaim.nr_reclaimed >= reclaim.nr_to_reclaim or is_protected_by_now(m, g, reclaim):
            break


@compiled
def _shrink_in_batches(m: Machine, g: int, reclaim: Record) -> None:
    """try_to_shrink_lruvec: how much to scan is asked anew after every batch; since 6.12 the target doesn't stop it."""
    f = m.features[0]
    scanned = 0
    first_seq = m.lruvecs[g].max_seq
    while True:
        nr_to_scan = get_nr_to_scan(m, g, reclaim)
        if nr_to_scan <= 0:
            break
        progress = evict_pages(m, g, reclaim, reclaim.swappiness, nr_to_scan)
        if not progress:
            break
        scanned += progress
        if scanned >= nr_to_scan or (reclaim.root and f.memcg_lru and reclaim.nr_reclaimed >= reclaim.nr_to_reclaim):
            break
        enough = reclaim.swapped and reclaim.nr_reclaimed >= reclaim.nr_to_reclaim
        if f.stops_once_swapped_enough and (enough or m.lruvecs[g].max_seq > first_seq + 1):
            break


@apart(int64, RECLAIM_RECORD, needed=lambda m: not m.features[0]["lru_gen"])
def _shrink_classic(m: Machine, g: int, reclaim: Record) -> None:
    classic_reclaim.shrink_lruvec(m, g, reclaim)


@apart(int64, RECLAIM_RECORD)
def shrink_lruvec(m: Machine, g: int, reclaim: Record) -> None:
    """lru_gen_shrink_lruvec: one visit to a lruvec at one priority. Of a guest that was killed only files are left."""
    f = m.features[0]
    if m.mms[g].exited and not m.events[g].cached_pages:
        return
    if not f.lru_gen:
        _shrink_classic(m, g, reclaim)
        return
    reclaim.swappiness = get_swappiness(m, g)
    drain(m, m.mms[g].cpu)
    reclaim.walk = reclaim.kswapd or (reclaim.proactive and f.proactive_has_walk)
    reclaim.walk_aged = reclaim.kswapd  # it keeps its walk object
    reclaim.swapped = 0
    if f.scan_goal_fixed:
        _shrink_by_goal(m, g, reclaim)
    else:
        _shrink_in_batches(m, g, reclaim)
    if f.wakes_flusher and reclaim.unqueued_dirty and reclaim.unqueued_dirty == reclaim.file_taken:
        m.node[0].flusher_woken = 1


@inlined
def _first_and_last(m: Machine, target: int) -> tuple[int, int]:
    """The guests that a reclaim of ``target`` visits."""
    return (0, len(m.mms) - 1) if target == PARENT_MEMCG else (target, target)


@compiled
def wait_for_io(m: Machine, target: int) -> None:
    """A pass that has not freed enough waits until what is being written is written: the next one can free it."""
    first, last = _first_and_last(m, target)
    for g in range(first, last + 1):
        wait_for_writes(m, g)


@compiled
def wait_for_flusher(m: Machine, target: int) -> None:
    """A reclaim that freed nothing waits until the flusher has written the dirty pages of the files."""
    first, last = _first_and_last(m, target)
    for g in range(first, last + 1):
        flush(m, g)
        wait_for_writes(m, g)


@spliced
def shrink_memcgs(m: Machine, target: int, reclaim: Record) -> None:
    """shrink_node_memcgs at one priority: the target's lruvec, or those below the parent.

    With partial walks reclaim goes on after the member that it visited last, and stops as soon as it has enough.
    """
    if not m.features[0].lru_gen:
        classic_reclaim.prepare_pass(m, reclaim)
    if target != PARENT_MEMCG:
        shrink_lruvec(m, target, reclaim)
        return
    guests = len(m.mms)
    if not m.features[0].partial_tree_walk:
        for g in range(guests):
            if may_reclaim(m, g, reclaim):
                shrink_lruvec(m, g, reclaim)
        return
    parent = m.parent[0]
    first = parent.position + 1
    while 0 < first <= guests and not m.mms[first - 1].online:  # whoever isn't there is no member
        first += 1
    for member in range(0 if first > guests else first, guests + 1):
        if member > 0 and may_reclaim(m, member - 1, reclaim):  # the parent has no pages of its own
            shrink_lruvec(m, member - 1, reclaim)
        parent.position = member
        if reclaim.nr_reclaimed >= reclaim.nr_to_reclaim:
            return
    parent.position = -1


@apart(int64, int64, int64)
def try_to_free_pages(m: Machine, target: int, nr_pages: int, task: int) -> int:
    """try_to_free_mem_cgroup_pages: priorities 12 to 0 until at least 32 pages are reclaimed; returns how many.

    ``target``: a guest's memcg, or PARENT_MEMCG. ``task``: the guest in whose fault this happens; NO_TASK: this is
    memory.reclaim.
    """
    reclaim = m.reclaim[TASK]
    reclaim.nr_to_reclaim = max(nr_pages, m.features[0].swap_cluster_max)
    reclaim.nr_reclaimed = 0
    reclaim.checked = 0
    reclaim.task = task
    reclaim.proactive = task < 0
    reclaim.target = target
    reclaim.skipped_deactivate = reclaim.force_deactivate = 0
    reclaim.low_skipped = reclaim.low_reclaim = 0
    again = True
    while again:
        reclaim.priority = DEF_PRIORITY
        while reclaim.priority >= 0:
            reclaim.file_taken = reclaim.unqueued_dirty = 0
            shrink_memcgs(m, target, reclaim)
            if reclaim.nr_reclaimed >= reclaim.nr_to_reclaim:
                break
            wait_for_io(m, target)
            reclaim.priority -= 1
        again = (not m.features[0].lru_gen and classic_reclaim.begins_anew(m, reclaim)) or goes_below_low(reclaim)
    if not reclaim.nr_reclaimed:
        wait_for_flusher(m, target)
    return reclaim.nr_reclaimed


@compiled
def memory_reclaim(m: Machine, target: int, nr_pages: int) -> int:
    """memory.reclaim: asks again until that much is reclaimed; returns the pages reclaimed."""
    reclaimed = 0
    retries = MAX_RECLAIM_RETRIES
    while reclaimed < nr_pages:
        left = nr_pages - reclaimed
        got = try_to_free_pages(m, target, left // 4 if m.features[0].reclaim_request_quarter else left, NO_TASK)
        if got == 0:
            if retries == 0:
                break
            retries -= 1
        reclaimed += got
    return reclaimed


@compiled
def debugfs_age(m: Machine, g: int, swappiness: int, force_scan: bool) -> None:
    """`+ memcg node max_seq swappiness force_scan` written to lru_gen."""
    drain(m, m.mms[g].cpu)
    age(m, g, swappiness, force_scan)


@compiled
def debugfs_evict(m: Machine, g: int, seq: int, swappiness: int, nr_pages: int) -> int:
    """`- memcg node seq swappiness nr` written to lru_gen; returns the pages reclaimed."""
    f = m.features[0]
    drain(m, m.mms[g].cpu)
    lruvec = m.lruvecs[g]
    reclaim = m.reclaim[TASK]
    reclaim.target = g
    reclaim.nr_to_reclaim = nr_pages
    reclaim.nr_reclaimed = 0
    reclaim.walk = 1
    reclaim.walk_aged = 0
    reclaim.swappiness = swappiness
    reclaim.priority = 0
    while reclaim.nr_reclaimed < nr_pages and oldest_evictable(f, lruvec, swappiness) <= seq:
        if not evict_pages(m, g, reclaim, swappiness, nr_pages - reclaim.nr_reclaimed):
            break
    return reclaim.nr_reclaimed
