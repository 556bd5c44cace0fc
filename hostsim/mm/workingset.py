"""Shadows of evicted pages and their refaults: mm/workingset.c lru_gen_eviction, lru_gen_refault.

A shadow is one uint32: bit 0 set, bit 1 the workingset flag, bits 2-3 the references less one, and
min_seq at eviction above. It is consumed by the refault (swap on zram bypasses the swap cache).
"""

from __future__ import annotations

import numpy as np

from coldfleet.hostsim.engine.jit import inlined, page_row
from coldfleet.hostsim.engine.state import (
    ANON,
    MAX_NR_GENS,
    MAX_NR_TIERS,
    REFS_MASK,
    REFS_SHIFT,
    WORKINGSET,
    Machine,
    Record,
)
from coldfleet.hostsim.mm.refs import MAX_REFS, REFERENCES, page_tier, references, tier_of

NEVER = np.uint32(0)  # the page was never swapped out


@inlined
def evicted(m: Machine, g: int, page: int, kind: int, pages: int) -> None:
    """lru_gen_eviction: stores the shadow of a folio that leaves memory, in all of its pages, and counts its tier."""
    f = m.features[0]
    lruvec = m.lruvecs[g]
    state = page_row(m, page).state
    shadow = np.uint32(1 | lruvec.min_seq[kind] << 4)
    if state & REFERENCES:
        refs = references(f, state)
        workingset = state & WORKINGSET != 0 if f.two_touch else refs != 0
        shadow |= np.uint32(workingset << 1 | max(refs - 1, 0) << 2)
    page_row(m, page).shadow = shadow
    for each in range(page + 1, page + pages):
        page_row(m, each).shadow = shadow
    lruvec.evicted[kind, page_tier(f, state)] += pages


@inlined
def is_recent(f: Record, lruvec: Record, kind: int, min_seq: int) -> bool:
    """Whether a page evicted at this min_seq is back soon enough to belong to the working set."""
    if f.refault_window_by_max_seq:
        return abs(lruvec.max_seq - min_seq) < MAX_NR_GENS
    return lruvec.min_seq[kind] == min_seq


@inlined
def refault(m: Machine, g: int, page: int, kind: int, in_fault: bool) -> None:
    """lru_gen_refault: a page comes back from swap or from its file; consumes its shadow."""
    f = m.features[0]
    lruvec = m.lruvecs[g]
    events = m.events[g]
    shadow: int = np.int64(page_row(m, page).shadow)  # type: ignore[assignment]
    page_row(m, page).shadow = NEVER
    recent = is_recent(f, lruvec, kind, shadow >> 4)
    if recent or not f.refault_counted_only_if_recent:
        if kind == ANON:
            events.workingset_refault_anon += 1
        else:
            events.workingset_refault_file += 1
    if not recent:
        return
    workingset = shadow >> 1 & 1
    refs = (shadow >> 2 & 3) + (1 if f.two_touch else workingset)
    lruvec.refaulted[kind, tier_of(f, refs, workingset != 0)] += 1
    counts = (in_fault or not f.two_touch) and (workingset != 0 or not f.activate_counted_with_workingset)
    if counts and not f.activate_counted_when_protected:
        count_activated(events, kind, 1)
    if f.two_touch and not workingset:
        page_row(m, page).state |= (refs - 1) << REFS_SHIFT
        return
    if not f.two_touch and not in_fault and refs < MAX_REFS:
        return
    # before two_touch a page that faults is taken for part of the working set whatever its references were
    page_row(m, page).state |= WORKINGSET if f.two_touch else WORKINGSET | REFS_MASK
    if kind == ANON:
        events.workingset_restore_anon += 1
    else:
        events.workingset_restore_file += 1


@inlined
def count_activated(events: Record, kind: int, pages: int) -> None:
    """workingset_activate_anon, workingset_activate_file."""
    if kind == ANON:
        events.workingset_activate_anon += pages
    else:
        events.workingset_activate_file += pages


@inlined
def carry_over(lruvec: Record, kind: int) -> None:
    """reset_ctrl_pos: min_seq of a type moved on, its refault statistics fade by half."""
    for tier in range(MAX_NR_TIERS):
        refaulted = lruvec.avg_refaulted[kind, tier] + lruvec.refaulted[kind, tier]
        total = lruvec.avg_total[kind, tier] + lruvec.evicted[kind, tier] + lruvec.protected[kind, tier]
        lruvec.avg_refaulted[kind, tier] = refaulted // 2
        lruvec.avg_total[kind, tier] = total // 2
        lruvec.refaulted[kind, tier] = 0
        lruvec.evicted[kind, tier] = 0
        lruvec.protected[kind, tier] = 0
