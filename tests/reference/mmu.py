"""Page tables: the primary MMU's, the TDP MMU's and the shadow MMU's Accessed bits.

Notation of the policy catalogue, section 0.1: P, T and S bits of a page, ``EVER`` (a shadow root was
ever made), ``NSP`` (indirect shadow pages now), ``W()`` (mmu_lock for write), ``R()`` (RCU).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from .constants import FILE, PTRS_PER_PTE
from .folio import Folio
from .tlb import Tlb

STACK_PAGES = 33  # the stack's mapping is mostly absent, so look-around never finds it dense


class PageTable:
    """One 2 MiB leaf table of the primary MMU: its PMD entry's Accessed bit and its pages."""

    def __init__(self, number: int, folios: list[Folio]) -> None:
        self.number = number
        self.folios = folios
        self.kind = folios[0].kind
        self.pmd_young = False
        self.populated = False
        self.huge = False
        """The PMD maps a huge page: one Accessed bit, that of the first folio, and no page table."""
        self.split = False
        """KVM maps it by small SPTEs even so."""
        for folio in folios:
            folio.table = self

    def owner(self, folio: Folio) -> Folio:
        """The folio that a page of this table is part of: the huge page, or itself."""
        return self.folios[0] if self.huge else folio


class Mm:
    """One address space. ``used`` is the bit that a context switch to it sets (section 5)."""

    def __init__(self, n_pages: int, kind: str, tdp: bool, extra_pages: int = 0, file_pages: int = 0) -> None:
        self.has_notifiers = kind != "host"
        self.folios = [Folio(i) for i in range(n_pages)]
        self.extra = [Folio(n_pages + i) for i in range(extra_pages)]
        self.tables = [
            PageTable(i // PTRS_PER_PTE, self.folios[i : i + PTRS_PER_PTE]) for i in range(0, n_pages, PTRS_PER_PTE)
        ]
        if self.extra:
            absent = [Folio(n_pages + i) for i in range(extra_pages, STACK_PAGES)]
            self.tables.append(PageTable(-1, self.extra + absent))
        self.file = [Folio(i, FILE) for i in range(file_pages)]
        for i in range(0, file_pages, PTRS_PER_PTE):
            self.tables.append(PageTable(-2 - i // PTRS_PER_PTE, self.file[i : i + PTRS_PER_PTE]))
        self.last_read: Folio | None = None
        self.node_bytes = 0
        self.used = False
        self.nr_unmapped = 0
        self.tlb: Tlb | None = None
        self.l1_huge = True
        """The page tables that KVM shadows have huge pages, too."""
        # KVM
        self.tdp = tdp
        self.shadow_root_ever = kind != "host" and not tdp
        self.shadow_pages: set[tuple[int, int]] = set()
        self.notifier_calls: Counter[str] = Counter()
        self.locks: Counter[str] = Counter({"mmu_lock_write": 0, "rcu": 0, "rmap": 0})

    def every_folio(self) -> Iterator[Folio]:
        return chain(self.folios, self.extra, self.file)

    @property
    def indirect_shadow_pages(self) -> int:
        return len(self.shadow_pages)

    @property
    def may_have_shadow(self) -> bool:
        """Shadow SPTEs may exist right now (not sticky)."""
        return not self.tdp or bool(self.shadow_pages)

    def maps_whole(self, folio: Folio) -> bool:
        """The shadow MMU maps the huge page that a page is part of by one SPTE."""
        return folio.table.huge and self.l1_huge and not folio.table.split

    def map_shadow(self, folio: Folio) -> None:
        """First L2 touch: an rmap entry, and the shadow pages down from one root; an SPTE of 2 MiB needs no leaf."""
        whole = self.maps_whole(folio)
        for each in folio.table.folios if whole else [folio]:
            each.s_mapped = True
        self.shadow_root_ever = True
        index = folio.index
        for level in range(1, 5):
            index //= PTRS_PER_PTE
            if level > 1 or not whole:
                self.shadow_pages.add((level, index))

    def rmaps(self, folio: Folio) -> int:
        """SPTEs that KVM finds by the rmaps of a folio."""
        found = sum(each.s_mapped for each in folio.pages)
        return min(found, 1) if self.maps_whole(folio) else found

    def stop_l2(self) -> None:
        """L2 is gone: shadow pages are freed; that they once existed is not forgotten."""
        self.shadow_pages.clear()
        for folio in self.folios:
            folio.s = folio.s_mapped = False

    def unmap(self, folio: Folio) -> None:
        """Unmap for eviction; the notifier zaps both secondary MMUs' entries."""
        folio.notice_dirty_pte()
        if not folio.present:
            return
        self.nr_unmapped += 1
        if self.tlb:
            self.tlb.drop(folio.index)
        folio.present = folio.writable = folio.pte_dirty = False
        folio.p = folio.t = folio.s = folio.t_mapped = folio.s_mapped = False

    # What a policy's steps are made of.
    def clear_p(self, folio: Folio) -> bool:
        young, folio.p = folio.p, False
        return young

    def age_t(self, folio: Folio) -> bool:
        young, folio.t = folio.t, False
        return young

    def age_s(self, folio: Folio) -> bool:
        young = any(each.s for each in folio.pages)
        for each in folio.pages:
            each.s = False
        return young
