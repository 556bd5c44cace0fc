"""The recordings' access schedules, bit for bit: which page a real kernel's guest touched, in order.

The rules are those of the recorder (tests/recordings/README.md): splitmix64, Fisher-Yates, and one list
of accesses a round. The FNV-1a hash of a list proves that it is the one that the recorder used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.spec.host_spec import RECORDED_LAYOUTS, RECORDED_WORKLOADS

WORKLOADS, LAYOUTS = RECORDED_WORKLOADS, RECORDED_LAYOUTS
ZIPF_SCALE = 1 << 32  # weight of rank 0

FNV_OFFSET = np.uint64(0xCBF29CE484222325)
FNV_PRIME = np.uint64(0x100000001B3)

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True)
class Schedule:
    """``rounds`` lists of ``accesses`` accesses to a memory of ``pages`` pages."""

    workload: str
    pages: int
    accesses: int
    rounds: int
    seed: int
    layout: str = "perm"

    def lists(self) -> npt.NDArray[np.uint32]:
        """The accesses, uint32 (rounds, accesses): page numbers."""
        state = np.array([self.seed], np.uint64)
        perm = np.arange(self.pages, dtype=np.uint32)
        if self.layout == "perm":
            shuffle(state, perm)
        kind = WORKLOADS.index(self.workload)
        lists = np.empty((self.rounds, self.accesses), np.uint32)
        _fill(lists, kind, state, perm, zipf_weights(self.pages))
        return lists


def zipf_weights(pages: int) -> npt.NDArray[np.uint64]:
    """Running sums of floor(2^32 / (rank + 1)): cumulative weights of the ranks."""
    return np.cumsum(np.uint64(ZIPF_SCALE) // np.arange(1, pages + 1, dtype=np.uint64))


@compiled
def fnv1a(values: npt.NDArray[np.uint32]) -> np.uint64:
    """FNV-1a, 64 bits, over whole values (a page number is one step)."""
    digest = FNV_OFFSET
    for value in values:
        digest = (digest ^ np.uint64(value)) * FNV_PRIME
    return digest


@compiled
def splitmix64(state: npt.NDArray[np.uint64]) -> np.uint64:
    """The next number of the generator whose state is ``state[0]``."""
    state[0] += _GAMMA
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@compiled
def below(state: npt.NDArray[np.uint64], bound: int) -> Any:
    """The next number modulo ``bound``."""
    return np.int64(splitmix64(state) % np.uint64(bound))


@compiled
def shuffle(state: npt.NDArray[np.uint64], pages: npt.NDArray[np.uint32]) -> None:
    """Fisher-Yates, from the end."""
    for i in range(len(pages) - 1, 0, -1):
        j = below(state, i + 1)
        pages[i], pages[j] = pages[j], pages[i]


@compiled
def zipf_rank(state: npt.NDArray[np.uint64], weights: npt.NDArray[np.uint64], ranks: int) -> int:
    """The smallest rank whose running weight is above a random number below the sum of ``ranks`` ranks."""
    r = splitmix64(state) % weights[ranks - 1]
    return np.searchsorted(weights[:ranks], r, side="right")


@compiled
def _fill(
    out: npt.NDArray[np.uint32],
    kind: int,
    state: npt.NDArray[np.uint64],
    perm: npt.NDArray[np.uint32],
    weights: npt.NDArray[np.uint64],
) -> None:
    n = len(perm)
    hot = n // 5
    window = n // 4
    cursor = 0
    rounds, accesses = out.shape
    for r in range(rounds):
        base = r // 6 * window % n
        for i in range(accesses):
            if kind == 0:  # hotcold
                rank = below(state, hot) if below(state, 10) < 8 else hot + below(state, n - hot)
            elif kind == 1:  # zipf
                rank = zipf_rank(state, weights, n)
            elif kind == 2:  # uniform
                rank = below(state, n)
            elif kind == 3:  # scan
                rank = cursor % n
                cursor += 1
            elif kind == 4:  # phase
                rank = (base + below(state, window)) % n if below(state, 10) < 9 else below(state, n)
            elif kind == 5:  # hotscan
                if below(state, 2):
                    rank = below(state, hot)
                else:
                    rank = hot + cursor % (n - hot)
                    cursor += 1
            elif kind == 6:  # hotonly
                rank = below(state, window)
            else:  # fixed
                rank = i * n // 4 // accesses
            out[r, i] = perm[rank]
