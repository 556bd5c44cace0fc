"""Per-CPU batches of pages on their way to the lists (specification, sections 3 and 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .folio import Folio

if TYPE_CHECKING:
    from .host import ReferenceHost


class Cpu:
    """The one CPU of the model. Memcgs that share it share its batches."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.added = 0
        self.lru_add: list[tuple[ReferenceHost, Folio]] = []
        self.lru_activate: list[tuple[ReferenceHost, Folio]] = []

    def add(self, host: ReferenceHost, folio: Folio) -> None:
        """``folio_add_lru`` inside a fault."""
        self.lru_add.append((host, folio))
        self.added += 1
        if self.added >= self.batch or folio.size > 1:
            self.drain_lru_add()

    def join(self, host: ReferenceHost, folio: Folio) -> None:
        """A simplification: the page leaves the batch for the lists at once, though it still takes a place in it."""
        if (host, folio) in self.lru_add:
            self.lru_add.remove((host, folio))
            host.add_to_lists(folio)

    def activate(self, host: ReferenceHost, folio: Folio) -> None:
        """``folio_activate``: promoted by look-around without a walk object.

        The batch holds a reference, so the page cannot be freed while it waits here.
        """
        folio.busy = True
        self.lru_activate.append((host, folio))
        if len(self.lru_activate) >= self.batch:
            self.drain_lru_activate()

    def drain(self) -> None:
        self.drain_lru_add()
        self.drain_lru_activate()

    def drain_lru_add(self) -> None:
        for host, folio in self.lru_add:
            host.add_to_lists(folio)
        self.lru_add.clear()
        self.added = 0

    def drain_lru_activate(self) -> None:
        for host, folio in self.lru_activate:
            folio.busy = False
            host.activate_now(folio)
        self.lru_activate.clear()
