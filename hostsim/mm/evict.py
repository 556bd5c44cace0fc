"""Eviction: mm/vmscan.c evict_folios. Takes pages off the oldest generation, checks them, writes and frees them."""

from __future__ import annotations

import numpy as np
from numba import int64

from coldfleet.hostsim.engine.far_calls import RECLAIM_RECORD, apart
from coldfleet.hostsim.engine.jit import compiled, inlined, not_negative, page_row, prefetch, spliced
from coldfleet.hostsim.engine.state import (
    ACTIVE,
    ANON,
    BUSY,
    FILE,
    FILE_PAGE,
    GEN_MASK,
    MIN_NR_GENS,
    ORDER_SHIFT,
    PG_DIRTY,
    PG_RECLAIM,
    PG_WRITEBACK,
    REFERENCED,
    SWAPCACHE,
    WORKINGSET,
    WRITABLE,
    Machine,
    Record,
)
from coldfleet.hostsim.kvm.mmu_notifier import answers_alike, is_mapped, is_untouched, unmap
from coldfleet.hostsim.mm.huge_pmd import GONE, KEPT, write_huge
from coldfleet.hostsim.mm.look_around import check_references
from coldfleet.hostsim.mm.lru import (
    add_page,
    birth_seq,
    change_gen,
    folio_pages,
    gen_of,
    list_add,
    list_add_tail,
    list_del,
    list_head,
    list_tail,
    page_gen,
    page_kind,
    run_ahead,
    with_gen,
)
from coldfleet.hostsim.mm.pid import get_tier_idx, get_type_to_scan, is_evictable
from coldfleet.hostsim.mm.refs import checked_young, forget, is_saturated, page_tier
from coldfleet.hostsim.mm.swap_slots import give_slot, store, swap_is_full, take_slot
from coldfleet.hostsim.mm.workingset import carry_over, count_activated, evicted
from coldfleet.hostsim.mm.writeback import carry_dirty_bit, start_writeback

_UNUSUAL = ~(BUSY | WRITABLE)  # flags of a page: it isn't just an anonymous one without a copy


@spliced
def sort_page(m: Machine, g: int, page: int, kind: int, oldest: int, limit: int, reclaim: Record) -> bool:
    """sort_folio: a page that is not to be evicted moves to a younger list; true if it did.

    ``oldest``: the generation from whose list the page was taken.
    """
    f = m.features[0]
    lruvec = m.lruvecs[g]
    row = page_row(m, page)
    state = row.state
    gen = page_gen(state)
    if gen != oldest:  # a walk has promoted it
        list_del(m, page)
        list_add(m, list_head(lruvec, gen, kind), page)
        return True
    tier = page_tier(f, state)
    saturated = is_saturated(f, state)
    is_protected = tier > limit or saturated
    if not is_protected and not (f.sorts_unwritten and _waits_for_write(f, row, kind, reclaim)):
        return False
    younger = gen_of(oldest + 1)
    pages = folio_pages(row)
    row.state = with_gen(forget(f, state), younger)
    change_gen(lruvec, oldest, younger, kind, pages)
    list_del(m, page)
    if f.protected_to_head or not is_protected:
        list_add(m, list_head(lruvec, younger, kind), page)
    else:
        list_add_tail(m, list_head(lruvec, younger, kind), page)
    if not is_protected:
        row.flags |= PG_RECLAIM
        return True
    if not (f.pid_all_tiers and saturated):
        lruvec.protected[kind, tier] += pages
    if f.activate_counted_when_protected:
        count_activated(m.events[g], kind, pages)
    return True


@inlined
def _waits_for_write(f: Record, row: Record, kind: int, reclaim: Record) -> bool:
    """Whether a page is being written, or is a file page that has to be."""
    if not row.flags & (PG_DIRTY | PG_WRITEBACK):
        return False
    if kind == FILE and row.flags & PG_DIRTY and f.sorted_wake_flusher:
        reclaim.file_taken += 1
        reclaim.unqueued_dirty += row.flags & PG_WRITEBACK == 0
    return kind == FILE or row.flags & PG_WRITEBACK != 0


@spliced
def isolate_page(m: Machine, page: int) -> None:
    """isolate_folio: off its list; an unreferenced page loses what is left of its references."""
    f = m.features[0]
    row = page_row(m, page)
    state = row.state
    if not state & REFERENCED:
        state = forget(f, state)
    elif not f.two_touch:
        state &= ~REFERENCED
    row.state = state & ~GEN_MASK
    if f.sorts_unwritten:
        row.flags &= ~PG_RECLAIM
    list_del(m, page)


