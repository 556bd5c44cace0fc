"""Eviction: mm/vmscan.c evict_folios. Takes pages off the oldest generation, checks them, swaps them out."""

from __future__ import annotations

from hostsim.jit import compiled, inlined, prefetch, spliced
from hostsim.lookaround import check_references
from hostsim.lru import (
    add_page,
    birth_seq,
    change_gen,
    gen_of,
    list_add,
    list_add_tail,
    list_del,
    list_head,
    list_tail,
    page_gen,
    with_gen,
)
from hostsim.notifier import unmap
from hostsim.pid import get_tier_idx, get_type_to_scan
from hostsim.refs import forget, is_saturated, page_tier, reported_young
from hostsim.rows import page_row
from hostsim.state import (
    ACTIVE,
    ANON,
    BUSY,
    FILE,
    GEN_MASK,
    MAX_LRU_BATCH,
    MIN_LRU_BATCH,
    MIN_NR_GENS,
    REFERENCED,
    SWAPCACHE,
    Machine,
    Record,
)
from hostsim.workingset import carry_over, evicted


@spliced
def sort_page(m: Machine, g: int, page: int, limit: int) -> bool:
    """sort_folio: a page that is not to be evicted moves to a younger list; true if it did."""
    f = m.features[0]
    lruvec = m.lruvecs[g]
    state = page_row(m, page).state
    gen = page_gen(state)
    oldest = gen_of(lruvec.min_seq[ANON])
    if gen != oldest:  # a walk has promoted it
        list_del(m, page)
        list_add(m, list_head(lruvec, gen), page)
        return True
    tier = page_tier(f, state)
    saturated = is_saturated(f, state)
    if tier <= limit and not saturated:
        return False
    younger = gen_of(lruvec.min_seq[ANON] + 1)
    page_row(m, page).state = with_gen(forget(f, state), younger)
    change_gen(lruvec, oldest, younger)
    list_del(m, page)
    if f.protected_to_head:
        list_add(m, list_head(lruvec, younger), page)
    else:
        list_add_tail(m, list_head(lruvec, younger), page)
    if not (f.pid_all_tiers and saturated):
        lruvec.protected[ANON, tier] += 1
    if f.activate_counted_when_protected:
        m.events[g].workingset_activate_anon += 1
    return True


@spliced
def isolate_page(m: Machine, g: int, page: int) -> None:
    """isolate_folio: off its list; an unreferenced page loses what is left of its references."""
    f = m.features[0]
    state = page_row(m, page).state
    gen = page_gen(state)
    if not state & REFERENCED:
        state = forget(f, state)
    elif not f.two_touch:
        state &= ~REFERENCED
    page_row(m, page).state = state & ~GEN_MASK
    change_gen(m.lruvecs[g], gen, -1)
    list_del(m, page)


@spliced
def scan_pages(m: Machine, g: int, limit: int, budget: int) -> tuple[int, int]:
    """scan_folios for anonymous pages: fills m.victims, oldest first; returns (scanned, isolated).

    Scanned is 0 if nothing was isolated within the budget, though pages may have been sorted.
    """
    lruvec = m.lruvecs[g]
    if lruvec.max_seq - lruvec.min_seq[ANON] + 1 <= MIN_NR_GENS:
        return 0, 0
    head = list_head(lruvec, gen_of(lruvec.min_seq[ANON]))
    scanned = isolated = 0
    while scanned < budget and isolated < MIN_LRU_BATCH:
        page = list_tail(m, head)
        if page == head:
            break
        scanned += 1
        if not sort_page(m, g, page, limit):
            isolate_page(m, g, page)
            m.victims[isolated] = page
            isolated += 1
    m.events[g].pgscan += isolated
    m.events[g].pgrefill += scanned - isolated
    if isolated == 0 and scanned < budget:
        return 0, 0
    return scanned, isolated


@spliced
def try_to_inc_min_seq(m: Machine, g: int, swappiness: int) -> bool:
    """Drops the empty oldest generations; true if anything moved. File lists are empty."""
    lruvec = m.lruvecs[g]
    anon = lruvec.min_seq[ANON]
    file = lruvec.min_seq[FILE]
    second_youngest = lruvec.max_seq - MIN_NR_GENS
    while swappiness and anon <= second_youngest:
        head = list_head(lruvec, gen_of(anon))
        if list_tail(m, head) != head:
            break
        anon += 1
    file = max(file, second_youngest + 1)
    if swappiness and m.features[0].min_seq_independent:
        if anon > second_youngest and file < second_youngest:
            anon = second_youngest
        if file > second_youngest and anon < second_youngest:
            file = second_youngest
    elif swappiness:
        anon = min(anon, file)
        file = max(anon, lruvec.min_seq[FILE])
    moved = False
    if anon > lruvec.min_seq[ANON]:
        carry_over(lruvec, ANON)
        lruvec.min_seq[ANON] = anon
        moved = True
    if file > lruvec.min_seq[FILE]:
        carry_over(lruvec, FILE)
        lruvec.min_seq[FILE] = file
        moved = True
    return moved


