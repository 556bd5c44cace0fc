"""One 4 KiB page and the doubly linked lists that hold it (specification, section 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .mmu import PageTable


class Folio:
    """A page of the memcg's anonymous memory, with its PTE and its secondary-MMU entries.

    The flags live and die with the physical page; ``present``/``swapped`` belong to the address.
    """

    __slots__ = (
        "active",
        "busy",
        "gen",
        "index",
        "next",
        "p",
        "present",
        "prev",
        "reclaim",
        "referenced",
        "refs",
        "s",
        "s_mapped",
        "shadow",
        "swapcache",
        "swapped",
        "t",
        "t_mapped",
        "table",
        "workingset",
        "writable",
    )

    def __init__(self, index: int = -1) -> None:
        self.index = index
        self.table: PageTable
        self.present = False
        self.swapped = False
        self.writable = False  # the primary PTE allows writing
        self.swapcache = False  # unmapped or not, this page also sits in the swap cache
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
