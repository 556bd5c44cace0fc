"""The last check of a page before eviction, and what it notices around it (section 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .aging import add_to_filter, suitable_to_scan, update_gen
from .constants import ANON, MIN_LRU_BATCH
from .folio import Folio

if TYPE_CHECKING:
    from .host import ReferenceHost


def look_around_window(folio: Folio) -> list[Folio]:
    """At most 64 PTEs around the page, within its 2 MiB table."""
    folios = folio.table.folios
    if len(folios) <= MIN_LRU_BATCH:
        return folios
    at = folio.index - folios[0].index
    half = MIN_LRU_BATCH // 2
    if at < half:
        lo = 0
    elif len(folios) - at < half:
        lo = len(folios) - MIN_LRU_BATCH
    else:
        lo = at - half
    return folios[lo : lo + MIN_LRU_BATCH]


def check_wants_promotion(host: ReferenceHost, folio: Folio) -> bool:
    """The eviction check's form of the two-touch rule: since class D a known page first counts references up to two."""
    known = folio.referenced or folio.workingset
    if host.kernel.check_counts_references and known and host.refs.refs(folio) < 2:
        host.refs.mark_accessed(folio)
        return True
    return host.refs.wants_promotion(folio)


def folio_referenced(host: ReferenceHost, folio: Folio) -> bool:
    """Test and clear the page's Accessed bits; promote its young neighbours."""
    if not folio.present:  # unmapped before, left in the swap cache
        return False
    mm, policy = host.mm, host.effective_policy
    checked = policy.eviction_check(mm, folio)
    if folio.size > 1:
        return checked.young
    unfilled_walk = host.has_walk and not host.walk_aged
    skips_anon = unfilled_walk and host.kernel.look_around_needs_aged_walk
    if not checked.look_around or (skips_anon and folio.kind == ANON):
        return checked.young
    window = look_around_window(folio)
    if len(window) == 1 and not host.kernel.look_around_marks_target:
        return checked.young
    young = 1
    new_gen = host.lruvec.young_gen()
    promoted = []
    if host.kernel.look_around_marks_target:
        folio.referenced = True
    for neighbour in window:
        if neighbour is folio or not neighbour.present:
            continue
        if neighbour.gen < 0 and host.kernel.look_around_spares_isolated:
            continue
        if not mm.has_notifiers and not neighbour.p:
            continue
        if not policy.neighbour_young(mm, neighbour):
            continue
        young += 1
        neighbour.notice_dirty_pte()
        if host.kernel.look_around_moves_many:
            if neighbour.gen < 0:
                neighbour.referenced = True
            elif neighbour.gen != new_gen:
                promoted.append(neighbour)
        elif host.has_walk:
            update_gen(host, neighbour, new_gen)
        elif neighbour.gen < 0 and not host.kernel.two_touch:
            neighbour.referenced = True
        elif host.kernel.two_touch:
            if check_wants_promotion(host, neighbour) and neighbour.gen not in (-1, new_gen):
                host.cpu.activate(host, neighbour)
        elif neighbour.gen != new_gen:
            host.cpu.activate(host, neighbour)
    few = not host.has_walk and len(promoted) < host.kernel.lru_add_batch
    for neighbour in promoted:
        if few:
            host.cpu.activate(host, neighbour)
        else:
            update_gen(host, neighbour, new_gen)
    if suitable_to_scan(len(window), young):
        add_to_filter(host, host.lruvec.max_seq, folio.table)
    return checked.young
