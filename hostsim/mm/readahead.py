"""Reading a file into the page cache, with readahead: mm/readahead.c, and its callers in mm/filemap.c.

Whoever reads on where it stopped, or comes upon pages that such a reader has left, gets a window of pages read instead
of one; each window is up to twice as large as the last. The reader waits for the first of them. When it comes to a
marker in the window the next one is read before it is needed. A fault on a mapping reads a window around its page,
until most of them turn out to be of no use.

A simplification: a marker is known for the present window alone, so that two readers of a file in turns have one
between them. read(2) and the mapping have states of their own, as two openings of a file do.
"""

from __future__ import annotations

from coldfleet.hostsim.engine.jit import compiled, inlined, page_row
from coldfleet.hostsim.engine.state import ACTIVE, FILE, FILE_PAGE, IN_PAGE_CACHE, WORKINGSET, Machine, Record
from coldfleet.hostsim.mm import classic
from coldfleet.hostsim.mm.lru import add_page, fills_batch
from coldfleet.hostsim.mm.page_alloc import alloc_page
from coldfleet.hostsim.mm.refs import marked_accessed
from coldfleet.hostsim.mm.workingset import NEVER, refault
from coldfleet.hostsim.spec.units import PAGE_BYTES

BY_CALL, BY_MAPPING = 0, 1  # index of the readahead states of an mm
MMAP_LOTSAMISS = 100  # faults: mm/filemap.c
NO_PAGE = -1
XA_CHUNK_SIZE = 64  # slots of a node: include/linux/xarray.h
XA_NODE_BYTES = 592  # of a node with its obj_cgroup: 256 nodes took 37 pages in 6.12's memory.stat


@compiled
def _make_node(m: Machine, g: int, page: int) -> bool:
    """xas_create: the first page of 64 needs a node of the file's tree, which lasts as long as a shadow is left in it.

    Nodes are charged as kernel memory, page by page. The nodes above the lowest ones are left out. False if the guest
    was killed for it.
    """
    mm = m.mms[g]
    first = mm.file_first + ((page - mm.file_first) & ~(XA_CHUNK_SIZE - 1))
    for slot in range(first, min(first + XA_CHUNK_SIZE, mm.file_first + mm.file_pages)):
        if page_row(m, slot).flags & IN_PAGE_CACHE or page_row(m, slot).shadow != NEVER:
            return True
    if mm.node_bytes < XA_NODE_BYTES:
        mm.kernel_pages += alloc_page(m, g)
        mm.node_bytes += PAGE_BYTES
    mm.node_bytes -= XA_NODE_BYTES
    return not mm.oom_reason


@compiled
def add_to_page_cache(m: Machine, g: int, page: int, in_fault: bool, write: bool) -> bool:
    """filemap_add_folio: charges the page, looks at its shadow unless it is overwritten, and puts it on the lists.

    False if the guest was killed for it.
    """
    if not (_make_node(m, g, page) and alloc_page(m, g)):
        return False
    row = page_row(m, page)
    row.flags = FILE_PAGE | IN_PAGE_CACHE
    if write:
        row.shadow = NEVER
    else:
        m.events[g].file_reads += 1
    if m.features[0].lru_gen:
        _add_to_generation(m, g, page, in_fault)
    else:
        classic.add_new(m, g, page)
    m.events[g].cached_pages += 1
    return True


@inlined
def _add_to_generation(m: Machine, g: int, page: int, in_fault: bool) -> None:
    f = m.features[0]
    row = page_row(m, page)
    row.state = ACTIVE if in_fault else 0
    if row.shadow != NEVER:
        refault(m, g, page, FILE, in_fault)
    if in_fault and f.birth_referenced and not row.state & WORKINGSET:
        row.state = marked_accessed(f, row.state & ~ACTIVE)
    fills_batch(m, g)
    add_page(m, g, page, FILE)


@inlined
def marked_page(mm: Record, how: int) -> int:
    """The page of the file at which its next window is to be read (PG_readahead), or NO_PAGE."""
    if not mm.ra_async[how]:
        return NO_PAGE
    return mm.ra_start[how] + mm.ra_size[how] - mm.ra_async[how]


@inlined
def _first_window(most: int) -> int:
    """get_init_ra_size for a reader of one page at a time."""
    if most >= 32:
        return 4
    return 2 if most >= 4 else most


@inlined
def _next_window(size: int, most: int) -> int:
    """get_next_ra_size."""
    if size < most // 16:
        return 4 * size
    return 2 * size if size <= most // 2 else most


