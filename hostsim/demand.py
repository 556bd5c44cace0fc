"""What a guest does in a tick, in batches of accesses: in replay all of it in that tick, on a clock as time allows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from hostsim.machine import HostMemory
from hostsim.scene import RecordedStream
from hostsim.state import ACCESS_L2
from hostsim.workloads import FileStream, GuestStream

Stream = GuestStream | RecordedStream


class Demand:
    """The accesses of one guest in the order of its streams. ``tick``: the one that it is in, its own, from 0.

    A guest that is short of time falls behind the host's ticks; what it does does not change, only when.
    ``batch``: accesses made at a time, 0: as many as there are. ``made``, ``made_by_l2``: accesses so far, of the full
    guest if this one is a sample. ``twin``: memory without limit, on which guest 0 makes the same accesses.
    """

    def __init__(
        self,
        memory: HostMemory,
        guest: int,
        stream: Stream,
        file: FileStream | None,
        batch: int = 0,
        twin: HostMemory | None = None,
    ) -> None:
        self.memory, self.guest, self.stream, self.file = memory, guest, stream, file
        self.batch, self.twin = batch, twin
        self.tick = -1
        self.made = self.made_by_l2 = 0.0
        self._batches: Iterator[float] = iter(())

    def take(self, until: int) -> float:
        """Makes the next batch of accesses, if it is of a tick up to ``until``; returns how many, 0: none is left.

        Those of a sample are counted as what they stand for.
        """
        while True:
            made = next(self._batches, 0.0)
            if made or self.tick == until:
                return made
            self.tick += 1
            self._batches = self._accesses_of(self.tick)

    def take_all(self, until: int) -> None:
        """Makes all accesses of the ticks up to ``until``."""
        while self.take(until):
            pass

    def _accesses_of(self, tick: int) -> Iterator[float]:
        """Tick 0 writes to all of the memory; the others follow the workload, memory first."""
        if tick and self.stream.l2_runs(tick - 1) and not self.stream.l2_runs(tick):
            self.memory.stop_nested(self.guest)
            if self.twin:
                self.twin.stop_nested(0)
        scale = _scale(self.stream)
        yield from self._make(self.stream.populate(tick), scale, scale)
        if not tick:
            return
        yield from self._make(self.stream.draw(tick), *_weights(self.stream, tick))
        if self.file:
            weight, _ = _weights(self.file.stream, tick)
            yield from self._make(self.file.draw(tick), weight, 0.0, to_file=True)

    def _make(
        self, accesses: npt.NDArray[np.uint32], weight: float, l2_weight: float, *, to_file: bool = False
    ) -> Iterator[float]:
        """The accesses in batches; a CPU switches to the guest before the first."""
        if len(accesses):
            self.memory.switch_to(self.guest)
        size = self.batch or max(len(accesses), 1)
        for start in range(0, len(accesses), size):
            batch = accesses[start : start + size]
            for memory, guest in ((self.memory, self.guest), (self.twin, 0)):
                if memory is not None and to_file:
                    memory.access_file(guest, batch)
                elif memory is not None:
                    memory.access(guest, batch)
            self.made += len(batch) * weight
            if l2_weight:
                self.made_by_l2 += int((batch >= ACCESS_L2).sum()) * l2_weight
            yield len(batch) * weight


def _scale(stream: Stream) -> float:
    """Pages that a page of a stream's guest stands for."""
    if isinstance(stream, GuestStream):
        return stream.full.memory_pages / stream.spec.memory_pages
    return 1.0


def _weights(stream: Stream, tick: int) -> tuple[float, float]:
    """Accesses that one of the stream's stands for: any, and one of L2's."""
    if isinstance(stream, GuestStream) and stream.spec.sample:
        thinned = stream.thinned(tick)
        return thinned.weight, thinned.l2_weight
    return 1.0, 1.0
