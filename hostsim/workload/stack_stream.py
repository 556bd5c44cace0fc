"""Guests whose accesses have the locality of an LRU stack: a model with two figures, or the clone of a trace."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.spec.host_spec import GuestSpec, WorkloadSpec
from coldfleet.hostsim.workload.clone import QUANTILES, likeness_of
from coldfleet.hostsim.workload.levels import find_levels
from coldfleet.hostsim.workload.lru_stack import BLOCK, Depths, draw_by_depth, new_stack
from coldfleet.hostsim.workload.streams import Drawn, MemoryStream, memory_accesses

_SCALE = 1 << 32  # shares are compared with 32-bit random numbers
_FINEST = 1 << 20  # parts of the memory that a model knows


class StackStream(MemoryStream):
    """The accesses of one guest, drawn by their depth in the LRU stack of its pages."""

    def __init__(self, spec: GuestSpec, *, seed: int, replicate: int, host: int, guest: int) -> None:
        super().__init__(spec, seed=seed, replicate=replicate, host=host, guest=guest)
        load, pages = spec.workload, spec.memory_pages
        order = self.page_order()
        self._each = memory_accesses(spec)
        self._write_shares = np.full(1, load.write_share)
        processes = None
        if load.kind == "clone":
            assert load.file is not None
            like = likeness_of(load.file)
            at = np.arange(pages + 1) * (like.pages / pages)
            rates = np.diff(np.interp(at, np.arange(like.pages + 1), like.below)) / like.accesses
            original = ((at[:-1] + at[1:]) / 2).astype(np.int64)
            processes = like.processes[original]
            self._write_shares = np.where(like.writes < 0, load.write_share, like.writes)[original]
            self._depths = Depths(like.depths, float(like.pages), max(round(like.accesses * pages / like.pages), 1))
            self._start = self.start_share()
            # who is accessed next for the first time in this round lies at the bottom
            bottom_first = np.argsort((like.first[original] - self._start) % 1.0, kind="stable").astype(np.uint32)
        else:
            rates = np.zeros(0)
            self._depths, self._start = _model(load), 0.0
            bottom_first = order
        self._stack = new_stack(bottom_first, rates, self._depths, self._start)
        self.levels = find_levels(spec, order, rates if len(rates) else np.ones(pages), processes)
        self.split_pages(self.levels.of)

    def accesses_in(self, tick: int) -> int:
        """How many accesses a tick has."""
        return self._each

    def draw_ticks(self, first: int, ticks: int) -> Drawn:
        """The accesses of so many ticks; the next ones each time, L2 runs in all of them or in none."""
        ends = np.arange(1, ticks + 1, dtype=np.int64) * self._each
        drawn = Drawn(np.empty(ends[-1], np.uint32), ends, np.empty(ticks, np.uint64))
        period = self._depths.period
        draw_by_depth(
            *drawn,
            self.digest,
            self.key,
            self.counter,
            first,
            self._stack,
            self._depths,
            (int(self._start * period) + (first - 1) * self._each) % period,
            self.levels.of if self.l2_runs(first) else self.levels.of[:0],
            int(self.levels.share * _SCALE),
            (self._write_shares * _SCALE).astype(np.uint64),
            np.empty((4, BLOCK), np.uint32),
        )
        self.digest = drawn.digests[-1]
        return drawn


def _model(load: WorkloadSpec) -> Depths:
    """Depths of which a share x of the pages holds x^theta of all, so that ``hot_share`` holds ``hot_access_share``."""
    quantiles = (np.arange(64 * QUANTILES) + 0.5) / (64 * QUANTILES)
    if not 0 < load.hot_share < 1 or not 0 < load.hot_access_share < 1:
        shares = quantiles * (load.hot_share if load.hot_access_share == 1 else 1.0)
    else:
        shares = quantiles ** (math.log(load.hot_share) / math.log(load.hot_access_share))
    table: npt.NDArray[np.uint32] = np.ceil(shares * _FINEST).clip(1).astype(np.uint32)
    return Depths(table.reshape(1, -1), float(_FINEST), 1)
