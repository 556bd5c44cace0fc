"""What no recording tells and the kernel doesn't repeat, drawn: the scheduler's decisions, and what else was going on.

Beside hostsim.mm.scheduler that is:

* DAMON_STAT, which 7.3 is built with: a kdamond that samples pages of the whole machine and clears their Accessed bits.
  Its parameters are public: 10 to 1,000 regions, of each of which it takes a page in every sampling interval, 5 ms to
  10 s, which it tunes so that 4 % of the samples are accesses. Where that has come to when a recording begins is drawn.
* The TLB's size when a recording begins (hostsim.replay.tlb), which those before it have left behind.
* Free pages parked on per-CPU lists.

Recordings have no times. How long an access and a fault take on the emulated machine is assumed; so is how much there
is of the rest.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.philox import random_words
from coldfleet.hostsim.engine.state import MAPS_HUGE, PRIMARY, PTRS_PER_PTE, TDP, WORDS_PER_TABLE
from coldfleet.hostsim.engine.streams import Source, guest_word
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.monitors.damon import prepare
from coldfleet.hostsim.replay.tlb import USUAL_ENTRIES

MACHINE_PAGES = 3 << 18  # the recorder's machine has 3 GiB
REGIONS = (10.0, 1000.0)
SAMPLE_NS = (100e6, 2e9)  # where the interval ends up while a recording runs
ACCESS_NS = {"process": 100.0, "guest": 2_000.0}
FAULT_NS = {"process": 20_000.0, "guest": 200_000.0}
AT_ONCE = 256  # accesses between two looks at the time
MOST_PARKED = 1000  # free pages on per-CPU lists
TLB_SIZES = 6  # that the TLB may have when a recording begins: 256 to 8,192 entries


class Luck:
    """A run's own; ``key`` (philox.study_key) names its random numbers."""

    def __init__(self, memory: HostMemory, key: np.uint64, damon_stat: bool) -> None:
        self.memory, self.key, self.drawn = memory, key, 0
        guests = len(memory.machine.mms)
        memory.draw_scheduler(key, 0, range(guests))
        self.faults = [0] * guests
        self.damon_stat = damon_stat
        self.interval_ns = _between(SAMPLE_NS, self._random(1)[0])
        self.left_ns = self.interval_ns * float(self._random(1)[0])
        if memory.has_watermarks:
            memory.machine.node[0]["free_pages"] -= int(self._random(1)[0] * MOST_PARKED)

    def tlb_entries(self) -> int:
        """How many entries the TLB has when the recording begins."""
        return USUAL_ENTRIES >> int(self._random(1)[0] * TLB_SIZES)

    def accessed(self, guest: int, accesses: int) -> None:
        """The guest has made so many accesses since the last call: time has gone by for kdamond."""
        if not self.damon_stat:
            return
        m = self.memory.machine
        who = "guest" if m.mms[guest]["notifiers"] else "process"
        faults = int(m.events[guest]["pgfault"])
        self.left_ns -= accesses * ACCESS_NS[who] + (faults - self.faults[guest]) * FAULT_NS[who]
        self.faults[guest] = faults
        while self.left_ns < 0:
            self._sample()
            self.left_ns += self.interval_ns

    def _sample(self) -> None:
        """A page of every region; guests and files have as many regions as their memory's part of the machine."""
        m = self.memory.machine
        regions = _between(REGIONS, self._random(1)[0])
        for guest, mm in enumerate(m.mms):
            for first, pages in ((mm["first"], mm["pages"]), (mm["file_first"], mm["file_pages"])):
                count = int(regions * pages / MACHINE_PAGES + self._random(1)[0])
                places = first + (self._random(count if pages else 0) * pages).astype(np.int64)
                prepare(m, np.full(len(places), guest, np.int64), places)
                self._sample_huge(places)

    def _sample_huge(self, places: npt.NDArray[np.int64]) -> None:
        """A huge page has one Accessed bit, in whichever part of it the sample is."""
        m = self.memory.machine
        for table in np.unique(places // PTRS_PER_PTE) if len(m.huge) else ():
            if m.huge[table] & MAPS_HUGE:
                m.bits[table * WORDS_PER_TABLE : (table + 1) * WORDS_PER_TABLE, (PRIMARY, TDP)] = 0

    def _random(self, count: int) -> npt.NDArray[np.float64]:
        """Numbers in [0, 1)."""
        words = np.empty(count, np.uint64)
        random_words(words, self.key, (np.uint64(0), np.uint64(guest_word(Source.DAMON))), self.drawn)
        self.drawn += 1
        return (words >> np.uint64(11)) / float(1 << 53)


def _between(ends: tuple[float, float], number: float) -> float:
    """Anything between two ends, by its order of magnitude."""
    low, high = (math.log(end) for end in ends)
    return math.exp(low + (high - low) * float(number))
