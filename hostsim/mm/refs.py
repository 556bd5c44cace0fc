"""References of a page and the tiers that they make: two generations of rules.

Up to 6.13 a page's references are LRU_REFS plus PG_workingset, and one young report promotes it. Since 6.14
("two_touch") the first report sets PG_referenced, the second promotes and sets PG_workingset, which lasts.
``f`` is the kernel's record of features, ``state`` a page's state byte.
"""

from __future__ import annotations

from coldfleet.hostsim.engine.jit import inlined
from coldfleet.hostsim.engine.state import MAX_NR_TIERS, REFERENCED, REFS_MASK, REFS_SHIFT, WORKINGSET, Record

MAX_REFS = 3  # the two-bit LRU_REFS
REFERENCES = REFERENCED | WORKINGSET | REFS_MASK
"""Without any of these bits a page has no references and is in tier 0, by both rules."""


@inlined
def references(f: Record, state: int) -> int:
    """How often a page was referenced, 0..4."""
    if f.two_touch:
        return (state >> REFS_SHIFT) + 1 if state & REFERENCED else 0
    return (state >> REFS_SHIFT) + ((state & WORKINGSET) != 0)


@inlined
def tier_of(f: Record, refs: int, workingset: bool) -> int:
    """The tier of a page: ceil(log2(refs + 1)); with two_touch ceil(log2(refs)), and the last for PG_workingset."""
    if f.two_touch:
        if workingset:
            return MAX_NR_TIERS - 1
        return 0 if refs < 2 else 1 if refs == 2 else 2
    return 0 if refs == 0 else 1 if refs == 1 else 3 if refs == 4 else 2


@inlined
def page_tier(f: Record, state: int) -> int:
    """The tier of a page with this state."""
    if not state & REFERENCES:
        return 0
    return tier_of(f, references(f, state), state & WORKINGSET != 0)


@inlined
def is_saturated(f: Record, state: int) -> bool:
    """All references that the flags can hold: such a page is always protected."""
    if not state & REFERENCES:
        return False
    return references(f, state) == 4 and state & WORKINGSET != 0


@inlined
def forget(f: Record, state: int) -> int:
    """The state of a page that is no longer taken for referenced."""
    if f.two_touch:
        return state & ~(REFERENCED | REFS_MASK)
    return state & ~(REFERENCED | WORKINGSET | REFS_MASK)


@inlined
def reported_young(f: Record, state: int) -> tuple[int, bool]:
    """A page table says the page is young: its new state, and whether it moves to the youngest generation."""
    if f.two_touch:
        if not state & (REFERENCED | WORKINGSET):
            return (state & ~REFS_MASK) | REFERENCED, False
        return forget(f, state) | WORKINGSET, True
    return forget(f, state), True


@inlined
def checked_young(f: Record, state: int) -> tuple[int, bool]:
    """The eviction check finds the page young: its new state, and whether it is activated."""
    if f.check_counts_references and state & (REFERENCED | WORKINGSET) and references(f, state) < 2:
        return marked_accessed(f, state), True
    return reported_young(f, state)


@inlined
def marked_accessed(f: Record, state: int) -> int:
    """folio_mark_accessed, as KVM and GUP call it."""
    if not state & REFERENCED:
        return (state & ~REFS_MASK if f.two_touch else state) | REFERENCED
    if not f.two_touch and not state & WORKINGSET:
        return state | WORKINGSET
    if state >> REFS_SHIFT < MAX_REFS:
        return state + (1 << REFS_SHIFT)
    return state | WORKINGSET
