"""What guests touch: a stream of accesses that depends on (seed, replicate, host, guest, tick) and nothing else.

Each access has one Philox block: who makes it (L1 or L2), read or write, and which page. Ranks become
pages through a fixed random order, so that hot pages are scattered over the memory ("shuffled") or
contiguous ("ordered"). A nested guest has two such orders, one of the pages that L1 touches, one of those
that L2 touches, each with its own hot set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.philox import random_words, study_key
from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_MMAP, ACCESS_PAGE, ACCESS_WRITE
from coldfleet.hostsim.engine.streams import Purpose, Source
from coldfleet.hostsim.spec.host_spec import DRAWN_KINDS, GuestSpec, PageCacheSpec
from coldfleet.hostsim.workload.alias import alias_table
from coldfleet.hostsim.workload.drawing import BLOCK, LEVEL, SCALE, ZIPF, draw_ticks, hash_accesses
from coldfleet.hostsim.workload.heat_law import law_of
from coldfleet.hostsim.workload.levels import L2_ONLY
from coldfleet.hostsim.workload.load import load_before, set_share
from coldfleet.hostsim.workload.schedule import FNV_OFFSET
from coldfleet.hostsim.workload.thinning import Ranking, Thinned, thin

NEVER = 1 << 62  # a tick


class Drawn(NamedTuple):
    """The accesses of some ticks, uint32.

    ``ends``: int64, for each tick, where its accesses end. ``digests``: uint64, the hash of the stream up to there.
    """

    accesses: npt.NDArray[np.uint32]
    ends: npt.NDArray[np.int64]
    digests: npt.NDArray[np.uint64]


class MemoryStream(ABC):
    """The accesses of one guest to its memory, tick by tick; ``digest`` is the hash of all that was drawn so far.

    Its ticks are the guest's own: in tick 0 it arrives.

    ``l1_pages``: uint32, the pages that L1 touches at some time, ``l2_only_pages``: those that L2 alone does.
    """

    l1_pages: npt.NDArray[np.uint32]
    l2_only_pages: npt.NDArray[np.uint32]

    def __init__(self, spec: GuestSpec, *, seed: int, replicate: int, host: int, guest: int) -> None:
        self.spec = spec
        self.key = study_key(seed, replicate)
        self.counter = (np.uint64(host), np.uint64(guest))
        self.digest = FNV_OFFSET

    @abstractmethod
    def draw_ticks(self, first: int, ticks: int) -> Drawn:
        """The accesses of so many ticks, uint32: page of the guest, bit 31 by L2, bit 30 a write; L2 runs in all of
        them or in none."""

    @abstractmethod
    def accesses_in(self, tick: int) -> int:
        """About how many accesses a tick has, or all on average if these are more."""

    def accesses_before(self, first: int, ticks: int, each: float) -> npt.NDArray[np.float64]:
        """Accesses before each of ``ticks`` ticks from ``first`` on, if a tick has ``each`` on average."""
        numbers = self.spec.arrives + np.arange(first - 1, first - 1 + ticks, dtype=np.int64)
        before, earlier = (
            load_before(self.spec.workload, at, self.key, self.counter)
            for at in (numbers, np.array([self.spec.arrives]))
        )
        return each * (before - earlier)

    def page_order(self) -> npt.NDArray[np.uint32]:
        """The pages in a random order of the guest's own."""
        keys = np.empty(self.spec.memory_pages, np.uint64)
        random_words(keys, self.key, self.counter, int(Purpose.PAGE_ORDER))
        return np.argsort(keys, kind="stable").astype(np.uint32)

    def start_share(self) -> float:
        """Where in its trace the guest begins, 0..1."""
        if self.spec.workload.start == "same":
            return 0.0
        number = np.empty(1, np.uint64)
        random_words(number, self.key, self.counter, int(Purpose.TRACE_START))
        return float(number[0] >> np.uint64(11)) / (1 << 53)

    def split_pages(self, levels: npt.NDArray[np.uint8]) -> None:
        """Says whose pages are whose (hostsim.workload.levels). Until L2 runs, L1 touches all of them."""
        pages = np.arange(self.spec.memory_pages, dtype=np.uint32)
        self.l2_only_pages = pages[levels == L2_ONLY] if len(levels) else pages[:0]
        self.l1_pages = pages[levels != L2_ONLY] if len(levels) and self.l2_runs(0) else pages

    def l2_runs(self, tick: int) -> bool:
        """Whether the guest's nested VM runs in this tick."""
        nested = self.spec.nested
        return nested is not None and nested.start_tick <= tick and (not nested.stop_tick or tick < nested.stop_tick)

    def next_change(self, tick: int) -> int:
        """The first tick after this one in which L2 begins or ceases to run; far away if it never does."""
        nested = self.spec.nested
        changes = () if nested is None else (nested.start_tick, nested.stop_tick)
        return min((change for change in changes if change > tick), default=NEVER)

    def populate(self, tick: int) -> npt.NDArray[np.uint32]:
        """The first writes, in page order: at tick 0 all that L1 touches; where L2 starts, the pages of L2 alone."""
        accesses = np.zeros(0, np.uint32)
        if tick == 0:
            accesses = np.sort(self.l1_pages) | np.uint32(ACCESS_WRITE)
        if self.l2_runs(tick) and (tick == 0 or not self.l2_runs(tick - 1)):
            accesses = np.concatenate([accesses, self.l2_only_pages | np.uint32(ACCESS_WRITE | ACCESS_L2)])
            page = accesses & np.uint32(ACCESS_WRITE - 1)
            accesses = accesses[np.argsort(page, kind="stable")]
        self.digest = np.uint64(hash_accesses(self.digest, accesses))
        return accesses

    def draw(self, tick: int) -> npt.NDArray[np.uint32]:
        """The accesses of a tick."""
        return self.draw_ticks(tick, 1).accesses


