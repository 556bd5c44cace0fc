"""What a recorder reads of a guest at a step: residency, generations, counters, tiers, the state of every page."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.engine.state import (
    ANON,
    FILE,
    IN_PAGE_CACHE,
    MAPS_HUGE,
    MAX_NR_TIERS,
    PRESENT,
    PTRS_PER_PTE,
    SWAPCACHE,
    Record,
)
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.mm.lru import gen_of
from coldfleet.hostsim.replay.recording import NEVER_PRESENT, SWAPPED, page_state_hash, residency_hash
from coldfleet.hostsim.spec.units import PAGE_BYTES
from coldfleet.hostsim.workload.schedule import fnv1a

COUNTERS = (
    "pgscan",
    "pgsteal",
    "pgrefill",
    "pgactivate",
    "pgdeactivate",
    "pgmajfault",
    "workingset_refault_anon",
    "workingset_activate_anon",
    "workingset_restore_anon",
    "workingset_refault_file",
    "workingset_activate_file",
    "workingset_restore_file",
)

"""The counters of memory.stat that the model claims."""

LOW = "low"
"""In memory.events, how often a memcg was reclaimed below its memory.low."""

LIST_SIZES = ("inactive_anon", "active_anon")
"""In memory.stat, the bytes on each of the classic LRU's lists."""


def memory_stat(memory: HostMemory, guests: list[int]) -> dict[str, int]:
    """The claimed counters and the sizes of the classic LRU's lists that aren't 0, summed over guests."""
    counters = {name: sum(int(memory.events(guest)[name]) for guest in guests) for name in COUNTERS}
    if not memory.kernel.lru_gen:
        sizes = sum(memory.machine.classic[guest]["size"][ANON] for guest in guests) * PAGE_BYTES
        counters |= dict(zip(LIST_SIZES, sizes.tolist(), strict=True))
    return {name: value for name, value in counters.items() if value}


def observe(memory: HostMemory, guest: int) -> dict[str, Any]:
    """A step's observations of one guest, by the names that the recordings give them."""
    lruvec = memory.lruvec(guest)
    max_seq = int(lruvec["max_seq"])
    min_seq = min(int(each) for each in lruvec["min_seq"])
    of_file = file_page_states(memory, guest)
    states = np.concatenate((page_states(memory, guest), of_file))
    return {
        "res": memory.resident(guest),
        "min": min_seq,
        "max": max_seq,
        "lg": [[seq, *generation_sizes(lruvec, seq)] for seq in range(min_seq, max_seq + 1)],
        **_file_figures(of_file),
        **_huge_figures(memory, guest, states),
        "st": memory_stat(memory, [guest]),
        "mev": {LOW: int(memory.events(guest)["low_events"])},
        "lgf": {"tiers": tiers(memory, guest, ANON), "ftiers": tiers(memory, guest, FILE)},
        "pgh": page_state_hash(states),
        "resh": residency_hash(states),
        "states": states,
    }


def generation_sizes(lruvec: Record, seq: int) -> list[int]:
    """Pages of a generation, anonymous and file; of one that a type has no more, 0."""
    return [
        int(lruvec["nr_pages"][gen_of(seq), kind]) if seq >= lruvec["min_seq"][kind] else 0 for kind in (ANON, FILE)
    ]


def _file_figures(states: npt.NDArray[np.uint16]) -> dict[str, Any]:
    """Pages of the file that are in the page cache, a hash of which they are, and those of which a shadow is left;
    nothing without a file."""
    if not len(states):
        return {}
    cached = (states < SWAPPED).astype(np.uint32)
    return {"fres": int(cached.sum()), "fresh": f"{int(fnv1a(cached)):016x}", "fsh": int((states == SWAPPED).sum())}


def _huge_figures(memory: HostMemory, guest: int, states: npt.NDArray[np.uint16]) -> dict[str, Any]:
    """Pages that PMDs map, and what every 2 MiB are: H a huge page, s small pages, ``.`` nothing; nothing on a host
    without huge pages."""
    huge = _huge_tables(memory, guest)
    if not len(huge):
        return {}
    used = np.logical_or.reduceat(states < SWAPPED, range(0, len(states), PTRS_PER_PTE))
    blocks = "".join("H" if whole else "s" if some else "." for whole, some in zip(huge, used, strict=True))
    return {"ahp": int(huge.sum()) * PTRS_PER_PTE, "hp": blocks}


def _huge_tables(memory: HostMemory, guest: int) -> npt.NDArray[np.uint8]:
    """For every page table of the guest's memslot, whether a huge page is in its place; empty: on a host without."""
    first, pages = (int(memory.machine.mms[guest][name]) for name in ("first", "pages"))
    tables = slice(first // PTRS_PER_PTE, -(-(first + pages) // PTRS_PER_PTE))
    return (memory.machine.huge[tables] & MAPS_HUGE).astype(np.uint8)


def tiers(memory: HostMemory, guest: int, kind: int) -> dict[str, dict[str, list[str]]]:
    """The non-zero tier counters of lru_gen_full: refaulted, evicted, protected of the oldest generation; the
    averages (R, T) of the youngest."""
    lruvec = memory.lruvec(guest)

    def shown(columns: dict[str, str]) -> dict[str, list[str]]:
        rows = {
            str(tier): [f"{int(lruvec[name][kind, tier])}{letter}" for name, letter in columns.items()]
            for tier in range(MAX_NR_TIERS)
        }
        return {tier: kept for tier, row in rows.items() if (kept := [v for v in row if not re.match("0[a-zA-Z]", v)])}

    oldest = shown({"refaulted": "r", "evicted": "e", "protected": "p"})
    youngest = shown({"avg_refaulted": "R", "avg_total": "T"})
    named = ((lruvec["min_seq"][kind], oldest), (lruvec["max_seq"], youngest))
    return {str(seq): found for seq, found in named if found}


def page_states(memory: HostMemory, guest: int) -> npt.NDArray[np.uint16]:
    """Every page of the guest: its state byte, that of its huge page if it is part of one, SWAPPED or NEVER_PRESENT."""
    pages = memory.pages(guest)
    words = memory.machine.bits[memory.words(guest), PRESENT]
    states = np.empty(pages.stop - pages.start, np.uint16)
    _read_states(states, words, memory.machine.pages[pages])
    for table in np.flatnonzero(_huge_tables(memory, guest)):
        states[table * PTRS_PER_PTE : (table + 1) * PTRS_PER_PTE] = states[table * PTRS_PER_PTE]
    return states


def file_page_states(memory: HostMemory, guest: int) -> npt.NDArray[np.uint16]:
    """Every page of the guest's file: its state byte, SWAPPED (a shadow is left of it) or NEVER_PRESENT."""
    mm = memory.machine.mms[guest]
    rows = memory.machine.pages[int(mm["file_first"]) : int(mm["file_first"] + mm["file_pages"])]
    gone = np.where(rows["shadow"] != 0, SWAPPED, NEVER_PRESENT)
    return np.where(rows["flags"] & IN_PAGE_CACHE, rows["state"], gone).astype(np.uint16)


@compiled
def _read_states(states: npt.NDArray[np.uint16], words: npt.NDArray[np.uint64], rows: npt.NDArray[Any]) -> None:
    for page in range(len(states)):
        row = rows[page]
        if words[page >> 6] >> np.uint64(page & 63) & np.uint64(1):
            states[page] = row.state
        elif row.shadow or row.flags & SWAPCACHE:
            states[page] = SWAPPED
        else:
            states[page] = NEVER_PRESENT
