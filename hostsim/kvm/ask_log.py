"""What MGLRU asked about pages that somebody follows, and what it was told, ask by ask (hostsim.memory.watch)."""

from __future__ import annotations

import numpy as np
from numba import int64, uint64

from coldfleet.hostsim.engine.far_calls import apart
from coldfleet.hostsim.engine.jit import inlined, lowest_bit, popcount
from coldfleet.hostsim.engine.state import BIT_COLUMNS, MAPS_HUGE, WORDS_PER_TABLE, Machine

_ONE = np.uint64(1)


@inlined
def _is_huge(m: Machine, word: int) -> bool:
    return len(m.huge) != 0 and m.huge[word // WORDS_PER_TABLE] & MAPS_HUGE != 0


@apart(int64, uint64, int64, needed=lambda m: len(m.followed) != 0)
def note_ask(m: Machine, word: int, pages: np.uint64, site: int) -> None:
    """A site asks for these pages of a word: a row for each that is followed, with its bits as they are now.

    Whoever asks for a huge page asks for all of it, by its first page.
    """
    huge = _is_huge(m, word)
    for other in range(word, word + (WORDS_PER_TABLE if huge else 1)):
        followed = m.followed[other] if huge else pages & m.followed[word]
        while followed:
            bit = lowest_bit(followed)
            followed &= followed - _ONE
            number = m.node[0].asks
            m.node[0].asks += 1
            if number >= len(m.asks):
                continue  # whoever follows makes room, and checks the number
            ask = m.asks[number]
            ask.page = other * 64 + bit
            ask.site = site
            ask.huge = huge
            bits = np.int64(0)
            for column in range(BIT_COLUMNS):
                bits |= np.int64(m.bits[word, column] >> np.uint64(0 if huge else bit) & _ONE) << column
            ask.bits = bits
            ask.young = ask.fast = ask.failed = 0


@apart(int64, uint64, uint64, uint64, uint64, needed=lambda m: len(m.followed) != 0)
def note_answer(m: Machine, word: int, pages: np.uint64, young: np.uint64, fast: np.uint64, failed: np.uint64) -> None:
    """What the last ask, for these pages, was told."""
    asks = m.node[0].asks
    told = popcount(pages & m.followed[word])
    if _is_huge(m, word):
        told = 0
        for other in range(word, word + WORDS_PER_TABLE):
            told += popcount(m.followed[other])
    for number in range(asks - told, min(asks, len(m.asks))):
        ask = m.asks[number]
        bit = np.uint64(0 if ask.huge else ask.page & 63)
        ask.young = young >> bit & _ONE
        ask.fast = fast >> bit & _ONE
        ask.failed = failed >> bit & _ONE
