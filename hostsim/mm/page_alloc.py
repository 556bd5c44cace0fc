"""A page for a guest, on a host whose memory may be limited (mm/page_alloc.c, __alloc_pages_slowpath).

Below the low watermark kswapd is woken. Where nothing takes time it is done at once, and no task ever has to reclaim
for itself. On a clock kswapd comes when it has a CPU, and who allocates below the min watermark meanwhile reclaims
directly.
"""

from __future__ import annotations

from numba import int64

from coldfleet.hostsim.engine.far_calls import apart
from coldfleet.hostsim.engine.jit import compiled, inlined
from coldfleet.hostsim.engine.state import TASK, Machine
from coldfleet.hostsim.mm.kswapd import NOBODY, balance_pgdat, begin_pass, initial_priority, visit_next
from coldfleet.hostsim.mm.memcontrol import charge
from coldfleet.hostsim.mm.reclaim import DEF_PRIORITY, PARENT_MEMCG, wait_for_flusher, wait_for_io


@inlined
def alloc_page(m: Machine, g: int) -> None:
    """A page for a guest: charged to its memcg and, where the host's memory is limited, taken from the free ones.

    If nothing can be reclaimed it is there nevertheless: there is no OOM killer here.
    """
    charge(m, g)
    node = m.node[0]
    if node.high_pages:
        node.free_pages -= 1
        if node.free_pages < node.low_pages:
            _alloc_slowly(m, g)


@apart(int64)
def _alloc_slowly(m: Machine, g: int) -> None:
    """An allocation of guest ``g`` below the low watermark."""
    node = m.node[0]
    if not node.kswapd_takes_time:
        balance_pgdat(m, g)
        return
    if not node.kswapd_woken:
        node.kswapd_woken = g + 1
    if node.free_pages < node.min_pages:
        _reclaim_directly(m, g)


@compiled
def _reclaim_directly(m: Machine, task: int) -> None:
    """try_to_free_pages of the guest ``task``: 32 pages, whosever they are."""
    f = m.features[0]
    reclaim = m.reclaim[TASK]
    m.events[task].allocstall += 1
    reclaim.task = task
    reclaim.target = PARENT_MEMCG
    reclaim.proactive = 0
    reclaim.checked = 0
    reclaim.root = 1
    reclaim.nr_to_reclaim = f.swap_cluster_max
    reclaim.nr_reclaimed = 0
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
    reclaim.root = 0
    if not reclaim.nr_reclaimed:
        wait_for_flusher(m, PARENT_MEMCG)
