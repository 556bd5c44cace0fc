"""Charging a memcg, and reclaim in the task that hits memory.max (mm/memcontrol.c try_charge_memcg)."""

from __future__ import annotations

from numba import int64

from coldfleet.hostsim.engine.far_calls import apart
from coldfleet.hostsim.engine.jit import compiled, inlined, spliced
from coldfleet.hostsim.engine.state import PARENT_MEMCG, Machine
from coldfleet.hostsim.mm.classic import flush_stats
from coldfleet.hostsim.mm.oom_kill import OOM_MEMCG, OOM_PARENT, out_of_memory
from coldfleet.hostsim.mm.reclaim import MAX_RECLAIM_RETRIES, try_to_free_pages
from coldfleet.hostsim.mm.scheduler import switch_after_faults

UNLIMITED = 1 << 62
JIFFIES_PER_S = 250  # CONFIG_HZ of Debian's kernels
MAX_HIGH_DELAY = 2 * JIFFIES_PER_S  # for one return to user mode
LEAST_HIGH_DELAY = JIFFIES_PER_S // 100  # less than that is forgiven
HIGH_PRECISION, HIGH_SCALING = 20, 14  # bits of an overage, and by which its square is shortened
MOST_OVER = 1 << 27  # 128 times memory.high: far above what MAX_HIGH_DELAY takes, and its square fits in int64


@inlined
def _room(m: Machine, g: int) -> int:
    """Pages that may still be charged to a guest's memcg: the least margin on the way up."""
    room = UNLIMITED
    if m.mms[g].max_pages:
        room = m.mms[g].max_pages - m.mms[g].charged
    if m.parent[0].max_pages:
        room = min(room, m.parent[0].max_pages - m.parent[0].charged)
    return room


@inlined
def _add_charge(m: Machine, g: int, pages: int) -> None:
    m.mms[g].charged += pages
    m.parent[0].charged += pages


@compiled
def drain_stock(m: Machine, g: int) -> None:
    """Gives back what a CPU had charged to a guest's memcg in advance."""
    _add_charge(m, g, -m.mms[g].stock)
    m.mms[g].stock = 0


@compiled
def charge_at_limit(m: Machine, g: int) -> None:
    """try_charge_memcg where even one page does not fit: reclaims until it does, the CPUs' stocks included.

    When nothing can be reclaimed for so many tries the OOM killer comes. If it kills this guest itself, as many more
    are in vain (memory.events max says 35 on the recordings of 6.12 and 6.18), and the charge goes through, as it is
    given back soon. The classic LRU of 6.8 and later can fail because its statistics don't know yet that there are
    active pages (a real kernel killed guests for that): here the flusher, which really comes every 2 s, comes then.
    """
    retries = MAX_RECLAIM_RETRIES
    drained = False
    switch_after_faults(m, g)
    dying = m.mms[g].oom_reason != 0
    while _room(m, g) < 1 and not dying:
        mm = m.mms[g]
        own_limit = mm.max_pages and mm.charged + 1 > mm.max_pages
        m.events[g].limit_hits += 1
        reclaimed = try_to_free_pages(m, g if own_limit else PARENT_MEMCG, 1, g)
        if _room(m, g) >= 1:
            break
        if not drained:
            for other in range(len(m.mms)):
                drain_stock(m, other)
            drained = True
        elif not reclaimed and retries:
            retries -= 1
            if not m.features[0].lru_gen:
                flush_stats(m)
        elif not reclaimed and m.mms[g].oom_reason:
            dying = True
        elif not reclaimed:
            out_of_memory(m, g if own_limit else PARENT_MEMCG, g, OOM_MEMCG if own_limit else OOM_PARENT)
            retries = MAX_RECLAIM_RETRIES
    _add_charge(m, g, 1)
    _note_high(m, g, 1)


@inlined
def _note_high(m: Machine, g: int, pages: int) -> None:
    """What was charged beyond memory.high is answered for on the way back to user mode."""
    mm = m.mms[g]
    if mm.memory_high and mm.charged > mm.memory_high:
        mm.over_high += pages


@apart(int64)
def handle_over_high(m: Machine, g: int) -> None:
    """mem_cgroup_handle_over_high, before the task of a guest returns to user mode: reclaims what it charged above
    memory.high, and then by 32 pages, until it would not have to sleep for what is left; or else sleeps. What the
    classic LRU doesn't know yet it learns as in :func:`charge_at_limit`."""
    mm = m.mms[g]
    pages = charged = mm.over_high
    mm.over_high = 0
    retries = MAX_RECLAIM_RETRIES
    while not mm.oom_reason:
        reclaimed = 0
        if mm.charged > mm.memory_high:
            m.events[g].high_events += 1
            reclaimed = try_to_free_pages(m, g, pages, g)
        delay = _high_delay(m, g, charged)
        if delay <= LEAST_HIGH_DELAY:
            break
        if not reclaimed:
            if not retries:
                m.events[g].high_delay_ns += delay * (1_000_000_000 // JIFFIES_PER_S) // m.features[0].call_scale
                break
            retries -= 1
            if not m.features[0].lru_gen:
                flush_stats(m)
        pages = m.features[0].swap_cluster_max


@inlined
def _high_delay(m: Machine, g: int, charged: int) -> int:
    """calculate_high_delay, in jiffies: by the square of the share by which memory.high is exceeded."""
    mm = m.mms[g]
    over = (max(mm.charged - mm.memory_high, 0) << HIGH_PRECISION) // mm.memory_high
    over = min(over, MOST_OVER)
    delay = over * over * JIFFIES_PER_S >> HIGH_PRECISION >> HIGH_SCALING
    return min(delay * charged // m.features[0].charge_batch, MAX_HIGH_DELAY)


@compiled
def charge_huge(m: Machine, g: int, pages: int, reclaims: bool) -> bool:
    """try_charge for a huge page of a guest; false if there is no room.

    Unless it may reclaim, it does not even try; and then the OOM killer does not come for it.
    """
    tries = MAX_RECLAIM_RETRIES + 2
    drained = False
    while _room(m, g) < pages:
        mm = m.mms[g]
        if not reclaims or not tries:
            return False
        switch_after_faults(m, g)
        own_limit = mm.max_pages and mm.charged + pages > mm.max_pages
        m.events[g].limit_hits += 1
        try_to_free_pages(m, g if own_limit else PARENT_MEMCG, pages, g)
        tries -= 1
        if not drained and _room(m, g) < pages:
            for other in range(len(m.mms)):
                drain_stock(m, other)
            drained = True
    _add_charge(m, g, pages)
    _note_high(m, g, pages)
    return True


@spliced
def charge(m: Machine, g: int) -> None:
    """try_charge: one page, from the CPU's stock, by a batch of 64, or alone."""
    mm = m.mms[g]
    if mm.stock:
        mm.stock -= 1
        return
    room = _room(m, g)
    batch = m.features[0].charge_batch
    if room >= batch:
        _add_charge(m, g, batch)
        cpu = m.cpus[mm.cpu]
        if cpu.stock_guest != g and not m.features[0].stock_of_many_memcgs:
            drain_stock(m, cpu.stock_guest)
        cpu.stock_guest = g
        mm.stock = batch - 1
        _note_high(m, g, batch)
    elif room >= 1:
        _add_charge(m, g, 1)
        _note_high(m, g, 1)
    else:
        charge_at_limit(m, g)
