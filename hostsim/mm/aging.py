"""Aging: mm/vmscan.c try_to_inc_max_seq. A walk finds the young pages, then the generations move on."""

from __future__ import annotations

import numpy as np
from numba import boolean, int64

from coldfleet.hostsim.engine.far_calls import apart
from coldfleet.hostsim.engine.jit import compiled, inlined, lowest_bit, page_row, popcount
from coldfleet.hostsim.engine.state import (
    ANON,
    FILE,
    MAX_NR_GENS,
    PMD_POPULATED,
    PMD_YOUNG,
    PRESENT,
    PTRS_PER_PTE,
    REFERENCED,
    SKIPPED,
    TOUCHED,
    WORDS_PER_TABLE,
    Machine,
)
from coldfleet.hostsim.kvm.ask_log import note_ask
from coldfleet.hostsim.kvm.mmu_notifier import ask
from coldfleet.hostsim.mm.huge_pmd import ask_huge, is_huge
from coldfleet.hostsim.mm.lru import (
    change_gen,
    folio_pages,
    gen_of,
    list_add_tail,
    list_del,
    list_head,
    list_tail,
    page_gen,
    page_kind,
    with_gen,
)
from coldfleet.hostsim.mm.pid import is_evictable
from coldfleet.hostsim.mm.refs import forget, is_saturated, page_tier, reported_young
from coldfleet.hostsim.mm.scheduler import switch_after_walk
from coldfleet.hostsim.mm.workingset import carry_over
from coldfleet.hostsim.mm.writeback import carry_dirty_bit
from coldfleet.policies import Site

DENSE_SHARE = 8  # suitable_to_scan: a table is dense when 1 in 8 of its PTEs is young
STACK_PAGES = 33  # pages of the mapping of a process' stack: 132 KiB, mostly absent
_WALK = int(Site.WALK)


@inlined
def promote(m: Machine, g: int, page: int) -> None:
    """update_gen for a page that a walk (or a look-around with a walk object) found young."""
    f = m.features[0]
    lruvec = m.lruvecs[g]
    row = page_row(m, page)
    state = row.state
    gen = page_gen(state)
    if gen < 0:
        if not f.two_touch:
            row.state = state | REFERENCED  # isolated: tells the shrinker to keep it
        return
    state, moves = reported_young(f, state)
    if moves:
        youngest = gen_of(lruvec.max_seq)
        state = with_gen(state, youngest)
        if gen != youngest:
            change_gen(lruvec, gen, youngest, page_kind(row), folio_pages(row))
    row.state = state


