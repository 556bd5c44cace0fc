"""DAMOS with the action pageout: pages out the regions that fit its access pattern (mm/damon/core.c, paddr.c, vaddr.c).

What is there of DAMON_RECLAIM (mm/damon/reclaim.c): pattern, size quota with the oldest regions first, watermarks of
free memory, looked at in every sampling interval. What is not: the time quota, quota goals, filters, and watermarks
looked at every 5 s only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.engine.state import IDLE, PG_YOUNG, PRESENT, PRIMARY, Machine
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.monitors.page_idle import clear_references, test_references
from coldfleet.hostsim.spec.damon_spec import PageoutSpec


@dataclass
class Region:
    """Pages first..end of what DAMON looks at, and how many samples of them were young.

    ``age``: for how many aggregations that has changed little; ``last_nr_accesses``: how many it was in the last one.
    """

    first: int
    end: int
    nr_accesses: int = 0
    sampled: int = 0
    age: int = 0
    last_nr_accesses: int = 0

    @property
    def pages(self) -> int:
        return self.end - self.first


@compiled
def choose_pages(
    m: Machine, g: int, pages: npt.NDArray[np.int64], physical: bool, chosen: npt.NDArray[np.bool_]
) -> None:
    """Which pages of a region are paged out: those in memory; of physical addresses only those found old once more.

    That check of single pages (damon_pa_pageout since 6.10) takes a page for young until DAMON has marked it idle, and
    marks those that it finds young: most pages of a region go at the second attempt. Virtual addresses are a matter
    of MADV_PAGEOUT, which asks nobody.
    """
    for i in range(len(pages)):
        word = np.uint64(pages[i] >> 6)
        bit = np.uint64(1) << np.uint64(pages[i] & 63)
        asked = m.bits[word, PRESENT] & bit
        chosen[i] = asked != np.uint64(0)
        if not physical or not asked:
            continue
        young = asked & (m.bits[word, PRIMARY] | ~m.extra_bits[word, IDLE])
        young |= test_references(m, g, pages[i] >> 6, asked & ~young)
        if young:
            m.extra_bits[word, PG_YOUNG] |= clear_references(m, g, pages[i] >> 6, bit)
            m.extra_bits[word, IDLE] |= bit
            chosen[i] = False


class Damos:
    """A scheme at work on one target, of physical or of virtual addresses.

    ``memory_pages``: the host's memory, for the watermarks; 0: it isn't limited, and the scheme never rests.
    """

    def __init__(self, spec: PageoutSpec, physical: bool, memory_pages: int = 0) -> None:
        self.spec, self.physical, self.memory_pages = spec, physical, memory_pages
        self.activated = False
        self.aggregations = 0
        self.charged = 0  # pages tried in this window of the quota

    def is_active(self, free_pages: int) -> bool:
        """damos_wmark_wait_us: whether DAMON works while so much of the host's memory is free."""
        if not self.memory_pages:
            return True
        free = 1000 * free_pages // self.memory_pages
        if not self.spec.wmarks_low <= free <= self.spec.wmarks_high:
            self.activated = False
        elif free < self.spec.wmarks_mid:
            self.activated = True
        return self.activated

    def choose(self, regions: list[Region]) -> list[Region]:
        """The regions to page out after an aggregation, the oldest first; splits the one that the quota ends in."""
        quota = self.spec.quota
        if self.aggregations % self.spec.quota_window == 0:
            self.charged = 0
        self.aggregations += 1
        chosen = []
        for region in sorted(filter(self.fits, regions), key=lambda region: -region.age):
            left = quota - self.charged
            if quota and left < region.pages:
                if not left:
                    break
                rest = replace(region, first=region.first + left)
                region.end = rest.first
                regions.insert(regions.index(region) + 1, rest)
            region.age = 0
            self.charged += region.pages
            chosen.append(region)
        return chosen

    def fits(self, region: Region) -> bool:
        """__damos_valid_target: whether a region has the scheme's access pattern."""
        spec = self.spec
        return (
            spec.min_size <= region.pages <= (spec.max_size or region.pages)
            and spec.min_nr_accesses <= region.nr_accesses <= spec.max_nr_accesses
            and spec.min_age <= region.age <= (spec.max_age or region.age)
        )

    def page_out(self, memory: HostMemory, guest: int, pages: npt.NDArray[np.int64]) -> None:
        """Pages out at most 64 pages of a region, all of one guest."""
        memory.events(guest)["damos_tried"] += len(pages)
        chosen = np.zeros(len(pages), np.bool_)
        choose_pages(memory.machine, guest, pages, self.physical, chosen)
        memory.page_out(guest, pages[chosen])