@spliced
def scan_pages(m: Machine, g: int, kind: int, limit: int, budget: int, reclaim: Record) -> tuple[int, int]:
    """scan_folios for one type: fills m.victims, oldest first; returns (scanned, isolated), in pages.

    Scanned is 0 if nothing was isolated within the budget, which is of folios, though pages may have been sorted.
    """
    lruvec = m.lruvecs[g]
    events = m.events[g]
    if lruvec.max_seq - lruvec.min_seq[kind] + 1 <= MIN_NR_GENS:
        return 0, 0
    oldest = gen_of(lruvec.min_seq[kind])
    head = list_head(lruvec, oldest, kind)
    batch = m.features[0].min_lru_batch
    folios = victims = scanned = isolated = 0
    while folios < budget and isolated < batch:
        page = list_tail(m, head)
        if page == head:
            break
        pages = folio_pages(page_row(m, page))
        folios += 1
        scanned += pages
        if not sort_page(m, g, page, kind, oldest, limit, reclaim):
            isolate_page(m, page)
            prefetch(m.bits[np.uint64(page) >> np.uint64(6)], 0)  # which shrink_pages asks next
            m.victims[np.uint64(victims)] = page
            victims += 1
            isolated += pages
    m.node[0].isolated = victims
    lruvec.nr_pages[oldest, kind] -= isolated
    events.pgscan += isolated
    events.pgrefill += scanned - isolated
    if kind == FILE:
        events.pgscan_file += isolated
        reclaim.file_taken += isolated
    if isolated == 0 and folios < budget and not m.features[0].batch_counts_sorted:
        return 0, 0
    return scanned, isolated


@inlined
def _first_populated(m: Machine, g: int, kind: int) -> int:
    """The oldest seq of a type that has pages on its list, at most the one beyond the evictable."""
    lruvec = m.lruvecs[g]
    seq = lruvec.min_seq[kind]
    while seq + MIN_NR_GENS <= lruvec.max_seq:
        head = list_head(lruvec, gen_of(seq), kind)
        if list_tail(m, head) != head:
            break
        seq += 1
    return seq


@spliced
def try_to_inc_min_seq(m: Machine, g: int, swappiness: int) -> bool:
    """Drops the empty oldest generations; true if anything moved."""
    lruvec = m.lruvecs[g]
    second_youngest = lruvec.max_seq - MIN_NR_GENS
    anon = _first_populated(m, g, ANON) if is_evictable(ANON, swappiness) else lruvec.min_seq[ANON]
    file = _first_populated(m, g, FILE) if is_evictable(FILE, swappiness) else lruvec.min_seq[FILE]
    if is_evictable(ANON, swappiness) and is_evictable(FILE, swappiness):
        if not m.features[0].min_seq_independent:
            anon = min(anon, file)
            file = max(anon, lruvec.min_seq[FILE])
        elif anon > second_youngest and file < second_youngest:
            anon = second_youngest
        elif file > second_youngest and anon < second_youngest:
            file = second_youngest
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
def isolate_pages(m: Machine, g: int, swappiness: int, nr_to_scan: int, reclaim: Record) -> tuple[int, int, int]:
    """isolate_folios: the chosen type, the other one if it has nothing to look at; (scanned, isolated, type)."""
    f = m.features[0]
    lruvec = m.lruvecs[g]
    budget = min(nr_to_scan, f.max_lru_batch) if f.scan_budget else f.max_lru_batch
    kind, limit = get_type_to_scan(f, lruvec, swappiness)
    total = scanned = isolated = 0
    for attempt in range(2):
        if attempt:
            if not is_evictable(1 - kind, swappiness):
                break
            if not scanned:
                kind = 1 - kind
            limit = get_tier_idx(f, lruvec, kind)
        scanned, isolated = scan_pages(m, g, kind, limit, budget, reclaim)
        total += scanned
        if isolated or (scanned and not f.batch_looks_twice):
            break
    return total, isolated, kind


@inlined
def activate_isolated(m: Machine, g: int, page: int) -> None:
    """A page that eviction has taken off its list will return to a younger one."""
    page_row(m, page).state |= ACTIVE
    m.events[g].pgactivate += folio_pages(page_row(m, page))


@spliced
def _is_kept(m: Machine, g: int, page: int, reclaim: Record) -> bool:
    """The shrinker's verdict on one isolated page; a page that is kept may be activated at that."""
    f = m.features[0]
    row = page_row(m, page)
    if row.state & REFERENCED and not f.two_touch:
        return True  # the look-around for an earlier page of this batch met it
    if row.flags & (PG_DIRTY | PG_WRITEBACK):
        if row.flags & PG_WRITEBACK:
            row.flags |= PG_RECLAIM
            activate_isolated(m, g, page)
            return True
        reclaim.unqueued_dirty += page_kind(row) == FILE
    if reclaim.ignore_references or not check_references(m, g, page, 0, reclaim.walk != 0, reclaim.walk_aged != 0):
        return False
    if f.two_touch:
        row.state, activated = checked_young(f, row.state)
    else:
        activated = row.state & REFERENCED != 0
        row.state |= REFERENCED
    if activated:
        activate_young(m, g, page)
    return True


