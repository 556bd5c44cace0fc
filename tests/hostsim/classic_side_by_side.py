"""The same comparison of engine and reference model with MGLRU off."""

from __future__ import annotations

from typing import Any

from coldfleet.hostsim.engine.state import GEN_MASK
from coldfleet.hostsim.mm.classic import PARENT
from tests.hostsim.side_by_side import SideBySide
from tests.reference.classic import ClassicHost
from tests.reference.reclaim import ScanControl


class ClassicReference(ClassicHost):
    """The classic reference model. Its statistics are flushed where the engine does: when a charge failed twice."""

    failed_calls = 0

    def charge(self, nr: int) -> None:
        self.failed_calls = 0
        super().charge(nr)

    def reclaim_ended(self, sc: ScanControl) -> None:
        super().reclaim_ended(sc)
        starts_over = sc.skipped_deactivate
        if sc.proactive or sc.nr_reclaimed or starts_over:
            return
        self.failed_calls += 1
        if self.failed_calls > 1:
            self.flush_stats()


class ClassicSideBySide(SideBySide):
    """One guest in the engine and in the reference model, both with the classic LRU."""

    lru_gen = False
    reference_class = ClassicReference
    reference: ClassicReference

    def flush_stats(self) -> None:
        self.engine.flush_stats()
        self.reference.flush_stats()

    def _seen_by_engine(self) -> dict[str, Any]:
        seen = super()._seen_by_engine()
        lru, parent = (self.engine.machine.classic[memcg] for memcg in (0, PARENT))
        seen["lists"] = [self._pages_of_list(int(lru["lists"]) + active) for active in (0, 1)]
        seen["sizes"] = lru["size"].tolist(), lru["flushed_size"].tolist()
        seen["age"] = int(lru["nonresident_age"])
        seen["cost"] = int(lru["anon_cost"])
        seen["activations"] = int(lru["flushed_activations"]), int(lru["seen_activations"])
        assert parent["nonresident_age"] == lru["nonresident_age"]  # of one guest, which is reclaimed itself
        return seen

    def _pages_of_list(self, head: int) -> list[int]:
        """A list's pages as the reference numbers them, oldest first."""
        following = self.engine.machine.pages["towards_head"]
        own_first = int(self.engine.machine.mms[0]["own_first"])
        found = []
        page = int(following[head])
        while page != head:
            found.append(page if page < own_first else page - own_first + self.shape.pages)
            page = int(following[page])
        return found

    def _seen_by_reference(self) -> dict[str, Any]:
        seen = super()._seen_by_reference()
        classic = self.reference.classic
        seen["states"] = [state if state > 255 else state & ~GEN_MASK for state in seen["states"]]
        seen["lists"] = [[folio.index for folio in classic.lists[active]][::-1] for active in (False, True)]
        seen["sizes"] = tuple([sizes[False], sizes[True]] for sizes in (classic.size, classic.flushed_size))
        seen["age"] = classic.nonresident_age
        seen["cost"] = classic.anon_cost
        seen["activations"] = classic.flushed_activations, classic.activations_at_last_reclaim
        return seen
