"""What is remembered of an evicted page, and what that says when it returns (section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .constants import ANON, LRU_REFS_MAX, MAX_NR_GENS
from .folio import Folio

if TYPE_CHECKING:
    from .host import ReferenceHost


class Shadow(NamedTuple):
    """The entry left in the page's swap slot."""

    min_seq: int
    refs: int
    workingset: bool


def workingset_eviction(host: ReferenceHost, folio: Folio) -> Shadow:
    lruvec = host.lruvec
    refs = host.refs.refs(folio)
    lruvec.stats[ANON].evicted[host.refs.tier(refs, folio.workingset)] += 1
    return Shadow(lruvec.min_seq[ANON], max(refs - 1, 0), host.refs.shadow_workingset(folio))


def is_recent(host: ReferenceHost, shadow: Shadow) -> bool:
    if host.kernel.refault_window_by_max_seq:
        return abs(host.lruvec.max_seq - shadow.min_seq) < MAX_NR_GENS
    return shadow.min_seq == host.lruvec.min_seq[ANON]


def workingset_refault(host: ReferenceHost, folio: Folio, shadow: Shadow) -> None:
    lruvec, count = host.lruvec, host.counters
    recent = is_recent(host, shadow)
    if recent or not host.kernel.refault_counted_only_if_recent:
        count["workingset_refault_anon"] += 1
    if not recent:
        return
    refs = shadow.refs + (1 if host.kernel.two_touch else shadow.workingset)
    lruvec.stats[ANON].refaulted[host.refs.tier(refs, shadow.workingset)] += 1
    if not host.kernel.activate_counted_when_protected:
        count["workingset_activate_anon"] += 1
    if host.kernel.two_touch and not shadow.workingset:
        folio.refs = refs - 1
        return
    if host.kernel.two_touch:
        folio.workingset = True
        count["workingset_restore_anon"] += 1
        return
    folio.refs = LRU_REFS_MAX  # anonymous memory only refaults inside a page fault
    folio.workingset = True
    count["workingset_restore_anon"] += 1
