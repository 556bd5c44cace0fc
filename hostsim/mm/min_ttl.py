"""min_ttl_ms: the generations that kswapd must not evict, and what it does instead (mm/vmscan.c lru_gen_age_node).

Nothing keeps eviction itself from a young generation. kswapd only looks, before it evicts, whether any lruvec of the
node has an oldest generation of at least that age; if none has, it calls the OOM killer. Reclaim of a memcg doesn't.
"""

from __future__ import annotations

from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.engine.state import FILE, PARENT_MEMCG, Machine
from coldfleet.hostsim.mm.aging import age
from coldfleet.hostsim.mm.evict import oldest_evictable
from coldfleet.hostsim.mm.lru import gen_of
from coldfleet.hostsim.mm.oom_kill import OOM_MIN_TTL, out_of_memory
from coldfleet.hostsim.mm.protection import calculate_protection, is_below_min
from coldfleet.hostsim.mm.reclaim import lruvec_sizes, should_run_aging
from coldfleet.hostsim.mm.swap_slots import get_swappiness


@compiled
def min_ttl_protects(m: Machine, g: int, priority: int) -> bool:
    """Whether a lruvec is no help to kswapd at this priority: its memcg is below memory.min, it is too small, or its
    oldest generation is too young.

    The generation's age is that of the file pages' oldest, since 6.14 that of the oldest evictable one. Without
    min_ttl_ms only memory.min protects.
    """
    f = m.features[0]
    lruvec = m.lruvecs[g]
    min_ttl_ms = m.node[0].min_ttl_ms
    if m.node[0].protection:
        calculate_protection(m, g, True)
        if is_below_min(m, g):
            return True
    if not min_ttl_ms:
        return False
    swappiness = get_swappiness(m, g)
    total, _, _ = lruvec_sizes(lruvec, swappiness)
    if total >> priority == 0:
        return True
    oldest = oldest_evictable(f, lruvec, swappiness) if f.min_seq_independent else lruvec.min_seq[FILE]
    return m.node[0].now_ms - lruvec.timestamps[gen_of(oldest)] < min_ttl_ms


@compiled
def age_node(m: Machine, priority: int, task: int) -> bool:
    """lru_gen_age_node, for an allocation of order 0: true if it called the OOM killer, as every lruvec is protected
    and min_ttl_ms is set.

    6.1 ages here, too, every lruvec that needs it and is not protected. ``task``: the guest whose fault waits for this.
    """
    all_protected = m.node[0].min_ttl_ms != 0
    for g in range(len(m.mms)):
        if not m.mms[g].online or min_ttl_protects(m, g, priority):
            continue
        all_protected = False
        if m.features[0].kswapd_ages_first:
            swappiness = get_swappiness(m, g)
            needs_aging, _ = should_run_aging(m.features[0], m.lruvecs[g], swappiness)
            if needs_aging:
                age(m, g, swappiness, False)
    if all_protected:
        out_of_memory(m, PARENT_MEMCG, task, OOM_MIN_TTL)
    return all_protected