@compiled
def _walk_table(m: Machine, g: int, table: int, pages: int) -> bool:
    """walk_pte_range over the first ``pages`` PTEs of a table; true if it is dense."""
    young_count = 0
    for word in range(table * WORDS_PER_TABLE, table * WORDS_PER_TABLE + (pages + 63) // 64):
        present = m.bits[word, PRESENT]
        if not present:
            continue
        young, _ = ask(m, g, word, present, _WALK, 1)
        while young:
            page = word * 64 + lowest_bit(young)
            young &= young - np.uint64(1)
            young_count += 1
            carry_dirty_bit(m, page)
            promote(m, g, page)
    events = m.events[g]
    events.walk_tables += 1
    events.walk_ptes += pages
    return young_count * DENSE_SHARE >= pages


@inlined
def _walk_huge(m: Machine, g: int, table: int) -> None:
    """walk_pmd_range_locked for a PMD that maps a huge page: neither the PMD filter nor the Bloom filter says no."""
    if ask_huge(m, g, table, _WALK):
        promote(m, g, table * PTRS_PER_PTE)
    m.events[g].walk_ptes += 1


@inlined
def _skip_table(m: Machine, g: int, table: int) -> None:
    """A populated table is not walked: what was touched in it since it was last asked stays unseen."""
    for word in range(table * WORDS_PER_TABLE, (table + 1) * WORDS_PER_TABLE):
        m.events[g].missed_young_skipped += popcount(m.bits[word, TOUCHED] & m.bits[word, PRESENT])
        if len(m.followed):
            note_ask(m, word, m.bits[word, PRESENT], SKIPPED)


@compiled
def _walk_vma(
    m: Machine,
    g: int,
    first: int,
    pages: int,
    force_scan: bool,
    made: bool,
    now: int,
    then: int,
    begin: int,
    end: int,
) -> None:
    """walk_pud_range over one mapping: the tables that the PMD's Accessed bit and the Bloom filter don't rule out.

    Of these, the ones from ``begin`` to before ``end``.
    """
    f = m.features[0]
    trusts_pmd = not m.mms[g].notifiers or m.policy[0].trusts_pmd
    for table in range(max(first // PTRS_PER_PTE, begin), min((first + pages - 1) // PTRS_PER_PTE + 1, end)):
        if not m.pmds[table] & PMD_POPULATED:
            continue
        if is_huge(m, table * PTRS_PER_PTE):
            _walk_huge(m, g, table)
            continue
        if trusts_pmd and (not force_scan or f.pmd_filter_even_if_forced):
            young = m.pmds[table] & PMD_YOUNG
            m.pmds[table] = PMD_POPULATED  # cleared even if the Bloom filter then says no
            if not young:
                _skip_table(m, g, table)
                continue
        if not force_scan and made and not m.filters[table, now]:
            _skip_table(m, g, table)
            continue
        if _walk_table(m, g, table, min(PTRS_PER_PTE, first + pages - table * PTRS_PER_PTE)):
            m.filters[table, then] = 1


@inlined
def tables_of(m: Machine, g: int) -> tuple[int, int]:
    """The guest's page tables: the first one, and the one after the last."""
    mm = m.mms[g]
    return mm.first // PTRS_PER_PTE, (mm.file_first + mm.file_pages - 1) // PTRS_PER_PTE + 1


@compiled
def walk_part(m: Machine, g: int, seq: int, swappiness: int, force_scan: bool, begin: int, end: int) -> None:
    """The walk of the aging of ``seq``, in the page tables from ``begin`` to before ``end``.

    Goes by the Bloom filter of that seq and fills the one of the next. Mappings whose pages could not be evicted with
    this swappiness are left out, and those without recency.
    """
    mm = m.mms[g]
    now = seq % 2
    then = (seq + 1) % 2
    made = mm.filter_made[now] != 0
    if is_evictable(ANON, swappiness):
        _walk_vma(m, g, mm.first, mm.pages, force_scan, made, now, then, begin, end)
        if mm.buffer_pages:
            _walk_vma(m, g, mm.own_first, mm.buffer_pages, force_scan, made, now, then, begin, end)
        if mm.own_pages > mm.buffer_pages:
            _walk_vma(m, g, mm.stack_first, STACK_PAGES, force_scan, made, now, then, begin, end)
    if is_evictable(FILE, swappiness) and not mm.file_random:
        _walk_vma(m, g, mm.file_first, mm.file_pages, force_scan, made, now, then, begin, end)


@compiled
def inc_min_seq(m: Machine, g: int, kind: int) -> None:
    """Pushes the oldest generation of a type into the next, taken from the tail to the tail."""
    f = m.features[0]
    lruvec = m.lruvecs[g]
    old = gen_of(lruvec.min_seq[kind])
    head = list_head(lruvec, old, kind)
    page = list_tail(m, head)
    while page != head:
        row = page_row(m, page)
        state = row.state
        if f.pid_all_tiers and not is_saturated(f, state):
            lruvec.protected[kind, page_tier(f, state)] += folio_pages(row)
        gen = page_gen(state)
        if gen == old:
            gen = gen_of(lruvec.min_seq[kind] + 1)
            row.state = with_gen(forget(f, state), gen)
            change_gen(lruvec, old, gen, kind, folio_pages(row))
        list_del(m, page)
        list_add_tail(m, list_head(lruvec, gen, kind), page)
        page = list_tail(m, head)
    carry_over(lruvec, kind)
    lruvec.min_seq[kind] += 1


@compiled
def inc_max_seq(m: Machine, g: int, swappiness: int) -> None:
    """Opens a new youngest generation, making room by force where all four are in use."""
    lruvec = m.lruvecs[g]
    for kind in range(2):
        if lruvec.max_seq - lruvec.min_seq[kind] + 1 < MAX_NR_GENS:
            continue
        if is_evictable(kind, swappiness):
            inc_min_seq(m, g, kind)
        else:  # the pages stay on their list, which the youngest generation will reuse
            carry_over(lruvec, kind)
            lruvec.min_seq[kind] += 1
    lruvec.max_seq += 1
    lruvec.timestamps[gen_of(lruvec.max_seq)] = m.node[0].now_ms
    m.events[g].agings += 1


@inlined
def _has_enough_pages(m: Machine, g: int, swappiness: int) -> bool:
    """should_skip_mm of 6.1: an mm with few pages of the evictable types is not worth a walk.

    The kernel also counts the mapped pages of the program itself, which are not modelled: so that a forced walk, which
    has the same condition, was never seen to be skipped.
    """
    pages = m.mms[g].file_mapped
    if is_evictable(ANON, swappiness):
        pages += m.events[g].resident_pages
    return pages >= m.features[0].min_mm_pages


@compiled
def begin_aging(m: Machine, g: int, swappiness: int, force_scan: bool) -> bool:
    """Whether this aging walks the guest's mm; if it does, makes the Bloom filter of the next one.

    The mm is skipped when no CPU switched to it since its last walk ("used"), unless the scan is forced. A skipped mm
    leaves the next Bloom filter as it was two agings ago.
    """
    mm = m.mms[g]
    if not force_scan and not mm.used:
        return False
    mm.used = 0
    if not force_scan and not _has_enough_pages(m, g, swappiness):
        return False
    first, end = tables_of(m, g)
    then = (m.lruvecs[g].max_seq + 1) % 2
    m.filters[first:end, then] = 0
    mm.filter_made[then] = 1
    m.events[g].mm_walks += 1
    return True


@compiled
def end_aging(m: Machine, g: int, swappiness: int, force_scan: bool, walked_ptes: int) -> None:
    """The generations move on after a walk of so many PTEs."""
    mm = m.mms[g]
    switch_after_walk(m, g, force_scan, walked_ptes)
    mm.walked = 1
    mm.aged_at = m.events[g].pgfault
    mm.seq = m.lruvecs[g].max_seq
    inc_max_seq(m, g, swappiness)


@apart(int64, int64, boolean)
def age(m: Machine, g: int, swappiness: int, force_scan: bool) -> None:
    """try_to_inc_max_seq: walks the guest's mm if it is worth it, then moves the generations on.

    The first iteration of an mm is always forced.
    """
    force_scan = force_scan or not m.mms[g].walked
    before = m.events[g].walk_ptes
    if begin_aging(m, g, swappiness, force_scan):
        first, end = tables_of(m, g)
        walk_part(m, g, m.lruvecs[g].max_seq, swappiness, force_scan, first, end)
    end_aging(m, g, swappiness, force_scan, m.events[g].walk_ptes - before)
