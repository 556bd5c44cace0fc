"""Reclaim of pages that somebody else has chosen: mm/vmscan.c reclaim_pages, the end of MADV_PAGEOUT and of DAMOS.

Since 6.10 it asks nobody whether they are young (its argument ignore_references went away, always true); so do all
kernels here. It raises neither pgscan nor pgsteal, which count reclaim that looks for pages itself.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled, inlined, page_row
from coldfleet.hostsim.engine.state import ANON, GEN_MASK, LRU, REFERENCED, TASK, Machine, Record
from coldfleet.hostsim.mm import classic
from coldfleet.hostsim.mm.classic_reclaim import shrink_page
from coldfleet.hostsim.mm.evict import free_batch, shrink_pages
from coldfleet.hostsim.mm.lru import change_gen, list_del, page_gen


@inlined
def _isolate(m: Machine, g: int, page: int) -> bool:
    """folio_clear_referenced and folio_isolate_lru; False for a page on no list."""
    row = page_row(m, page)
    gen = page_gen(row.state)
    if gen < 0:
        return False
    row.state &= ~(GEN_MASK | REFERENCED)
    change_gen(m.lruvecs[g], gen, -1, ANON, 1)
    list_del(m, page)
    return True


@compiled
def _reclaim_classic(m: Machine, g: int, pages: npt.NDArray[np.int64], reclaim: Record) -> None:
    """The same for the classic LRU; what waits in the CPU's batches joins its list first."""
    classic.drain(m, m.mms[g].cpu)
    reclaim.freed = 0
    for page in pages:
        if page_row(m, page).flags & LRU:
            classic.take_off_list(m, g, page)
            page_row(m, page).state &= ~REFERENCED
            if not shrink_page(m, g, page, reclaim):
                classic.add_to_list(m, g, page)
    free_batch(m, g, ANON, reclaim)


@compiled
def reclaim_pages(m: Machine, g: int, pages: npt.NDArray[np.int64]) -> int:
    """Pages out anonymous pages of a guest, at most 64 (Machine.victims); returns how many were freed.

    On an asynchronous swap device that is none: they are freed by the reclaim that meets them after their write.
    """
    reclaim = m.reclaim[TASK]
    reclaim.nr_reclaimed = 0
    reclaim.target = g
    reclaim.ignore_references = 1
    if m.features[0].lru_gen:
        isolated = 0
        for page in pages:
            if _isolate(m, g, page):
                m.victims[isolated] = page
                isolated += 1
        m.node[0].isolated = isolated
        shrink_pages(m, g, ANON, reclaim)
    else:
        _reclaim_classic(m, g, pages, reclaim)
    reclaim.ignore_references = 0
    m.events[g].damos_applied += reclaim.nr_reclaimed
    return reclaim.nr_reclaimed
