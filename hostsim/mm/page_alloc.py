"""A page for a guest, on a host whose memory may be limited (mm/page_alloc.c, __alloc_pages_slowpath).

Below the low watermark kswapd is woken, unless it has failed too often. Where nothing takes time it is done at once,
and a task reclaims for itself only if kswapd finds nothing. On a clock kswapd comes when it has a CPU, and who
allocates below the min watermark meanwhile reclaims directly. When that fails, too, the OOM killer comes.
"""

from __future__ import annotations

from numba import boolean, int64

from coldfleet.hostsim.engine.far_calls import apart
from coldfleet.hostsim.engine.jit import compiled, inlined
from coldfleet.hostsim.engine.state import (
    ANON,
    DEF_PRIORITY,
    FILE,
    MAX_NR_GENS,
    PARENT_MEMCG,
    PTRS_PER_PTE,
    TASK,
    Machine,
)
from coldfleet.hostsim.mm.classic import flush_stats
from coldfleet.hostsim.mm.kswapd import NOBODY, balance_pgdat, begin_pass, initial_priority, visit_next
from coldfleet.hostsim.mm.memcontrol import charge, charge_huge
from coldfleet.hostsim.mm.oom_kill import OOM_HOST, out_of_memory
from coldfleet.hostsim.mm.protection import goes_below_low
from coldfleet.hostsim.mm.reclaim import MAX_RECLAIM_RETRIES, try_to_free_pages, wait_for_flusher, wait_for_io
from coldfleet.hostsim.mm.scheduler import kswapd_waits


@inlined
def alloc_page(m: Machine, g: int) -> bool:
    """A page for a guest: charged to its memcg and, where the host's memory is limited, taken from the free ones.

    False if the guest was killed for it: then it has none, and what was charged is given back as it exits.
    """
    charge(m, g)
    node = m.node[0]
    if node.high_pages:
        node.free_pages -= 1
        if node.free_pages < node.low_pages:
            _alloc_slowly(m, g)
    if m.mms[g].oom_reason:
        node.free_pages += node.high_pages != 0
        return False
    return True


@apart(int64, boolean, boolean, needed=lambda m: len(m.huge) != 0)
def alloc_huge(m: Machine, g: int, wakes_kswapd: bool, reclaims: bool) -> bool:
    """A huge page for a guest; false if there is no room, as far as it may make some.

    Free memory is taken to be in one piece: compaction is not modelled.
    """
    node = m.node[0]
    if node.high_pages and node.free_pages - PTRS_PER_PTE < node.low_pages:
        if wakes_kswapd:
            _wake_kswapd(m, g)
        fruitless = 0
        while reclaims and node.free_pages - PTRS_PER_PTE < node.min_pages and fruitless <= MAX_RECLAIM_RETRIES:
            fruitless = 0 if _reclaim_directly(m, g) else fruitless + 1
        if node.free_pages - PTRS_PER_PTE < (node.min_pages if reclaims else node.low_pages):
            return False
    if not charge_huge(m, g, PTRS_PER_PTE, reclaims):
        return False
    if node.high_pages:
        node.free_pages -= PTRS_PER_PTE
    return True


@inlined
def _wake_kswapd(m: Machine, g: int) -> None:
    """An allocation of guest ``g`` below the low watermark; where kswapd takes no time, it is through at once."""
    node = m.node[0]
    if node.kswapd_failures < MAX_RECLAIM_RETRIES:
        if not node.kswapd_takes_time:
            if not kswapd_waits(m, g):
                balance_pgdat(m, g)
        elif not node.kswapd_woken:
            node.kswapd_woken = g + 1


@apart(int64, needed=lambda m: bool(m.node[0]["high_pages"]))
def _alloc_slowly(m: Machine, g: int) -> None:
    """An allocation of guest ``g`` below the low watermark."""
    node = m.node[0]
    _wake_kswapd(m, g)
    fruitless = 0
    while node.free_pages < node.min_pages and not m.mms[g].oom_reason:
        fruitless = 0 if _reclaim_directly(m, g) else fruitless + 1
        if node.free_pages >= node.min_pages:
            break
        if fruitless > MAX_RECLAIM_RETRIES or not _may_suffice(m):
            if not out_of_memory(m, PARENT_MEMCG, g, OOM_HOST):
                break
            fruitless = 0


@compiled
def _may_suffice(m: Machine) -> bool:
    """should_reclaim_retry: whether the min watermark could be reached if all reclaimable pages were free."""
    node = m.node[0]
    anon = file = 0
    for g in range(len(m.mms)):
        for gen in range(MAX_NR_GENS):
            anon += max(m.lruvecs[g].nr_pages[gen, ANON], 0)
            file += max(m.lruvecs[g].nr_pages[gen, FILE], 0)
        for active in range(2):
            anon += m.classic[g].size[ANON, active]
            file += m.classic[g].size[FILE, active]
    return node.free_pages + file + (anon if node.free_slots > 0 else 0) >= node.min_pages


@compiled
def _reclaim_directly(m: Machine, task: int) -> int:
    """try_to_free_pages of the guest ``task``: 32 pages, of any guest; returns how many."""
    f = m.features[0]
    reclaim = m.reclaim[TASK]
    m.events[task].allocstall += 1
    if not f.lru_gen:
        reclaim.root = 1
        freed = try_to_free_pages(m, PARENT_MEMCG, 1, task)
        reclaim.root = 0
        if not freed:
            flush_stats(m)  # as when kswapd fails
        return freed
    reclaim.task = task
    reclaim.target = PARENT_MEMCG
    reclaim.proactive = 0
    reclaim.checked = 0
    reclaim.root = 1
    reclaim.nr_to_reclaim = f.swap_cluster_max
    reclaim.nr_reclaimed = 0
    reclaim.low_skipped = reclaim.low_reclaim = 0
    again = True
    while again:
        reclaim.priority = initial_priority(m, f.swap_cluster_max) if f.starts_at_fitting_priority else DEF_PRIORITY
        while reclaim.priority >= 0:
            reclaim.file_taken = reclaim.unqueued_dirty = 0
            begin_pass(m, reclaim)
            while visit_next(m, reclaim) != NOBODY:
                pass
            if reclaim.nr_reclaimed >= reclaim.nr_to_reclaim:
                break
            wait_for_io(m, PARENT_MEMCG)
            reclaim.priority -= 1
        again = goes_below_low(reclaim)
    reclaim.root = 0
    if not reclaim.nr_reclaimed:
        wait_for_flusher(m, PARENT_MEMCG)
    return reclaim.nr_reclaimed
