"""DAMON: samples one page of each region, and lets regions split and merge (mm/damon/core.c, vaddr.c, paddr.c).

The monitor's interval is the sampling interval. "damon-vaddr" has regions over each guest's memory, "damon-paddr" over
all of the host's. What DAMON does with the regions that it finds is in hostsim.monitors.damos.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.engine.philox import random_words
from coldfleet.hostsim.engine.state import IDLE, PG_YOUNG, PRESENT, PRIMARY, Machine
from coldfleet.hostsim.engine.streams import Source, guest_word
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.monitors.damos import Damos, Region
from coldfleet.hostsim.monitors.page_idle import clear_references, count, test_references
from coldfleet.hostsim.spec.damon_spec import KERNEL_DAMON, DamonSpec

PAGES_AT_A_TIME = 64  # samples, or pages to page out: what a clock can't interrupt
_LOW = np.uint64(0xFFFFFFFF)


@compiled
def prepare(m: Machine, guests: npt.NDArray[np.int64], pages: npt.NDArray[np.int64]) -> None:
    """damon_ptep_mkold for one page each: clears its references, and tells reclaim by PG_young."""
    for i in range(len(pages)):
        page = pages[i]
        word = np.uint64(page >> 6)
        bit = np.uint64(1) << np.uint64(page & 63)
        if not m.bits[word, PRESENT] & bit:
            continue
        m.extra_bits[word, PG_YOUNG] |= clear_references(m, guests[i], page >> 6, bit)
        m.extra_bits[word, IDLE] |= bit


@compiled
def check(
    m: Machine,
    guests: npt.NDArray[np.int64],
    pages: npt.NDArray[np.int64],
    prepared_at: int,
    accessed: npt.NDArray[np.bool_],
) -> None:
    """Whether each page was accessed since :func:`prepare`: young PTE, PG_idle gone, or young to a notifier.

    The truth is known to the tick: whether it was touched after that of ``prepared_at``.
    """
    for i in range(len(pages)):
        page = pages[i]
        word = np.uint64(page >> 6)
        bit = np.uint64(1) << np.uint64(page & 63)
        asked = m.bits[word, PRESENT] & bit
        young = asked & (m.bits[word, PRIMARY] | ~m.extra_bits[word, IDLE])
        young |= test_references(m, guests[i], page >> 6, asked & ~young)
        touched = bit if m.last_touch[page] > prepared_at else np.uint64(0)
        count(m, guests[i], asked, young, touched)
        accessed[i] = young != np.uint64(0)


class Damon:
    """One target: the memory of some guests, as slices of the host's pages in the order of their addresses.

    ``damos``: what it does with regions; None: nothing.
    """

    def __init__(
        self,
        targets: dict[int, slice],
        spec: DamonSpec = KERNEL_DAMON,
        damos: Damos | None = None,
        *,
        key: np.uint64,
        host: int,
    ) -> None:
        self.targets, self.spec, self.damos = targets, spec, damos
        self.starts = np.cumsum([0, *(pages.stop - pages.start for pages in targets.values())])
        total = int(self.starts[-1])
        edges = np.linspace(0, total, min(spec.min_nr_regions, total) + 1).astype(int)
        self.regions = [Region(int(a), int(b)) for a, b in pairwise(edges)]
        self.largest = max(total // spec.min_nr_regions, 1)
        self.touches = np.zeros(total, np.int32)
        self.key, self.host, self.drawn = key, host, 0
        self.samples = 0
        self.prepared_at: int | None = None  # a tick
        self.last_nr_regions = 0

    def run(self, memory: HostMemory) -> Iterator[int]:
        """A sampling interval, after the guests' accesses: looks at the last samples and chooses the next.

        Yields after a few samples each, with the guest of the last one: on a clock the world moves on in between.
        """
        m = memory.machine
        if self.prepared_at is not None:
            yield from self._check(m, self.prepared_at)
        if self.samples == self.spec.samples_per_aggregation:
            yield from self._aggregate(memory)
        if self.damos and not self.damos.is_active(int(m.node[0]["free_pages"])):
            self.prepared_at = None
            return
        for region, number in zip(self.regions, self._random(len(self.regions)), strict=True):
            region.sampled = region.first + int(number % region.pages)
        for guests, pages in self._sampled():
            prepare(m, guests, pages)
            yield int(guests[-1])
        self.prepared_at = int(m.vms["tick"][list(self.targets)].max())  # whose guest is gone has an old one

    def _sampled(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """The guest and host page of every region's sample, a few regions at a time."""
        guests, pages = self._host_pages(np.array([region.sampled for region in self.regions]))
        for first in range(0, len(pages), PAGES_AT_A_TIME):
            part = slice(first, first + PAGES_AT_A_TIME)
            yield guests[part], pages[part]

    def _host_pages(self, offsets: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        which = np.searchsorted(self.starts, offsets, side="right") - 1
        guests = np.array(list(self.targets))[which]
        firsts = np.array([pages.start for pages in self.targets.values()])[which]
        return guests, firsts + offsets - self.starts[which]

    def _check(self, m: Machine, prepared_at: int) -> Iterator[int]:
        regions = iter(self.regions)
        for guests, pages in self._sampled():
            accessed = np.zeros(len(pages), np.bool_)
            check(m, guests, pages, prepared_at, accessed)
            for hit in accessed:
                next(regions).nr_accesses += bool(hit)
            yield int(guests[-1])
        for start, target in zip(self.starts, self.targets.values(), strict=False):
            self.touches[start : start + target.stop - target.start] += m.last_touch[target] > prepared_at
        self.samples += 1

    def _aggregate(self, memory: HostMemory) -> Iterator[int]:
        """Compares the regions' access rates with the truth, merges those alike, lets DAMOS act on them, and splits."""
        self._compare(memory.machine)
        highest = max(region.nr_accesses for region in self.regions)
        self._grow_older(highest // 10)
        self._merge(max(1, highest // 10))
        if self.damos:
            yield from self._apply(memory, self.damos)
        for region in self.regions:
            region.last_nr_accesses, region.nr_accesses = region.nr_accesses, 0
        self._split()
        self.touches[:] = 0
        self.samples = 0

    def _compare(self, m: Machine) -> None:
        """The error of the access counts: of all regions, and of their hot pages one by one.

        A page is hot if it was touched in at least half of the samples. A count is off by no more than that page's
        accesses then, so that the error is at most all of them.
        """
        for region in self.regions:
            guest = int(self._host_pages(np.array([region.first]))[0][0])
            true = int(self.touches[region.first : region.end].sum())
            m.events[guest]["damon_rate_error"] += abs(region.nr_accesses * region.pages - true)
            m.events[guest]["damon_samples"] += region.pages * self.samples
        counts = np.repeat([region.nr_accesses for region in self.regions], [region.pages for region in self.regions])
        hot = 2 * self.touches >= self.samples
        for start, (guest, pages) in zip(self.starts, self.targets.items(), strict=False):
            own = slice(start, start + pages.stop - pages.start)
            touches = self.touches[own][hot[own]]
            m.events[guest]["damon_hot_accesses"] += int(touches.sum())
            m.events[guest]["damon_hot_rate_error"] += int(np.abs(counts[own][hot[own]] - touches).sum())

    def _apply(self, memory: HostMemory, damos: Damos) -> Iterator[int]:
        """kdamond_apply_schemes; yields the guest after some pages of it."""
        for region in damos.choose(self.regions):
            for first in range(region.first, region.end, PAGES_AT_A_TIME):
                end = min(first + PAGES_AT_A_TIME, region.end)
                guests, pages = self._host_pages(np.arange(first, end))
                for guest in np.unique(guests).tolist():
                    damos.page_out(memory, guest, pages[guests == guest])
                    yield guest

    def _grow_older(self, threshold: int) -> None:
        """The ages that damon_merge_regions_of counts, once an aggregation."""
        for region in self.regions:
            same = abs(region.nr_accesses - region.last_nr_accesses) <= threshold
            region.age = region.age + 1 if same else 0

    def _merge(self, threshold: int) -> None:
        """kdamond_merge_regions: neighbours whose counts differ little become one; more tolerant if there are many."""
        while True:
            merged = [self.regions[0]]
            for region in self.regions[1:]:
                last = merged[-1]
                if (
                    abs(last.nr_accesses - region.nr_accesses) <= threshold
                    and last.pages + region.pages <= self.largest
                ):
                    weighted = last.nr_accesses * last.pages + region.nr_accesses * region.pages
                    last.nr_accesses = weighted // (last.pages + region.pages)
                    last.age = (last.age * last.pages + region.age * region.pages) // (last.pages + region.pages)
                    last.end = region.end
                else:
                    merged.append(region)
            self.regions = merged
            if len(merged) <= self.spec.max_nr_regions or threshold >= self.spec.samples_per_aggregation:
                return
            threshold *= 2

    def _split(self) -> None:
        """kdamond_split_regions: into two parts at random, or three if splitting has found nothing new."""
        before, most = len(self.regions), self.spec.max_nr_regions
        if before > most // 2:
            return
        parts = 3 if before == self.last_nr_regions and before < most // 3 else 2
        split: list[Region] = []
        for region in self.regions:
            rest = region
            for number in self._random(parts - 1):
                size = rest.pages * int(1 + number % 9) // 10
                if 0 < size < rest.pages:
                    split.append(replace(rest, end=rest.first + size))
                    rest = replace(rest, first=rest.first + size)
            split.append(rest)
        self.regions = split
        self.last_nr_regions = before

    def _random(self, numbers: int) -> list[int]:
        drawn = np.empty(numbers, np.uint64)
        guest = np.uint64(guest_word(Source.DAMON, next(iter(self.targets))))
        random_words(drawn, self.key, (np.uint64(self.host), guest), self.drawn)
        self.drawn += 1
        return [int(number & _LOW) for number in drawn]
