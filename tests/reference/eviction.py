"""Eviction: sort and isolate the oldest pages, then reclaim them (specification, section 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .aging import inc_gen
from .constants import ANON, FILE, MAX_LRU_BATCH, MAX_NR_GENS, MAX_NR_TIERS, MIN_LRU_BATCH, MIN_NR_GENS
from .folio import Folio
from .lruvec import evictable
from .pid import positive, tier_limit
from .rmap import check_wants_promotion, folio_referenced
from .workingset import workingset_eviction

if TYPE_CHECKING:
    from .host import ReferenceHost


def sort_folio(host: ReferenceHost, folio: Folio, limit: int) -> bool:
    """True if the page is not for eviction now and was moved elsewhere (section 7.4.3)."""
    lruvec, kernel, kind = host.lruvec, host.kernel, folio.kind
    oldest = lruvec.min_seq[kind] % MAX_NR_GENS
    if folio.gen != oldest:  # a walk promoted it
        lruvec.lists[oldest][kind].remove(folio)
        lruvec.lists[folio.gen][kind].add(folio)
        return True
    next_gen = (lruvec.min_seq[kind] + 1) % MAX_NR_GENS
    tier = host.refs.tier(host.refs.refs(folio), folio.workingset)
    saturated = host.refs.is_saturated(folio)
    if tier > limit or saturated:
        inc_gen(host, folio, next_gen)
        lruvec.lists[oldest][kind].remove(folio)
        target = lruvec.lists[next_gen][kind]
        if kernel.protected_to_head:
            target.add(folio)
        else:
            target.add_tail(folio)
        if not (saturated and kernel.pid_all_tiers):
            lruvec.stats[kind].protected[tier] += folio.size
        if kernel.activate_counted_when_protected:
            host.counters["workingset_activate_file" if kind == FILE else "workingset_activate_anon"] += folio.size
        return True
    dirty_file = kind == FILE and folio.dirty
    if dirty_file and kernel.sorted_wake_flusher:
        host.sc.file_taken += 1
        host.sc.unqueued_dirty += not folio.writeback
    if kernel.sorts_unwritten and (folio.writeback or dirty_file):
        inc_gen(host, folio, next_gen)
        folio.reclaim = True
        lruvec.lists[oldest][kind].remove(folio)
        lruvec.lists[next_gen][kind].add(folio)
        return True
    return False


def isolate_folio(host: ReferenceHost, folio: Folio) -> None:
    if not folio.referenced:
        host.refs.forget(folio)
    if not host.kernel.two_touch:
        folio.referenced = False
    if host.kernel.sorts_unwritten:
        folio.reclaim = False
    host.lruvec.del_folio(folio)


def pages_of(folios: list[Folio]) -> int:
    return sum(folio.size for folio in folios)


def scan_folios(host: ReferenceHost, kind: int, limit: int, budget: int) -> tuple[int, list[Folio]]:
    """(scanned, isolated oldest first); scanned is 0 when nothing was isolated in budget."""
    lruvec = host.lruvec
    if lruvec.nr_gens(kind) == MIN_NR_GENS:
        return 0, []
    source = lruvec.lists[lruvec.min_seq[kind] % MAX_NR_GENS][kind]
    folios = scanned = nr_sorted = 0
    isolated: list[Folio] = []
    while (folio := source.tail) is not None:
        folios += 1
        scanned += folio.size
        if sort_folio(host, folio, limit):
            nr_sorted += folio.size
        else:
            isolate_folio(host, folio)
            isolated.append(folio)
        if folios >= budget or pages_of(isolated) >= MIN_LRU_BATCH:
            break
    host.counters["pgscan"] += pages_of(isolated)
    host.counters["pgrefill"] += nr_sorted
    if kind == FILE:
        host.counters["pgscan_file"] += pages_of(isolated)
        host.sc.file_taken += pages_of(isolated)
    if isolated or folios >= budget or host.kernel.batch_counts_sorted:
        return scanned, isolated
    return 0, []


def type_and_tier(host: ReferenceHost, swappiness: int) -> tuple[int, int]:
    """Which type to evict, and the highest tier not to protect (section 7.4.1)."""
    lruvec = host.lruvec
    anon, file = lruvec.stats
    gain = [swappiness, 200 - swappiness]
    if host.kernel.pid_all_tiers:
        if swappiness <= 1:
            kind = FILE
        elif swappiness >= 200:
            kind = ANON
        else:
            every = range(MAX_NR_TIERS)
            kind = FILE if positive(anon.position(every, gain[ANON]), file.position(every, gain[FILE])) else ANON
    elif swappiness == 0:
        kind = FILE
    elif lruvec.min_seq[ANON] < lruvec.min_seq[FILE]:
        kind = ANON
    elif swappiness == 1:
        kind = FILE
    elif swappiness == 200:
        kind = ANON
    else:
        first = range(1)
        kind = FILE if positive(anon.position(first, gain[ANON]), file.position(first, gain[FILE])) else ANON
        other = 1 - kind
        return kind, tier_limit(lruvec.stats[kind], lruvec.stats[other].position(first, gain[other]), gain[kind])
    return kind, get_tier_idx(host, kind)


def get_tier_idx(host: ReferenceHost, kind: int) -> int:
    stats = host.lruvec.stats[kind]
    setpoint_gain, gain = (2, 3) if host.kernel.pid_all_tiers else (1, 2)
    return tier_limit(stats, stats.position(range(1), setpoint_gain), gain)


def isolate_folios(host: ReferenceHost, swappiness: int, nr_to_scan: int) -> tuple[int, list[Folio]]:
    budget = min(nr_to_scan, MAX_LRU_BATCH) if host.kernel.scan_budget else MAX_LRU_BATCH
    kind, limit = type_and_tier(host, swappiness)
    scanned, isolated = scan_folios(host, kind, limit, budget)
    again = not isolated if host.kernel.batch_looks_twice else not scanned
    if not again or not evictable(1 - kind, swappiness):
        return scanned, isolated
    if not scanned:
        kind = 1 - kind
    more, isolated = scan_folios(host, kind, get_tier_idx(host, kind), budget)
    return scanned + more, isolated


def activate(host: ReferenceHost, folio: Folio) -> None:
    folio.active = True
    host.counters["pgactivate"] += folio.size


def shrink_folio_list(host: ReferenceHost, isolated: list[Folio]) -> tuple[int, list[Folio]]:
    """(pages reclaimed, survivors in the order they were looked at) (section 7.5)."""
    pages = pages_of(isolated)
    survivors = [folio for folio in isolated if not shrink_folio(host, folio, isolated)]
    return pages - pages_of(survivors), survivors


def shrink_folio(host: ReferenceHost, folio: Folio, isolated: list[Folio]) -> bool:
    """One page through all the checks; True if it was reclaimed. A huge page may add its pages to the isolated ones."""
    if folio.referenced and folio.present and not host.kernel.two_touch:
        return False  # look-around met it while it was isolated: keep
    if folio.kind == FILE and folio.dirty and not folio.writeback:
        host.sc.unqueued_dirty += 1
    if folio.writeback:
        folio.reclaim = True
        activate(host, folio)
        return False
    if folio_referenced(host, folio):
        if activates(host, folio):
            activate(host, folio)
            host.device.free_swap(folio)
        return False
    if folio.size > 1:
        if not host.device.take_cluster(folio.table.folios):
            isolated += split_huge(host, folio)
        elif host.device.async_swap:
            isolated += write_huge(host, folio)
        else:
            swap_out_huge(host, folio)
            return True
    if folio.kind == ANON and not folio.swapcache:
        if not host.device.take_slot(folio):
            activate(host, folio)
            return False
        folio.swapcache = True
        folio.mark_dirty()
    host.mm.unmap(folio)
    if folio.kind == ANON:
        folio.swapped = True
    if folio.dirty and not write_out(host, folio):
        return False
    if folio.busy:  # a reference too many: it stays in the swap cache or page cache, unmapped
        return False
    folio.shadow = workingset_eviction(host, folio)
    folio.reset_flags()
    folio.swapcache = folio.cached = False
    host.uncharge(1)
    if folio.kind == FILE:
        host.counters["pgsteal_file"] += 1
    return True


def swap_out_huge(host: ReferenceHost, folio: Folio) -> None:
    """All pages of a huge page go at once, each to a slot of its own, and each leaves the same shadow."""
    shadow = workingset_eviction(host, folio)
    host.uncharge(folio.size)
    host.counters["pswpout"] += folio.size
    host.counters["thp_swpout"] += 1
    for page in folio.table.folios:
        host.mm.unmap(page)
        page.swapped = True
        page.shadow = shadow
    folio.reset_flags()
    folio.size = 1
    folio.table.huge = False
    folio.table.pmd_young = True  # it is new


def write_huge(host: ReferenceHost, folio: Folio) -> list[Folio]:
    """All pages of a huge page are unmapped at once, and written one after the other; returns all but the first."""
    host.counters["thp_swpout"] += 1
    folio.size = 1
    folio.table.huge = False
    folio.table.pmd_young = True
    for page in folio.table.folios:
        host.mm.unmap(page)
        page.referenced, page.workingset, page.refs = folio.referenced, folio.workingset, folio.refs
        page.writable = False
        page.swapped = page.swapcache = True
        page.mark_dirty()
    return folio.table.folios[1:]


def split_huge(host: ReferenceHost, folio: Folio) -> list[Folio]:
    """A huge page for which swap has no place becomes small ones, with its flags; returns all but the first."""
    host.counters["thp_split_page"] += 1
    folio.size = 1
    folio.table.huge = False
    folio.table.pmd_young = True
    host.mm.nr_unmapped += 1
    for page in folio.table.folios:
        page.t = page.s = page.t_mapped = page.s_mapped = False
        page.referenced, page.workingset, page.refs = folio.referenced, folio.workingset, folio.refs
        page.writable = folio.writable
    return folio.table.folios[1:]


def write_out(host: ReferenceHost, folio: Folio) -> bool:
    """True if the page is clean now."""
    if folio.kind == FILE:  # a matter for the flusher
        folio.reclaim = True
        activate(host, folio)
        return False
    if folio.busy:
        return False
    host.counters["pswpout"] += 1
    if not host.device.async_swap:
        folio.dirty = False
        return True
    folio.reclaim = True
    host.device.start(folio)
    return False


def activates(host: ReferenceHost, folio: Folio) -> bool:
    """A page found young at its eviction check: activate it, or just keep it?"""
    if host.kernel.two_touch:
        return check_wants_promotion(host, folio)
    was_referenced, folio.referenced = folio.referenced, True
    return was_referenced


def put_back(host: ReferenceHost, survivors: list[Folio], retry: bool) -> list[Folio]:
    """Rejected pages never return to the oldest generation; returns those that deserve one more try."""
    lruvec, two_touch = host.lruvec, host.kernel.two_touch
    once_more = []
    for folio in survivors:
        unwritten = folio.dirty or folio.writeback
        may_go = not (folio.active or folio.present or unwritten or (folio.referenced and not two_touch))
        if may_go and not retry:
            once_more.append(folio)
            continue
        if two_touch:
            if lruvec.folio_seq(folio) == lruvec.min_seq[folio.kind]:
                host.refs.forget(folio)
                folio.active = True
        elif folio.reclaim and unwritten:
            folio.referenced |= folio.workingset
        else:
            folio.clear_refs()
            folio.active = True
        lruvec.add_folio(folio)
    return once_more


def evict_folios(host: ReferenceHost, swappiness: int, nr_to_scan: int) -> tuple[int, int]:
    """One batch: (progress, pages reclaimed) (section 7.4)."""
    lruvec = host.lruvec
    scanned, isolated = isolate_folios(host, swappiness, nr_to_scan)
    progress = scanned + lruvec.try_to_inc_min_seq(swappiness)
    if lruvec.oldest_evictable_seq(swappiness) + MIN_NR_GENS > lruvec.max_seq:
        progress = 0
    if not isolated:
        return progress, 0
    host.sc.checked += pages_of(isolated)
    host.isolated_anon |= isolated[0].kind == ANON
    unwritten = host.sc.unqueued_dirty
    reclaimed, survivors = shrink_folio_list(host, isolated)
    if host.kernel.batch_wakes_flusher and host.sc.unqueued_dirty - unwritten == pages_of(isolated):
        host.device.flusher_woken = True
    again, survivors = shrink_folio_list(host, put_back(host, survivors, retry=False))
    put_back(host, survivors, retry=True)
    reclaimed += again
    host.counters["pgsteal"] += reclaimed
    return progress, reclaimed
