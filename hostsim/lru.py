"""Generation lists: mm/vmscan.c lru_gen_add_folio, lru_gen_del_folio, and the lru_activate batch.

A page's generation number (in its state byte) and the list that it lies on can differ: a walk changes
the number only, eviction moves the page when it meets it. ``nr_pages`` follows the number.
"""

from __future__ import annotations

from hostsim.jit import compiled
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

TOWARDS_TAIL = 0
TOWARDS_HEAD = 1


@compiled
def gen_of(seq: int) -> int:
    """The list index of a generation."""
    return seq % MAX_NR_GENS


@compiled
def page_gen(state: int) -> int:
    """The list index that a page's state byte names; -1 on no list."""
    return (state & GEN_MASK) - 1


@compiled
def with_gen(state: int, gen: int) -> int:
    """The state byte with another generation."""
    return (state & ~GEN_MASK) | (gen + 1)


@compiled
def list_head(lruvec: Record, gen: int) -> int:
    """The row of ``links`` that is the head of a generation's anonymous list."""
    return lruvec.lists + gen * 2 + ANON


@compiled
def list_add(m: Machine, head: int, page: int) -> None:
    """Puts a page at the head of a list: eviction finds it last."""
    first = m.links[head, TOWARDS_TAIL]
    m.links[page, TOWARDS_TAIL] = first
    m.links[page, TOWARDS_HEAD] = head
    m.links[first, TOWARDS_HEAD] = page
    m.links[head, TOWARDS_TAIL] = page


@compiled
def list_add_tail(m: Machine, head: int, page: int) -> None:
    """Puts a page at the tail of a list: eviction finds it first."""
    last = m.links[head, TOWARDS_HEAD]
    m.links[page, TOWARDS_HEAD] = last
    m.links[page, TOWARDS_TAIL] = head
    m.links[last, TOWARDS_TAIL] = page
    m.links[head, TOWARDS_HEAD] = page


@compiled
def list_del(m: Machine, page: int) -> None:
    """Takes a page off whatever list it lies on."""
    towards_tail = m.links[page, TOWARDS_TAIL]
    towards_head = m.links[page, TOWARDS_HEAD]
    m.links[towards_tail, TOWARDS_HEAD] = towards_head
    m.links[towards_head, TOWARDS_TAIL] = towards_tail


@compiled
def list_tail(m: Machine, head: int) -> int:
    """The page that eviction finds first; the head itself if the list is empty."""
    return m.links[head, TOWARDS_HEAD]  # type: ignore[no-any-return]


@compiled
def references(state: int) -> int:
    """How often a page was referenced, 0..4 (class A, B: refs field plus workingset)."""
    return (state >> REFS_SHIFT) + ((state & WORKINGSET) != 0)


@compiled
def tier_of(refs: int) -> int:
    """The tier of a page with so many references: ceil(log2(refs + 1))."""
    if refs == 0:
        return 0
    if refs == 1:
        return 1
    return 3 if refs == 4 else 2


@compiled
def change_gen(lruvec: Record, old: int, new: int) -> None:
    """A page's number went from one generation to another (-1: from or to no list)."""
    if old >= 0:
        lruvec.nr_pages[old, ANON] -= 1
    if new >= 0:
        lruvec.nr_pages[new, ANON] += 1


@compiled
def add_page(m: Machine, g: int, page: int) -> None:
    """lru_gen_add_folio for a page that its fault, or reclaim's rejection, marked active: the youngest."""
    lruvec = m.lruvecs[g]
    gen = gen_of(lruvec.max_seq)
    m.state[page] = with_gen(m.state[page] & ~ACTIVE, gen)
    change_gen(lruvec, -1, gen)
    list_add(m, list_head(lruvec, gen), page)


@compiled
def activate(m: Machine, g: int, page: int) -> None:
    """folio_activate: queues the page; a full batch is drained."""
    lruvec = m.lruvecs[g]
    lruvec.activate_batch[lruvec.activate_count] = page
    lruvec.activate_count += 1
    if lruvec.activate_count == MAX_PAGEVEC:
        drain(m, g)


@compiled
def drain(m: Machine, g: int) -> None:
    """lru_add_drain: the queued pages that are still on a list go to the youngest generation."""
    lruvec = m.lruvecs[g]
    for i in range(lruvec.activate_count):
        page = lruvec.activate_batch[i]
        gen = page_gen(m.state[page])
        if gen < 0 or m.state[page] & ACTIVE:
            continue
        list_del(m, page)
        change_gen(lruvec, gen, -1)
        add_page(m, g, page)
        m.events[g].pgactivate += 1
    lruvec.activate_count = 0


@compiled
def forget_references(state: int) -> int:
    """Clears PG_referenced, PG_workingset and LRU_REFS."""
    return state & ~(REFERENCED | WORKINGSET | REFS_MASK)