@spliced
def isolate_pages(m: Machine, g: int, swappiness: int, nr_to_scan: int) -> tuple[int, int]:
    """isolate_folios: the chosen type first, the other one if that yields nothing. File lists are empty."""
    f = m.features[0]
    lruvec = m.lruvecs[g]
    budget = min(nr_to_scan, MAX_LRU_BATCH) if f.scan_budget else MAX_LRU_BATCH
    kind, limit = get_type_to_scan(f, lruvec, swappiness)
    if kind == FILE:
        if not swappiness:
            return 0, 0
        limit = get_tier_idx(f, lruvec, ANON)
    return scan_pages(m, g, limit, budget)


@spliced
def _is_kept(m: Machine, g: int, page: int, reclaim: Record) -> bool:
    """The shrinker's verdict on one isolated page; a page that is kept may be activated at that."""
    f = m.features[0]
    if page_row(m, page).state & REFERENCED and not f.two_touch:
        return True  # the look-around for an earlier page of this batch met it
    if not check_references(m, g, page, reclaim.walk != 0, reclaim.walk_aged != 0):
        return False
    if f.two_touch:
        page_row(m, page).state, activated = reported_young(f, page_row(m, page).state)
    else:
        activated = page_row(m, page).state & REFERENCED != 0
    if activated:
        page_row(m, page).state |= ACTIVE
        m.events[g].pgactivate += 1
    return True


@spliced
def _put_back(m: Machine, g: int, page: int) -> None:
    """move_folios_to_lru: a rejected page never returns to the oldest generation."""
    f = m.features[0]
    state = page_row(m, page).state
    lruvec = m.lruvecs[g]
    if not f.two_touch or birth_seq(f, lruvec, state) == lruvec.min_seq[ANON]:
        page_row(m, page).state = forget(f, state) | ACTIVE
    add_page(m, g, page)


@spliced
def shrink_pages(m: Machine, g: int, reclaim: Record, isolated: int) -> None:
    """shrink_folio_list and move_folios_to_lru for the isolated pages, oldest first.

    What is not young is unmapped and written to zram, which is done at once; unless a CPU's batch holds the
    page, then it stays in memory, in the swap cache.
    """
    events = m.events[g]
    reclaim.isolated = isolated
    kept = 0
    runner = list_head(m.lruvecs[g], gen_of(m.lruvecs[g].min_seq[ANON]))
    for i in range(isolated):
        page = m.victims[i]
        runner = page_row(m, runner).towards_head  # runs ahead on the list, so that the next batch is in the cache
        prefetch(m.pages, runner)
        if _is_kept(m, g, page, reclaim):
            m.victims[kept] = page
            kept += 1
            continue
        if unmap(m, page):
            events.resident_pages -= 1
            m.mms[g].unmapped += 1
        if page_row(m, page).flags & BUSY:
            page_row(m, page).flags |= SWAPCACHE
            m.victims[kept] = page
            kept += 1
            continue
        evicted(m, g, page)
        page_row(m, page).state = 0
        page_row(m, page).flags = 0
        events.pgsteal += 1
        events.pswpout += 1
        m.mms[g].charged -= 1
        m.parent[0].charged -= 1
        reclaim.nr_reclaimed += 1
    for i in range(kept):
        _put_back(m, g, m.victims[i])


@compiled
def evict_pages(m: Machine, g: int, reclaim: Record, swappiness: int, nr_to_scan: int) -> int:
    """evict_folios: one batch; returns the progress (scanned pages), 0 when there is nothing to gain."""
    f = m.features[0]
    lruvec = m.lruvecs[g]
    scanned, isolated = isolate_pages(m, g, swappiness, nr_to_scan)
    if try_to_inc_min_seq(m, g, swappiness):
        scanned += 1
    if lruvec.max_seq - oldest_evictable(f, lruvec, swappiness) + 1 <= MIN_NR_GENS:
        scanned = 0
    if isolated:
        reclaim.swapped = 1
        shrink_pages(m, g, reclaim, isolated)
    return scanned


@inlined
def oldest_evictable(f: Record, lruvec: Record, swappiness: int) -> int:
    """The min_seq that aging and eviction go by."""
    if not swappiness:
        return lruvec.min_seq[FILE]
    return min(lruvec.min_seq[ANON], lruvec.min_seq[FILE]) if f.min_seq_independent else lruvec.min_seq[ANON]
