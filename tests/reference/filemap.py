"""The page cache: read(2), write(2) and accesses through a mapping (sections 2 and 3).

No readahead. A write(2) replaces its whole page: nothing is read, and a shadow is dropped unlooked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .constants import FAULT_AROUND_PAGES
from .folio import Folio

if TYPE_CHECKING:
    from .host import ReferenceHost


def add_to_page_cache(host: ReferenceHost, folio: Folio, in_fault: bool, overwritten: bool) -> None:
    make_node(host, folio)
    host.charge(1)
    folio.reset_flags()
    folio.writable = folio.pte_dirty = False
    folio.cached = True
    shadow, folio.shadow = folio.shadow, None
    host.counters["file_reads"] += not overwritten
    host.counters["refaults"] += shadow is not None and not overwritten
    host.filemap_add_lru(folio, None if overwritten else shadow, in_fault)


def make_node(host: ReferenceHost, folio: Folio) -> None:
    """The first page of an aligned 64 takes a node of the file's tree: 592 bytes, in pages of their own."""
    first = folio.index - folio.index % 64
    if any(slot.cached or slot.shadow is not None for slot in host.mm.file[first : first + 64]):
        return
    if host.mm.node_bytes < 592:
        host.charge_kernel(1)
        host.mm.node_bytes += 4096
    host.mm.node_bytes -= 592


def read_or_write(host: ReferenceHost, folio: Folio, write: bool) -> None:
    """One call for one page."""
    if not folio.cached:
        add_to_page_cache(host, folio, in_fault=False, overwritten=write)
    if write:  # leaves no trace of use
        folio.mark_dirty()
    elif host.mm.last_read is not folio:
        host.mark_accessed(folio)
    host.call_ended(folio)
    if not write:
        host.mm.last_read = folio


def access_mapped(host: ReferenceHost, folio: Folio, write: bool) -> None:
    """A load or store through a shared mapping; a store to a clean page faults to make it dirty."""
    if not folio.present:
        fault(host, folio, write)
    elif write and not folio.writable:
        host.counters["pgfault"] += 1
    if write:
        if not folio.writable:
            folio.writable = True
            folio.mark_dirty()
        folio.pte_dirty = True
    folio.p = True
    folio.table.pmd_young = True


def fault(host: ReferenceHost, folio: Folio, write: bool) -> None:
    host.counters["pgfault"] += 1
    host.make_table(folio)
    if not write:
        fault_around(host, folio)
    if folio.present:
        return
    if not folio.cached:
        host.counters["pgmajfault"] += 1
        add_to_page_cache(host, folio, in_fault=True, overwritten=False)
    folio.present = folio.p = True


def fault_around(host: ReferenceHost, folio: Folio) -> None:
    """A read fault maps, young, what the page cache has of the aligned block around the page."""
    first = folio.index - folio.index % FAULT_AROUND_PAGES
    for neighbour in host.mm.file[first : first + FAULT_AROUND_PAGES]:
        if neighbour.cached and not neighbour.present:
            neighbour.present = neighbour.p = True