@inlined
def activate_young(m: Machine, g: int, page: int) -> None:
    """The same for a page that has proved young: if swap is all but full, it gives up the slot that it may have."""
    activate_isolated(m, g, page)
    row = page_row(m, page)
    if row.flags & (SWAPCACHE | BUSY | PG_WRITEBACK) == SWAPCACHE and swap_is_full(m):
        row.flags &= ~(SWAPCACHE | PG_DIRTY)
        give_slot(m, page)


@compiled
def _write_cached(m: Machine, g: int, page: int) -> bool:
    """Unmaps a page that has a copy elsewhere and sees to it that the copy is right; true if the page can go now."""
    row = page_row(m, page)
    carry_dirty_bit(m, page)
    row.flags &= ~WRITABLE
    if unmap(m, page):
        m.mms[g].unmapped += 1
        if row.flags & FILE_PAGE:
            m.mms[g].file_mapped -= 1
        else:
            m.events[g].resident_pages -= 1
    if row.flags & FILE_PAGE:
        if row.flags & PG_DIRTY:  # a matter for the flusher
            row.flags |= PG_RECLAIM
            activate_isolated(m, g, page)
            return False
        return row.flags & BUSY == 0
    if row.flags & BUSY:
        return False
    if row.flags & PG_DIRTY:
        if not store(m, g, page):
            return False
        m.events[g].pswpout += 1
        if m.node[0].async_swap:
            row.flags |= PG_RECLAIM
            start_writeback(m, g, page)
            return False
    return True


@spliced
def unmap_and_write(m: Machine, g: int, page: int) -> bool:
    """Unmaps a page that is not young, and writes it if it must be; true if it can be freed at once.

    A synchronous swap device has written it at once. What a CPU's batch holds can't be freed: it stays, in the swap
    cache or page cache. A page for which swap has no slot is activated.
    """
    row = page_row(m, page)
    if row.flags & _UNUSUAL:
        if row.flags >> ORDER_SHIFT:
            fate = write_huge(m, g, page)
            if fate == GONE:
                return True
            if fate == KEPT:
                activate_isolated(m, g, page)
                return False
        if row.flags & (FILE_PAGE | SWAPCACHE):
            return _write_cached(m, g, page)
    if not take_slot(m, page):
        activate_isolated(m, g, page)
        return False
    if m.node[0].async_swap or row.flags & BUSY or not store(m, g, page):
        row.flags |= SWAPCACHE | PG_DIRTY
        return _write_cached(m, g, page)
    m.events[g].pswpout += 1
    if unmap(m, page):
        m.mms[g].unmapped += 1
        m.events[g].resident_pages -= 1
    return True


@inlined
def _free(m: Machine, g: int, page: int, kind: int, reclaim: Record) -> None:
    """__remove_mapping and free: all that is left of the page is its shadow."""
    row = page_row(m, page)
    pages = folio_pages(row)
    evicted(m, g, page, kind, pages)
    row.state = 0
    row.flags &= FILE_PAGE
    reclaim.freed += pages


@inlined
def _put_back(m: Machine, g: int, page: int, kind: int) -> None:
    """move_folios_to_lru: a rejected page never returns to the oldest generation, unless it waits for I/O."""
    f = m.features[0]
    row = page_row(m, page)
    lruvec = m.lruvecs[g]
    if f.two_touch:
        if birth_seq(f, lruvec, row) == lruvec.min_seq[kind]:
            row.state = forget(f, row.state) | ACTIVE
    elif row.flags & PG_RECLAIM and row.flags & (PG_DIRTY | PG_WRITEBACK):
        if row.state & WORKINGSET:
            row.state |= REFERENCED  # what isolate_folio took from it
    else:
        row.state = forget(f, row.state) | ACTIVE
    add_page(m, g, page, kind)


@inlined
def _may_go_now(m: Machine, page: int) -> bool:
    """A page was not freed although nothing is wrong with it: a CPU's batch held it, and may have let go."""
    row = page_row(m, page)
    if not row.flags & (FILE_PAGE | SWAPCACHE) or row.flags & (PG_DIRTY | PG_WRITEBACK) or row.state & ACTIVE:
        return False
    return not is_mapped(m, page)


