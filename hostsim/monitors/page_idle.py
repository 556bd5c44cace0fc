"""Who else asks whether pages are young: idle page tracking and khugepaged; DAMON is in hostsim.monitors.damon.

They use the calls that every kernel had: clear_young and test_young of the notifier chain, never fast_only, after the
primary PTE. What they clear MGLRU can't see any more: reclaim only hears of it by PG_young, at the eviction check.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from coldfleet.hostsim.engine.jit import compiled, inlined, page_row, popcount
from coldfleet.hostsim.engine.state import (
    FALSE,
    IDLE,
    MARKED,
    MISSED,
    MONITOR,
    PG_YOUNG,
    PMD_POPULATED,
    PRESENT,
    PRIMARY,
    PTRS_PER_PTE,
    REFERENCED,
    TOUCHED,
    WORDS_PER_TABLE,
    YOUNG,
    Machine,
)
from coldfleet.hostsim.kvm.age_gfn import NONE
from coldfleet.hostsim.kvm.mmu_notifier import consult

PART_WORDS = 64 * WORDS_PER_TABLE  # 128 MiB: what a clock can't interrupt of idle page tracking
KHUGEPAGED_PAGES_TO_SCAN = 4096  # pages a wake-up: mm/khugepaged.c, khugepaged_pages_to_scan = HPAGE_PMD_NR * 8


@inlined
def clear_references(m: Machine, g: int, word: int, pages: np.uint64) -> np.uint64:
    """ptep_clear_young_notify for some pages of a word; returns those that were young."""
    row = np.uint64(word)
    young = m.bits[row, PRIMARY] & pages
    m.bits[row, PRIMARY] &= ~pages
    if pages and m.mms[g].notifiers:
        found, _, _ = consult(m, g, MONITOR, word, pages, True, False, False, False, 1)
        young |= found
    return young


@inlined
def test_references(m: Machine, g: int, word: int, pages: np.uint64) -> np.uint64:
    """mmu_notifier_test_young for some pages of a word; returns those that are young."""
    if pages and m.mms[g].notifiers:
        found, _, _ = consult(m, g, MONITOR, word, pages, False, False, False, False, 1)
        return found
    return NONE


@inlined
def count(m: Machine, g: int, asked: np.uint64, young: np.uint64, touched: np.uint64) -> None:
    """Holds the monitor's verdict on some pages of a word against the truth."""
    counters = m.sites[g, MONITOR]
    m.events[g].monitor_asked += popcount(asked)
    counters[YOUNG] += popcount(asked & young)
    counters[MISSED] += popcount(asked & touched & ~young)
    counters[FALSE] += popcount(asked & young & ~touched)


@inlined
def touched_since(m: Machine, word: int, tick: int) -> np.uint64:
    """The pages of a word that were touched after that tick."""
    touched = NONE
    for i in range(64):
        touched |= np.uint64(m.last_touch[word * 64 + i] > tick) << np.uint64(i)
    return touched


@compiled
def mark_idle(m: Machine, g: int, first: int, end: int) -> None:
    """Ones written to page_idle/bitmap for words first..end (mm/page_idle.c): clears references, sets PG_idle."""
    for word in range(first, end):
        present = m.bits[word, PRESENT]
        m.extra_bits[word, PG_YOUNG] |= clear_references(m, g, word, present)
        m.extra_bits[word, IDLE] = present
        m.extra_bits[word, MARKED] = present


@compiled
def read_idle(m: Machine, g: int, first: int, end: int, marked_at: int) -> None:
    """page_idle/bitmap read: a page is idle if PG_idle is still set and none of its references is."""
    for word in range(first, end):
        marked = m.extra_bits[word, MARKED]
        idle = marked & m.extra_bits[word, IDLE]
        referenced = clear_references(m, g, word, idle)
        m.extra_bits[word, PG_YOUNG] |= referenced
        m.extra_bits[word, IDLE] &= ~referenced
        count(m, g, marked, marked & ~(idle & ~referenced), touched_since(m, word, marked_at))


@compiled
def scan_tables(m: Machine, g: int, first: int, end: int) -> None:
    """khugepaged looks through PTE tables first..end: one that has a young page is worth a huge page.

    It takes PG_young and PG_referenced for young too, and asks the notifiers only for what is left
    (mm/khugepaged.c, hpage_collapse_scan_pmd).
    """
    for table in range(first, end):
        if not m.pmds[table] & PMD_POPULATED:
            continue
        references = 0
        for word in range(table * WORDS_PER_TABLE, (table + 1) * WORDS_PER_TABLE):
            present = m.bits[word, PRESENT]
            young = present & (m.bits[word, PRIMARY] | m.extra_bits[word, PG_YOUNG])
            for i in range(64):
                young |= np.uint64(page_row(m, word * 64 + i).state & REFERENCED != 0) << np.uint64(i) & present
            young |= test_references(m, g, word, present & ~young)
            count(m, g, present, young, m.bits[word, TOUCHED])
            references += popcount(young)
        m.events[g].collapse_candidates += references > 0


class IdleTracking:
    """Marks all of a guest's pages idle, and reads the bitmap before it does so again."""

    def __init__(self) -> None:
        self.marked_at: int | None = None  # a tick

    def run(self, m: Machine, g: int, words: slice) -> Iterator[int]:
        """All of a guest's memory, after its accesses; yields the guest after every so many words."""
        parts = [(first, min(first + PART_WORDS, words.stop)) for first in range(words.start, words.stop, PART_WORDS)]
        if self.marked_at is not None:
            for first, end in parts:
                read_idle(m, g, first, end, self.marked_at)
                yield g
        for first, end in parts:
            mark_idle(m, g, first, end)
            yield g
        self.marked_at = int(m.vms[g]["tick"])


class Khugepaged:
    """Scans eight PTE tables of a guest at a time, round and round."""

    def __init__(self) -> None:
        self.next_table = 0

    def run(self, m: Machine, g: int, words: slice) -> Iterator[int]:
        """A wake-up, after the guest's accesses; yields the guest after every table."""
        first, tables = words.start // WORDS_PER_TABLE, -(-(words.stop - words.start) // WORDS_PER_TABLE)
        for _ in range(min(tables, KHUGEPAGED_PAGES_TO_SCAN // PTRS_PER_PTE)):
            table = first + self.next_table % tables
            scan_tables(m, g, table, table + 1)
            self.next_table += 1
            yield g
