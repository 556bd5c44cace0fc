"""Eviction: mm/vmscan.c evict_folios. Takes pages off the oldest generation, checks them, swaps them out."""

from __future__ import annotations

from hostsim.jit import compiled, inlined
from hostsim.lookaround import check_references
from hostsim.lru import (
    add_page,
    change_gen,
    forget_references,
    gen_of,
    list_add,
    list_add_tail,
    list_del,
    list_head,
    list_tail,
    page_gen,
    references,
    tier_of,
    with_gen,
)
from hostsim.notifier import unmap
from hostsim.pid import choose_type, tier_limit
from hostsim.state import (
    ACTIVE,
    ANON,
    FILE,
    GEN_MASK,
    MAX_LRU_BATCH,
    MIN_LRU_BATCH,
    MIN_NR_GENS,
    REFERENCED,
    Machine,
    Record,
)
from hostsim.workingset import carry_over, evicted

SATURATED = 4  # references of a page that is always protected


@inlined
def sort_page(m: Machine, g: int, page: int, limit: int) -> bool:
    """sort_folio: a page that is not to be evicted moves to a younger list; true if it did."""
    lruvec = m.lruvecs[g]
    state = m.pages[page].state
    gen = page_gen(state)
    oldest = gen_of(lruvec.min_seq[ANON])
    if gen != oldest:  # a walk has promoted it
        list_del(m, page)
        list_add(m, list_head(lruvec, gen), page)
        return True
    refs = references(state)
    tier = tier_of(refs)
    if tier > limit or refs == SATURATED:
        younger = gen_of(lruvec.min_seq[ANON] + 1)
        m.pages[page].state = with_gen(forget_references(state), younger)
        change_gen(lruvec, oldest, younger)
        list_del(m, page)
        list_add_tail(m, list_head(lruvec, younger), page)
        lruvec.protected[ANON, tier] += 1
        return True
    return False


@inlined
def isolate_page(m: Machine, g: int, page: int) -> None:
    """isolate_folio: off its list; an unreferenced page loses what is left of its references."""
    lruvec = m.lruvecs[g]
    state = m.pages[page].state
    gen = page_gen(state)
    if not state & REFERENCED:
        state = forget_references(state)
    m.pages[page].state = state & ~(REFERENCED | GEN_MASK)
    change_gen(lruvec, gen, -1)
    list_del(m, page)


@inlined
def scan_pages(m: Machine, g: int, limit: int) -> tuple[int, int]:
    """scan_folios for anonymous pages: fills m.victims, oldest first; returns (scanned, isolated).

    Scanned is 0 if nothing was isolated, though pages may have been sorted.
    """
    lruvec = m.lruvecs[g]
    if lruvec.max_seq - lruvec.min_seq[ANON] + 1 <= MIN_NR_GENS:
        return 0, 0
    head = list_head(lruvec, gen_of(lruvec.min_seq[ANON]))
    scanned = isolated = sorted_pages = 0
    while scanned < MAX_LRU_BATCH and isolated < MIN_LRU_BATCH:
        page = list_tail(m, head)
        if page == head:
            break
        scanned += 1
        if sort_page(m, g, page, limit):
            sorted_pages += 1
        else:
            isolate_page(m, g, page)
            m.victims[isolated] = page
            isolated += 1
    m.events[g].pgscan += isolated
    m.events[g].pgrefill += sorted_pages
    if isolated == 0 and scanned < MAX_LRU_BATCH:
        return 0, 0
    return scanned, isolated


@compiled
def try_to_inc_min_seq(m: Machine, g: int, swappiness: int) -> bool:
    """Drops the empty oldest generations, anonymous and file together; true if anything moved."""
    lruvec = m.lruvecs[g]
    anon = lruvec.min_seq[ANON]
    file = lruvec.min_seq[FILE]
    if swappiness:
        while anon + MIN_NR_GENS <= lruvec.max_seq:
            head = list_head(lruvec, gen_of(anon))
            if list_tail(m, head) != head:
                break
            anon += 1
    while file + MIN_NR_GENS <= lruvec.max_seq:
        file += 1  # no file pages: every file generation is empty
    if swappiness:
        anon = min(anon, file)
        file = max(anon, lruvec.min_seq[FILE])
    moved = False
    if anon != lruvec.min_seq[ANON]:
        carry_over(lruvec, ANON)
        lruvec.min_seq[ANON] = anon
        moved = True
    if file != lruvec.min_seq[FILE]:
        carry_over(lruvec, FILE)
        lruvec.min_seq[FILE] = file
        moved = True
    return moved


@inlined
def isolate_pages(m: Machine, g: int, swappiness: int) -> tuple[int, int]:
    """isolate_folios: the chosen type first, the other one if that yields nothing. File lists are empty."""
    lruvec = m.lruvecs[g]
    kind, limit = choose_type(lruvec, swappiness)
    if kind == FILE:
        if not swappiness:
            return 0, 0
        limit = tier_limit(lruvec, ANON, 1, ANON, 2)
    return scan_pages(m, g, limit)


@inlined
def shrink_pages(m: Machine, g: int, reclaim: Record, isolated: int) -> None:
    """shrink_folio_list and move_folios_to_lru for the isolated pages, oldest first.

    A page found young, or marked by the look-around for an earlier page of this batch, goes back to the
    youngest generation. The others are swapped out; on zram that is done at once.
    """
    events = m.events[g]
    kept = 0
    for i in range(isolated):
        page = m.victims[i]
        if m.pages[page].state & REFERENCED or check_references(m, g, page, reclaim.walk != 0):
            m.victims[kept] = page
            kept += 1
            continue
        unmap(m, g, page)
        evicted(m, g, page)
        m.pages[page].state = 0
        events.pgsteal += 1
        events.pswpout += 1
        events.resident_pages -= 1
        m.mms[g].charged -= 1
        reclaim.nr_reclaimed += 1
    for i in range(kept):
        page = m.victims[i]
        m.pages[page].state = forget_references(m.pages[page].state) & ~ACTIVE
        add_page(m, g, page)


@compiled
def evict_pages(m: Machine, g: int, reclaim: Record, swappiness: int) -> int:
    """evict_folios: one batch; returns the progress (scanned pages), 0 when there is nothing to gain."""
    lruvec = m.lruvecs[g]
    scanned, isolated = isolate_pages(m, g, swappiness)
    if try_to_inc_min_seq(m, g, swappiness):
        scanned += 1
    oldest = lruvec.min_seq[ANON] if swappiness else lruvec.min_seq[FILE]
    if lruvec.max_seq - oldest + 1 <= MIN_NR_GENS:
        scanned = 0
    if isolated:
        shrink_pages(m, g, reclaim, isolated)
    return scanned
