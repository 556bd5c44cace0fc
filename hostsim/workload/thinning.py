"""Accesses to a sample of a guest's page tables: only those that fall into the sample are drawn.

A sample of n of N pages has every (N/n)-th rank of the workload, from a random start; its pages get them in the order
that the layout says ("shuffled": at random over all tables of the sample; "ordered": table by table). So hot sets and
scans keep their shares, and only the weights of Zipf and of profiles have to be taken from the full ranking.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.state import PTRS_PER_PTE
from coldfleet.hostsim.workload.heat_law import Law, weights_of


@dataclass(frozen=True)
class Ranking:
    """The ``ranks`` of a workload, of which a sample has ``sampled``; ``start``: which, 0 <= start < 1.

    ``by_table``: neighbours in rank lie in one page table, so they are sampled together.
    """

    ranks: int
    sampled: int
    start: float
    by_table: bool

    def weights(self, law: Law) -> npt.NDArray[np.float64]:
        """The weight of each rank of the sample by its rank among all."""
        return weights_of(law, self._full_ranks(), self.ranks)

    def share(self, law: Law | None) -> float:
        """The share of all accesses that goes to the sample; None: all pages alike, or almost."""
        if not self.sampled:
            return 0.0
        if law is None:
            return self.sampled / self.ranks
        return _weighted_share(self, law)

    def _full_ranks(self) -> npt.NDArray[np.float64]:
        numbers = np.arange(self.sampled, dtype=np.float64)
        if not self.by_table:
            return np.floor((numbers + self.start) * (self.ranks / self.sampled))
        tables, place = np.divmod(numbers, PTRS_PER_PTE)
        step = max(self.ranks / self.sampled, 1.0)
        full: npt.NDArray[np.float64] = np.floor((tables + self.start) * step) * PTRS_PER_PTE + place
        return np.minimum(full, self.ranks - 1)


@dataclass(frozen=True)
class Thinned:
    """What is left of a guest's accesses in a tick: how many, and the share of them that L2 makes.

    ``weight``: accesses of the guest for each of the sample's, ``l2_weight`` the same for L2's.
    """

    accesses: float
    l2_share: float
    weight: float
    l2_weight: float


def thin(law: Law | None, accesses: int, l2_share: float, l1: Ranking, l2: Ranking) -> Thinned:
    """The accesses of a tick that fall into the sample, of ``accesses`` of the full guest."""
    if not l1.ranks:
        l2_share = 1.0
    by_l1 = accesses * (1 - l2_share) * l1.share(law)
    by_l2 = accesses * l2_share * l2.share(law)
    left = by_l1 + by_l2
    if not left:
        return Thinned(0.0, 0.0, 0.0, 0.0)
    return Thinned(left, by_l2 / left, accesses / left, accesses * l2_share / by_l2 if by_l2 else 0.0)


@lru_cache(maxsize=1024)
def _weighted_share(ranking: Ranking, law: Law) -> float:
    return float(ranking.weights(law).sum() / _all_weights(ranking.ranks, law))


@lru_cache(maxsize=64)
def _all_weights(ranks: int, law: Law) -> float:
    return float(weights_of(law, np.arange(ranks, dtype=np.float64), ranks).sum())
