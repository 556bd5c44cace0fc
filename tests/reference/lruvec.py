"""Generations of one memcg on one node (specification, sections 2 and 3)."""

from __future__ import annotations

from .constants import ANON, FILE, FIRST_MAX_SEQ, MAX_NR_GENS, MAX_SWAPPINESS, MIN_NR_GENS
from .folio import Folio, FolioList
from .kernels import Kernel
from .pid import TypeStats


def evictable(kind: int, swappiness: int) -> bool:
    """Swappiness 0 spares anonymous pages, 201 (class C) those of files (section 7.1)."""
    return swappiness <= MAX_SWAPPINESS if kind == FILE else swappiness != 0


class Lruvec:
    """max_seq, min_seq, the lists, their counters, the PID statistics, the walk state."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.max_seq = FIRST_MAX_SEQ
        self.min_seq = [0, 0]
        self.lists = [[FolioList(), FolioList()] for _ in range(MAX_NR_GENS)]
        self.nr_pages = [[0, 0] for _ in range(MAX_NR_GENS)]
        self.stats = [TypeStats(), TypeStats()]
        # struct lru_gen_mm_state
        self.mm_state_seq = FIRST_MAX_SEQ - 1
        self.iterated_once = False
        self.filters: list[set[int] | None] = [None, None]
        self.timestamps = [0] * MAX_NR_GENS
        """Milliseconds: when the generation with that index was opened."""
        self.walked_ptes = 0
        self.walk_stats = {"T": 0, "Y": 0, "F": 0, "A": 0}

    def oldest_evictable_seq(self, swappiness: int) -> int:
        """The min_seq that aging and eviction go by (section 7.2)."""
        if self.kernel.min_seq_independent:
            return min(self.min_seq[kind] for kind in (ANON, FILE) if evictable(kind, swappiness))
        return self.min_seq[ANON if swappiness else FILE]

    def nr_gens(self, kind: int) -> int:
        return self.max_seq - self.min_seq[kind] + 1

    def young_gen(self) -> int:
        return self.max_seq % MAX_NR_GENS

    def size_of_seq(self, seq: int, kind: int) -> int:
        return self.nr_pages[seq % MAX_NR_GENS][kind]

    def folio_seq(self, folio: Folio, to_tail: bool = False) -> int:
        """Where a page enters the lists (section 3)."""
        oldest = self.min_seq[folio.kind]
        has_no_copy = folio.kind == ANON and not folio.swapcache
        waits_for_io = folio.reclaim and (folio.dirty or folio.writeback)
        if self.kernel.birth_by_distance:
            if folio.active:
                distance = 2 - folio.workingset
            elif to_tail:
                distance = 4
            elif has_no_copy or waits_for_io:
                distance = 2
            else:
                near = folio.workingset or (self.kernel.birth_referenced and folio.referenced)
                distance = 4 - near
            return max(self.max_seq - distance + 1, oldest)
        if folio.active:
            return self.max_seq
        if has_no_copy or waits_for_io:
            return self.max_seq - 1
        if to_tail or oldest + 2 >= self.max_seq:
            return oldest
        return oldest + 1

    def add_folio(self, folio: Folio, to_tail: bool = False) -> None:
        """``lru_gen_add_folio``: choose the generation of a page that (re)enters the lists."""
        folio.gen = self.folio_seq(folio, to_tail) % MAX_NR_GENS
        folio.active = False
        self.nr_pages[folio.gen][folio.kind] += folio.size
        if to_tail:
            self.lists[folio.gen][folio.kind].add_tail(folio)
        else:
            self.lists[folio.gen][folio.kind].add(folio)

    def del_folio(self, folio: Folio) -> None:
        """``lru_gen_del_folio``: off its list; the generation number goes, other flags stay."""
        self.nr_pages[folio.gen][folio.kind] -= folio.size
        FolioList.remove(folio)
        folio.gen = -1

    def change_gen(self, folio: Folio, gen: int) -> None:
        """Renumber a page and move the counters; its place in the lists does not change."""
        self.nr_pages[folio.gen][folio.kind] -= folio.size
        self.nr_pages[gen][folio.kind] += folio.size
        folio.gen = gen

    def advance_min_seq(self, kind: int, seq: int) -> None:
        """One carry-over for the step, even if min_seq moved by two (section 7.4)."""
        self.stats[kind].carry_over()
        self.min_seq[kind] = seq

    def try_to_inc_min_seq(self, swappiness: int) -> bool:
        """Drop empty oldest generations; True if any min_seq moved (section 7.4)."""
        trial = list(self.min_seq)
        kinds = [kind for kind in (ANON, FILE) if evictable(kind, swappiness)]
        both = len(kinds) == 2
        for kind in kinds:
            while trial[kind] + MIN_NR_GENS <= self.max_seq:
                if self.lists[trial[kind] % MAX_NR_GENS][kind]:
                    break
                trial[kind] += 1
        if both and self.kernel.min_seq_independent:
            second_youngest = self.max_seq - MIN_NR_GENS
            if trial[ANON] > second_youngest and trial[FILE] < second_youngest:
                trial[ANON] = second_youngest
            if trial[FILE] > second_youngest and trial[ANON] < second_youngest:
                trial[FILE] = second_youngest
        elif both:
            trial[ANON] = min(trial[ANON], trial[FILE])
            trial[FILE] = max(trial[ANON], self.min_seq[FILE])
        moved = False
        for kind in kinds:
            if trial[kind] > self.min_seq[kind]:
                self.advance_min_seq(kind, trial[kind])
                moved = True
        return moved
