"""khugepaged's look at one page table, and what it makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .constants import ANON, PTRS_PER_PTE
from .folio import Folio
from .mmu import PageTable
from .policies import ask_only

if TYPE_CHECKING:
    from .host import ReferenceHost


def swapped(folio: Folio) -> bool:
    return not folio.present and (folio.swapped or folio.swapcache)


def is_worth_it(host: ReferenceHost, table: PageTable, max_ptes_none: int, max_ptes_swap: int) -> bool:
    """By words of 64 pages, as the engine counts its questions."""
    seen: list[Folio] = []
    referenced = 0
    for first in range(0, PTRS_PER_PTE, 64):
        word = table.folios[first : first + 64]
        seen += word
        if any(folio.present and (folio.busy or folio.writeback) for folio in word):
            return False
        in_swap = sum(map(swapped, seen))
        if in_swap > max_ptes_swap or sum(not f.present and not swapped(f) for f in seen) > max_ptes_none:
            return False
        for folio in word:
            if folio.present:
                young = folio.p or folio.referenced
                if not young and host.mm.has_notifiers:
                    young = ask_only(host.policy.name, host.mm, folio)
                referenced += young
    return referenced >= (PTRS_PER_PTE // 2 if any(map(swapped, seen)) else 1)


def collapse(host: ReferenceHost, table: PageTable, max_ptes_none: int, max_ptes_swap: int) -> bool:
    """Small pages become a huge page, which khugepaged has charged before; pages in swap are read."""
    whole = table.kind == ANON and len(table.folios) == PTRS_PER_PTE and table.folios[0].index < len(host.mm.folios)
    if not (host.huge_pages and whole and table.populated) or table.huge:
        return False
    if not is_worth_it(host, table, max_ptes_none, max_ptes_swap) or not host.charge_huge(PTRS_PER_PTE, True):
        return False
    for folio in table.folios:
        if swapped(folio):
            before = {name: host.counters[name] for name in ("pgfault", "refaults")}
            host.fault(folio, write=False)
            host.counters["khugepaged_swpin"] += host.counters["refaults"] - before["refaults"]
            for name, count in before.items():
                host.counters[name] = count
    host.drain()
    if any(swapped(folio) or folio.busy or folio.writeback for folio in table.folios):
        host.uncharge(PTRS_PER_PTE)
        return False
    host.uncharge(sum(folio.present for folio in table.folios))
    host.mm.nr_unmapped += 1
    for folio in table.folios:
        if folio.gen >= 0:
            host.take_off_lists(folio)
        if folio.swapcache:
            host.device.give_slot(folio)
        folio.reset_flags()
        folio.present, folio.shadow = True, None
        folio.p = folio.t = folio.s = folio.t_mapped = folio.s_mapped = folio.swapcache = folio.writable = False
    huge = table.folios[0]
    huge.size, table.huge = PTRS_PER_PTE, True
    huge.p = huge.writable = True
    host.lruvec.add_folio(huge)
    host.counters["thp_collapse_alloc"] += 1
    return True
