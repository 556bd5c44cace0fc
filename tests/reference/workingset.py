"""What is remembered of an evicted page, and what that says when it returns (section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .constants import FILE, LRU_REFS_MAX, MAX_NR_GENS
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
    lruvec.stats[folio.kind].evicted[host.refs.tier(refs, folio.workingset)] += folio.size
    return Shadow(lruvec.min_seq[folio.kind], max(refs - 1, 0), host.refs.shadow_workingset(folio))


def is_recent(host: ReferenceHost, kind: int, shadow: Shadow) -> bool:
    if host.kernel.refault_window_by_max_seq:
        return abs(host.lruvec.max_seq - shadow.min_seq) < MAX_NR_GENS
    return shadow.min_seq == host.lruvec.min_seq[kind]


def workingset_refault(host: ReferenceHost, folio: Folio, shadow: Shadow, in_fault: bool = True) -> None:
    """``in_fault``: the page is needed by a page fault, not by read(2)."""
    lruvec, kernel = host.lruvec, host.kernel
    kind = "file" if folio.kind == FILE else "anon"

    def count(what: str) -> None:
        host.counters[f"workingset_{what}_{kind}"] += 1

    recent = is_recent(host, folio.kind, shadow)
    if recent or not kernel.refault_counted_only_if_recent:
        count("refault")
    if not recent:
        return
    refs = shadow.refs + (1 if kernel.two_touch else shadow.workingset)
    lruvec.stats[folio.kind].refaulted[host.refs.tier(refs, shadow.workingset)] += 1
    if kernel.two_touch:
        if in_fault and (shadow.workingset or not kernel.activate_counted_with_workingset):
            count("activate")
        if shadow.workingset:
            folio.workingset = True
            count("restore")
        else:
            folio.refs = refs - 1
        return
    if not kernel.activate_counted_when_protected:
        count("activate")
    if in_fault or refs >= LRU_REFS_MAX:
        folio.refs = LRU_REFS_MAX
        folio.workingset = True
        count("restore")
