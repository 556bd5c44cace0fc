"""Generation lists: mm/vmscan.c lru_gen_add_folio, lru_gen_del_folio, and the lru_activate batch.

What lies on a list is a folio: a page, or several that come and go as one, of which the first stands for all.

A page's generation number (in its state byte) and the list that it lies on can differ: a walk changes
the number only, eviction moves the page when it meets it. ``nr_pages`` follows the number.
"""

from __future__ import annotations

from coldfleet.hostsim.engine.jit import compiled, inlined, page_row, prefetch
from coldfleet.hostsim.engine.state import (
    ACTIVE,
    ANON,
    BUSY,
    FILE,
    FILE_PAGE,
    FILE_PAGE_SHIFT,
    GEN_MASK,
    MAX_NR_GENS,
    MIN_NR_GENS,
    ORDER_SHIFT,
    PG_DIRTY,
    PG_RECLAIM,
    PG_WRITEBACK,
    REFERENCED,
    SWAPCACHE,
    WORKINGSET,
    Machine,
    Record,
)


@compiled
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
def page_kind(row: Record) -> int:
    """The type of a page: ANON or FILE."""
    return row.flags >> FILE_PAGE_SHIFT & 1


@inlined
def folio_pages(row: Record) -> int:
    """folio_nr_pages: pages of the folio that begins with this page."""
    return 1 << (row.flags >> ORDER_SHIFT)


@inlined
def list_head(lruvec: Record, gen: int, kind: int) -> int:
    """The row of ``pages`` that is the head of a generation's list of one type."""
    return lruvec.lists + gen * 2 + kind


@inlined
def list_add(m: Machine, head: int, page: int) -> None:
    """Puts a page at the head of a list: eviction finds it last."""
    first = page_row(m, head).towards_tail
    page_row(m, page).towards_tail = first
    page_row(m, page).towards_head = head
    page_row(m, first).towards_head = page
    page_row(m, head).towards_tail = page


@inlined
def list_add_tail(m: Machine, head: int, page: int) -> None:
    """Puts a page at the tail of a list: eviction finds it first."""
    last = page_row(m, head).towards_head
    page_row(m, page).towards_head = last
    page_row(m, page).towards_tail = head
    page_row(m, last).towards_tail = page
    page_row(m, head).towards_head = page


@inlined
def list_del(m: Machine, page: int) -> None:
    """Takes a page off whatever list it lies on."""
    towards_tail = page_row(m, page).towards_tail
    towards_head = page_row(m, page).towards_head
    page_row(m, towards_tail).towards_head = towards_head
    page_row(m, towards_head).towards_tail = towards_tail


@inlined
def list_tail(m: Machine, head: int) -> int:
    """The page that eviction finds first; the head itself if the list is empty."""
    return page_row(m, head).towards_head


@inlined
def run_ahead(m: Machine, g: int) -> None:
    """Has the CPU bring another page of the list that eviction will take from into its cache, at each fault.

    Only the row of a page tells which one is next, so eviction would wait for memory at each of them.
    """
    runner = page_row(m, m.mms[g].runner).towards_head
    prefetch(m.pages, runner)
    m.mms[g].runner = runner


@inlined
def change_gen(lruvec: Record, old: int, new: int, kind: int, pages: int) -> None:
    """A folio's number went from one generation to another (-1: from or to no list)."""
    if old >= 0:
        lruvec.nr_pages[old, kind] -= pages
    if new >= 0:
        lruvec.nr_pages[new, kind] += pages


@inlined
def birth_seq(f: Record, lruvec: Record, row: Record) -> int:
    """lru_gen_folio_seq for a page that (re)enters the lists; PG_active speaks for the youngest."""
    if row.state & ACTIVE:
        return lruvec.max_seq - 1 if f.birth_by_distance and not row.state & WORKINGSET else lruvec.max_seq
    if row.flags & (FILE_PAGE | SWAPCACHE):
        return _cached_birth_seq(f, lruvec, row.state, row.flags)
    return lruvec.max_seq - 1


@compiled
def _cached_birth_seq(f: Record, lruvec: Record, state: int, flags: int) -> int:
    """The same for a page that has a copy elsewhere and was not faulted in: it starts old, unless it waits for I/O."""
    if flags & PG_RECLAIM and flags & (PG_DIRTY | PG_WRITEBACK):
        return lruvec.max_seq - 1
    oldest = lruvec.min_seq[FILE if flags & FILE_PAGE else ANON]
    if f.birth_by_distance:
        near = state & WORKINGSET != 0 or (f.birth_referenced and state & REFERENCED != 0)
        return max(lruvec.max_seq - (MAX_NR_GENS - 1) + near, oldest)
    return oldest if oldest + MIN_NR_GENS >= lruvec.max_seq else oldest + 1


@inlined
def add_page(m: Machine, g: int, page: int, kind: int) -> None:
    """lru_gen_add_folio: at the head of the generation that the page's flags call for; clears PG_active."""
    lruvec = m.lruvecs[g]
    row = page_row(m, page)
    gen = gen_of(birth_seq(m.features[0], lruvec, row))
    row.state = with_gen(row.state & ~ACTIVE, gen)
    change_gen(lruvec, -1, gen, kind, folio_pages(row))
    list_add(m, list_head(lruvec, gen, kind), page)


@inlined
def fills_batch(m: Machine, g: int) -> bool:
    """Counts a page of the CPU's lru_add batch; true if it is the last one: then all of them join their lists."""
    cpu = m.cpus[m.mms[g].cpu]
    cpu.added += 1
    if cpu.added < m.features[0].lru_batch:
        return False
    cpu.added = 0
    return True


@inlined
def activate(m: Machine, g: int, page: int) -> None:
    """folio_activate: queues the page, which can't be freed meanwhile; a full batch is drained."""
    cpu = m.cpus[m.mms[g].cpu]
    page_row(m, page).flags |= BUSY
    prefetch(m.pages, page_row(m, page).towards_tail)  # the drain will need them
    prefetch(m.pages, page_row(m, page).towards_head)
    cpu.pages[cpu.count] = page
    cpu.guests[cpu.count] = g
    cpu.count += 1
    if cpu.count == m.features[0].lru_batch:
        drain_activated(m, m.mms[g].cpu)


@compiled
def drain(m: Machine, c: int) -> None:
    """lru_add_drain of a CPU."""
    m.cpus[c].added = 0
    drain_activated(m, c)


@compiled
def drain_activated(m: Machine, c: int) -> None:
    """The queued pages that are on a list go to the youngest generation."""
    cpu = m.cpus[c]
    for i in range(cpu.count):
        page = cpu.pages[i]
        g = cpu.guests[i]
        page_row(m, page).flags &= ~BUSY
        gen = page_gen(page_row(m, page).state)
        if gen < 0:
            continue
        list_del(m, page)
        kind = page_kind(page_row(m, page))
        change_gen(m.lruvecs[g], gen, -1, kind, 1)
        page_row(m, page).state |= ACTIVE
        add_page(m, g, page, kind)
        m.events[g].pgactivate += 1
    cpu.count = 0
