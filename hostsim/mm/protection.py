"""memory.min and memory.low: whom reclaim passes over, and how much less it scans who is near (mm/page_counter.c).

A memcg's protection holds against reclaim of a memcg above it, or of the whole host, never against its own memory.max.
What is effective of it follows from what the memcgs above have themselves. Below memory.min a memcg is not reclaimed;
below memory.low only where nothing else can be.
"""

from __future__ import annotations

from coldfleet.hostsim.engine.jit import compiled, inlined
from coldfleet.hostsim.engine.state import SWAP_CLUSTER_MAX, Machine, Record


@inlined
def effective_protection(
    usage: int, parent_usage: int, setting: int, parent_effective: int, siblings_protected: int, recursive: bool
) -> int:
    """effective_protection: what is left of a memcg's own ``setting``, in pages.

    Children share what is effective of their parent's by what each claims (``siblings_protected``: all of them, at most
    their usage each). With ``recursive`` (mount option memory_recursiveprot) what none of them claims goes to those who
    use more than they claim, in proportion to that.
    """
    protected = min(usage, setting)
    if siblings_protected > parent_effective:
        return protected * parent_effective // siblings_protected
    if not recursive or usage <= protected or parent_usage <= siblings_protected:
        return protected
    unclaimed = parent_effective - siblings_protected
    return protected + unclaimed * (usage - protected) // (parent_usage - siblings_protected)


@compiled
def calculate_protection(m: Machine, g: int, of_host: bool) -> None:
    """mem_cgroup_calculate_protection of a guest's memcg, for reclaim of the host, or else of the memcg above it."""
    mm, parent = m.mms[g], m.parent[0]
    mm.effective_min, mm.effective_low = mm.memory_min, mm.memory_low
    if not of_host or not parent.below_root:
        return
    claimed_min = claimed_low = 0
    for other in range(len(m.mms)):
        claimed_min += min(m.mms[other].charged, m.mms[other].memory_min)
        claimed_low += min(m.mms[other].charged, m.mms[other].memory_low)
    recursive = m.node[0].recursive_protection != 0
    used, above = mm.charged, parent.charged
    mm.effective_min = effective_protection(used, above, mm.memory_min, parent.memory_min, claimed_min, recursive)
    mm.effective_low = effective_protection(used, above, mm.memory_low, parent.memory_low, claimed_low, recursive)


@inlined
def is_below_min(m: Machine, g: int) -> bool:
    """mem_cgroup_below_min, by what was effective when it was last calculated."""
    return m.mms[g].effective_min >= m.mms[g].charged


@inlined
def is_below_low(m: Machine, g: int) -> bool:
    """mem_cgroup_below_low, likewise."""
    return m.mms[g].effective_low >= m.mms[g].charged


@inlined
def may_reclaim(m: Machine, g: int, reclaim: Record) -> bool:
    """Whether reclaim of the memcg above, or of the host, visits a guest's memcg (shrink_node_memcgs)."""
    return not m.node[0].protection or _may_reclaim(m, g, reclaim)


@compiled
def _may_reclaim(m: Machine, g: int, reclaim: Record) -> bool:
    calculate_protection(m, g, reclaim.root != 0)
    if is_below_min(m, g):
        return False
    if is_below_low(m, g):
        if not reclaim.low_reclaim:
            reclaim.low_skipped = 1
            return False
        m.events[g].low_events += 1
    return True


@inlined
def is_protected_by_now(m: Machine, g: int, reclaim: Record) -> bool:
    """Whether a visit has shrunk the memcg to its protection: it ends after the batch that did.

    Up to 6.1 memory.low counts there, too.
    """
    if not m.node[0].protection or reclaim.target == g:
        return False
    below_low = m.features[0].visit_minds_low and not reclaim.low_reclaim and is_below_low(m, g)
    return below_low or is_below_min(m, g)


@inlined
def unprotected_part(m: Machine, g: int, pages: int, reclaim: Record) -> int:
    """apply_proportional_protection: how many of ``pages`` count for what a visit scans. To MGLRU all of them do,
    unless the kernel has proportional_protection."""
    f = m.features[0]
    applies = m.node[0].protection and reclaim.target != g and (f.proportional_protection or not f.lru_gen)
    return _unprotected_part(m, g, pages, reclaim) if applies else pages


@compiled
def _unprotected_part(m: Machine, g: int, pages: int, reclaim: Record) -> int:
    """The nearer a memcg is to its protection the fewer, but no fewer than 32, lest priorities be used up in vain."""
    mm = m.mms[g]
    if not (mm.effective_min or mm.effective_low):
        return pages
    protection = mm.effective_min
    if not reclaim.low_reclaim and mm.effective_low > mm.effective_min:
        protection = mm.effective_low
        reclaim.low_skipped = 1
    used = max(mm.charged, protection)
    scale = m.features[0].scale
    return max(pages - pages * protection // (used + 1), (SWAP_CLUSTER_MAX + scale - 1) // scale)


@inlined
def goes_below_low(reclaim: Record) -> bool:
    """do_try_to_free_pages after its last priority: true if all of them come once more, regardless of memory.low,
    because nothing was reclaimed and memcgs were spared for it."""
    if reclaim.nr_reclaimed or not reclaim.low_skipped:
        return False
    reclaim.low_skipped = reclaim.force_deactivate = 0
    reclaim.low_reclaim = 1
    return True
