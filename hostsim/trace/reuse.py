"""Reuse distances of a trace, all of them or of a sample of its pages, in compiled loops.

The reuse distance of an access is the number of distinct pages since the last access to its page, itself included: an
LRU of c pages holds it if the distance is at most c. Marks for the pages' last accesses lie in the order of time in a
bitmap, and a Fenwick tree over its words counts those after a place (Bennett and Kruskal, 1975).

Sampling is SHARDS (Waldspurger et al., FAST 2015): pages whose hash is below a threshold, all accesses to them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled, inlined, popcount

HASH_BITS = 24
EVERY_PAGE = 1 << HASH_BITS
"""A threshold that no hash reaches."""

GAP_BINS = 64
_KEY, _PLACE, _LAST, _WINDOW = range(4)
_PAGES, _NEXT_PLACE = range(2)
Keys = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]


@inlined
def _mixed(key: int) -> np.uint64:
    """A hash of 64 bits: the finalizer of splitmix64 (Steele et al., 2014)."""
    word = np.uint64(key)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@compiled
def _hashes(keys: Keys, out: npt.NDArray[np.uint32]) -> None:
    """The upper bits of each key's hash, which sampling looks at."""
    for at in range(len(keys)):
        out[at] = _mixed(keys[at]) >> np.uint64(64 - HASH_BITS)


@compiled
def _collect(keys: Keys, first: int, threshold: int, table: Keys, count: Counts) -> int:
    """Adds the sampled keys to a set of at most half the table; returns how many keys were looked at.

    ``table``: rows of (key, whether there is one); ``count``: of the keys in it.
    """
    mask = len(table) - 1
    for at in range(first, len(keys)):
        mixed = _mixed(keys[at])
        if mixed >> np.uint64(64 - HASH_BITS) >= np.uint64(threshold):
            continue
        slot = np.int64(mixed & np.uint64(mask))
        while table[slot, 1] and table[slot, 0] != keys[at]:
            slot = (slot + 1) & mask
        if not table[slot, 1]:
            if 2 * count[0] >= len(table):
                return at
            table[slot, 0], table[slot, 1] = keys[at], 1
            count[0] += 1
    return len(keys)


@inlined
def marks_before(bits: npt.NDArray[np.uint64], tree: Counts, place: int) -> int:
    """How many places below this one are marked."""
    node, count = place >> 6, 0
    count = popcount(bits[node] & ((np.uint64(1) << np.uint64(place & 63)) - np.uint64(1)))
    while node > 0:
        count += tree[node]
        node &= node - 1
    return count


@inlined
def mark_place(bits: npt.NDArray[np.uint64], tree: Counts, place: int, change: int) -> None:
    """Sets (1) or clears (-1) a mark."""
    bits[place >> 6] ^= np.uint64(1) << np.uint64(place & 63)
    node = (place >> 6) + 1
    while node < len(tree):
        tree[node] += change
        node += node & -node


@compiled
def _follow(
    keys: Keys,
    numbers: Counts,
    windows: Counts,
    first: int,
    table: Keys,
    bits: npt.NDArray[np.uint64],
    tree: Counts,
    distances: Counts,
    gaps: Counts,
    working: Counts,
    state: Counts,
) -> int:
    """Follows accesses until the table or the places are used up; returns how many were followed in all.

    ``table``: rows of (key, place of the last access + 1 or 0, its number, its window).
    """  # fmt: skip
    mask, places = len(table) - 1, 64 * len(bits)
    for at in range(first, len(keys)):
        place = state[_NEXT_PLACE]
        if place >= places or 2 * state[_PAGES] >= len(table) or state[_PAGES] + 2 >= len(distances):
            return at
        key = keys[at]
        slot = np.int64((_mixed(key) >> np.uint64(8)) & np.uint64(mask))
        while table[slot, _PLACE] and table[slot, _KEY] != key:
            slot = (slot + 1) & mask
        if table[slot, _PLACE]:
            last = table[slot, _PLACE] - 1
            distances[state[_PAGES] - marks_before(bits, tree, last)] += 1
            mark_place(bits, tree, last, -1)
            gap, size = numbers[at] - table[slot, _LAST], 0
            while gap > 1:
                gap >>= 1
                size += 1
            gaps[size] += 1
            if table[slot, _WINDOW] != windows[at]:
                working[windows[at]] += 1
        else:
            table[slot, _KEY] = key
            state[_PAGES] += 1
            working[windows[at]] += 1
        table[slot, _PLACE], table[slot, _LAST], table[slot, _WINDOW] = place + 1, numbers[at], windows[at]
        mark_place(bits, tree, place, 1)
        state[_NEXT_PLACE] = place + 1
    return len(keys)