@compiled
def _retry(m: Machine, g: int, kind: int, reclaim: Record, count: int) -> None:
    """The second round of evict_folios, for the first ``count`` of m.victims."""
    for i in range(count):
        page = m.victims[i]
        if page_row(m, page).flags & BUSY:
            _put_back(m, g, page, kind)
        else:
            _free(m, g, page, kind, reclaim)


@inlined
def _is_plain(row: Record) -> bool:
    """Nothing keeps an isolated page from being evicted, if it is old."""
    return not (row.state & REFERENCED or row.flags & (PG_DIRTY | PG_WRITEBACK))


@spliced
def shrink_pages(m: Machine, g: int, kind: int, reclaim: Record) -> None:
    """shrink_folio_list and move_folios_to_lru for the isolated folios, oldest first.

    Most of them nobody has touched. The MMUs say the same of each of these, so they are asked once for all.
    """
    reclaim.freed = 0
    kept = untouched = one = 0
    alike = answers_alike(m, g) and not reclaim.ignore_references and not (kind == FILE and m.mms[g].file_random)
    more = reclaim.nr_to_reclaim - reclaim.nr_reclaimed > m.node[0].isolated  # the next batch follows at once
    m.mms[g].runner = list_head(m.lruvecs[g], gen_of(m.lruvecs[g].min_seq[kind]), kind)
    i = 0
    while i < m.node[0].isolated:  # to which a huge page that is split adds
        page = m.victims[np.uint64(i)]
        i += 1
        if more:
            run_ahead(m, g)
        is_old = alike and _is_plain(page_row(m, page)) and is_untouched(m, page)
        if is_old:
            untouched += 1
            one = page
        if (not is_old and _is_kept(m, g, page, reclaim)) or not unmap_and_write(m, g, page):
            m.victims[np.uint64(kept)] = page
            kept += 1
        else:
            _free(m, g, page, kind, reclaim)
    if untouched and m.mms[g].notifiers:
        check_references(m, g, one, untouched, False, False)
    retried = 0
    for i in range(kept):
        page = m.victims[i]
        if _may_go_now(m, page):
            m.victims[retried] = page
            retried += 1
        else:
            _put_back(m, g, page, kind)
    if retried:
        _retry(m, g, kind, reclaim, retried)
    free_batch(m, g, kind, reclaim)


@inlined
def free_batch(m: Machine, g: int, kind: int, reclaim: Record) -> None:
    """What a batch has freed (``reclaim.freed``) is no longer charged, and free."""
    if reclaim.freed:
        m.node[0].kswapd_failures = 0
    reclaim.nr_reclaimed += reclaim.freed
    m.node[0].free_pages += reclaim.freed
    m.mms[g].charged -= reclaim.freed
    if m.node[0].protection and reclaim.target != g:
        m.mms[g].least_charged = min(m.mms[g].least_charged, m.mms[g].charged)
    m.parent[0].charged -= reclaim.freed
    if kind == FILE:
        m.events[g].cached_pages -= reclaim.freed


@apart(int64, RECLAIM_RECORD, int64, int64)
def evict_pages(m: Machine, g: int, reclaim: Record, swappiness: int, nr_to_scan: int) -> int:
    """evict_folios: one batch; returns the progress (scanned pages), 0 when there is nothing to gain."""
    not_negative(g)
    f = m.features[0]
    lruvec = m.lruvecs[g]
    unwritten = reclaim.unqueued_dirty
    scanned, isolated, kind = isolate_pages(m, g, swappiness, nr_to_scan, reclaim)
    reclaim.checked += isolated
    reclaim.scanned += isolated
    if try_to_inc_min_seq(m, g, swappiness):
        scanned += 1
    if lruvec.max_seq - oldest_evictable(f, lruvec, swappiness) + 1 <= MIN_NR_GENS:
        scanned = 0
    if isolated:
        if kind == ANON:
            reclaim.swapped = 1
        shrink_pages(m, g, kind, reclaim)
        m.events[g].pgsteal += reclaim.freed
        if kind == FILE:
            m.events[g].pgsteal_file += reclaim.freed
        if f.batch_wakes_flusher and reclaim.unqueued_dirty - unwritten == isolated:
            m.node[0].flusher_woken = 1
    return scanned


@inlined
def oldest_evictable(f: Record, lruvec: Record, swappiness: int) -> int:
    """The min_seq that aging and eviction go by."""
    if not is_evictable(ANON, swappiness):
        return lruvec.min_seq[FILE]
    if not f.min_seq_independent or not is_evictable(FILE, swappiness):
        return lruvec.min_seq[ANON]
    return min(lruvec.min_seq[ANON], lruvec.min_seq[FILE])
