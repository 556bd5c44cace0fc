"""kswapd's look at all memcgs before it evicts: min_ttl_ms (specification, sections 7.2 and 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .aging import try_to_inc_max_seq
from .constants import FILE, MAX_NR_GENS
from .reclaim import lruvec_sizes, should_run_aging

if TYPE_CHECKING:
    from .host import ReferenceHost


def is_reclaimable(host: ReferenceHost, priority: int) -> bool:
    """Big enough to help, and its oldest generation has lived for min_ttl_ms."""
    if not host.min_ttl_ms:
        return True
    lruvec = host.lruvec
    total, _, _ = lruvec_sizes(host, host.effective_swappiness())
    oldest = lruvec.min_seq[FILE]
    if host.kernel.min_seq_independent:
        oldest = lruvec.oldest_evictable_seq(host.effective_swappiness())
    born = lruvec.timestamps[oldest % MAX_NR_GENS]
    return total >> priority > 0 and host.now_ms >= born + host.min_ttl_ms


def age_node(hosts: list[ReferenceHost], priority: int) -> bool:
    """True if the OOM killer is called: nothing that is old enough is left anywhere."""
    reclaimable = [host for host in hosts if is_reclaimable(host, priority)]
    for host in reclaimable:
        if host.kernel.kswapd_ages_first and should_run_aging(host, host.effective_swappiness())[0]:
            try_to_inc_max_seq(host, host.effective_swappiness(), False)
    return not reclaimable
