"""Which accesses of a trace, or of what is like one, are a nested VM's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import GuestSpec

L1_ONLY, SHARED, L2_ONLY = range(3)
"""Who accesses a page."""


class Levels(NamedTuple):
    """``of``: uint8, for each page of the guest who accesses it; empty: all are L1's. ``share``: of the accesses to
    SHARED pages that L2 makes, 0..1."""

    of: npt.NDArray[np.uint8]
    share: float


ALL_L1 = Levels(np.zeros(0, np.uint8), 0.0)


def find_levels(
    spec: GuestSpec,
    order: npt.NDArray[np.uint32],
    accesses: npt.NDArray[np.float64],
    processes: npt.NDArray[np.int64] | None,
) -> Levels:
    """Who accesses the pages of a nested guest.

    ``order``: of its pages, the first are exposed to L2. ``accesses``: to each page, in any unit. ``processes``: whose
    page each is in a trace. If the workload names L2's process, its pages are L2's, and all others L1's. Else the
    shares of NestedSpec hold: pages that only L2 touches are L2's, and of the accesses to the other exposed pages as
    many as make ``access_share`` of all, or come nearest to it.
    """
    if spec.nested is None:
        return ALL_L1
    levels = np.zeros(spec.memory_pages, np.uint8)
    if processes is not None and spec.workload.l2_process >= 0:
        levels[: len(processes)][processes == spec.workload.l2_process] = L2_ONLY
        if not levels.any():
            raise UserError(f"no process {spec.workload.l2_process} in the trace, whose accesses were to be L2's")
        return Levels(levels, 0.0)
    levels[order[: round(spec.nested.exposed_share * spec.memory_pages)]] = SHARED
    levels[order[: round(spec.nested.l2_only_share * spec.memory_pages)]] = L2_ONLY
    of = np.bincount(levels[: len(accesses)], accesses, L2_ONLY + 1)
    missing = spec.nested.access_share * of.sum() - of[L2_ONLY]
    return Levels(levels, float(np.clip(missing / of[SHARED], 0, 1)) if of[SHARED] else 0.0)
