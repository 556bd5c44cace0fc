"""A guest that follows a trace: its accesses in order, over and over, from a start of the guest's own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.engine.philox import random_blocks
from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_PAGE, ACCESS_WRITE
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import GuestSpec
from coldfleet.hostsim.spec.units import whole_mib
from coldfleet.hostsim.workload.levels import L2_ONLY, SHARED, find_levels
from coldfleet.hostsim.workload.schedule import FNV_PRIME
from coldfleet.hostsim.workload.streams import BLOCK, Drawn, MemoryStream, memory_accesses
from coldfleet.hostsim.workload.trace_data import SLOTS, WRITE_UNKNOWN, load_trace

_SCALE = 1 << 32  # shares are compared with 32-bit random numbers


class TraceStream(MemoryStream):
    """The accesses of a guest that follows a trace, tick by tick.

    ``paced``: a tick has the accesses of a stretch of the trace's time, so that bursts stay bursts; the trace is
    stretched so that ticks have as many as the guest makes on average. Else each tick has as many.
    """

    def __init__(
        self, spec: GuestSpec, *, seed: int, replicate: int, host: int, guest: int, paced: bool = False
    ) -> None:
        super().__init__(spec, seed=seed, replicate=replicate, host=host, guest=guest)
        assert spec.workload.file is not None
        self.trace = load_trace(spec.workload.file)
        check_fits(self.trace.pages, spec.memory_pages)
        self.levels = find_levels(spec, self.page_order(), self.trace.counts.astype(np.float64), self.trace.processes)
        self.split_pages(self.levels.of)
        self._pace = self.trace.pace if paced else None
        self._each = memory_accesses(spec)
        self._start = self.start_share()

    def accesses_in(self, tick: int) -> int:
        """How many accesses a tick has."""
        before, after = self._before(tick, 2)
        return int(after - before)

    def draw_ticks(self, first: int, ticks: int) -> Drawn:
        """The accesses of so many ticks; L2 runs in all of them or in none."""
        bounds = self._before(first, ticks + 1)
        ends = bounds[1:] - bounds[0]
        drawn = Drawn(np.empty(ends[-1], np.uint32), ends, np.empty(ticks, np.uint64))
        levels = self.levels.of if self.l2_runs(first) else self.levels.of[:0]
        _follow(
            *drawn,
            self.digest,
            self.key,
            self.counter,
            first,
            self.trace.accesses,
            int(bounds[0] % len(self.trace.accesses)),
            levels,
            int(self.levels.share * _SCALE),
            int(self.spec.workload.write_share * _SCALE),
            np.empty((4, BLOCK), np.uint32),
        )
        self.digest = drawn.digests[-1]
        return drawn

    def _before(self, first: int, ticks: int) -> npt.NDArray[np.int64]:
        """Accesses of the trace, counted on through its repetitions, before each of these ticks."""
        length = len(self.trace.accesses)
        numbers = np.arange(first - 1, first - 1 + ticks, dtype=np.int64)
        if self._pace is None:
            return int(self._start * length) + numbers * self._each
        rounds, place = np.divmod(self._start + numbers * (self._each / length), 1.0)
        within = np.interp(place * SLOTS, np.arange(SLOTS + 1), self._pace)
        return rounds.astype(np.int64) * length + within.astype(np.int64)


def check_fits(pages: int, memory_pages: int) -> None:
    """Raises :class:`UserError` unless a trace of so many distinct pages fits into a guest's memory."""
    if pages > memory_pages:
        raise UserError(
            f"the trace has {pages:,} distinct pages, the guest {memory_pages:,}: give it {whole_mib(pages)} or more, "
            'or use kind = "clone", which is scaled to it'
        )


@compiled
def _follow(
    out: npt.NDArray[np.uint32],
    ends: npt.NDArray[np.int64],
    digests: npt.NDArray[np.uint64],
    digest: np.uint64,
    key: np.uint64,
    counter: tuple[np.uint64, np.uint64],
    first: int,
    accesses: npt.NDArray[np.uint32],
    position: int,
    levels: npt.NDArray[np.uint8],
    l2_share: int,
    write_share: int,
    numbers: npt.NDArray[np.uint32],
) -> None:
    """Fills ``out`` and ``digests`` for the ticks from ``first`` on, with the accesses from ``position`` on."""
    begin = 0
    random = (len(levels) > 0 and l2_share > 0) or write_share > 0
    for t in range(len(ends)):
        number_of = ends[t] - begin
        for i in range(number_of):
            access = accesses[position]
            position += 1
            if position == len(accesses):
                position = 0
            place = i & (BLOCK - 1)
            if random and place == 0:
                random_blocks(numbers, min(number_of - i, BLOCK), key, i, first + t, counter)
            if access & np.uint32(WRITE_UNKNOWN):
                access &= np.uint32(ACCESS_PAGE)
                if np.uint64(numbers[1, place]) < np.uint64(write_share):
                    access |= np.uint32(ACCESS_WRITE)
            if len(levels):
                level = levels[access & np.uint32(ACCESS_PAGE)]
                if level == L2_ONLY or (level == SHARED and np.uint64(numbers[0, place]) < np.uint64(l2_share)):
                    access |= np.uint32(ACCESS_L2)
            out[begin + i] = access
            digest = (digest ^ np.uint64(access)) * FNV_PRIME
        digests[t] = digest
        begin = ends[t]
