"""A host without memcg limits: free pages, watermarks, kswapd and the memcg LRU (mm/vmscan.c balance_pgdat).

There is one zone. kswapd is woken when the free pages fall below the low watermark, runs at once and to its end, as a
kernel thread does that finds the CPU free, so that no task ever has to reclaim for itself: on the recordings kswapd
did 79 to 98 % of the work, tasks the rest.
"""

from __future__ import annotations

from numba import int64

from hostsim.apart import apart
from hostsim.jit import compiled, inlined
from hostsim.lru import gen_of
from hostsim.memcg import charge
from hostsim.min_ttl import age_node
from hostsim.pid import is_evictable
from hostsim.reclaim import DEF_PRIORITY, NO_TASK, should_run_aging, shrink_lruvec
from hostsim.state import MIN_LRU_BATCH, MIN_NR_GENS, Machine, Record

LEAST_PRIORITY = DEF_PRIORITY // 2  # set_initial_priority starts no lower


@inlined
def alloc_page(m: Machine, g: int) -> None:
    """A page for a guest: charged to its memcg and, where the host's memory is limited, taken from the free ones."""
    charge(m, g)
    node = m.node[0]
    if node.high_pages:
        node.free_pages -= 1
        if node.free_pages < node.low_pages:
            balance_pgdat(m, g)


@apart(int64)
def balance_pgdat(m: Machine, task: int) -> None:
    """kswapd: reclaims from all guests until the free pages are above the high watermark.

    ``task``: the guest that woke it; the CPU switches back to its process afterwards.
    """
    f = m.features[0]
    node = m.node[0]
    reclaim = m.reclaim[0]
    m.mms[task].used = 1
    m.events[task].kswapd_runs += 1
    reclaim.task = NO_TASK
    reclaim.proactive = 0
    reclaim.checked = 0
    reclaim.kswapd = 1
    reclaim.nr_to_reclaim = node.goal_pages
    reclaim.priority = _initial_priority(m) if f.kswapd_starts_low else DEF_PRIORITY
    while reclaim.priority >= 1 and node.free_pages < node.high_pages:
        reclaim.nr_reclaimed = reclaim.scanned = 0
        _prepare(m, reclaim.priority)
        _shrink_node(m, reclaim)
        if reclaim.scanned < reclaim.nr_to_reclaim or not reclaim.nr_reclaimed:
            reclaim.priority -= 1
    reclaim.kswapd = 0


@compiled
def _initial_priority(m: Machine) -> int:
    """set_initial_priority: the more inactive pages there are against the goal, the fewer of them at a time."""
    inactive = 0
    for g in range(len(m.mms)):
        lruvec = m.lruvecs[g]
        for kind in range(2):
            if is_evictable(kind, lruvec.swappiness):
                for seq in range(lruvec.min_seq[kind], lruvec.max_seq - MIN_NR_GENS + 1):
                    inactive += max(lruvec.nr_pages[gen_of(seq), kind], 0)
    priority = _bits(inactive) - 1 - _bits(m.node[0].goal_pages - 1)
    return min(max(priority, LEAST_PRIORITY), DEF_PRIORITY)


@inlined
def _bits(number: int) -> int:
    """fls_long."""
    bits = 0
    while number:
        number >>= 1
        bits += 1
    return bits


@compiled
def _prepare(m: Machine, priority: int) -> None:
    """What kswapd does before it evicts; ages (6.1) unless the last eviction found enough without.

    A process runs between any two agings of kswapd's, which is another task; the recordings of guests don't show it.
    """
    node = m.node[0]
    for g in range(len(m.mms)):
        m.mms[g].used |= not m.mms[g].notifiers
    if m.features[0].kswapd_ages_first and not node.memcgs_need_aging:
        node.memcgs_need_aging = 1
    else:
        age_node(m, priority)


@compiled
def _shrink_node(m: Machine, reclaim: Record) -> None:
    """One pass over the guests: in their order (6.1), or the older half of the memcg LRU (shrink_many).

    A lruvec that was aged moves to the younger half; when the older one is empty they change places.
    """
    node = m.node[0]
    if not m.features[0].memcg_lru:
        for g in range(len(m.mms)):
            _shrink_one(m, g, reclaim)
        return
    left = 0
    for g in range(len(m.mms)):
        if m.mms[g].memcg_seq <= node.memcg_seq:
            left += 1
    if not left:
        node.memcg_seq += 1
    for i in range(len(m.mms)):
        g = (node.memcg_position + i) % len(m.mms)
        if m.mms[g].memcg_seq > node.memcg_seq:
            continue
        agings = m.events[g].agings
        _shrink_one(m, g, reclaim)
        if m.events[g].agings > agings:
            m.mms[g].memcg_seq = node.memcg_seq + 1
        if reclaim.nr_reclaimed >= reclaim.nr_to_reclaim:
            node.memcg_position = (g + 1) % len(m.mms)
            return


@compiled
def _shrink_one(m: Machine, g: int, reclaim: Record) -> None:
    reclaim.swappiness = m.lruvecs[g].swappiness
    before = reclaim.nr_reclaimed
    agings = should_run_aging(m.features[0], m.lruvecs[g], reclaim.swappiness)[0]
    shrink_lruvec(m, g, reclaim)
    if reclaim.nr_reclaimed - before >= MIN_LRU_BATCH and not agings:
        m.node[0].memcgs_need_aging = 0
