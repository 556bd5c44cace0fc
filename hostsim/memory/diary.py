"""What happens to some pages of a guest, and which pages it loses, written down access by access in compiled code.

Nothing but a fault (and what user space asks for) reclaims. So a guest's accesses are cut at those that fault, and the
pages are looked at in between; cutting doesn't change what happens.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled, lowest_bit
from coldfleet.hostsim.engine.state import (
    ACCESS_L2,
    ACCESS_PAGE,
    ANON,
    BIT_COLUMNS,
    PRESENT,
    SHADOW_MAPPED,
    SWAPCACHE,
    TDP_MAPPED,
    TOUCHED,
    Machine,
)
from coldfleet.hostsim.memory.access import access
from coldfleet.hostsim.mm.huge_pmd import folio_of, is_huge

LOOK = BIT_COLUMNS + 4  # bits of a page, its state, whether it has a shadow entry, whether it is in the swap cache, and
# whether it is part of a huge page, whose state it has then
# --- columns of Diary.looks ------------------------------------------------------------------------------
ACCESS = 0  # the number of the access in the course of which it happened
PLACE = 1  # of the page in Diary.rows
OLDEST = 2  # the oldest and the youngest generation after it, and the youngest before
YOUNGEST = 3
YOUNGEST_BEFORE = 4
BEFORE = 5  # LOOK columns each
AFTER = BEFORE + LOOK
# --- columns of Diary.gone: ACCESS, then ------------------------------------------------------------------
PAGE = 1
GONE_TOUCHED = 2
# --- places of Diary.counts -------------------------------------------------------------------------------
LOOKS = 0  # rows of looks that are filled
GONE = 1  # rows of gone
SEEN_YOUNGEST = 2  # the youngest generation when the pages were last looked at
FREED = 3  # what had been reclaimed when the words were remembered

_ONE = np.uint64(1)


class Diary(NamedTuple):
    """Arrays of int64, to be emptied by whoever reads them (``counts``).

    ``rows``: the followed pages, numbered over the host. ``last`` (pages, LOOK): how they looked last. ``looks``: a row
    each time one looks otherwise. ``gone``: a row for each page that the guest lost. ``asked``: the access in the
    course of which each row of Machine.asks was written. ``words``: uint64 (words of the guest, 2), PRESENT and TOUCHED
    before whatever is under way.
    """

    rows: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    looks: npt.NDArray[np.int64]
    gone: npt.NDArray[np.int64]
    asked: npt.NDArray[np.int64]
    words: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.int64]


def new_diary(rows: npt.NDArray[np.int64], pages: int, room: int) -> Diary:
    """An empty one for a guest with so many pages, with room for so many rows of looks and asks."""
    return Diary(
        rows=rows,
        last=np.zeros((len(rows), LOOK), np.int64),
        looks=np.zeros((room, AFTER + LOOK), np.int64),
        gone=np.zeros((2 * pages, 3), np.int64),
        asked=np.zeros(room, np.int64),
        words=np.zeros((-(-pages // 64), 2), np.uint64),
        counts=np.zeros(4, np.int64),
    )


@compiled
def look(m: Machine, d: Diary, g: int, number: int, tells: bool) -> None:
    """Looks at the pages; ``tells``: writes down those that look otherwise than last time."""
    lruvec = m.lruvecs[g]
    for place in range(len(d.rows)):
        page = d.rows[place]
        row = m.pages[folio_of(m, page)]
        changed = False
        told = d.counts[LOOKS]
        for column in range(LOOK):
            if column < BIT_COLUMNS:
                value = np.int64(m.bits[page >> 6, column] >> np.uint64(page & 63) & _ONE)
            elif column == BIT_COLUMNS:
                value = np.int64(row.state)
            elif column == BIT_COLUMNS + 1:
                value = np.int64(row.shadow != 0)
            elif column == BIT_COLUMNS + 2:
                value = np.int64(row.flags & SWAPCACHE)
            else:
                value = np.int64(is_huge(m, page))
            if tells:
                d.looks[told, BEFORE + column] = d.last[place, column]
                d.looks[told, AFTER + column] = value
            changed |= value != d.last[place, column]
            d.last[place, column] = value
        if tells and changed:
            d.looks[told, ACCESS] = number
            d.looks[told, PLACE] = place
            d.looks[told, OLDEST] = lruvec.min_seq[ANON]
            d.looks[told, YOUNGEST] = lruvec.max_seq
            d.looks[told, YOUNGEST_BEFORE] = d.counts[SEEN_YOUNGEST]
            d.counts[LOOKS] += 1
    d.counts[SEEN_YOUNGEST] = lruvec.max_seq


@compiled
def begin(m: Machine, d: Diary, g: int) -> None:
    """Remembers which pages the guest has, before something happens."""
    first = m.mms[g].first >> 6
    for word in range(len(d.words)):
        d.words[word, 0] = m.bits[first + word, PRESENT]
        d.words[word, 1] = m.bits[first + word, TOUCHED]
    d.counts[FREED] = m.events[g].pgsteal + m.events[g].damos_applied


@compiled
def end(m: Machine, d: Diary, g: int, number: int, asks: int) -> None:
    """Writes down what has happened since :func:`begin`; the asks from that row on are of it."""
    for row in range(asks, min(m.node[0].asks, len(d.asked))):
        d.asked[row] = number
    look(m, d, g, number, True)
    if d.counts[FREED] == m.events[g].pgsteal + m.events[g].damos_applied:
        return
    first = m.mms[g].first >> 6
    for word in range(len(d.words)):
        gone = d.words[word, 0] & ~m.bits[first + word, PRESENT]
        while gone:
            bit = lowest_bit(gone)
            gone &= gone - _ONE
            told = d.counts[GONE]
            d.gone[told, ACCESS] = number
            d.gone[told, PAGE] = 64 * word + bit
            d.gone[told, GONE_TOUCHED] = np.int64(d.words[word, 1] >> np.uint64(bit) & _ONE)
            d.counts[GONE] += 1


@compiled
def follow(m: Machine, d: Diary, g: int, accesses: npt.NDArray[np.uint32]) -> int:
    """The guest makes these accesses, or the first of them until there is little room left; returns how many."""
    start = 0
    while start < len(accesses):
        room = len(d.looks) - d.counts[LOOKS] >= len(d.rows) and len(d.gone) - d.counts[GONE] >= 64 * len(d.words)
        if not room or m.node[0].asks > len(m.asks) // 2:
            break
        fault = next_fault(m, g, accesses, start)
        if fault > start:  # these set Accessed bits, and nothing else
            access(m, g, accesses[start:fault])
            look(m, d, g, start, False)
        if fault < len(accesses):
            begin(m, d, g)
            asks = m.node[0].asks
            access(m, g, accesses[fault : fault + 1])
            end(m, d, g, fault, asks)
        start = min(fault + 1, len(accesses))
    return start


@compiled
def next_fault(m: Machine, g: int, accesses: npt.NDArray[np.uint32], start: int) -> int:
    """The number of the first access from ``start`` on that finds its page not mapped by the MMU that serves it."""
    mm = m.mms[g]
    for i in range(start, len(accesses)):
        access = accesses[i]
        page = mm.first + np.int64(access & ACCESS_PAGE)
        mapped = PRESENT
        if mm.notifiers:
            shadow = mm.tdp == 0 or (access & ACCESS_L2 != 0 and m.vms[g].l1_shadow_paging == 0)
            mapped = SHADOW_MAPPED if shadow else TDP_MAPPED
        if m.bits[page >> 6, mapped] >> np.uint64(page & 63) & np.uint64(1) == 0:
            return i
    return len(accesses)