@compiled
def _moved(table: Keys, bits: npt.NDArray[np.uint64], tree: Counts, drop: int, larger: Keys) -> None:
    """Puts the pages into an empty table, their last accesses at the first places, in the same order.

    ``drop``: so many of them are left out, those with the earliest last access.
    """
    mask = len(larger) - 1
    for row in range(len(table)):
        rank = marks_before(bits, tree, table[row, _PLACE] - 1) if table[row, _PLACE] else 0
        if table[row, _PLACE] and rank >= drop:
            slot = np.int64((_mixed(table[row, _KEY]) >> np.uint64(8)) & np.uint64(mask))
            while larger[slot, _PLACE]:
                slot = (slot + 1) & mask
            larger[slot, _KEY], larger[slot, _LAST] = table[row, _KEY], table[row, _LAST]
            larger[slot, _WINDOW] = table[row, _WINDOW]
            larger[slot, _PLACE] = rank - drop + 1


def hashes(keys: Keys) -> npt.NDArray[np.uint32]:
    """The hash of each key, below 2^HASH_BITS; a page is sampled if it is below the threshold."""
    found = np.empty(len(keys), np.uint32)
    _hashes(keys, found)
    return found


class DistinctPages:
    """Distinct pages of a trace, or a sample of them: the threshold is halved while there are more than ``most``.

    ``most``: a power of two, at least 512.
    """

    def __init__(self, most: int) -> None:
        self._most, self.threshold = most, EVERY_PAGE
        self._table, self._count = np.zeros((1 << 10, 2), np.int64), np.zeros(1, np.int64)

    def add(self, keys: Keys) -> None:
        """More accesses of the trace."""
        done = 0
        while (done := _collect(keys, done, self.threshold, self._table, self._count)) < len(keys):
            known = self.keys()
            size = len(self._table)
            if int(self._count[0]) >= self._most and self.threshold > 1:
                self.threshold //= 2
                known = known[hashes(known) < self.threshold]
            else:
                size *= 2
            self._table, self._count = np.zeros((size, 2), np.int64), np.zeros(1, np.int64)
            _collect(known, 0, self.threshold, self._table, self._count)

    def keys(self) -> Keys:
        """The pages that were found."""
        return self._table[self._table[:, 1] > 0, 0]

    @property
    def rate(self) -> float:
        """The share of all pages that is in the sample; 1: all are."""
        return self.threshold / EVERY_PAGE


class ReuseTracker:
    """Reuse distances of a stream of accesses.

    ``distances[d]``: accesses of reuse distance d; ``gaps[k]``: of 2^k to 2^(k+1) - 1 accesses since the last to the
    page; ``working[w]``: distinct pages accessed in window w. Windows are numbered from 0 and don't go back.
    ``most``: only so many pages need be remembered; then distances and gaps up to that are exact, and nothing else is.
    """

    def __init__(self, windows: int, most: int | None = None) -> None:
        self._most = most
        self._table = np.zeros((1 << 10, 4), np.int64)
        self._state = np.zeros(2, np.int64)
        self._bits, self._tree = marked_places(1 << 11)
        self.distances = np.zeros(1 << 10, np.int64)
        self.gaps = np.zeros(GAP_BINS, np.int64)
        self.working = np.zeros(windows, np.int64)

    def follow(self, keys: Keys, numbers: Counts, windows: Counts) -> None:
        """More accesses: pages, the numbers of the accesses in the trace, and their windows."""
        done = 0
        while True:
            done = _follow(
                keys, numbers, windows, done, self._table, self._bits, self._tree, self.distances, self.gaps,
                self.working, self._state,
            )  # fmt: skip
            if done == len(keys):
                return
            self._make_room()

    @property
    def pages(self) -> int:
        """Distinct pages so far, or those that are remembered."""
        return int(self._state[_PAGES])

    def _make_room(self) -> None:
        """Grows what is full, forgets pages if it may, and moves the marks together."""
        drop = 0 if self._most is None else max(self.pages - self._most, 0)
        self._state[_PAGES] -= drop
        rows = len(self._table) * (2 if 4 * self.pages >= len(self._table) else 1)
        table = np.zeros((rows, 4), np.int64)
        _moved(self._table, self._bits, self._tree, drop, table)
        self._table = table
        self._bits, self._tree = marked_places(max(2 * rows, 1 << 11), self.pages)
        self._state[_NEXT_PLACE] = self.pages
        if self.pages + 2 >= len(self.distances):
            self.distances = np.concatenate((self.distances, np.zeros(len(self.distances), np.int64)))


def marked_places(count: int, marked: int = 0) -> tuple[npt.NDArray[np.uint64], Counts]:
    """A bitmap of so many places, a multiple of 64, the first of them marked, and its Fenwick tree."""
    flags = np.zeros(count, np.uint8)
    flags[:marked] = 1
    bits = np.packbits(flags, bitorder="little").view(np.uint64)
    sums = np.concatenate(([0], np.cumsum(flags.reshape(-1, 64).sum(axis=1, dtype=np.int64))))
    nodes = np.arange(len(sums))
    return bits, sums - sums[nodes & (nodes - 1)] * (nodes > 0)
