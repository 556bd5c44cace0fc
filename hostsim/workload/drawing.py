"""Draws accesses that don't depend on each other, and scans: the compiled part of hostsim.workload.streams.

Which page an access goes to depends on nothing but its random numbers, and the loops below have no branch that depends
on them: so the CPU looks up the pages of many accesses at a time, instead of waiting for each before it knows where the
next one is. Choices are made by arithmetic or by looking up one of four cases, that is whose pages (L1's or L2's) and
hot or cold.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled, inlined
from coldfleet.hostsim.engine.philox import random_blocks
from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_WRITE
from coldfleet.hostsim.spec.host_spec import DRAWN_KINDS
from coldfleet.hostsim.workload.schedule import FNV_PRIME

UNIFORM, ZIPF, HOTCOLD, SCAN, PHASES, HOTSCAN = range(len(DRAWN_KINDS))
SCALE = 1 << 32  # shares are compared with 32-bit random numbers
BLOCK = 1024  # accesses whose random numbers are made at a time
_32 = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_HOT, _COLD = range(2)

LEVEL = np.dtype(
    [
        ("offset", np.int64),  # where its pages begin among all
        ("pages", np.int64),  # how many it has, ...
        ("set", np.int64),  # ... and how many of them, from the first rank on, it accesses in this tick
        ("start", np.int64, (2,)),  # the first rank of the hot ones, and of the cold ones, ...
        ("ranks", np.int64, (2,)),  # ... and how many there are
        ("cursor", np.int64),  # how far its scan is
    ],
    align=True,
)
"""L1 or L2 of a guest."""


@compiled
def hash_accesses(digest: np.uint64, accesses: npt.NDArray[np.uint32]) -> np.uint64:
    """FNV-1a over the accesses, going on from an earlier digest."""
    for access in accesses:
        digest = (digest ^ np.uint64(access)) * FNV_PRIME
    return digest


@compiled
def draw_ticks(
    out: npt.NDArray[np.uint32],
    ends: npt.NDArray[np.int64],
    digests: npt.NDArray[np.uint64],
    digest: np.uint64,
    key: np.uint64,
    counter: tuple[np.uint64, np.uint64],
    first: int,
    kind: int,
    levels: npt.NDArray[np.void],
    pages: npt.NDArray[np.uint32],
    alias: npt.NDArray[np.uint64],
    l2_share: int,
    write_share: int,
    hot_access_share: int,
    hot_share: float,
    phase_ticks: int,
    set_shares: npt.NDArray[np.float64],
    numbers: npt.NDArray[np.uint32],
) -> None:
    """Fills ``out`` and ``digests`` for the ticks from ``first`` on, of which each has its share of the pages.

    ``levels``: LEVEL (2,), of L1 and L2; ``pages``: uint32, by rank, L1's and then L2's; ``alias``: uint64, the alias
    tables of both, if the ranks have weights. ``numbers``: uint32 (4, BLOCK), scratch for random numbers.
    """
    cold_share = hot_access_share if kind in (HOTCOLD, PHASES, HOTSCAN) else SCALE
    begin = 0
    for t in range(len(ends)):
        _begin_tick(levels, kind, first + t, set_shares[t], hot_share, phase_ticks)
        for place in range(begin, ends[t], BLOCK):
            count = min(ends[t] - place, BLOCK)
            random_blocks(numbers, count, key, place - begin, first + t, counter)
            block = out[place : place + count]
            if kind == ZIPF:
                digest = _draw_weighted(block, digest, numbers, levels, pages, alias, l2_share, write_share)
            elif kind in (SCAN, HOTSCAN):
                scan_share = 0 if kind == SCAN else cold_share
                digest = _draw_scan(block, digest, numbers, levels, pages, l2_share, write_share, scan_share)
            else:
                digest = _draw_even(block, digest, numbers, levels, pages, l2_share, write_share, cold_share)
        digests[t] = digest
        begin = ends[t]


@compiled
def _begin_tick(
    levels: npt.NDArray[np.void], kind: int, tick: int, set_share: float, hot_share: float, phase_ticks: int
) -> None:
    """Which ranks are hot in this tick, and which cold."""
    for level in levels:
        n = max(int(set_share * level.pages), 1)
        hot = n if kind == UNIFORM else min(max(int(hot_share * n), 1), n)
        cold_start = 0 if kind in (SCAN, PHASES) or hot == n else hot
        level.set = n
        level.start[_HOT] = (tick - 1) // phase_ticks * hot % n if kind == PHASES else 0
        level.ranks[_HOT] = hot
        level.start[_COLD], level.ranks[_COLD] = cold_start, n - cold_start


@inlined
def _scaled(number: np.uint32, bound: int) -> int:
    """A 32-bit random number scaled to 0 .. bound-1."""
    return np.int64((np.uint64(number) * np.uint64(bound)) >> _32)  # type: ignore[return-value]


@inlined
def _access(page: np.uint32, by_l2: np.int64, how: np.uint32, write_share: int) -> np.uint32:
    writes = np.uint64(how) < np.uint64(write_share)
    return page | np.uint32(by_l2 * ACCESS_L2) | np.uint32(writes * ACCESS_WRITE)


@compiled
def _draw_even(
    out: npt.NDArray[np.uint32],
    digest: np.uint64,
    numbers: npt.NDArray[np.uint32],
    levels: npt.NDArray[np.void],
    pages: npt.NDArray[np.uint32],
    l2_share: int,
    write_share: int,
    cold_share: int,
) -> np.uint64:
    """Hot and cold pages, all of each alike."""
    for i in range(len(out)):
        by_l2 = np.int64(np.uint64(numbers[0, i]) < np.uint64(l2_share))
        cold = np.int64(np.uint64(numbers[2, i]) >= np.uint64(cold_share))
        level = levels[by_l2]
        rank = level.start[cold] + _scaled(numbers[3, i], level.ranks[cold])
        rank -= level.set * np.int64(rank >= level.set)  # the hot ones of a phase may go on at the first rank
        access = _access(pages[np.uint64(level.offset + rank)], by_l2, numbers[1, i], write_share)
        out[i] = access
        digest = (digest ^ np.uint64(access)) * FNV_PRIME
    return digest


@compiled
def _draw_weighted(
    out: npt.NDArray[np.uint32],
    digest: np.uint64,
    numbers: npt.NDArray[np.uint32],
    levels: npt.NDArray[np.void],
    pages: npt.NDArray[np.uint32],
    alias: npt.NDArray[np.uint64],
    l2_share: int,
    write_share: int,
) -> np.uint64:
    """Ranks by their weights: hostsim.workload.alias."""
    for i in range(len(out)):
        by_l2 = np.int64(np.uint64(numbers[0, i]) < np.uint64(l2_share))
        level = levels[by_l2]
        column = _scaled(numbers[3, i], level.pages)
        entry = alias[np.uint64(level.offset + column)]
        other = np.int64(entry & _LOW)
        rank = other + (column - other) * np.int64(np.uint64(numbers[2, i]) < entry >> _32)
        if level.set < level.pages:
            rank = rank * level.set // level.pages
        access = _access(pages[np.uint64(level.offset + rank)], by_l2, numbers[1, i], write_share)
        out[i] = access
        digest = (digest ^ np.uint64(access)) * FNV_PRIME
    return digest


@compiled
def _draw_scan(
    out: npt.NDArray[np.uint32],
    digest: np.uint64,
    numbers: npt.NDArray[np.uint32],
    levels: npt.NDArray[np.void],
    pages: npt.NDArray[np.uint32],
    l2_share: int,
    write_share: int,
    cold_share: int,
) -> np.uint64:
    """Hot pages, all alike, and a scan of the cold ones."""
    for i in range(len(out)):
        by_l2 = np.int64(np.uint64(numbers[0, i]) < np.uint64(l2_share))
        level = levels[by_l2]
        if np.uint64(numbers[2, i]) >= np.uint64(cold_share):
            rank = level.start[_COLD] + level.cursor % level.ranks[_COLD]
            level.cursor += 1
        else:
            rank = _scaled(numbers[3, i], level.ranks[_HOT])
        access = _access(pages[np.uint64(level.offset + rank)], by_l2, numbers[1, i], write_share)
        out[i] = access
        digest = (digest ^ np.uint64(access)) * FNV_PRIME
    return digest
