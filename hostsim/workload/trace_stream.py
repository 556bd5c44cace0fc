"""A guest that follows a trace, or a stretched one: its accesses in order, over and over, from a start of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.engine.philox import random_blocks
from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_PAGE, ACCESS_WRITE
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import GuestSpec
from coldfleet.hostsim.spec.units import whole_mib
from coldfleet.hostsim.workload.drawing import BLOCK
from coldfleet.hostsim.workload.levels import L2_ONLY, SHARED, find_levels
from coldfleet.hostsim.workload.schedule import FNV_PRIME
from coldfleet.hostsim.workload.streams import Drawn, MemoryStream, memory_accesses
from coldfleet.hostsim.workload.stretch import first_pages, scale_of
from coldfleet.hostsim.workload.trace_data import SLOTS, WRITE_UNKNOWN, load_trace

_SCALE = 1 << 32  # shares are compared with 32-bit random numbers


class TraceStream(MemoryStream):
    """The accesses of a guest that follows a trace, tick by tick, or one that is stretched to its memory (kind clone).

    ``paced``: a tick has the accesses of a stretch of the trace's time, so that bursts stay bursts; the trace is
    stretched so that ticks have as many as the guest makes on average. Else each tick has as many.
    """

    def __init__(
        self, spec: GuestSpec, *, seed: int, replicate: int, host: int, guest: int, paced: bool = False
    ) -> None:
        super().__init__(spec, seed=seed, replicate=replicate, host=host, guest=guest)
        assert spec.workload.file is not None
        trace = self.trace = load_trace(spec.workload.file)
        counts, scale = trace.counts, 1.0
        if spec.workload.kind == "clone":
            scale = scale_of(trace.pages, spec.memory_pages)
        check_fits(round(scale * trace.pages), spec.memory_pages)
        self._first = first_pages(trace, scale)
        copies = np.diff(self._first)
        self._round = int(counts @ copies)
        of = np.repeat(np.arange(trace.pages), copies)
        self.levels = find_levels(spec, self.page_order(), counts[of].astype(np.float64), trace.processes[of])
        self.split_pages(self.levels.of)
        self._pace = trace.pace * (self._round / len(trace.accesses)) if paced and trace.pace is not None else None
        self._each = memory_accesses(spec)
        self._start = self.start_share()
        place = int(self._before(1, 1)[0]) % self._round
        self._position = np.array([place * len(trace.accesses) // self._round, 0])

    def accesses_in(self, tick: int) -> int:
        """How many accesses a tick has, or all on average."""
        before, after = self._before(tick, 2)
        return max(int(after - before), self._each)

    def draw_ticks(self, first: int, ticks: int) -> Drawn:
        """The accesses of so many ticks; the next ones each time, L2 runs in all of them or in none."""
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
            self._first,
            self._position,
            levels,
            int(self.levels.share * _SCALE),
            int(self.spec.workload.write_share * _SCALE),
            np.empty((4, BLOCK), np.uint32),
        )
        self.digest = drawn.digests[-1]
        return drawn

    def _before(self, first: int, ticks: int) -> npt.NDArray[np.int64]:
        """Accesses, counted on through the trace's repetitions, before each of these ticks."""
        made = self.accesses_before(first, ticks, self._each)
        if self._pace is None:
            return int(self._start * self._round) + made.astype(np.int64)
        rounds, place = np.divmod(self._start + made / self._round, 1.0)
        within = np.interp(place * SLOTS, np.arange(SLOTS + 1), self._pace)
        return rounds.astype(np.int64) * self._round + within.astype(np.int64)


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
    first_pages: npt.NDArray[np.int64],
    where: npt.NDArray[np.int64],
    levels: npt.NDArray[np.uint8],
    l2_share: int,
    write_share: int,
    numbers: npt.NDArray[np.uint32],
) -> None:
    """Fills ``out`` and ``digests`` for the ticks from ``first`` on.

    ``first_pages``: of each page of the trace, the first that stands for it. ``where``: the next access of the trace,
    and which of the pages that stand for its page is the next one; they are moved on.
    """
    begin = 0
    position, copy = where[0], where[1]
    random = (len(levels) > 0 and l2_share > 0) or write_share > 0
    for t in range(len(ends)):
        number_of = ends[t] - begin
        for i in range(number_of):
            while True:
                access = accesses[position]
                original = access & np.uint32(ACCESS_PAGE)
                page = first_pages[original] + copy
                copy += 1
                end = first_pages[original + np.uint32(1)]
                if page + 1 >= end:
                    copy = 0
                    position += 1
                    if position == len(accesses):
                        position = 0
                if page < end:
                    break
            place = i & (BLOCK - 1)
            if random and place == 0:
                random_blocks(numbers, min(number_of - i, BLOCK), key, i, first + t, counter)
            writes = access & np.uint32(ACCESS_WRITE)
            if access & np.uint32(WRITE_UNKNOWN) and np.uint64(numbers[1, place]) < np.uint64(write_share):
                writes = np.uint32(ACCESS_WRITE)
            access = np.uint32(page) | writes
            if len(levels):
                level = levels[page]
                if level == L2_ONLY or (level == SHARED and np.uint64(numbers[0, place]) < np.uint64(l2_share)):
                    access |= np.uint32(ACCESS_L2)
            out[begin + i] = access
            digest = (digest ^ np.uint64(access)) * FNV_PRIME
        digests[t] = digest
        begin = ends[t]
    where[0], where[1] = position, copy
