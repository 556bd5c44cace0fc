"""Replays a recording's schedule through the engine and writes down what a recorder would have seen.

The steps come out in the recordings' own format (tests/recordings/README.md), so that anyone can compare.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hostsim.errors import UserError
from hostsim.kernels import KERNELS, Kernel
from hostsim.lru import gen_of
from hostsim.machine import HostMemory, Memslot
from hostsim.recording import NEVER_PRESENT, SWAPPED, Header, Recording, page_state_hash, residency_hash
from hostsim.schedule import Schedule, fnv1a
from hostsim.state import ACCESS_L2, ACCESS_WRITE, ANON, MAX_NR_TIERS, PRESENT, SWAPCACHE
from policies import get_policy

COUNTERS = (
    "pgscan",
    "pgsteal",
    "pgrefill",
    "pgactivate",
    "pgmajfault",
    "workingset_refault_anon",
    "workingset_activate_anon",
    "workingset_restore_anon",
)
"""The counters of memory.stat that the model claims."""


def slot_of(recording: Recording) -> Memslot:
    """The recorded guest's memory: kind, MMUs, limit, and the pages that its VMM had before it ran."""
    header = recording.header
    start = recording.steps[0]
    return Memslot(
        pages=header.pages,
        own_pages=sum(anon for _, anon, _ in start["lg"]),
        kvm=header.kind != "host",
        tdp=header.kind not in ("shadow", "rmap"),
        max_pages=header.target if header.mode == "limit" else 0,
        swappiness=header.swappiness,
    )


def access_lists(recording: Recording) -> npt.NDArray[np.uint32]:
    """The recorder's accesses, uint32 (rounds, accesses); raises UserError where a hash contradicts them."""
    header = recording.header
    lists = Schedule(header.workload, header.pages, header.accesses, header.rounds, header.seed, header.layout).lists()
    for round_number, digest in recording.list_hashes.items():
        if not 1 <= round_number <= header.rounds:
            raise UserError(f"{recording.path}: ev=list of round {round_number}, of {header.rounds} rounds")
        ours = f"{int(fnv1a(lists[round_number - 1])):016x}"
        if ours != digest:
            raise UserError(
                f"{recording.path}: round {round_number}: schedule hash is {digest}, but this header's schedule "
                f"gives {ours}: header or recording was changed"
            )
    return lists


def kernel_of(recording: Recording) -> Kernel:
    """The kernel that was recorded; raises UserError if it isn't modelled."""
    kernel = KERNELS.get(recording.header.kernel)
    if kernel is None:
        raise UserError(
            f"{recording.path}: header field 'rel' names kernel {recording.header.kernel!r}; "
            f"known are {', '.join(KERNELS)}"
        )
    return kernel


def check_replayable(recording: Recording) -> None:
    """Raises UserError, before anything is run, if the recording's kernel or schedule is not known."""
    kernel_of(recording)
    access_lists(recording)


def simulate_recording(recording: Recording) -> Iterator[dict[str, Any]]:
    """Runs the recorded schedule; yields one step for each of the recording's, as the recorder writes it."""
    header = recording.header
    kernel = kernel_of(recording)
    lists = access_lists(recording)
    memory = HostMemory([slot_of(recording)], kernel, get_policy(kernel.policy))
    for step in recording.steps:
        event = step["ev"]
        asked = _perform(memory, header, event, step["r"], lists)
        memory.drain()
        yield {"ev": event, "r": step["r"], "x": asked, **observe(memory)}


def _perform(memory: HostMemory, header: Header, event: str, round_number: int, lists: npt.NDArray[np.uint32]) -> int:
    """Does what the recorder did before it wrote the step; returns the step's x."""
    if event == "start":
        memory.touch_own(0)
    elif event == "populate":
        memory.touch(0, _by_kind(header, np.arange(header.pages, dtype=np.uint32)) | np.uint32(ACCESS_WRITE))
        return header.pages
    elif event == "touch":
        write = ACCESS_WRITE if header.raw.get("op") == 2 else 0
        memory.touch(0, _by_kind(header, lists[round_number - 1]) | np.uint32(write))
        return header.accesses
    elif event == "age":
        memory.age(0)
    else:
        surplus = max(memory.resident(0) - header.target, 0)
        if event == "evict" and surplus:
            memory.evict(0, int(memory.lruvec(0)["max_seq"]) - 2, header.evict_swappiness, surplus)
        elif surplus:
            memory.memory_reclaim(0, surplus)
        return surplus
    return 0


def _by_kind(header: Header, pages: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    return pages | np.uint32(ACCESS_L2) if header.kind == "nested" else pages


def observe(memory: HostMemory, guest: int = 0) -> dict[str, Any]:
    """A step's observations of one guest: what the recorder reads from /proc, debugfs and memory.stat."""
    lruvec = memory.lruvec(guest)
    max_seq = int(lruvec["max_seq"])
    min_seq = int(lruvec["min_seq"][ANON])
    states = page_states(memory, guest)
    counters = {name: int(memory.events(guest)[name]) for name in COUNTERS}
    return {
        "res": memory.resident(guest),
        "min": min_seq,
        "max": max_seq,
        "lg": [[seq, int(lruvec["nr_pages"][gen_of(seq), ANON]), 0] for seq in range(min_seq, max_seq + 1)],
        "st": {name: value for name, value in counters.items() if value},
        "lgf": {"tiers": tiers(memory, guest)},
        "pgh": page_state_hash(states),
        "resh": residency_hash(states),
        "states": states,
    }


def tiers(memory: HostMemory, guest: int) -> dict[str, dict[str, list[str]]]:
    """The non-zero tier counters of lru_gen_full: refaulted, evicted, protected of the oldest generation; the
    averages (R, T) of the youngest."""
    lruvec = memory.lruvec(guest)

    def shown(columns: dict[str, str]) -> dict[str, list[str]]:
        rows = {
            str(tier): [f"{int(lruvec[name][ANON, tier])}{letter}" for name, letter in columns.items()]
            for tier in range(MAX_NR_TIERS)
        }
        return {tier: kept for tier, row in rows.items() if (kept := [v for v in row if not re.match("0[a-zA-Z]", v)])}

    oldest = shown({"refaulted": "r", "evicted": "e", "protected": "p"})
    youngest = shown({"avg_refaulted": "R", "avg_total": "T"})
    named = ((lruvec["min_seq"][ANON], oldest), (lruvec["max_seq"], youngest))
    return {str(seq): found for seq, found in named if found}


def page_states(memory: HostMemory, guest: int) -> npt.NDArray[np.uint16]:
    """Every page of the guest: its state byte, SWAPPED or NEVER_PRESENT."""
    pages = memory.pages(guest)
    words = memory.machine.bits[memory.words(guest), PRESENT]
    present = np.unpackbits(words.copy().view(np.uint8), bitorder="little")[: pages.stop - pages.start] == 1
    rows = memory.machine.pages[pages]
    swapped = (rows["shadow"] != 0) | (rows["flags"] & SWAPCACHE != 0)
    gone = np.where(swapped, SWAPPED, NEVER_PRESENT).astype(np.uint16)
    return np.where(present, rows["state"].astype(np.uint16), gone)
