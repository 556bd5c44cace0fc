"""Swap readahead: what a fault on a page of the device reads beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .folio import Folio

if TYPE_CHECKING:
    from .host import ReferenceHost

MAX_HITS = 63
MAX_VMA_ORDER = 5


class Window:
    """How much is read, by what became of the pages read last."""

    def __init__(self) -> None:
        self.last_fault = -1_000_000_000
        self.hits = 4
        self.size = 0

    def next_size(self, here: int, order: int) -> int:
        if self.hits:
            size = max(4, 1 << (self.hits + 1).bit_length())  # a power of two, hits + 2 or more
        else:
            size = 2 if here in (self.last_fault - 1, self.last_fault + 1) else 1
        self.size = max(min(size, 1 << order), self.size // 2)
        return self.size


class SwapReadahead:
    """The readahead of a host, by the order ``page_cluster`` (0: none). ``rotating``: the device is a disk."""

    def __init__(self, host: ReferenceHost, page_cluster: int, rotating: bool) -> None:
        self.host = host
        self.page_cluster = page_cluster
        self.rotating = rotating
        self.vmas = {"memory": Window(), "extra": Window()}
        self.disk = Window()

    def vma_of(self, folio: Folio) -> tuple[Window, list[Folio]]:
        mm = self.host.mm
        if folio.index < len(mm.folios):
            return self.vmas["memory"], mm.folios
        return self.vmas["extra"], mm.extra

    def meet(self, folio: Folio) -> None:
        """A fault finds the page in the swap cache."""
        if not self.page_cluster:
            return
        hit, folio.ahead = folio.ahead, False
        self.host.counters["swap_ra_hit"] += hit
        if self.rotating:
            self.disk.hits += hit
        else:
            window, _ = self.vma_of(folio)
            window.hits = min(window.hits + hit, MAX_HITS)
            window.last_fault = folio.index

    def around(self, folio: Folio) -> bool:
        """A fault has to wait for the page. True if more was asked for, so that it ends with a drain of the CPU."""
        if not self.page_cluster:
            return False
        for other in self.on_disk(folio) if self.rotating else self.in_memory(folio):
            if other is not folio and other.swapped and not other.swapcache:
                self.read(other)
        return (self.disk if self.rotating else self.vma_of(folio)[0]).size > 1

    def in_memory(self, folio: Folio) -> list[Folio]:
        window, vma = self.vma_of(folio)
        here, before = folio.index, window.last_fault
        size = window.next_size(here, min(self.page_cluster, MAX_VMA_ORDER))
        window.last_fault, window.hits = here, 0
        if here == before + 1:
            wanted = range(here, here + size)
        elif here == before - 1:
            wanted = range(here - size + 1, here + 1)
        else:
            wanted = range(here - (size - 1) // 2, here - (size - 1) // 2 + size)
        return [other for other in vma if other.index in wanted and other.table is folio.table]

    def on_disk(self, folio: Folio) -> Iterator[Folio]:
        slots = self.host.device.slots
        here = slots.index(folio)
        size = self.disk.next_size(here, self.page_cluster)
        if not self.disk.hits:
            self.disk.last_fault = here
        self.disk.hits = 0
        first = here // size * size
        for slot in range(first, min(first + size, len(slots))):
            if other := slots[slot]:  # as it is by then: reading others may have had some evicted
                yield other

    def read(self, folio: Folio) -> None:
        host = self.host
        host.charge(1)
        folio.reset_flags()
        host.counters["pswpin"] += 1
        host.counters["swap_ra"] += 1
        folio.swapcache = True
        host.refault(folio)
        host.folio_add_lru(folio)
        folio.ahead = True
