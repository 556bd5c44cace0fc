"""The "mix" schedules: L1 and L2 of one VM touch different, overlapping parts of its memory.

60 % of the pages are L1's alone, 20 % L2's alone, 20 % both touch. Each level has its own hot set. A list entry
carries bit 31 where L2 makes the access.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.engine.state import ACCESS_L2
from coldfleet.hostsim.spec.host_spec import MIX_WORKLOADS
from coldfleet.hostsim.workload.schedule import below, shuffle, zipf_rank, zipf_weights

PREFIX = "mix-"  # of their names among all recorded workloads
WORKLOADS = tuple(name.removeprefix(PREFIX) for name in MIX_WORKLOADS)
L2_PERCENT = 25  # of the accesses
L1_ONLY_PERCENT = 60  # of the pages, in the order of the permutation
NOT_L2_ONLY_PERCENT = 80  # from here on both levels touch a page


@dataclass(frozen=True)
class MixSchedule:
    """``rounds`` lists of ``accesses`` accesses by L1 and L2 to a memory of ``pages`` pages."""

    workload: str
    pages: int
    accesses: int
    rounds: int
    seed: int
    layout: str = "perm"

    def first_writes(self) -> npt.NDArray[np.uint32]:
        """Round 0: every page in order, L2's own pages by L2."""
        perm, l1_only, l2_end, _ = self._permutation()
        writes = np.arange(self.pages, dtype=np.uint32)
        writes[perm[l1_only:l2_end]] |= np.uint32(ACCESS_L2)
        return writes

    def lists(self) -> npt.NDArray[np.uint32]:
        """The accesses, uint32 (rounds, accesses): page numbers, bit 31 for L2."""
        perm, l1_only, l2_end, state = self._permutation()
        by_l1 = np.concatenate([perm[:l1_only], perm[l2_end:]])
        by_l2 = perm[l1_only:].copy()
        shuffle(state, by_l1)
        shuffle(state, by_l2)
        out = np.empty((self.rounds, self.accesses), np.uint32)
        _fill(out, WORKLOADS.index(self.workload), state, by_l1, by_l2, zipf_weights(self.pages))
        return out

    def _permutation(self) -> tuple[npt.NDArray[np.uint32], int, int, npt.NDArray[np.uint64]]:
        state = np.array([self.seed], np.uint64)
        perm = np.arange(self.pages, dtype=np.uint32)
        if self.layout == "perm":
            shuffle(state, perm)
        return perm, self.pages * L1_ONLY_PERCENT // 100, self.pages * NOT_L2_ONLY_PERCENT // 100, state


@compiled
def _fill(
    out: npt.NDArray[np.uint32],
    kind: int,
    state: npt.NDArray[np.uint64],
    by_l1: npt.NDArray[np.uint32],
    by_l2: npt.NDArray[np.uint32],
    weights: npt.NDArray[np.uint64],
) -> None:
    for r in range(out.shape[0]):
        for i in range(out.shape[1]):
            level2 = below(state, 100) < L2_PERCENT
            pages = by_l2 if level2 else by_l1
            n = len(pages)
            hot = n // 5
            if kind == 1:
                rank = zipf_rank(state, weights, n)
            elif below(state, 10) < 8:
                rank = below(state, hot)
            else:
                rank = hot + below(state, n - hot)
            out[r, i] = pages[rank] | np.uint32(ACCESS_L2) if level2 else pages[rank]
