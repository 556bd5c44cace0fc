"""The registry of all random streams of a host: who draws from which blocks of the generator.

A block of Philox (hostsim.engine.philox) has a counter of four 32-bit words: its number, a tick, a host and a guest.
The host's word is its number. The other two say what the block is for, so that no two uses share a block:

* guest: the number of a guest, below 2^24, plus one of :class:`Source`, plus the part of a sample (2^27 each). The swap
  device, which is nobody's, counts down from 2^32 - 1 with the part; below it each
  kind of device for files.
* tick: a tick of the run, below 2^31, or one of :class:`Purpose` for what is drawn once or without regard to ticks.

Which page tables a sample has is drawn by numpy's Philox, whose words have 64 bits: a generator of its own.
"""

from __future__ import annotations

from enum import IntEnum

GUESTS = 1 << 24  # of a host
PARTS = 4  # of a sample
FILE_DEVICES = 8  # kinds of devices for files, at most
_PART = 1 << 27

SAMPLE_STARTS = 1  # in the second word of the counter of numpy's Philox


class Source(IntEnum):
    """Who draws for a guest: a range of guest words."""

    ACCESSES = 0  # to its memory; also all that happens to it with a probability
    SLOW_DEVICE = 1 << 24
    NUMA_ZAP = 2 << 24
    FAST_DEVICE = 3 << 24
    DAMON = 4 << 24
    FILE = 1 << 31
    SWAP_DEVICE = (1 << 32) - PARTS
    FILE_DEVICE = (1 << 32) - (1 + FILE_DEVICES) * PARTS


class Purpose(IntEnum):
    """What is drawn without regard to ticks: a tick word that no run reaches."""

    PAGE_ORDER = 0xFFFFFFFF  # which page has which rank
    CHANCE = 0xFFFFFFFE  # a contended lock, a race of aging (hostsim.engine.philox.happens)
    NO_AD = 0xFFFFFFFD  # pages whose SPTEs have no A/D bits
    MANY_SPTES = 0xFFFFFFFC  # pages that are mapped several times
    ACCESS = 0xFFFFFFFB  # what becomes of an access: a TLB hides it, a race loses its Accessed bit
    PAGE_SIZE = 0xFFFFFFFA  # how small zram makes a page
    TRACE_START = 0xFFFFFFF9  # where in a trace a guest begins
    BURST = 0xFFFFFFF8  # in which tick of each period a guest has its burst
    SCHEDULER = 0xFFFFFFF7  # what the scheduler decides


def guest_word(source: Source, guest: int = 0, part: int = 0) -> int:
    """The guest word of a source's blocks. ``guest``: of devices for files their kind. ``part``: of a sample, or 0.

    Raises ValueError outside the ranges.
    """
    if not (0 <= guest < GUESTS and 0 <= part < PARTS):
        raise ValueError(f"guest {guest}, part {part}: there are {GUESTS} guests and {PARTS} parts at most")
    if source == Source.SWAP_DEVICE:
        return source + PARTS - 1 - part
    if source == Source.FILE_DEVICE:
        return source + part * FILE_DEVICES + guest
    return source + part * _PART + guest
