"""When to age, how much to scan, and the callers of reclaim (sections 7.2, 7.3 and 8)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .aging import try_to_inc_max_seq
from .constants import (
    ANON,
    DEF_PRIORITY,
    FILE,
    MAX_RECLAIM_RETRIES,
    MIN_LRU_BATCH,
    MIN_NR_GENS,
    SWAP_CLUSTER_MAX,
)
from .eviction import evict_folios
from .kernels import Kernel
from .lruvec import evictable

if TYPE_CHECKING:
    from .host import ReferenceHost


@dataclass
class ScanControl:
    """What one reclaim call carries along."""

    nr_to_reclaim: int
    proactive: bool = False
    swappiness: int = 60
    priority: int = DEF_PRIORITY
    nr_reclaimed: int = 0
    checked: int = 0
    """Pages checked since the last aging of this call: after many the process has been switched to again."""
    file_taken: int = 0
    """Of the present pass: file pages taken from the oldest generation ..."""
    unqueued_dirty: int = 0
    """... and those that were dirty and not being written."""
    skipped_deactivate: bool = False
    force_deactivate: bool = False
    """The classic LRU spares active pages at first, and takes them if that yields nothing at all."""


def lruvec_sizes(host: ReferenceHost, swappiness: int) -> tuple[int, int, int]:
    """(total, young, old) pages in the live generations (section 7.2)."""
    lruvec = host.lruvec
    total = young = old = 0
    for kind in (ANON, FILE):
        if not evictable(kind, swappiness):
            continue
        for seq in range(lruvec.min_seq[kind], lruvec.max_seq + 1):
            size = max(lruvec.size_of_seq(seq, kind), 0)
            total += size
            if seq == lruvec.max_seq:
                young += size
            elif seq + MIN_NR_GENS == lruvec.max_seq:
                old += size
    return total, young, old


def should_run_aging(host: ReferenceHost, swappiness: int) -> tuple[bool, int]:
    """(age?, pages there are to scan)."""
    lruvec = host.lruvec
    ev_min = lruvec.oldest_evictable_seq(swappiness)
    total, young, old = lruvec_sizes(host, swappiness)
    if ev_min + MIN_NR_GENS > lruvec.max_seq:
        return True, 0 if host.kernel.aging_ends_visit else total
    if host.kernel.aging_by_generations_only:
        return ev_min + MIN_NR_GENS == lruvec.max_seq, total
    if ev_min + MIN_NR_GENS < lruvec.max_seq:
        return False, total
    return young * MIN_NR_GENS > total or old * (MIN_NR_GENS + 2) < total, total


def age(host: ReferenceHost, sc: ScanControl) -> bool:
    """An aging in the course of reclaim; the task that reclaims for itself may have been switched to meanwhile."""
    host.has_walk = host.walk_aged = True
    if not sc.proactive and sc.checked >= host.kernel.switch_after_checks:
        host.context_switch()
    sc.checked = 0
    return try_to_inc_max_seq(host, sc.swappiness, False)


def get_nr_to_scan(host: ReferenceHost, sc: ScanControl) -> int:
    """Pages to scan; 0 or less ends the visit."""
    aging, total = should_run_aging(host, sc.swappiness)
    if not aging:
        return total >> sc.priority
    if host.kernel.aging_ends_visit:
        if sc.priority == DEF_PRIORITY:
            return total >> sc.priority
        return -1 if age(host, sc) else 0
    if sc.priority != DEF_PRIORITY and age(host, sc):
        return total >> sc.priority
    two_gens = host.lruvec.oldest_evictable_seq(sc.swappiness) + MIN_NR_GENS > host.max_seq
    return 0 if two_gens else total >> sc.priority


def should_abort_scan(host: ReferenceHost, sc: ScanControl, max_seq: int, need_swapping: bool) -> bool:
    """Memcg reclaim goes on until it scanned enough, except where noted (section 7.3)."""
    if not host.kernel.stops_once_swapped_enough:
        return False
    return host.max_seq - max_seq > 1 or (need_swapping and sc.nr_reclaimed >= sc.nr_to_reclaim)


def shrink_by_goal(host: ReferenceHost, sc: ScanControl) -> None:
    """Class D: so many pages as there were to scan at first, 64 at a time, until the target is met."""
    left = should_run_aging(host, sc.swappiness)[1] >> sc.priority
    while left > 0:
        wanted, _ = should_run_aging(host, sc.swappiness)
        two_gens = host.lruvec.oldest_evictable_seq(sc.swappiness) + MIN_NR_GENS > host.max_seq
        if wanted and (two_gens or sc.priority != DEF_PRIORITY):
            age(host, sc)
        progress, reclaimed = evict_folios(host, sc.swappiness, min(left, MIN_LRU_BATCH))
        sc.nr_reclaimed += reclaimed
        left -= progress
        if not progress or sc.nr_reclaimed >= sc.nr_to_reclaim:
            return


def shrink_lruvec(host: ReferenceHost, sc: ScanControl) -> None:
    """One visit of one memcg: drain, then evict batches until enough was scanned."""
    host.drain()
    sc.swappiness = host.effective_swappiness()
    host.has_walk = sc.proactive and host.kernel.proactive_has_walk
    scanned = 0
    max_seq = host.max_seq
    host.isolated_anon = False
    host.sc = sc
    if host.kernel.scan_goal_fixed:
        shrink_by_goal(host, sc)
    while not host.kernel.scan_goal_fixed:
        nr_to_scan = get_nr_to_scan(host, sc)
        if nr_to_scan <= 0:
            break
        progress, reclaimed = evict_folios(host, sc.swappiness, nr_to_scan)
        sc.nr_reclaimed += reclaimed
        if not progress:
            break
        scanned += progress
        if scanned >= nr_to_scan or should_abort_scan(host, sc, max_seq, host.isolated_anon):
            break
    host.has_walk = host.walk_aged = False
    if host.kernel.wakes_flusher and sc.unqueued_dirty and sc.unqueued_dirty == sc.file_taken:
        host.device.flusher_woken = True


class ReclaimTarget(Protocol):
    """A memcg, or a parent of memcgs, that reclaim is asked to shrink."""

    kernel: Kernel
    swappiness: int

    def memcgs(self, sc: ScanControl) -> Iterator[ReferenceHost]:
        """The memcgs to visit at one priority."""

    def wait_for_io(self) -> None:
        """Between two passes the device finishes what the first one has started."""

    def wait_for_flusher(self) -> None:
        """Nothing could be reclaimed: the task sleeps until dirty pages are written."""

    def reclaim_ended(self, sc: ScanControl) -> None:
        """All priorities were gone through."""


def try_to_free_mem_cgroup_pages(target: ReclaimTarget, nr: int, proactive: bool) -> int:
    """Memcg reclaim: priority 12 down to 0 until the request is met."""
    sc = ScanControl(max(nr, SWAP_CLUSTER_MAX), proactive, target.swappiness)
    again = True
    while again:
        for priority in range(DEF_PRIORITY, -1, -1):
            sc.priority = priority
            sc.file_taken = sc.unqueued_dirty = 0
            for memcg in target.memcgs(sc):
                memcg.shrink(sc)
            if sc.nr_reclaimed >= sc.nr_to_reclaim:
                break
            target.wait_for_io()
        target.reclaim_ended(sc)
        again = sc.skipped_deactivate and not sc.nr_reclaimed
        if again:
            sc.skipped_deactivate, sc.force_deactivate = False, True
    if not sc.nr_reclaimed:
        target.wait_for_flusher()
    return sc.nr_reclaimed


def memory_reclaim(target: ReclaimTarget, nr: int) -> int:
    """A write of nr pages to memory.reclaim; returns what was reclaimed."""
    reclaimed = 0
    retries = MAX_RECLAIM_RETRIES
    while reclaimed < nr:
        left = nr - reclaimed
        request = left // 4 if target.kernel.reclaim_request_quarter else left
        got = try_to_free_mem_cgroup_pages(target, request, proactive=True)
        if not got:
            if not retries:
                break
            retries -= 1
        reclaimed += got
    return reclaimed


def run_eviction(host: ReferenceHost, seq: int, swappiness: int, nr: int) -> None:
    """debugfs ``- memcg node seq swappiness nr``."""
    lruvec = host.lruvec
    host.has_walk = True
    host.sc = ScanControl(nr)
    total = 0
    if seq + MIN_NR_GENS > lruvec.max_seq:
        raise ValueError("the two youngest generations cannot be evicted")
    while seq >= lruvec.oldest_evictable_seq(swappiness) and total < nr:
        progress, reclaimed = evict_folios(host, swappiness, nr - total)
        total += reclaimed
        if not progress:
            break
    host.has_walk = host.walk_aged = False
