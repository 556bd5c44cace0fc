"""Weighted ranks in constant time: Walker's alias tables."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.workload.heat_law import Law
from coldfleet.hostsim.workload.thinning import Ranking

_SCALE = 1 << 32  # probabilities are compared with 32-bit random numbers
_32 = np.uint64(32)


@lru_cache(maxsize=64)
def alias_table(ranking: Ranking, law: Law) -> npt.NDArray[np.uint64]:
    """Walker's alias table of a ranking, uint64: threshold in the upper 32 bits, alias in the lower.

    Source: Walker 1977, in Vose's form (1991).
    """
    ranks = ranking.sampled
    weights = ranking.weights(law)
    if not weights.any():  # a sample of cold pages alone
        weights = np.ones(ranks)
    table = np.empty(ranks, np.uint64)
    _build_alias(weights * (ranks / weights.sum()), np.empty((2, ranks), np.int64), table)
    table.setflags(write=False)
    return table


@compiled
def _build_alias(
    scaled: npt.NDArray[np.float64], scratch: npt.NDArray[np.int64], table: npt.NDArray[np.uint64]
) -> None:
    n = len(scaled)
    small = scratch[0]
    large = scratch[1]
    small_count = large_count = 0
    for i in range(n):
        if scaled[i] < 1.0:
            small[small_count] = i
            small_count += 1
        else:
            large[large_count] = i
            large_count += 1
    full = np.uint64(_SCALE - 1)
    while small_count and large_count:
        small_count -= 1
        poor = small[small_count]
        rich = large[large_count - 1]
        table[poor] = np.uint64(scaled[poor] * _SCALE) << _32 | np.uint64(rich)
        scaled[rich] -= 1.0 - scaled[poor]
        if scaled[rich] < 1.0:
            large_count -= 1
            small[small_count] = rich
            small_count += 1
    for i in range(large_count):
        table[large[i]] = full << _32 | np.uint64(large[i])
    for i in range(small_count):
        table[small[i]] = full << _32 | np.uint64(small[i])