@compiled
def _read_pages(m: Machine, g: int, start: int, pages: int, wanted: int, in_fault: bool) -> None:
    """page_cache_ra_unbounded: reads what the page cache lacks of these pages of the file, a request for each run.

    ``wanted``: the page that the reader waits for, which comes last so that nothing reclaims it; NO_PAGE: nobody waits.
    """
    mm, events = m.mms[g], m.events[g]
    first = mm.file_first
    in_request = opens_last = False
    for index in range(start, min(start + pages, mm.file_pages)):
        if page_row(m, first + index).flags & IN_PAGE_CACHE:
            in_request = False
            continue
        opens, in_request = not in_request, True
        if index == wanted:
            opens_last = opens
            continue
        if not add_to_page_cache(m, g, first + index, in_fault, False):
            return
        events.file_read_requests += opens
        if wanted == NO_PAGE:
            events.file_readahead_requests += opens
            events.file_readahead_pages += 1
            if index == start:
                events.thrashing_waits += page_row(m, first + index).state & WORKINGSET != 0
    if wanted == NO_PAGE:
        return
    evicted = page_row(m, first + wanted).shadow != NEVER
    if add_to_page_cache(m, g, first + wanted, in_fault, False):
        events.file_read_requests += opens_last
        events.refaults += evicted
        events.thrashing_waits += page_row(m, first + wanted).state & WORKINGSET != 0


@inlined
def _set_window(mm: Record, how: int, start: int, size: int, marked: int) -> None:
    mm.ra_start[how], mm.ra_size[how], mm.ra_async[how] = start, size, marked


@compiled
def _read_next_window(m: Machine, g: int, how: int, in_fault: bool) -> None:
    """page_cache_async_ra: the reader has come to the marker."""
    mm = m.mms[g]
    start = mm.ra_start[how] + mm.ra_size[how]
    size = _next_window(mm.ra_size[how], mm.ra_pages)
    _set_window(mm, how, start, size, size)
    _read_pages(m, g, start, size, NO_PAGE, in_fault)


@compiled
def _cached_before(m: Machine, g: int, index: int, most: int) -> int:
    """How many pages in a row before this one of the file are in the page cache; counts up to ``most``."""
    first = m.mms[g].file_first
    count = 0
    while count < min(most, index) and page_row(m, first + index - 1 - count).flags & IN_PAGE_CACHE:
        count += 1
    return count


@compiled
def read_by_call(m: Machine, g: int, page: int) -> bool:
    """filemap_get_pages: read(2) of a page, whether it is in the page cache or not (page_cache_sync_ra).

    False if the guest was killed for it.
    """
    mm = m.mms[g]
    index = page - mm.file_first
    most = mm.ra_pages
    before, mm.ra_prev = mm.ra_prev, index
    if page_row(m, page).flags & IN_PAGE_CACHE and index == marked_page(mm, BY_CALL):
        _read_next_window(m, g, BY_CALL, False)
    if page_row(m, page).flags & IN_PAGE_CACHE or mm.oom_reason:
        return not mm.oom_reason
    size = 1
    if most > 1 and (index == 0 or 0 <= index - before <= 1):
        size = _first_window(most)
        _set_window(mm, BY_CALL, index, size, size - 1)
    elif most > 1:
        history = _cached_before(m, g, index, most)
        if history > 1:
            size = min((2 * history if history == index else history) + 1, most)
            _set_window(mm, BY_CALL, index, size, 1)
    _read_pages(m, g, index, size, index, False)
    return not mm.oom_reason


@compiled
def miss_by_mapping(m: Machine, g: int, page: int) -> bool:
    """do_sync_mmap_readahead: a fault on a page that the page cache lacks; False if the guest was killed for it."""
    mm = m.mms[g]
    index = page - mm.file_first
    if mm.file_random:
        _read_pages(m, g, index, 1, index, False)
        return not mm.oom_reason
    if mm.mmap_miss < 10 * MMAP_LOTSAMISS:
        mm.mmap_miss += 1
    if not mm.ra_pages or mm.mmap_miss > MMAP_LOTSAMISS:
        _read_pages(m, g, index, 1, index, True)
        return not mm.oom_reason
    start = max(index - mm.ra_pages // 2, 0)
    _set_window(mm, BY_MAPPING, start, mm.ra_pages, mm.ra_pages // 4)
    _read_pages(m, g, start, mm.ra_pages, index, True)
    return not mm.oom_reason


@compiled
def meet_by_mapping(m: Machine, g: int, page: int) -> None:
    """do_async_mmap_readahead: a fault on a page that the page cache has."""
    mm = m.mms[g]
    if mm.mmap_miss:
        mm.mmap_miss -= 1
    if page - mm.file_first == marked_page(mm, BY_MAPPING):
        _read_next_window(m, g, BY_MAPPING, True)
