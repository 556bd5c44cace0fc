"""An LRU stack whose page at any depth is found, and moved to the top, in logarithmic time; drawn from by depth.

The pages lie at places in the order of their last accesses; a bitmap says which places are in use, and a Fenwick tree
over its words counts them (hostsim.trace.reuse). When the places are used up they are moved together.

Source of the model: Mattson, Gecsei, Slutz, Traiger, "Evaluation techniques for storage hierarchies", 1970. Accesses
whose depths are drawn from the distribution of a trace have its LRU miss-ratio curve, whatever their pages are. That
leaves a choice. Depths are drawn ahead, and of a few of them the one is used next whose page is furthest behind its
share of the accesses. So pages come near to the popularity that they should have, and all depths are used.
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
AHEAD, LOOKED_AT = 512, 16  # depths that are drawn ahead, and how many of them are looked at for an access
_32 = np.uint64(32)
_NEXT, _TOTAL = range(2)
Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]


class StackState(NamedTuple):
    """A stack and what was made of it.

    ``page_at``: uint32, the page of each place; ``place_of``: int64, the place of each page. ``bits``, ``tree``: which
    places are in use. ``made``: float64, accesses to each page so far; ``rates``: share of the accesses it should have,
    empty: all alike. ``ahead``: int64, depths that were drawn, of use if rates differ. ``state``: int64, the next free
    place, accesses so far.
    """

    page_at: npt.NDArray[np.uint32]
    place_of: Counts
    bits: Words
    tree: Counts
    made: Floats
    rates: Floats
    ahead: Counts
    state: Counts


class Depths(NamedTuple):
    """The depths of accesses: ``table``, uint32 (windows, quantiles), of a stack of ``pages``, sorted in each window.

    They hold in the windows of a period of so many accesses, one after the other, over and over.
    """

    table: npt.NDArray[np.uint32]
    pages: float
    period: int


def new_stack(order: npt.NDArray[np.uint32], rates: Floats, depths: Depths, start: float) -> StackState:
    """A stack of pages, the bottom one first, whose accesses begin at ``start``, 0..1 of the depths' period."""
    pages = len(order)
    places = -(-2 * pages // 64) * 64 + 64
    page_at = np.zeros(places, np.uint32)
    page_at[:pages] = order
    place_of = np.empty(pages, np.int64)
    place_of[order] = np.arange(pages)
    bits, tree = marked_places(places, pages)
    made = np.zeros(len(rates))
    windows, quantiles = depths.table.shape
    chosen = depths.table[int(start * windows)][(np.arange(AHEAD) * 2 + 1) * quantiles // (2 * AHEAD)]
    ahead = np.ceil(chosen * (pages / depths.pages)).clip(1, pages).astype(np.int64)
    return StackState(page_at, place_of, bits, tree, made, rates, ahead, np.array([pages, 0], np.int64))


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
    s.state[_NEXT] = pages


@inlined
def _touch(s: StackState, page: int) -> None:
    """Moves a page to the top."""
    if s.state[_NEXT] == len(s.page_at):
        _move_together(s)
    mark_place(s.bits, s.tree, s.place_of[page], -1)
    place = s.state[_NEXT]
    mark_place(s.bits, s.tree, place, 1)
    s.page_at[place] = page
    s.place_of[page] = place
    s.state[_NEXT] = place + 1


@inlined
def _choose(s: StackState, random: np.uint64) -> int:
    """Which of the depths that were drawn is used now: of some of them that of the page that is most behind."""
    pages = len(s.place_of)
    chosen, most = 0, -np.inf
    now = np.float64(s.state[_TOTAL])
    for _ in range(LOOKED_AT):
        random = random * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)  # Knuth's MMIX
        at: int = np.int64((random >> _32) * np.uint64(len(s.ahead)) >> _32)  # type: ignore[assignment]
        page = s.page_at[_place_of_rank(s, pages - s.ahead[at])]
        behind = s.rates[page] * now - s.made[page]
        if behind > most:
            chosen, most = at, behind
    return chosen


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
    position: int,
    levels: npt.NDArray[np.uint8],
    l2_share: int,
    write_shares: npt.NDArray[np.uint64],
    numbers: npt.NDArray[np.uint32],
) -> None:
    """Fills ``out`` and ``digests`` for the ticks from ``first`` on.

    ``position``: accesses before, in the period of the depths. ``write_shares``: uint64, of 2^32, of each page, or one
    for all. ``numbers``: uint32 (4, BLOCK), scratch.
    """
    pages = len(s.place_of)
    windows, quantiles = depths.table.shape
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
            window = position * windows // depths.period
            drawn = np.float64(depths.table[window, int(choice * np.uint64(quantiles) >> _32)])
            scaled: int = np.int64(np.ceil((drawn - np.float64(within) / 4294967296.0) * scale))  # type: ignore[assignment]
            depth = min(max(scaled, 1), pages)
            if len(s.rates):
                at = _choose(s, choice << _32 | within)
                depth, s.ahead[at] = s.ahead[at], depth
            page: int = np.int64(s.page_at[_place_of_rank(s, pages - depth)])  # type: ignore[assignment]
            position += 1
            if position == depths.period:
                position = 0
            s.state[_TOTAL] += 1
            if len(s.rates):
                s.made[page] += 1.0
            _touch(s, page)
            access = np.uint32(page)
            if len(levels):
                level = levels[page]
                if level == L2_ONLY or (level == SHARED and who < np.uint64(l2_share)):
                    access |= np.uint32(ACCESS_L2)
            if how < write_shares[page if len(write_shares) > 1 else 0]:
                access |= np.uint32(ACCESS_WRITE)
            out[begin + i] = access
            digest = (digest ^ np.uint64(access)) * FNV_PRIME
        digests[t] = digest
        begin = ends[t]
