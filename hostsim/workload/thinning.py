"""Accesses to a sample of a guest's page tables: only those that fall into the sample are drawn.

A sample of n of N pages has every (N/n)-th rank of the workload, from a random start; its pages get them in the order
that the layout says ("shuffled": at random over all tables of the sample; "ordered": table by table). So hot sets and
scans keep their shares, and only Zipf's weights have to be taken from the full ranking.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.state import PTRS_PER_PTE
from coldfleet.hostsim.spec.host_spec import GuestSpec


@dataclass(frozen=True)
class Ranking:
    """The ``ranks`` of a workload, of which a sample has ``sampled``; ``start``: which, 0 <= start < 1.

    ``by_table``: neighbours in rank lie in one page table, so they are sampled together.
    """

    ranks: int
    sampled: int
    start: float
    by_table: bool

    def weights(self, skew: float) -> npt.NDArray[np.float64]:
        """Zipf's weight of each rank of the sample: (k+1)^-skew for its rank k among all."""
        return (self._full_ranks() + 1.0) ** -skew

    def share(self, zipf_skew: float | None) -> float:
        """The share of all accesses that goes to the sample; None: all pages alike, or almost."""
        if not self.sampled:
            return 0.0
        if zipf_skew is None:
            return self.sampled / self.ranks
        return _zipf_share(self, zipf_skew)

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


def thin(full: GuestSpec, accesses: int, l2_share: float, l1: Ranking, l2: Ranking) -> Thinned:
    """The accesses of a tick that fall into the sample, of ``accesses`` of the full guest."""
    skew = full.workload.skew if full.workload.kind == "zipf" else None
    if not l1.ranks:
        l2_share = 1.0
    by_l1 = accesses * (1 - l2_share) * l1.share(skew)
    by_l2 = accesses * l2_share * l2.share(skew)
    left = by_l1 + by_l2
    if not left:
        return Thinned(0.0, 0.0, 0.0, 0.0)
    return Thinned(left, by_l2 / left, accesses / left, accesses * l2_share / by_l2 if by_l2 else 0.0)


@lru_cache(maxsize=1024)
def _zipf_share(ranking: Ranking, skew: float) -> float:
    return float(ranking.weights(skew).sum() / _all_weights(ranking.ranks, skew))


@lru_cache(maxsize=64)
def _all_weights(ranks: int, skew: float) -> float:
    return float((np.arange(1, ranks + 1, dtype=np.float64) ** -skew).sum())
