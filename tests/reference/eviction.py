"""Eviction: sort and isolate the oldest pages, then reclaim them (specification, section 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .aging import inc_gen
from .constants import ANON, FILE, MAX_LRU_BATCH, MAX_NR_GENS, MAX_NR_TIERS, MIN_LRU_BATCH, MIN_NR_GENS
from .folio import Folio
from .pid import positive, tier_limit
from .rmap import folio_referenced
from .workingset import workingset_eviction

if TYPE_CHECKING:
    from .host import ReferenceHost


def sort_folio(host: ReferenceHost, folio: Folio, limit: int) -> bool:
    """True if the page is not for eviction now and was moved elsewhere (section 7.4.3)."""
    lruvec = host.lruvec
    oldest = lruvec.min_seq[ANON] % MAX_NR_GENS
    if folio.gen != oldest:  # a walk promoted it
        lruvec.lists[oldest][ANON].remove(folio)
        lruvec.lists[folio.gen][ANON].add(folio)
        return True
    tier = host.refs.tier(host.refs.refs(folio), folio.workingset)
    saturated = host.refs.is_saturated(folio)
    if tier > limit or saturated:
        next_gen = (lruvec.min_seq[ANON] + 1) % MAX_NR_GENS
        inc_gen(host, folio, next_gen)
        lruvec.lists[oldest][ANON].remove(folio)
        target = lruvec.lists[next_gen][ANON]
        if host.kernel.protected_to_head:
            target.add(folio)
        else:
            target.add_tail(folio)
        if not (saturated and host.kernel.pid_all_tiers):
            lruvec.stats[ANON].protected[tier] += 1
        if host.kernel.activate_counted_when_protected:
            host.counters["workingset_activate_anon"] += 1
        return True
    return False


def isolate_folio(host: ReferenceHost, folio: Folio) -> None:
    if not folio.referenced:
        host.refs.forget(folio)
    if not host.kernel.two_touch:
        folio.referenced = False
    host.lruvec.del_folio(folio)


def scan_folios(host: ReferenceHost, kind: int, limit: int, budget: int) -> tuple[int, list[Folio]]:
    """(scanned, isolated oldest first); scanned is 0 when nothing was isolated in budget."""
    lruvec = host.lruvec
    if lruvec.nr_gens(kind) == MIN_NR_GENS:
        return 0, []
    source = lruvec.lists[lruvec.min_seq[kind] % MAX_NR_GENS][kind]
    scanned = nr_sorted = 0
    isolated: list[Folio] = []
    while (folio := source.tail) is not None:
        scanned += 1
        if sort_folio(host, folio, limit):
            nr_sorted += 1
        else:
            isolate_folio(host, folio)
            isolated.append(folio)
        if scanned >= budget or len(isolated) >= MIN_LRU_BATCH:
            break
    host.counters["pgscan"] += len(isolated)
    host.counters["pgrefill"] += nr_sorted
    if isolated or scanned >= budget:
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
    if not scanned and swappiness:
        kind = 1 - kind
        scanned, isolated = scan_folios(host, kind, get_tier_idx(host, kind), budget)
    return scanned, isolated


def shrink_folio_list(host: ReferenceHost, isolated: list[Folio]) -> tuple[int, list[Folio]]:
    """(pages reclaimed, survivors in the order they were looked at) (section 7.5)."""
    reclaimed = 0
    survivors = []
    for folio in isolated:
        if folio.referenced and not host.kernel.two_touch:  # look-around met it while it was isolated: keep
            survivors.append(folio)
            continue
        young = folio_referenced(host, folio)
        if young:
            if activates(host, folio):
                folio.active = True
                host.counters["pgactivate"] += 1
            survivors.append(folio)
            continue
        host.mm.unmap(folio)
        folio.swapped = True
        if folio.busy:  # a reference too many: it stays in the swap cache, unmapped
            folio.swapcache = True
            survivors.append(folio)
            continue
        folio.swapcache = False
        folio.shadow = workingset_eviction(host, folio)
        folio.reset_flags()
        host.uncharge(1)
        reclaimed += 1
    return reclaimed, survivors


def activates(host: ReferenceHost, folio: Folio) -> bool:
    """A page found young at its eviction check: activate it, or just keep it?"""
    if host.kernel.two_touch:
        return host.refs.wants_promotion(folio)
    was_referenced, folio.referenced = folio.referenced, True
    return was_referenced


def put_back(host: ReferenceHost, survivors: list[Folio]) -> None:
    """Rejected pages never return to the oldest generation."""
    lruvec = host.lruvec
    for folio in survivors:
        if not host.kernel.two_touch:
            folio.clear_refs()
            folio.active = True
        elif lruvec.folio_seq(folio) == lruvec.min_seq[ANON]:
            host.refs.forget(folio)
            folio.active = True
        lruvec.add_folio(folio)


def evict_folios(host: ReferenceHost, swappiness: int, nr_to_scan: int) -> tuple[int, int]:
    """One batch: (progress, pages reclaimed) (section 7.4)."""
    lruvec = host.lruvec
    scanned, isolated = isolate_folios(host, swappiness, nr_to_scan)
    progress = scanned + lruvec.try_to_inc_min_seq(swappiness != 0)
    if lruvec.oldest_evictable_seq(swappiness) + MIN_NR_GENS > lruvec.max_seq:
        progress = 0
    if not isolated:
        return progress, 0
    reclaimed, survivors = shrink_folio_list(host, isolated)
    put_back(host, survivors)
    host.counters["pgsteal"] += reclaimed
    return progress, reclaimed
