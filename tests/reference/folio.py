"""One page, or the huge page that it begins, and the doubly linked lists that hold it (specification, section 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .constants import ANON

if TYPE_CHECKING:
    from .mmu import PageTable


class Folio:
    """A page of the memcg, anonymous or of a file, with its PTE and its secondary-MMU entries.

    The flags live and die with the physical page; ``present``/``swapped`` belong to the address.
    """

    __slots__ = (
        "active",
        "ahead",
        "busy",
        "cached",
        "dirty",
        "gen",
        "index",
        "kind",
        "next",
        "p",
        "present",
        "prev",
        "pte_dirty",
        "reclaim",
        "referenced",
        "refs",
        "s",
        "s_mapped",
        "shadow",
        "size",
        "swapcache",
        "swapped",
        "t",
        "t_mapped",
        "table",
        "workingset",
        "writable",
        "writeback",
    )

    def __init__(self, index: int = -1, kind: int = ANON) -> None:
        self.index = index
        self.kind = kind
        self.size = 1  # pages: 512 while it stands for a huge page
        self.table: PageTable
        self.present = False
        self.swapped = False
        self.writable = False  # the primary PTE allows writing
        self.pte_dirty = False
        self.swapcache = False  # unmapped or not, this page also sits in the swap cache
        self.cached = False  # a file's page that is in the page cache
        self.busy = False  # a per-CPU batch holds a reference: it cannot be freed now
        self.shadow: Any = None
        self.p = self.t = self.s = False  # Accessed bits: primary PTE, TDP SPTE, shadow SPTE
        self.t_mapped = self.s_mapped = False
        self.prev: Folio = self
        self.next: Folio = self
        self.reset_flags()

    def reset_flags(self) -> None:
        """A freshly allocated page carries no flags."""
        self.gen = -1
        self.refs = 0
        self.referenced = self.workingset = self.active = self.reclaim = False
        self.dirty = self.writeback = self.ahead = False

    @property
    def pages(self) -> list[Folio]:
        """All that it stands for."""
        return self.table.folios if self.size > 1 else [self]

    def mark_dirty(self) -> None:
        """Its copy on the device is out of date, and so is any wish to evict it once it is written."""
        self.dirty = True
        self.reclaim = False

    def notice_dirty_pte(self) -> None:
        """The PTE's dirty bit reaches a page of the swap cache; a file's page knows from its write fault."""
        if self.pte_dirty and self.swapcache:
            self.mark_dirty()

    def clear_refs(self) -> None:
        """Forget referenced, workingset and the references field."""
        self.refs = 0
        self.referenced = self.workingset = False

    @property
    def state(self) -> int:
        """The state byte as the recordings write it."""
        return self.gen + 1 | self.active << 3 | self.referenced << 4 | self.workingset << 5 | self.refs << 6


class FolioList:
    """A kernel list: pages enter at the head (or tail) and reclaim takes the tail."""

    def __init__(self) -> None:
        self._sentinel = Folio()

    def add(self, folio: Folio) -> None:
        self._insert(folio, self._sentinel, self._sentinel.next)

    def add_tail(self, folio: Folio) -> None:
        self._insert(folio, self._sentinel.prev, self._sentinel)

    @staticmethod
    def _insert(folio: Folio, before: Folio, after: Folio) -> None:
        folio.prev, folio.next = before, after
        before.next = after.prev = folio

    @staticmethod
    def remove(folio: Folio) -> None:
        folio.prev.next, folio.next.prev = folio.next, folio.prev
        folio.prev = folio.next = folio

    @property
    def tail(self) -> Folio | None:
        last = self._sentinel.prev
        return None if last is self._sentinel else last

    def __bool__(self) -> bool:
        return self._sentinel.prev is not self._sentinel

    def __iter__(self) -> Iterator[Folio]:
        """From head to tail."""
        folio = self._sentinel.next
        while folio is not self._sentinel:
            yield folio
            folio = folio.next
