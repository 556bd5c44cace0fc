"""The devices under swap and files: swap slots, what is being written, and what its end leads to (3, 4 and 7.5).

I/O is instantaneous on a synchronous swap device. Otherwise it is under way until the caller, or a reclaim that
waits for it, says that it has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .folio import Folio

if TYPE_CHECKING:
    from .host import ReferenceHost


class Device:
    """One memcg's writes under way, in the order in which they were started."""

    def __init__(
        self, host: ReferenceHost, async_swap: bool, swap_pages: int | None = None, placed: bool = False
    ) -> None:
        self.host = host
        self.async_swap = async_swap
        self.swap_pages = swap_pages
        self.slots_used = 0
        pages = -(-len(host.mm.folios) // 512) * 512 + 512 * bool(host.mm.extra) + -(-len(host.mm.file) // 512) * 512
        self.slots: list[Folio | None] = [None] * (min(pages, pages if swap_pages is None else swap_pages) * placed)
        """Where it matters, what is where. It is as large as all the tables' memory if that is enough."""
        self.next_slot = 0
        self.in_flight: list[Folio] = []
        self.flusher_woken = False

    def free_slots(self) -> float:
        return float("inf") if self.swap_pages is None else self.swap_pages - self.slots_used

    def take_slot(self, folio: Folio) -> bool:
        """A slot for a page that enters the swap cache: of a rotating device the next free one."""
        if self.free_slots() == 0:
            return False
        self.slots_used += 1
        if self.slots:
            order = [*range(self.next_slot, len(self.slots)), *range(self.next_slot)]
            slot = next(slot for slot in order if self.slots[slot] is None)
            self.slots[slot] = folio
            self.next_slot = (slot + 1) % len(self.slots)
        return True

    def take_cluster(self, folios: list[Folio]) -> bool:
        """512 slots in a row for the pages of a huge page, if a cluster of so many is free."""
        size = len(folios)
        if self.free_slots() < size:
            return False
        if self.slots:
            clusters = len(self.slots) // size
            first = -(-self.next_slot // size)
            order = [number % clusters * size for number in range(first, first + clusters)]
            free = [slot for slot in order if not any(self.slots[slot : slot + size])]
            if not free:
                return False
            self.slots[free[0] : free[0] + size] = folios
            self.next_slot = (free[0] + size) % len(self.slots)
        self.slots_used += size
        return True

    def give_slot(self, folio: Folio) -> None:
        self.slots_used -= 1
        if self.slots:
            self.slots[self.slots.index(folio)] = None

    def free_swap(self, folio: Folio, *, wanted: bool = False) -> None:
        """A page in memory gives up its slot, if it is ``wanted`` or more than half of swap is in use."""
        crowded = self.swap_pages is not None and self.slots_used * 2 > self.swap_pages
        if folio.swapcache and not folio.busy and not folio.writeback and (wanted or crowded):
            folio.swapcache = folio.dirty = False
            self.give_slot(folio)

    def start(self, folio: Folio) -> None:
        folio.dirty = False
        folio.writeback = True
        self.in_flight.append(folio)

    def end_all(self) -> None:
        """Every write ends; a page that reclaim waits for goes where it will be isolated next."""
        if not self.in_flight:
            return
        self.host.drain()
        for folio in self.in_flight:
            folio.writeback = False
            if folio.reclaim:
                folio.reclaim = False
                if not folio.dirty:
                    self.host.rotate(folio)
                    self.host.counters["pgrotated"] += 1
        self.in_flight.clear()

    def flush(self) -> None:
        """The flusher starts to write the dirty pages of the file, which makes their PTEs clean and read-only."""
        for folio in self.host.mm.file:
            if folio.dirty and not folio.writeback:
                folio.writable = folio.pte_dirty = False
                self.host.counters["file_writes"] += 1
                self.start(folio)

    def run_flusher(self) -> None:
        """The flusher's turn, whether it was woken or its time has come."""
        self.flusher_woken = False
        self.flush()

    def flush_and_wait(self) -> None:
        self.flush()
        self.end_all()
