"""Shadows of evicted pages and their refaults: mm/workingset.c lru_gen_eviction, lru_gen_refault.

A shadow is one uint32: bit 0 set, bit 1 the workingset flag, bits 2-3 the references less one, and
min_seq at eviction above. It is consumed by the refault (swap on zram bypasses the swap cache).
"""

from __future__ import annotations

import numpy as np

from hostsim.jit import compiled, inlined
from hostsim.lru import references, tier_of
from hostsim.state import ANON, MAX_NR_TIERS, REFS_MASK, WORKINGSET, Machine, Record

NEVER = np.uint32(0)  # the page was never swapped out


@inlined
def evicted(m: Machine, g: int, page: int) -> None:
    """Stores the shadow of a page that leaves memory and counts its tier."""
    lruvec = m.lruvecs[g]
    refs = references(m.pages[page].state)
    token_refs = max(refs - 1, 0)
    m.pages[page].shadow = np.uint32(1 | (refs != 0) << 1 | token_refs << 2 | lruvec.min_seq[ANON] << 4)
    lruvec.evicted[ANON, tier_of(refs)] += 1


@inlined
def refault(m: Machine, g: int, page: int) -> None:
    """A page comes back from swap, inside a fault; consumes its shadow."""
    lruvec = m.lruvecs[g]
    events = m.events[g]
    shadow: int = np.int64(m.pages[page].shadow)  # type: ignore[assignment]
    m.pages[page].shadow = NEVER
    events.workingset_refault_anon += 1
    if shadow >> 4 != lruvec.min_seq[ANON]:
        return
    refs = (shadow >> 2 & 3) + (shadow >> 1 & 1)
    lruvec.refaulted[ANON, tier_of(refs)] += 1
    events.workingset_activate_anon += 1
    # inside a fault the page is taken for part of the working set whatever its references were
    m.pages[page].state |= REFS_MASK | WORKINGSET
    events.workingset_restore_anon += 1


@compiled
def carry_over(lruvec: Record, kind: int) -> None:
    """reset_ctrl_pos: min_seq of a type moved on, its refault statistics fade by half."""
    for tier in range(MAX_NR_TIERS):
        lruvec.avg_refaulted[kind, tier] = (lruvec.avg_refaulted[kind, tier] + lruvec.refaulted[kind, tier]) // 2
        total = lruvec.avg_total[kind, tier] + lruvec.evicted[kind, tier]
        if tier > 0:
            total += lruvec.protected[kind, tier]
        lruvec.avg_total[kind, tier] = total // 2
        lruvec.refaulted[kind, tier] = 0
        lruvec.evicted[kind, tier] = 0
        lruvec.protected[kind, tier] = 0
