"""An LRU stack whose page at any depth is found, and moved to the top, in logarithmic time; drawn from by depth.

The pages lie at places in the order of their last accesses; a bitmap says which places are in use, and a Fenwick tree
over its words counts them (hostsim.trace.reuse). When the places are used up they are moved together.

Source of the model: Mattson, Gecsei, Slutz, Traiger, "Evaluation techniques for storage hierarchies", 1970. Accesses
have the LRU miss-ratio curve of the distribution that their depths are drawn from, whatever their pages are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled, inlined, popcount
from coldfleet.hostsim.engine.philox import random_blocks
from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_WRITE
from coldfleet.hostsim.trace.reuse import Counts, mark_place, marked_places
from coldfleet.hostsim.workload.levels import L2_ONLY, SHARED
from coldfleet.hostsim.workload.schedule import FNV_PRIME

BLOCK = 1024  # accesses, a power of two, whose random numbers are made at a time
_32 = np.uint64(32)
Words = npt.NDArray[np.uint64]


class StackState(NamedTuple):
    """A stack of pages.

    ``page_at``: uint32, the page of each place; ``place_of``: int64, the place of each page. ``bits``, ``tree``: which
    places are in use. ``next``: int64, the next free place.
    """

    page_at: npt.NDArray[np.uint32]
    place_of: Counts
    bits: Words
    tree: Counts
    next: Counts


class Depths(NamedTuple):
    """The depths of accesses: ``table``, uint32, as likely each, of a stack of ``pages``, sorted."""

    table: npt.NDArray[np.uint32]
    pages: float


def new_stack(order: npt.NDArray[np.uint32]) -> StackState:
    """A stack of pages, the bottom one first."""
    pages = len(order)
    places = -(-2 * pages // 64) * 64 + 64
    page_at = np.zeros(places, np.uint32)
    page_at[:pages] = order
    place_of = np.empty(pages, np.int64)
    place_of[order] = np.arange(pages)
    return StackState(page_at, place_of, *marked_places(places, pages), np.array([pages]))


@inlined
def _place_of_rank(s: StackState, rank: int) -> int:
    """The place in use that has so many below it."""
    node, left, step = 0, rank, 1
    while 2 * step < len(s.tree):
        step *= 2
    while step:
        if node + step < len(s.tree) and s.tree[node + step] <= left:
            node += step
            left -= s.tree[node]
        step >>= 1
    word, place, width = s.bits[node], 64 * node, 32
    while width:
        low = word & ((np.uint64(1) << np.uint64(width)) - np.uint64(1))
        count = popcount(low)
        if count <= left:
            left -= count
            place += width
            word >>= np.uint64(width)
        else:
            word = low
        width >>= 1
    return place


@compiled
def _move_together(s: StackState) -> None:
    """Gives the pages the first places, in the same order."""
    pages = len(s.place_of)
    used = 0
    for place in range(len(s.page_at)):
        if s.bits[place >> 6] >> np.uint64(place & 63) & np.uint64(1):
            page = s.page_at[place]
            s.page_at[used] = page
            s.place_of[page] = used
            used += 1
    for word in range(len(s.bits)):
        left = min(max(pages - 64 * word, 0), 64)
        s.bits[word] = ~np.uint64(0) >> np.uint64(64 - left) if left else np.uint64(0)
    for node in range(1, len(s.tree)):
        first = node - (node & -node)
        s.tree[node] = min(max(pages - 64 * first, 0), 64 * (node - first))
    s.next[0] = pages


@inlined
def _touch(s: StackState, page: int) -> None:
    """Moves a page to the top."""
    if s.next[0] == len(s.page_at):
        _move_together(s)
    mark_place(s.bits, s.tree, s.place_of[page], -1)
    place = s.next[0]
    mark_place(s.bits, s.tree, place, 1)
    s.page_at[place] = page
    s.place_of[page] = place
    s.next[0] = place + 1


@compiled
def draw_by_depth(
    out: npt.NDArray[np.uint32],
    ends: Counts,
    digests: Words,
    digest: np.uint64,
    key: np.uint64,
    counter: tuple[np.uint64, np.uint64],
    first: int,
    s: StackState,
    depths: Depths,
    levels: npt.NDArray[np.uint8],
    l2_share: int,
    write_share: int,
    numbers: npt.NDArray[np.uint32],
) -> None:
    """Fills ``out`` and ``digests`` for the ticks from ``first`` on.

    ``write_share``: of 2^32. ``numbers``: uint32 (4, BLOCK), scratch.
    """
    pages = len(s.place_of)
    quantiles = np.uint64(len(depths.table))
    scale = np.float64(pages) / depths.pages
    begin = 0
    for t in range(len(ends)):
        number_of = ends[t] - begin
        for i in range(number_of):
            place = i & (BLOCK - 1)
            if place == 0:
                random_blocks(numbers, min(number_of - i, BLOCK), key, i, first + t, counter)
            who, how = np.uint64(numbers[0, place]), np.uint64(numbers[1, place])
            choice, within = np.uint64(numbers[2, place]), np.uint64(numbers[3, place])
            drawn = np.float64(depths.table[np.int64(choice * quantiles >> _32)])
            scaled: int = np.int64(np.ceil((drawn - np.float64(within) / 4294967296.0) * scale))  # type: ignore[assignment]
            depth = min(max(scaled, 1), pages)
            page: int = np.int64(s.page_at[_place_of_rank(s, pages - depth)])  # type: ignore[assignment]
            _touch(s, page)
            access = np.uint32(page)
            if len(levels):
                level = levels[page]
                if level == L2_ONLY or (level == SHARED and who < np.uint64(l2_share)):
                    access |= np.uint32(ACCESS_L2)
            if how < np.uint64(write_share):
                access |= np.uint32(ACCESS_WRITE)
            out[begin + i] = access
            digest = (digest ^ np.uint64(access)) * FNV_PRIME
        digests[t] = digest
        begin = ends[t]
