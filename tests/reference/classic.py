"""The classic active/inactive LRU, for comparison with MGLRU switched off.

Only anonymous memory of one memcg. The rules are those that the recordings labelled ``classic*``
confirm: new pages start inactive, pages found young while inactive need two rounds to be activated,
active pages are deactivated without mercy, refaults within the size of the lists start active.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import Any

from .constants import SWAP_CLUSTER_MAX
from .folio import Folio, FolioList
from .host import ReferenceHost
from .kernels import Kernel
from .reclaim import ScanControl


class ClassicLruvec:
    """Two lists, and what decides between them."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.lists = {False: FolioList(), True: FolioList()}
        self.size = {False: 0, True: 0}
        self.flushed_size = {False: 0, True: 0}
        """The sizes as the memcg's flushed statistics know them."""
        self.nonresident_age = 0
        self.anon_cost = 0
        self.flushed_activations = 0
        self.activations_at_last_reclaim = 0

    def add(self, folio: Folio) -> None:
        folio.gen = 0  # on a list
        self.lists[folio.active].add(folio)
        self.size[folio.active] += 1

    def remove(self, folio: Folio) -> None:
        folio.gen = -1
        FolioList.remove(folio)
        self.size[folio.active] -= 1

    def isolate(self, active: bool, nr: int) -> list[Folio]:
        """Up to nr pages from the tail, oldest first."""
        taken: list[Folio] = []
        while len(taken) < nr and (folio := self.lists[active].tail) is not None:
            self.remove(folio)
            taken.append(folio)
        return taken

    def note_cost(self, nr_io: int, nr_rotated: int) -> None:
        if self.kernel.rotations_cost:
            self.anon_cost += nr_io * SWAP_CLUSTER_MAX + nr_rotated
        else:
            self.anon_cost += nr_io
        if self.anon_cost > sum(self.flushed_size.values()) // 4:
            self.anon_cost //= 2

    def inactive_is_low(self) -> bool:
        """From 1 GiB on the active list may be the larger one, by sqrt(10 * GiB)."""
        gib = sum(self.flushed_size.values()) * 4096 >> 30
        return self.flushed_size[False] * (isqrt(10 * gib) or 1) < self.flushed_size[True]


class ClassicHost(ReferenceHost):
    """A memcg whose kernel runs with MGLRU off."""

    least_free_slots = 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.classic = ClassicLruvec(self.kernel)
        self.may_deactivate = False

    # Where pages go.
    def folio_add_lru(self, folio: Folio) -> None:
        self.cpu.add(self, folio)

    def add_to_lists(self, folio: Folio) -> None:
        self.classic.add(folio)

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
        self.classic.flushed_activations = self.counters["workingset_activate_anon"]

    # What is remembered of an evicted page.
    def refault(self, folio: Folio) -> None:
        classic = self.classic
        eviction, workingset = folio.shadow
        self.counters["workingset_refault_anon"] += 1
        if classic.nonresident_age - eviction > sum(classic.flushed_size.values()) - classic.flushed_size[False]:
            return
        folio.active = True
        classic.nonresident_age += 1
        self.counters["workingset_activate_anon"] += 1
        if workingset:
            folio.workingset = True
            classic.note_cost(1, 0)
            self.counters["workingset_restore_anon"] += 1

    # Reclaim.
    def memcgs(self, sc: ScanControl) -> Iterator[ReferenceHost]:
        if self.kernel.reclaim_flushes_stats:
            self.flush_stats()
        classic = self.classic
        self.may_deactivate = (
            sc.force_deactivate
            or classic.flushed_activations != classic.activations_at_last_reclaim
            or classic.inactive_is_low()
        )
        yield self

    def reclaim_ended(self, sc: ScanControl) -> None:
        self.classic.activations_at_last_reclaim = self.classic.flushed_activations

    def shrink(self, sc: ScanControl) -> None:
        """One visit at one priority."""
        sc.swappiness = self.effective_swappiness()
        nr = self.scan_counts(sc)
        reclaimed = 0
        while nr[False]:
            for active in (False, True):
                batch = min(nr[active], SWAP_CLUSTER_MAX)
                nr[active] -= batch
                if not batch:
                    continue
                if not active:
                    reclaimed += self.shrink_inactive(batch)
                elif self.may_deactivate:
                    self.shrink_active(batch)
                else:
                    sc.skipped_deactivate = True
            if reclaimed >= sc.nr_to_reclaim:
                break
        sc.nr_reclaimed += reclaimed
        if self.classic.inactive_is_low():
            self.shrink_active(SWAP_CLUSTER_MAX)

    def scan_counts(self, sc: ScanControl) -> dict[bool, int]:
        """Anon's share by cost; the file lists are empty but keep their fraction."""
        if not sc.swappiness:
            return {False: 0, True: 0}
        sizes = {active: size >> sc.priority for active, size in self.classic.size.items()}
        if sc.priority == 0:
            return sizes
        cost = self.classic.anon_cost  # file's is 0; each side is charged both once more
        anon = sc.swappiness * (3 * cost + 1) // (2 * cost + 1)
        file = (200 - sc.swappiness) * (3 * cost + 1) // (cost + 1)
        return {active: size * anon // (anon + file) for active, size in sizes.items()}

    def shrink_active(self, nr: int) -> None:
        self.drain()
        taken = self.classic.isolate(True, nr)
        self.counters["pgrefill"] += len(taken)
        for folio in taken:
            if folio.present:
                self.effective_policy.eviction_check(self.mm, folio)
            folio.active = False
            folio.workingset = True
            self.classic.add(folio)
        self.counters["pgdeactivate"] += len(taken)

    def shrink_inactive(self, nr: int) -> int:
        self.drain()
        taken = self.classic.isolate(False, nr)
        self.counters["pgscan"] += len(taken)
        kept = []
        for folio in taken:
            young = folio.present and self.effective_policy.eviction_check(self.mm, folio).young
            referenced, folio.referenced = folio.referenced, False
            if young:
                folio.referenced = True
                if referenced:
                    folio.active = True
                    self.counters["pgactivate"] += 1
                kept.append(folio)
                continue
            if not self.device.take_slot():
                folio.active = True
                self.counters["pgactivate"] += 1
                kept.append(folio)
                continue
            self.mm.unmap(folio)
            self.counters["pswpout"] += 1
            folio.swapped = True
            folio.shadow = (self.classic.nonresident_age, folio.workingset)
            self.classic.nonresident_age += 1
            folio.reset_flags()
            self.uncharge(1)
        for folio in kept:
            self.classic.add(folio)
            self.classic.nonresident_age += folio.active
        reclaimed = len(taken) - len(kept)
        self.counters["pgsteal"] += reclaimed
        self.classic.note_cost(reclaimed, len(taken) - reclaimed)
        return reclaimed
