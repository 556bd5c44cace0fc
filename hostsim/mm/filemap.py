"""A file in the page cache: read(2), write(2), and accesses through a mapping (mm/filemap.c, mm/memory.c).

Each guest's process may have one file. read(2) and write(2) leave no Accessed bit, the kernel marks the page itself;
an access through the mapping leaves one, as on anonymous memory. hostsim.mm.readahead says what is read beside the page
that is asked for. A write replaces its whole page, so that nothing is read for it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled, inlined, page_row
from coldfleet.hostsim.engine.state import (
    ACCESS_MMAP,
    ACCESS_PAGE,
    ACCESS_WRITE,
    DIRTY,
    FILE,
    IN_PAGE_CACHE,
    PMD_POPULATED,
    PMD_YOUNG,
    PRESENT,
    PRIMARY,
    PTRS_PER_PTE,
    TOUCHED,
    WRITABLE,
    Machine,
)
from coldfleet.hostsim.kvm.mmu_notifier import is_mapped
from coldfleet.hostsim.mm.faults import make_table, mark_accessed
from coldfleet.hostsim.mm.lru import add_page, change_gen, list_del, page_gen
from coldfleet.hostsim.mm.memcontrol import handle_over_high
from coldfleet.hostsim.mm.readahead import (
    BY_MAPPING,
    add_to_page_cache,
    marked_page,
    meet_by_mapping,
    miss_by_mapping,
    read_by_call,
)
from coldfleet.hostsim.mm.writeback import mark_dirty

FAULT_AROUND_PAGES = 16  # fault_around_bytes of mm/memory.c, 64 KiB


@inlined
def _map(m: Machine, g: int, page: int) -> None:
    """set_pte_range: x86 makes PTEs young."""
    bit = np.uint64(1) << np.uint64(page & 63)
    m.bits[page >> 6, PRESENT] |= bit
    m.bits[page >> 6, PRIMARY] |= bit
    m.mms[g].file_mapped += 1


@compiled
def _fault_around(m: Machine, g: int, page: int) -> None:
    """do_fault_around: a read fault maps whatever the aligned block of 16 pages around it has in the page cache.

    But for the page at which readahead goes on, so that it is noticed when that is needed.
    """
    mm = m.mms[g]
    marker = mm.file_first + marked_page(mm, BY_MAPPING)
    start = mm.file_first + ((page - mm.file_first) & ~(FAULT_AROUND_PAGES - 1))
    for neighbour in range(start, min(start + FAULT_AROUND_PAGES, mm.file_first + mm.file_pages)):
        if neighbour == marker and neighbour != page:
            continue
        if page_row(m, neighbour).flags & IN_PAGE_CACHE and not is_mapped(m, neighbour):
            _map(m, g, neighbour)


@compiled
def _fault_in(m: Machine, g: int, page: int, write: bool) -> None:
    """do_read_fault, do_shared_fault: maps a page of the file, reading it first if the page cache lacks it."""
    m.events[g].pgfault += 1
    if not m.pmds[page // PTRS_PER_PTE]:
        make_table(m, g, page // PTRS_PER_PTE)
    if page_row(m, page).flags & IN_PAGE_CACHE:
        meet_by_mapping(m, g, page)
        if m.mms[g].oom_reason:
            return
    if not write:
        _fault_around(m, g, page)
    if is_mapped(m, page):
        return
    if not page_row(m, page).flags & IN_PAGE_CACHE:
        m.events[g].pgmajfault += 1
        if not miss_by_mapping(m, g, page):
            return
    _map(m, g, page)


@compiled
def _access_by_mapping(m: Machine, g: int, page: int, write: bool) -> None:
    """The first write to a clean page faults, because the kernel has to know that it gets dirty (page_mkwrite)."""
    row = page_row(m, page)
    bit = np.uint64(1) << np.uint64(page & 63)
    if not is_mapped(m, page):
        _fault_in(m, g, page, write)
        if m.mms[g].oom_reason:
            return
    elif write and not row.flags & WRITABLE:
        m.events[g].pgfault += 1
    if write:
        if not row.flags & WRITABLE:
            row.flags |= WRITABLE
            mark_dirty(row)
        m.bits[page >> 6, DIRTY] |= bit
    m.bits[page >> 6, PRIMARY] |= bit
    m.bits[page >> 6, TOUCHED] |= bit
    m.pmds[page // PTRS_PER_PTE] = PMD_YOUNG | PMD_POPULATED


@inlined
def _join_marked(m: Machine, g: int, page: int) -> None:
    """A new page that waits in its CPU's batch (it did not fill it) joins the lists after it was marked accessed."""
    row = page_row(m, page)
    list_del(m, page)
    change_gen(m.lruvecs[g], page_gen(row.state), -1, FILE, 1)
    add_page(m, g, page, FILE)


@compiled
def _access_by_call(m: Machine, g: int, page: int, write: bool) -> None:
    """filemap_read, generic_perform_write: a read marks its page accessed, unless the file's last read ended in it.

    A write leaves no trace of use: ext4 goes through iomap or block_write_begin, which mark nothing (6.12, 6.18, 7.3).
    """
    row = page_row(m, page)
    if write:
        if row.flags & IN_PAGE_CACHE or add_to_page_cache(m, g, page, False, True):
            mark_dirty(row)
        return
    again = page - m.mms[g].file_first == m.mms[g].ra_prev
    cached = row.flags & IN_PAGE_CACHE
    if not read_by_call(m, g, page) or again:
        return
    mark_accessed(m, g, page)
    if not cached and m.features[0].birth_referenced and m.cpus[m.mms[g].cpu].added:
        _join_marked(m, g, page)


@compiled
def access_file(m: Machine, g: int, accesses: npt.NDArray[np.uint32]) -> int:
    """Accesses to the guest's file in order: page of the file, ACCESS_MMAP, ACCESS_WRITE. Returns how many were made:
    all unless it was killed."""
    first = m.mms[g].file_first
    made = len(accesses)
    for i in range(len(accesses)):
        access = accesses[i]
        page = first + np.int64(access & ACCESS_PAGE)
        write = access & ACCESS_WRITE != 0
        if access & ACCESS_MMAP:
            _access_by_mapping(m, g, page, write)
        else:
            _access_by_call(m, g, page, write)
        if m.mms[g].over_high:
            handle_over_high(m, g)
        if m.mms[g].oom_reason:
            made = i
            break
    m.events[g].accesses += made
    return made
