"""The same comparison of engine and reference model with MGLRU off."""

from __future__ import annotations

from typing import Any

import numpy as np

from coldfleet.hostsim.engine.state import ANON, FILE, GEN_MASK
from coldfleet.hostsim.mm.classic import PARENT
from tests.hostsim.side_by_side import SideBySide
from tests.reference.classic import LISTS, ClassicHost
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
        mm, shape = self.engine.machine.mms[0], self.shape
        own, file = int(mm["own_first"]), int(mm["file_first"])
        names = self.names_of(np.r_[0 : shape.pages, own : own + shape.own_pages, file : file + shape.file_pages])
        seen["lists"] = [self.pages_of_list(int(lru["lists"]) + number, names) for number in range(4)]
        seen["sizes"] = lru["size"].tolist(), lru["flushed_size"].tolist()
        seen["age"] = int(lru["nonresident_age"])
        seen["cost"] = lru["cost"].tolist()
        seen["activations"] = lru["flushed_activations"].tolist(), lru["seen_activations"].tolist()
        assert parent["nonresident_age"] == lru["nonresident_age"]  # of one guest, which is reclaimed itself
        return seen

    def _seen_by_reference(self) -> dict[str, Any]:
        seen = super()._seen_by_reference()
        classic = self.reference.classic
        seen["states"] = [state if state > 255 else state & ~GEN_MASK for state in seen["states"]]
        names = {id(folio): number for number, folio in enumerate(self.reference.mm.every_folio())}
        seen["lists"] = [[names[id(folio)] for folio in classic.lists[which]][::-1] for which in LISTS]
        seen["sizes"] = tuple(
            [[sizes[kind, False], sizes[kind, True]] for kind in (ANON, FILE)]
            for sizes in (classic.size, classic.flushed_size)
        )
        seen["age"] = classic.nonresident_age
        seen["cost"] = list(classic.cost.values())
        flushed, seen_last = classic.flushed_activations, classic.activations_at_last_reclaim
        seen["activations"] = list(flushed.values()), list(seen_last.values())
        return seen
