"""Guests whose accesses have the locality of an LRU stack: a model with two figures."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.spec.host_spec import GuestSpec, WorkloadSpec
from coldfleet.hostsim.workload.levels import find_levels
from coldfleet.hostsim.workload.lru_stack import BLOCK, Depths, draw_by_depth, new_stack
from coldfleet.hostsim.workload.streams import Drawn, MemoryStream, memory_accesses

_SCALE = 1 << 32  # shares are compared with 32-bit random numbers
_FINEST = 1 << 20  # parts of the memory that a model knows
_QUANTILES = 1 << 16


class StackStream(MemoryStream):
    """The accesses of one guest, drawn by their depth in the LRU stack of its pages."""

    def __init__(self, spec: GuestSpec, *, seed: int, replicate: int, host: int, guest: int) -> None:
        super().__init__(spec, seed=seed, replicate=replicate, host=host, guest=guest)
        order = self.page_order()
        self._each = memory_accesses(spec)
        self._depths = _model(spec.workload)
        self._stack = new_stack(order)
        self.levels = find_levels(spec, order, np.ones(spec.memory_pages), None)
        self.split_pages(self.levels.of)

    def accesses_in(self, tick: int) -> int:
        """How many accesses a tick has on average."""
        return self._each

    def draw_ticks(self, first: int, ticks: int) -> Drawn:
        """The accesses of so many ticks; the next ones each time, L2 runs in all of them or in none."""
        before = self.accesses_before(first, ticks + 1, self._each).astype(np.int64)
        ends = before[1:] - before[0]
        drawn = Drawn(np.empty(ends[-1], np.uint32), ends, np.empty(ticks, np.uint64))
        draw_by_depth(
            *drawn,
            self.digest,
            self.key,
            self.counter,
            first,
            self._stack,
            self._depths,
            self.levels.of if self.l2_runs(first) else self.levels.of[:0],
            int(self.levels.share * _SCALE),
            int(self.spec.workload.write_share * _SCALE),
            np.empty((4, BLOCK), np.uint32),
        )
        self.digest = drawn.digests[-1]
        return drawn


def _model(load: WorkloadSpec) -> Depths:
    """Depths of which a share x of the pages holds x^theta of all, so that ``hot_share`` holds ``hot_access_share``."""
    quantiles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    if not 0 < load.hot_share < 1 or not 0 < load.hot_access_share < 1:
        shares = quantiles * (load.hot_share if load.hot_access_share == 1 else 1.0)
    else:
        shares = quantiles ** (math.log(load.hot_share) / math.log(load.hot_access_share))
    table: npt.NDArray[np.uint32] = np.ceil(shares * _FINEST).clip(1).astype(np.uint32)
    return Depths(table, float(_FINEST))
