"""The classic active/inactive LRU, for comparison with MGLRU switched off.

One memcg, with anonymous and file lists. The rules for anonymous memory are those that the recordings labelled
``classic*`` confirm: new pages start inactive, pages found young while inactive need two rounds to be activated,
active pages are deactivated without mercy, refaults within the size of the lists start active. Those for files and for
the balance between the two are mm/vmscan.c's and mm/workingset.c's; nobody has recorded them.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import Any

from .constants import ANON, FILE, SWAP_CLUSTER_MAX
from .folio import Folio, FolioList
from .host import ReferenceHost
from .kernels import Kernel
from .reclaim import ScanControl

KINDS = (ANON, FILE)
LISTS = tuple((kind, active) for kind in KINDS for active in (False, True))
NAMES = {ANON: "anon", FILE: "file"}


class ClassicLruvec:
    """Four lists, by type and activity, and what decides between them."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.lists = {which: FolioList() for which in LISTS}
        self.size = dict.fromkeys(LISTS, 0)
        self.flushed_size = dict.fromkeys(LISTS, 0)
        """The sizes as the memcg's flushed statistics know them."""
        self.nonresident_age = 0
        self.cost = {ANON: 0, FILE: 0}
        self.flushed_activations = {ANON: 0, FILE: 0}
        self.activations_at_last_reclaim = {ANON: 0, FILE: 0}

    def add(self, folio: Folio) -> None:
        folio.gen = 0  # on a list
        self.lists[folio.kind, folio.active].add(folio)
        self.size[folio.kind, folio.active] += 1

    def remove(self, folio: Folio) -> None:
        folio.gen = -1
        FolioList.remove(folio)
        self.size[folio.kind, folio.active] -= 1

    def move_to_tail(self, folio: Folio) -> None:
        self.remove(folio)
        folio.active = False
        self.add(folio)
        FolioList.remove(folio)
        self.lists[folio.kind, False].add_tail(folio)

    def isolate(self, kind: int, active: bool, nr: int) -> list[Folio]:
        """Up to nr pages from the tail, oldest first."""
        taken: list[Folio] = []
        while len(taken) < nr and (folio := self.lists[kind, active].tail) is not None:
            self.remove(folio)
            taken.append(folio)
        return taken

    def note_cost(self, kind: int, nr_io: int, nr_rotated: int) -> None:
        self.cost[kind] += nr_io * SWAP_CLUSTER_MAX + nr_rotated if self.kernel.rotations_cost else nr_io
        if sum(self.cost.values()) > sum(self.flushed_size.values()) // 4:
            self.cost = {each: cost // 2 for each, cost in self.cost.items()}

    def inactive_is_low(self, kind: int) -> bool:
        """From 1 GiB on the active list may be the larger one, by sqrt(10 * GiB)."""
        inactive, active = self.flushed_size[kind, False], self.flushed_size[kind, True]
        gib = (inactive + active) * 4096 >> 30
        return inactive * (isqrt(10 * gib) or 1) < active


class ClassicHost(ReferenceHost):
    """A memcg whose kernel runs with MGLRU off."""

    least_free_slots = 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.classic = ClassicLruvec(self.kernel)
        self.may_deactivate = {ANON: False, FILE: False}
        self.cache_trim_mode = False

    # Where pages go.
    def folio_add_lru(self, folio: Folio) -> None:
        self.cpu.add(self, folio)

    def filemap_add_lru(self, folio: Folio, shadow: Any, in_fault: bool) -> None:
        if shadow is not None:
            folio.shadow = shadow
            self.refault(folio)
            folio.shadow = None
        self.folio_add_lru(folio)

    def call_ended(self, folio: Folio) -> None:
        """It stays in the batch."""

    def add_to_lists(self, folio: Folio) -> None:
        self.classic.add(folio)

    def rotate(self, folio: Folio) -> None:
        self.classic.move_to_tail(folio)

    def mark_accessed(self, folio: Folio) -> None:
        if not folio.referenced:
            folio.referenced = True
        elif not folio.active:
            if folio.gen < 0:
                folio.active = True  # still in the lru_add batch
            else:
                self.cpu.activate(self, folio)
            folio.referenced = False
            self.classic.nonresident_age += 1

    def take_off_lists(self, folio: Folio) -> None:
        self.classic.remove(folio)

    def activate_now(self, folio: Folio) -> None:
        if folio.gen < 0 or folio.active:
            return
        self.classic.remove(folio)
        folio.active = True
        self.classic.add(folio)
        self.counters["pgactivate"] += 1

    def flush_stats(self) -> None:
        self.classic.flushed_size = dict(self.classic.size)
        self.classic.flushed_activations = {kind: self.counters[f"workingset_activate_{NAMES[kind]}"] for kind in KINDS}

    # What is remembered of an evicted page.
    def refault(self, folio: Folio) -> None:
        classic, name = self.classic, NAMES[folio.kind]
        eviction, workingset = folio.shadow
        self.counters[f"workingset_refault_{name}"] += 1
        if classic.nonresident_age - eviction > self.workingset_size(folio.kind):
            return
        folio.active = True
        classic.nonresident_age += 1
        self.counters[f"workingset_activate_{name}"] += 1
        if workingset:
            folio.workingset = True
            classic.note_cost(folio.kind, 1, 0)
            self.counters[f"workingset_restore_{name}"] += 1

    def workingset_size(self, kind: int) -> int:
        """All pages but the inactive ones of the same type; anonymous ones only if there are slots to swap them to.

        An anonymous page that comes back synchronously still has its own slot as it is looked at.
        """
        own_slot = kind == ANON and not self.device.async_swap
        rivals = KINDS if self.device.free_slots() > own_slot else (FILE,)
        sizes = self.classic.flushed_size
        return sum(sizes[other, active] for other, active in LISTS if other in rivals and (active or other != kind))

    # Reclaim.
    def memcgs(self, sc: ScanControl) -> Iterator[ReferenceHost]:
        if self.kernel.reclaim_flushes_stats:
            self.flush_stats()
        classic = self.classic
        for kind in KINDS:
            changed = classic.flushed_activations[kind] != classic.activations_at_last_reclaim[kind]
            self.may_deactivate[kind] = sc.force_deactivate or changed or classic.inactive_is_low(kind)
        plenty = classic.flushed_size[FILE, False] >> sc.priority != 0
        self.cache_trim_mode = plenty and not self.may_deactivate[FILE]
        yield self

    def reclaim_ended(self, sc: ScanControl) -> None:
        self.classic.activations_at_last_reclaim = dict(self.classic.flushed_activations)

    def shrink(self, sc: ScanControl) -> None:
        """One visit at one priority."""
        goals = self.scan_counts(sc)
        nr = dict(goals)
        reclaimed = 0
        while nr[ANON, False] or nr[FILE, False] or nr[FILE, True]:
            for kind, active in LISTS:
                batch = min(nr[kind, active], SWAP_CLUSTER_MAX)
                nr[kind, active] -= batch
                if not batch:
                    continue
                if not active:
                    reclaimed += self.shrink_inactive(kind, batch)
                elif self.may_deactivate[kind]:
                    self.shrink_active(kind, batch)
                else:
                    sc.skipped_deactivate = True
            if reclaimed >= sc.nr_to_reclaim and not scan_in_proportion(nr, goals):
                break
        sc.nr_reclaimed += reclaimed
        if self.device.swap_pages != 0 and self.classic.inactive_is_low(ANON):
            self.shrink_active(ANON, SWAP_CLUSTER_MAX)

    def scan_counts(self, sc: ScanControl) -> dict[tuple[int, bool], int]:
        """Of each list the part that its priority says, and of that the share of its type."""
        shares = self.shares(sc)
        whole = sum(shares.values())
        if sc.priority == 0 and min(shares.values()) > 0:
            return dict(self.classic.size)  # both alike
        return {
            (kind, active): (size >> sc.priority) * shares[kind] // whole
            for (kind, active), size in self.classic.size.items()
        }

    def shares(self, sc: ScanControl) -> dict[int, int]:
        """How reclaim is split between the types."""
        swappiness, costs = self.swappiness, self.classic.cost
        if self.device.free_slots() == 0 or swappiness == 0:
            return {ANON: 0, FILE: 1}
        if swappiness > 200:
            return {ANON: 1, FILE: 0}
        if sc.priority > 0 and self.cache_trim_mode:
            return {ANON: 0, FILE: 1}
        if sc.priority == 0:
            return {ANON: 1, FILE: 1}
        both = sum(costs.values())
        weights = {ANON: swappiness, FILE: 200 - swappiness}
        return {kind: weights[kind] * (3 * both + 1) // (both + costs[kind] + 1) for kind in KINDS}

    def is_young(self, folio: Folio) -> bool:
        return folio.present and self.effective_policy.eviction_check(self.mm, folio).young

    def shrink_active(self, kind: int, nr: int) -> None:
        self.drain()
        taken = self.classic.isolate(kind, True, nr)
        self.counters["pgrefill"] += len(taken)
        for folio in taken:
            self.counters["rmap_walks"] += folio.present
            self.is_young(folio)
            folio.active = False
            folio.workingset = True
            self.classic.add(folio)
        self.counters["pgdeactivate"] += len(taken)

    def shrink_inactive(self, kind: int, nr: int) -> int:
        self.drain()
        taken = self.classic.isolate(kind, False, nr)
        written = self.counters["pswpout"]
        waiting = sum(folio.kind == FILE and folio.dirty and not folio.writeback for folio in taken)
        if taken and waiting == len(taken):
            self.device.flusher_woken = True
        kept = [folio for folio in taken if not self.shrink_folio(folio)]
        for folio in kept:
            self.classic.add(folio)
            self.classic.nonresident_age += folio.active
        reclaimed = len(taken) - len(kept)
        for suffix in ("", "_file") if kind == FILE else ("",):
            self.counters[f"pgscan{suffix}"] += len(taken)
            self.counters[f"pgsteal{suffix}"] += reclaimed
        self.classic.note_cost(kind, self.counters["pswpout"] - written, len(kept))
        return reclaimed

    def shrink_folio(self, folio: Folio) -> bool:
        """One isolated page through all the checks; True if it was reclaimed."""
        if folio.writeback:
            folio.reclaim = True
            return self.activate_isolated(folio)
        young = self.is_young(folio)
        referenced, folio.referenced = folio.referenced, young
        if young:
            if referenced:
                self.activate_isolated(folio)
                self.device.free_swap(folio)
            return False
        if folio.kind == ANON and not folio.swapcache:
            if not self.device.take_slot(folio):
                return self.activate_isolated(folio)
            folio.swapcache = True
            folio.mark_dirty()
        self.mm.unmap(folio)
        folio.swapped = folio.kind == ANON
        if folio.dirty and folio.kind == FILE:  # a matter for the flusher
            folio.reclaim = True
            return self.activate_isolated(folio)
        if folio.dirty:
            self.counters["pswpout"] += 1
            if self.device.async_swap:
                folio.reclaim = True
                self.device.start(folio)
                return False
        folio.shadow = (self.classic.nonresident_age, folio.workingset)
        self.classic.nonresident_age += 1
        folio.reset_flags()
        folio.swapcache = folio.cached = False
        self.uncharge(1)
        return True

    def activate_isolated(self, folio: Folio) -> bool:
        """It is kept, and returns to the active list."""
        folio.active = True
        self.counters["pgactivate"] += 1
        return False


def scan_in_proportion(nr: dict[tuple[int, bool], int], goals: dict[tuple[int, bool], int]) -> bool:
    """Once a visit has enough: the type with less left is let go, and of the other one as large a share is scanned as
    was of that. False if there is nothing left to balance."""
    left = {kind: nr[kind, False] + nr[kind, True] for kind in KINDS}
    if not all(left.values()):
        return False
    less, more = (ANON, FILE) if left[FILE] > left[ANON] else (FILE, ANON)
    percentage = left[less] * 100 // (goals[less, False] + goals[less, True] + 1)
    for active in (False, True):
        nr[less, active] = 0
        done = goals[more, active] - nr[more, active]
        nr[more, active] = max(goals[more, active] * (100 - percentage) // 100 - done, 0)
    return True
