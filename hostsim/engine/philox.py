"""Philox4x32-10: random numbers that are a function of a key and a counter, so that order never matters.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled, inlined
from coldfleet.hostsim.engine.state import Machine
from coldfleet.hostsim.engine.streams import Purpose

_M0 = np.uint64(0xD2511F53)
_M1 = np.uint64(0xCD9E8D57)
_W0 = np.uint64(0x9E3779B9)
_W1 = np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
ROUNDS = 10

CERTAIN = 1 << 32  # a probability of 1
_CHANCE = np.uint64(Purpose.CHANCE)


@inlined
def _rounds(
    key: np.uint64, c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    k0 = key & _LOW
    k1 = key >> _32
    for _ in range(ROUNDS):
        p0 = _M0 * c0
        p1 = _M1 * c2
        c0 = (p1 >> _32) ^ c1 ^ k0
        c1 = p1 & _LOW
        c2 = (p0 >> _32) ^ c3 ^ k1
        c3 = p0 & _LOW
        k0 = (k0 + _W0) & _LOW
        k1 = (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@compiled
def philox(
    key: np.uint64, c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Four independent 32-bit numbers (as uint64) for a 64-bit key and a counter of four 32-bit words."""
    return _rounds(key, c0, c1, c2, c3)


@compiled
def random_words(out: npt.NDArray[np.uint64], key: np.uint64, counter: tuple[np.uint64, np.uint64], tick: int) -> None:
    """Fills uint64 with random bits: element i from the block (i, tick, host, guest)."""
    for i in range(len(out)):
        a, b, _, _ = philox(key, np.uint64(i), np.uint64(tick), counter[0], counter[1])
        out[i] = a << _32 | b


@compiled
def random_blocks(
    out: npt.NDArray[np.uint32], count: int, key: np.uint64, first: int, tick: int, counter: tuple[np.uint64, np.uint64]
) -> None:
    """Fills ``count`` columns of uint32 (4, n) with the numbers of the blocks (first + i, tick, host, guest).

    Several at a time, by SIMD.
    """
    for i in range(count):
        a, b, c, d = _rounds(key, np.uint64(first + i), np.uint64(tick), counter[0], counter[1])
        out[0, i] = np.uint32(a)
        out[1, i] = np.uint32(b)
        out[2, i] = np.uint32(c)
        out[3, i] = np.uint32(d)


def study_key(seed: int, replicate: int) -> np.uint64:
    """The 64-bit key of one replicate of a study."""
    return np.uint64(np.random.SeedSequence((seed, replicate)).generate_state(1, np.uint64)[0])


@inlined
def happens(m: Machine, g: int, probability: int) -> bool:
    """Whether an event of this probability (CERTAIN: 1) happens now: a contended lock, a race.

    Each guest has its own sequence of blocks, numbered by what was drawn before for this guest.
    """
    vm = m.vms[g]
    vm.draws += 1
    block = np.uint64(vm.draws & 0xFFFFFFFF)
    number, _, _, _ = philox(vm.key, block, _CHANCE, np.uint64(vm.host), np.uint64(vm.guest))
    return number < np.uint64(probability)  # type: ignore[return-value]
