"""Pages that differ from their copy on a device, and the I/O that mends that.

I/O takes no time of its own here: it is under way from the call that starts it until :func:`end_writeback`, which the
caller puts where the device would have finished (the end of a tick as far as the device has come, a reclaim that
waits). Sources: mm/filemap.c
folio_end_writeback, mm/swap.c folio_rotate_reclaimable, mm/page-writeback.c folio_clear_dirty_for_io.
"""

from __future__ import annotations

import numpy as np

from coldfleet.hostsim.engine.jit import compiled, inlined, page_row
from coldfleet.hostsim.engine.state import (
    DIRTY,
    FILE,
    PG_DIRTY,
    PG_RECLAIM,
    PG_WRITEBACK,
    SWAPCACHE,
    WRITABLE,
    Machine,
    Record,
)
from coldfleet.hostsim.mm import classic
from coldfleet.hostsim.mm.lru import (
    change_gen,
    gen_of,
    list_add_tail,
    list_del,
    list_head,
    page_gen,
    page_kind,
    with_gen,
)

EITHER = 2  # kind of page: of memory or of a file


@inlined
def mark_dirty(row: Record) -> None:
    """folio_mark_dirty: whatever was being written of the page is old now, and no reason to evict it."""
    row.flags = (row.flags & ~PG_RECLAIM) | PG_DIRTY


@inlined
def carry_dirty_bit(m: Machine, page: int) -> None:
    """A page of the swap cache whose PTE is dirty no longer equals its copy.

    A page of a file is marked dirty by the fault that makes its PTE writable.
    """
    row = page_row(m, page)
    if row.flags & SWAPCACHE and m.bits[page >> 6, DIRTY] >> np.uint64(page & 63) & np.uint64(1):
        mark_dirty(row)


@compiled
def start_writeback(m: Machine, g: int, page: int) -> None:
    """The page's I/O is on its way: it is clean and under writeback."""
    mm = m.mms[g]
    row = page_row(m, page)
    row.flags = (row.flags & ~PG_DIRTY) | PG_WRITEBACK
    m.in_flight[mm.first + mm.under_writeback] = page
    mm.under_writeback += 1
    mm.file_under_writeback += page_kind(row) == FILE


@compiled
def end_writeback(m: Machine, g: int, pages: int, kind: int = EITHER) -> None:
    """The I/O of so many pages of a guest ends, at most all of it, in the order in which it started.

    ``kind``: ANON, whose device is that of swap, FILE, or EITHER. What reclaim waited for (PG_RECLAIM) goes to the tail
    of the oldest generation, or of the inactive list: eviction meets it next. The CPU's batches have long been drained
    by then.
    """
    mm = m.mms[g]
    left = min(pages, writes_under_way(m, g, kind))
    if not left:
        return
    classic.lru_add_drain(m, mm.cpu)
    kept = 0
    for i in range(mm.under_writeback):
        page = m.in_flight[mm.first + i]
        row = page_row(m, page)
        if not left or (kind != EITHER and page_kind(row) != kind):
            m.in_flight[mm.first + kept] = page
            kept += 1
            continue
        left -= 1
        mm.file_under_writeback -= page_kind(row) == FILE
        waited_for = row.flags & PG_RECLAIM
        row.flags &= ~(PG_WRITEBACK | PG_RECLAIM)
        if waited_for and not row.flags & PG_DIRTY:
            if m.features[0].lru_gen:
                _rotate(m, g, page)
            else:
                classic.rotate(m, g, page)
            m.events[g].pgrotated += 1
    mm.under_writeback = kept


@compiled
def writes_under_way(m: Machine, g: int, kind: int) -> int:
    """Pages of a guest that are being written; ``kind``: as :func:`end_writeback`."""
    mm = m.mms[g]
    if kind == EITHER:
        return mm.under_writeback
    return mm.file_under_writeback if kind == FILE else mm.under_writeback - mm.file_under_writeback


@compiled
def wait_for_writes(m: Machine, g: int) -> None:
    """A reclaim waits until all that is being written of a guest is written."""
    mm = m.mms[g]
    m.events[g].reclaim_write_waits += mm.under_writeback
    m.events[g].reclaim_file_write_waits += mm.file_under_writeback
    end_writeback(m, g, mm.under_writeback)


@inlined
def _rotate(m: Machine, g: int, page: int) -> None:
    """lru_move_tail_fn: to where the next isolation begins."""
    lruvec = m.lruvecs[g]
    row = page_row(m, page)
    kind = page_kind(row)
    oldest = gen_of(lruvec.min_seq[kind])
    list_del(m, page)
    change_gen(lruvec, page_gen(row.state), oldest, kind, 1)
    row.state = with_gen(row.state, oldest)
    list_add_tail(m, list_head(lruvec, oldest, kind), page)


@compiled
def flush(m: Machine, g: int) -> None:
    """The flusher thread starts to write every dirty page of the guest's file, in file order.

    Their PTEs become clean and read-only, so that the next write is noticed (folio_mkclean).
    """
    mm = m.mms[g]
    for page in range(mm.file_first, mm.file_first + mm.file_pages):
        row = page_row(m, page)
        if not row.flags & PG_DIRTY or row.flags & PG_WRITEBACK:
            continue
        row.flags &= ~WRITABLE
        m.bits[page >> 6, DIRTY] &= ~(np.uint64(1) << np.uint64(page & 63))
        start_writeback(m, g, page)
        m.events[g].file_writes += 1
