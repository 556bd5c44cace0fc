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
    host.charge(1)
    folio.reset_flags()
    folio.writable = folio.pte_dirty = False
    folio.cached = True
    shadow, folio.shadow = folio.shadow, None
    host.counters["file_reads"] += not overwritten
    host.filemap_add_lru(folio, None if overwritten else shadow, in_fault)


def read_or_write(host: ReferenceHost, folio: Folio, write: bool) -> None:
    """One call for one page."""
    if not folio.cached:
        add_to_page_cache(host, folio, in_fault=False, overwritten=write)
    host.mark_accessed(folio)
    if write:
        folio.mark_dirty()


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
