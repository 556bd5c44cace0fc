"""kswapd: reclaims from all guests of a host that is short of free pages (mm/vmscan.c balance_pgdat, shrink_node).

There is one zone. Where nothing takes time kswapd runs at once and to its end, as a kernel thread does that finds the
CPU free: on the recordings kswapd did 79 to 98 % of the work, tasks the rest. On a clock it works in visits to one
memcg each, and guests go on in between; so it has a scan_control of its own.
"""

from __future__ import annotations

from numba import int64

from coldfleet.hostsim.engine.far_calls import apart
from coldfleet.hostsim.engine.jit import compiled, inlined
from coldfleet.hostsim.engine.state import DEF_PRIORITY, KSWAPD, MIN_NR_GENS, NO_TASK, PARENT_MEMCG, Machine, Record
from coldfleet.hostsim.mm import classic, classic_reclaim
from coldfleet.hostsim.mm.lru import gen_of
from coldfleet.hostsim.mm.min_ttl import age_node
from coldfleet.hostsim.mm.pid import is_evictable
from coldfleet.hostsim.mm.protection import calculate_protection, is_below_low, is_below_min, may_reclaim
from coldfleet.hostsim.mm.reclaim import (
    lruvec_sizes,
    should_run_aging,
    shrink_lruvec,
    wait_for_io,
)
from coldfleet.hostsim.mm.swap_slots import get_swappiness

LEAST_PRIORITY = DEF_PRIORITY // 2  # set_initial_priority starts no lower
AWAITS_TURN = 2  # of memcg_tail: moved there in this pass for its memory.low
NOBODY = -1  # instead of a guest: there is no visit left


@apart(int64, needed=lambda m: bool(m.node[0]["high_pages"]))
def balance_pgdat(m: Machine, task: int) -> None:
    """kswapd, at once and to its end; ``task``: the guest that woke it."""
    begin_balance(m, task)
    while balance_part(m) != NOBODY:
        pass


@apart(needed=lambda m: bool(m.node[0]["high_pages"]))
def balance_on_clock(m: Machine) -> int:
    """Where kswapd takes time: its next visit since it was woken; returns the guest that it was to. NOBODY: it goes to
    sleep."""
    node = m.node[0]
    if not node.kswapd_runs:
        begin_balance(m, node.kswapd_woken - 1)
        node.kswapd_runs = 1
    guest = balance_part(m)
    if guest == NOBODY:
        node.kswapd_woken = node.kswapd_runs = 0
    return guest


@compiled
def balance_for_watch(m: Machine) -> int:
    """:func:`balance_on_clock` for callers in Python."""
    return balance_on_clock(m)


@compiled
def begin_balance(m: Machine, task: int) -> None:
    """kswapd wakes up. The CPU switches back to the process that woke it, that of guest ``task``, afterwards."""
    f = m.features[0]
    reclaim = m.reclaim[KSWAPD]
    m.mms[task].used = 1
    m.events[task].kswapd_runs += 1
    reclaim.task = NO_TASK
    reclaim.target = PARENT_MEMCG
    reclaim.interrupts = NO_TASK if m.node[0].kswapd_takes_time else task
    reclaim.proactive = 0
    reclaim.checked = 0
    reclaim.low_skipped = reclaim.low_reclaim = 0
    reclaim.kswapd = reclaim.root = 1
    reclaim.nr_to_reclaim = m.node[0].goal_pages
    reclaim.priority = initial_priority(m, reclaim.nr_to_reclaim) if f.starts_at_fitting_priority else DEF_PRIORITY
    _begin_next_pass(m, reclaim)


@compiled
def balance_part(m: Machine) -> int:
    """kswapd's next visit; returns the guest that it was to. NOBODY: it goes to sleep.

    It does when the free pages are above the high watermark after a pass, or at the last priority: then it has failed
    if that freed nothing. After a pass that freed nothing it waits for what is being written (reclaim_throttle with
    VMSCAN_THROTTLE_WRITEBACK).
    """
    reclaim = m.reclaim[KSWAPD]
    while True:
        guest = visit_next(m, reclaim)
        if guest != NOBODY:
            return guest
        if reclaim.scanned < reclaim.nr_to_reclaim or not reclaim.nr_reclaimed:
            reclaim.priority -= 1
        if not reclaim.nr_reclaimed:
            wait_for_io(m, PARENT_MEMCG)
        if not _begin_next_pass(m, reclaim):
            failed = reclaim.priority < 1 and not reclaim.nr_reclaimed
            m.node[0].kswapd_failures += failed
            if not m.features[0].lru_gen:
                _end_classic(m, failed)
            return NOBODY


@compiled
def _end_classic(m: Machine, failed: bool) -> None:
    """The classic LRU at the end of balance_pgdat. kswapd can fail because it goes by old statistics: here the flusher,
    which really comes every 2 s, comes then."""
    classic_reclaim.note_refaults(m, PARENT_MEMCG)
    if failed:
        classic.flush_stats(m)


@compiled
def _begin_next_pass(m: Machine, reclaim: Record) -> bool:
    node = m.node[0]
    if reclaim.priority < 1 or node.free_pages >= node.high_pages:
        return False
    _prepare(m, reclaim)
    reclaim.nr_reclaimed = reclaim.scanned = 0
    begin_pass(m, reclaim)
    return True


