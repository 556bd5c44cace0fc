"""Generation lists: mm/vmscan.c lru_gen_add_folio, lru_gen_del_folio, and the lru_activate batch.

A page's generation number (in its state byte) and the list that it lies on can differ: a walk changes
the number only, eviction moves the page when it meets it. ``nr_pages`` follows the number.
"""

from __future__ import annotations

from hostsim.jit import inlined
from hostsim.state import (
    ACTIVE,
    ANON,
    GEN_MASK,
    MAX_NR_GENS,
    MAX_PAGEVEC,
    REFERENCED,
    REFS_MASK,
    REFS_SHIFT,
    WORKINGSET,
    Machine,
    Record,
)


@inlined
def gen_of(seq: int) -> int:
    """The list index of a generation."""
    return seq % MAX_NR_GENS


@inlined
def page_gen(state: int) -> int:
    """The list index that a page's state byte names; -1 on no list."""
    return (state & GEN_MASK) - 1


@inlined
def with_gen(state: int, gen: int) -> int:
    """The state byte with another generation."""
    return (state & ~GEN_MASK) | (gen + 1)


@inlined
def list_head(lruvec: Record, gen: int) -> int:
    """The row of ``pages`` that is the head of a generation's anonymous list."""
    return lruvec.lists + gen * 2 + ANON


@inlined
def list_add(m: Machine, head: int, page: int) -> None:
    """Puts a page at the head of a list: eviction finds it last."""
    first = m.pages[head].towards_tail
    m.pages[page].towards_tail = first
    m.pages[page].towards_head = head
    m.pages[first].towards_head = page
    m.pages[head].towards_tail = page


@inlined
def list_add_tail(m: Machine, head: int, page: int) -> None:
    """Puts a page at the tail of a list: eviction finds it first."""
    last = m.pages[head].towards_head
    m.pages[page].towards_head = last
    m.pages[page].towards_tail = head
    m.pages[last].towards_tail = page
    m.pages[head].towards_head = page


@inlined
def list_del(m: Machine, page: int) -> None:
    """Takes a page off whatever list it lies on."""
    towards_tail = m.pages[page].towards_tail
    towards_head = m.pages[page].towards_head
    m.pages[towards_tail].towards_head = towards_head
    m.pages[towards_head].towards_tail = towards_tail


@inlined
def list_tail(m: Machine, head: int) -> int:
    """The page that eviction finds first; the head itself if the list is empty."""
    return m.pages[head].towards_head


@inlined
def references(state: int) -> int:
    """How often a page was referenced, 0..4 (class A, B: refs field plus workingset)."""
    return (state >> REFS_SHIFT) + ((state & WORKINGSET) != 0)


@inlined
def tier_of(refs: int) -> int:
    """The tier of a page with so many references: ceil(log2(refs + 1))."""
    if refs == 0:
        return 0
    if refs == 1:
        return 1
    return 3 if refs == 4 else 2


@inlined
def change_gen(lruvec: Record, old: int, new: int) -> None:
    """A page's number went from one generation to another (-1: from or to no list)."""
    if old >= 0:
        lruvec.nr_pages[old, ANON] -= 1
    if new >= 0:
        lruvec.nr_pages[new, ANON] += 1


@inlined
def add_page(m: Machine, g: int, page: int) -> None:
    """lru_gen_add_folio for a page that its fault, or reclaim's rejection, marked active: the youngest."""
    lruvec = m.lruvecs[g]
    gen = gen_of(lruvec.max_seq)
    m.pages[page].state = with_gen(m.pages[page].state & ~ACTIVE, gen)
    change_gen(lruvec, -1, gen)
    list_add(m, list_head(lruvec, gen), page)


@inlined
def activate(m: Machine, g: int, page: int) -> None:
    """folio_activate: queues the page; a full batch is drained."""
    lruvec = m.lruvecs[g]
    lruvec.activate_batch[lruvec.activate_count] = page
    lruvec.activate_count += 1
    if lruvec.activate_count == MAX_PAGEVEC:
        drain(m, g)


@inlined
def drain(m: Machine, g: int) -> None:
    """lru_add_drain: the queued pages that are still on a list go to the youngest generation."""
    lruvec = m.lruvecs[g]
    for i in range(lruvec.activate_count):
        page = lruvec.activate_batch[i]
        gen = page_gen(m.pages[page].state)
        if gen < 0 or m.pages[page].state & ACTIVE:
            continue
        list_del(m, page)
        change_gen(lruvec, gen, -1)
        add_page(m, g, page)
        m.events[g].pgactivate += 1
    lruvec.activate_count = 0


@inlined
def forget_references(state: int) -> int:
    """Clears PG_referenced, PG_workingset and LRU_REFS."""
    return state & ~(REFERENCED | WORKINGSET | REFS_MASK)