class GuestStream(MemoryStream):
    """Accesses that are drawn one by one, each without regard to the others, or in order of a scan."""

    def __init__(self, spec: GuestSpec, *, seed: int, replicate: int, host: int, guest: int) -> None:
        super().__init__(spec, seed=seed, replicate=replicate, host=host, guest=guest)
        exposed, l2_only = _exposure(spec)
        order = self.page_order()
        # L1 touches all but the first l2_only pages of the order, L2 the first exposed ones
        self.pages = np.concatenate([self._layout(order[l2_only:]), self._layout(order[:exposed])])
        self.l1_pages, self.l2_pages = np.split(self.pages, [len(order) - l2_only])
        self.l2_only_pages = np.sort(order[:l2_only])
        self.levels = np.zeros(2, LEVEL)
        self.levels["pages"] = len(self.l1_pages), len(self.l2_pages)
        self.levels["offset"][1] = len(self.l1_pages)
        self.full = spec.sample.of if spec.sample else spec
        self.rankings = self._rankings(exposed, l2_only)
        self.law = law_of(spec.workload)
        self.alias = np.zeros(0, np.uint64)
        if self.law is not None:
            tables = [alias_table(ranking, self.law) for ranking in self.rankings if ranking.sampled]
            self.alias = tables[0] if len(tables) == 1 else np.concatenate(tables)

    def draw_ticks(self, first: int, ticks: int) -> Drawn:
        """The accesses of so many ticks; L2 runs in all of them or in none."""
        spec = self.spec
        load = spec.workload
        l2_share = spec.nested.access_share if spec.nested is not None and self.l2_runs(first) else 0.0
        each = float(memory_accesses(spec))
        if spec.sample is not None:
            thinned = self.thinned(first)
            l2_share, each = thinned.l2_share, thinned.accesses
        if not len(self.l2_pages):
            l2_share = 0.0
        elif not len(self.l1_pages):
            l2_share = 1.0
        before = self.accesses_before(first, ticks + 1, each).astype(np.int64)
        ends = before[1:] - before[0]
        drawn = Drawn(np.empty(ends[-1], np.uint32), ends, np.empty(ticks, np.uint64))
        draw_ticks(
            *drawn,
            self.digest,
            self.key,
            self.counter,
            first,
            ZIPF if self.law is not None else DRAWN_KINDS.index(load.kind),
            self.levels,
            self.pages,
            self.alias,
            int(l2_share * SCALE),
            int(load.write_share * SCALE),
            int(load.hot_access_share * SCALE),
            load.hot_share,
            load.phase_ticks,
            set_share(load, spec.arrives + np.arange(first, first + ticks)),
            np.empty((4, BLOCK), np.uint32),
        )
        self.digest = drawn.digests[-1]
        return drawn

    def accesses_in(self, tick: int) -> int:
        """About how many accesses a tick has."""
        return round(self.thinned(tick).accesses) if self.spec.sample else memory_accesses(self.spec)

    def thinned(self, tick: int) -> Thinned:
        """What a sample has of the accesses of its full guest in a tick."""
        full = self.full
        nested = full.nested is not None and self.l2_runs(tick)
        share = full.nested.access_share if full.nested is not None and nested else 0.0
        return thin(self.law, memory_accesses(full), share, *self.rankings)

    def _rankings(self, exposed: int, l2_only: int) -> tuple[Ranking, Ranking]:
        """The ranks of L1's pages and of L2's: of all of them, or, in a sample, which."""
        full = self.full
        all_exposed, all_l2_only = _exposure(full)
        start = self.spec.sample.start if self.spec.sample else 0.0
        by_table = self.spec.workload.layout == "ordered"
        return (
            Ranking(full.memory_pages - all_l2_only, self.spec.memory_pages - l2_only, start, by_table),
            Ranking(all_exposed, exposed, start, by_table),
        )

    def _layout(self, order: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        return order if self.spec.workload.layout == "shuffled" else np.sort(order)


class FileStream:
    """The accesses of a guest to its file, tick by tick: those of a guest whose memory the file is."""

    def __init__(
        self, spec: GuestSpec, cache: PageCacheSpec, *, seed: int, replicate: int, host: int, guest: int
    ) -> None:
        load = replace(spec.workload, kind=cache.kind, write_share=cache.write_share)
        self.mapped_pages = round(cache.mmap_share * cache.pages)
        accesses = spec.accesses_per_tick - memory_accesses(spec)
        file = GuestSpec(spec.name, cache.pages, accesses_per_tick=accesses, workload=load, arrives=spec.arrives)
        if spec.sample is not None and spec.sample.of.page_cache is not None:
            full = replace(file, memory_pages=spec.sample.of.page_cache.pages)
            file = replace(file, sample=replace(spec.sample, of=full))
        self.stream = GuestStream(file, seed=seed, replicate=replicate, host=host, guest=guest | Source.FILE)

    @property
    def digest(self) -> np.uint64:
        """The hash of all that was drawn so far."""
        return self.stream.digest

    def draw_ticks(self, first: int, ticks: int) -> Drawn:
        """The accesses of so many ticks, uint32: page of the file, bit 31 by the mapping, bit 30 a write."""
        drawn = self.stream.draw_ticks(first, ticks)
        drawn.accesses[drawn.accesses & np.uint32(ACCESS_PAGE) < self.mapped_pages] |= np.uint32(ACCESS_MMAP)
        return drawn


def memory_accesses(spec: GuestSpec) -> int:
    """Accesses of a guest in one tick that go to its memory, not to its file."""
    share = spec.page_cache.access_share if spec.page_cache else 0.0
    return spec.accesses_per_tick - round(share * spec.accesses_per_tick)


def _exposure(spec: GuestSpec) -> tuple[int, int]:
    if spec.nested is None:
        return 0, 0
    return round(spec.nested.exposed_share * spec.memory_pages), round(spec.nested.l2_only_share * spec.memory_pages)