@compiled
def initial_priority(m: Machine, nr_to_reclaim: int) -> int:
    """set_initial_priority: the more inactive pages there are against the goal, the fewer of them at a time."""
    inactive = 0
    for g in range(len(m.mms)):
        if not m.mms[g].online:
            continue
        lruvec = m.lruvecs[g]
        swappiness = get_swappiness(m, g)
        for kind in range(2):
            if is_evictable(kind, swappiness):
                for seq in range(lruvec.min_seq[kind], lruvec.max_seq - MIN_NR_GENS + 1):
                    inactive += max(lruvec.nr_pages[gen_of(seq), kind], 0)
    priority = _bits(inactive) - 1 - _bits(nr_to_reclaim - 1)
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
def _prepare(m: Machine, reclaim: Record) -> None:
    """What kswapd does before it evicts: it ages (6.1) unless the last eviction found enough without.

    The classic LRU looks at its lists instead. A process runs between any two agings of kswapd's, which is another
    task; the recordings of guests don't show it.
    """
    if not m.features[0].lru_gen:
        classic_reclaim.age_active_anon(m)
        classic_reclaim.prepare_pass(m, reclaim)
        return
    node = m.node[0]
    for g in range(len(m.mms)):
        m.mms[g].used |= not m.mms[g].notifiers
    if m.features[0].kswapd_ages_first and not node.memcgs_need_aging:
        node.memcgs_need_aging = 1
    else:
        age_node(m, reclaim.priority, reclaim.interrupts)


@compiled
def begin_pass(m: Machine, reclaim: Record) -> None:
    """A pass over the guests: in their order (6.1), or over the older half of the memcg LRU (shrink_many).

    When the older half is empty the halves change places.
    """
    node = m.node[0]
    reclaim.visited = 0
    if not m.features[0].memcg_lru:
        return
    for g in range(len(m.mms)):
        if m.mms[g].online and m.mms[g].memcg_seq <= node.memcg_seq:
            return
    node.memcg_seq += 1


@compiled
def visit_next(m: Machine, reclaim: Record) -> int:
    """The next visit of a pass; returns the guest that it was to. NOBODY: the pass is over.

    A lruvec that was aged moves to the younger half of the memcg LRU, and so does one that is too small for the second
    time (shrink_one); there a pass ends once it has enough. Before that, guests below their memory.low have a second
    turn: the memcg LRU has moved them behind the others.
    """
    node = m.node[0]
    guests = len(m.mms)
    turns = guests * (1 + (m.features[0].memcg_lru and node.protection))
    while reclaim.visited < turns:
        turn = reclaim.visited
        reclaim.visited += 1
        g = (node.memcg_position + turn) % guests  # without a memcg LRU the position stays 0
        if not m.mms[g].online:
            continue
        if not m.features[0].memcg_lru:
            if not may_reclaim(m, g, reclaim):
                continue
            _shrink_one(m, g, reclaim)
            return g
        if m.mms[g].memcg_seq > node.memcg_seq or (node.protection and not _has_turn(m, g, turn >= guests)):
            continue
        agings = m.events[g].agings
        _shrink_one(m, g, reclaim)
        aged = m.events[g].agings > agings
        too_small = not aged and lruvec_sizes(m.lruvecs[g], get_swappiness(m, g))[0] >> reclaim.priority == 0
        if aged or (too_small and m.mms[g].memcg_tail):
            m.mms[g].memcg_seq = node.memcg_seq + 1
            m.mms[g].memcg_tail = 0
        elif too_small:
            m.mms[g].memcg_tail = 1
        if reclaim.nr_reclaimed >= reclaim.nr_to_reclaim:
            node.memcg_position = (g + 1) % guests
            reclaim.visited = turns
        return g
    return NOBODY


@compiled
def _has_turn(m: Machine, g: int, second: bool) -> bool:
    """shrink_one's look at the protection: below memory.min a memcg moves to the younger half of the memcg LRU, below
    memory.low to the tail of the older one; it is reclaimed when it is met there. Nobody else has a second turn."""
    mm = m.mms[g]
    if second and mm.memcg_tail != AWAITS_TURN:
        return False
    calculate_protection(m, g, True)
    if is_below_min(m, g):
        mm.memcg_seq = m.node[0].memcg_seq + 1
        mm.memcg_tail = 0
        return False
    below_low = is_below_low(m, g)
    if below_low and not second:
        mm.memcg_tail = AWAITS_TURN
        return False
    mm.memcg_tail = min(mm.memcg_tail, 1)
    m.events[g].low_events += below_low
    return True


@compiled
def _shrink_one(m: Machine, g: int, reclaim: Record) -> None:
    reclaim.swappiness = get_swappiness(m, g)
    before = reclaim.nr_reclaimed
    agings = should_run_aging(m.features[0], m.lruvecs[g], reclaim.swappiness)[0]
    shrink_lruvec(m, g, reclaim)
    if reclaim.nr_reclaimed - before >= m.features[0].min_lru_batch and not agings:
        m.node[0].memcgs_need_aging = 0
