"""Aging: one walk over the page tables, then one new generation (specification, section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .constants import ANON, FILE, MAX_NR_GENS, SUITABLE_TO_SCAN
from .folio import Folio
from .lruvec import evictable
from .mmu import PageTable

if TYPE_CHECKING:
    from .host import ReferenceHost

LONG_WALK = 4096


def suitable_to_scan(total: int, young: int) -> bool:
    return young * SUITABLE_TO_SCAN >= total


def update_gen(host: ReferenceHost, folio: Folio, gen: int) -> None:
    """Promote a young page in place: renumber it and forget its references (section 5.2.1)."""
    if folio.gen < 0 and not host.kernel.two_touch:
        folio.referenced = True  # it is being reclaimed right now: a word to shrink_folio_list
        return
    if host.refs.wants_promotion(folio) and folio.gen != gen:
        host.lruvec.change_gen(folio, gen)


def walk_pte_range(host: ReferenceHost, table: PageTable) -> bool:
    """Scan one table; True if it is dense enough to be walked again next time."""
    lruvec, mm, policy = host.lruvec, host.mm, host.effective_policy
    new_gen = lruvec.young_gen()
    stats = lruvec.walk_stats
    young = 0
    for folio in table.folios:
        if not folio.present:
            continue
        if not mm.has_notifiers and not folio.p:
            continue
        if not policy.walk_young(mm, folio):
            continue
        young += 1
        folio.notice_dirty_pte()
        update_gen(host, folio, new_gen)
    total = len(table.folios)  # the PTEs of the mapping inside this table
    stats["T"] += total
    lruvec.walked_ptes += total
    stats["Y"] += young
    return suitable_to_scan(total, young)


def walk_huge(host: ReferenceHost, folio: Folio) -> None:
    """A PMD that maps a huge page is one leaf: no filter leaves it out (section 5.2)."""
    stats, mm = host.lruvec.walk_stats, host.mm
    stats["T"] += 1
    host.lruvec.walked_ptes += 1
    if (mm.has_notifiers or folio.p) and host.effective_policy.walk_young(mm, folio):
        stats["Y"] += 1
        update_gen(host, folio, host.lruvec.young_gen())


def walk_mm(host: ReferenceHost, seq: int, swappiness: int, force_scan: bool) -> None:
    lruvec, mm = host.lruvec, host.mm
    for table in mm.tables:
        if not evictable(table.kind, swappiness):
            continue
        if not table.populated:
            lruvec.walk_stats["T"] += 1
            continue
        if table.huge:
            walk_huge(host, table.folios[0])
            continue
        if host.effective_policy.skips_old_pmd and (not force_scan or host.kernel.pmd_filter_even_if_forced):
            if not table.pmd_young:
                continue
            table.pmd_young = False
        seen = lruvec.filters[seq % 2]
        if not force_scan and seen is not None and table.number not in seen:
            continue
        lruvec.walk_stats["F"] += 1
        if walk_pte_range(host, table):
            lruvec.walk_stats["A"] += 1
            add_to_filter(host, seq + 1, table)


def add_to_filter(host: ReferenceHost, seq: int, table: PageTable) -> None:
    members = host.lruvec.filters[seq % 2]
    if members is not None:
        members.add(table.number)


def iterate_mm_list(host: ReferenceHost, seq: int, swappiness: int, force_scan: bool) -> None:
    """Visit the memcg's only mm, unless it did not run since its last visit (or is too small for class A)."""
    lruvec, mm = host.lruvec, host.mm
    if not lruvec.iterated_once:
        force_scan = True
        lruvec.iterated_once = True
    before = lruvec.walked_ptes
    if force_scan or mm.used:
        mm.used = False
        relevant = sum(f.present for f in mm.every_folio() if evictable(f.kind, swappiness))
        if force_scan or relevant >= host.kernel.min_mm_pages:
            lruvec.filters[(seq + 1) % 2] = set()
            walk_mm(host, seq, swappiness, force_scan)
    if lruvec.walked_ptes - before >= LONG_WALK:
        kernel = host.kernel
        outlasting = kernel.switch_after_guest_walk if mm.has_notifiers else kernel.switch_after_process_walk
        if outlasting >= (2 if force_scan else 1):
            host.sc.checked = kernel.switch_after_checks
    host.aged_at_fault = host.counters["pgfault"]
    lruvec.mm_state_seq += 1


def inc_min_seq(host: ReferenceHost, kind: int, push: bool) -> None:
    """The window is full: the oldest generation joins the next one (section 5.3)."""
    lruvec = host.lruvec
    seq = lruvec.min_seq[kind]
    old_gen, next_gen = seq % MAX_NR_GENS, (seq + 1) % MAX_NR_GENS
    if push:
        source = lruvec.lists[old_gen][kind]
        while (folio := source.tail) is not None:
            source.remove(folio)
            if host.kernel.pid_all_tiers and not host.refs.is_saturated(folio):
                # Counts pages that a walk promoted, too.
                tier = host.refs.tier(host.refs.refs(folio), folio.workingset)
                lruvec.stats[kind].protected[tier] += folio.size
            if folio.gen == old_gen:
                inc_gen(host, folio, next_gen)
            lruvec.lists[folio.gen][kind].add_tail(folio)
    lruvec.advance_min_seq(kind, seq + 1)


def inc_gen(host: ReferenceHost, folio: Folio, next_gen: int) -> None:
    """Demote's opposite: a page of the oldest generation joins the next one."""
    host.lruvec.change_gen(folio, next_gen)
    host.refs.forget(folio)


def inc_max_seq(host: ReferenceHost, swappiness: int) -> None:
    lruvec = host.lruvec
    for kind in (FILE, ANON):
        if lruvec.nr_gens(kind) == MAX_NR_GENS:
            inc_min_seq(host, kind, push=evictable(kind, swappiness))
    lruvec.max_seq += 1
    lruvec.timestamps[lruvec.young_gen()] = host.now_ms


def try_to_inc_max_seq(host: ReferenceHost, swappiness: int, force_scan: bool) -> bool:
    """Age once (section 5); the caller's walk object exists from here on."""
    lruvec = host.lruvec
    seq = lruvec.max_seq
    if seq <= lruvec.mm_state_seq:
        return False
    host.mm.used = host.used_at_aging.get(seq, host.mm.used)
    iterate_mm_list(host, seq, swappiness, force_scan)
    inc_max_seq(host, swappiness)
    return True
