"""What a guest does in a tick, in batches of accesses: in replay all of it in that tick, on a clock as time allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from hostsim.machine import HostMemory
from hostsim.scene import RecordedStream
from hostsim.workloads import FileStream, GuestStream

Stream = GuestStream | RecordedStream
_Make = Callable[[int, npt.NDArray[np.uint32]], None]


class Demand:
    """The accesses of one guest in the order of its streams. ``tick``: the one that it is in, its own, from 0.

    A guest that is short of time falls behind the host's ticks; what it does does not change, only when.
    """

    def __init__(self, memory: HostMemory, guest: int, stream: Stream, file: FileStream | None, batch: int = 0) -> None:
        self.memory, self.guest, self.stream, self.file = memory, guest, stream, file
        self.batch = batch
        self.tick = -1
        self._batches: Iterator[int] = iter(())

    def take(self, until: int) -> int:
        """Makes the next batch of accesses, if it is of a tick up to ``until``; returns how many, 0: none is left."""
        while True:
            made = next(self._batches, 0)
            if made or self.tick == until:
                return made
            self.tick += 1
            self._batches = self._accesses_of(self.tick)

    def take_all(self, until: int) -> None:
        """Makes all accesses of the ticks up to ``until``."""
        while self.take(until):
            pass

    def _accesses_of(self, tick: int) -> Iterator[int]:
        """Tick 0 writes to all of the memory; the others follow the workload, memory first."""
        memory, g = self.memory, self.guest
        if tick and self.stream.l2_runs(tick - 1) and not self.stream.l2_runs(tick):
            memory.stop_nested(g)
        yield from self._make(self.stream.populate(tick), memory.access)
        if not tick:
            return
        yield from self._make(self.stream.draw(tick), memory.access)
        if self.file:
            yield from self._make(self.file.draw(tick), memory.access_file)

    def _make(self, accesses: npt.NDArray[np.uint32], make: _Make) -> Iterator[int]:
        """The accesses in batches; a CPU switches to the guest before the first."""
        size = self.batch or max(len(accesses), 1)
        if len(accesses):
            self.memory.switch_to(self.guest)
        for start in range(0, len(accesses), size):
            batch = accesses[start : start + size]
            make(self.guest, batch)
            yield len(batch)
