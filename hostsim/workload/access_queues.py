"""The queues of accesses that a host's guests still have to make, in the order of their streams, made in batches.

In replay all accesses of a tick are made in that tick, on a clock as time allows: a guest that is short of time falls
behind the host's ticks. That changes when it makes its accesses, not which. Several ticks are drawn at a time, if
nothing but accesses happens in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.workload import batches
from coldfleet.hostsim.workload.batches import CHUNK, DRAW, NONE_LEFT, QUEUE, QueueState, batch_length, make_batch
from coldfleet.hostsim.workload.drawing import hash_accesses
from coldfleet.hostsim.workload.scenario import RecordedStream
from coldfleet.hostsim.workload.schedule import FNV_OFFSET
from coldfleet.hostsim.workload.streams import FileStream, GuestStream, MemoryStream

Stream = MemoryStream | RecordedStream

MOST_TICKS = 1024  # drawn at a time, ...
MOST_ACCESSES = 1 << 17  # ... unless they have more accesses than this


@dataclass(frozen=True)
class GuestSource:
    """Where a guest's accesses come from. ``life``: the ticks in which it lives (GuestSpec.life). ``batch``: accesses
    made at a time, 0: as many as there are."""

    stream: Stream
    life: range
    file: FileStream | None = None
    batch: int = 0


class AccessQueues:
    """The accesses of all guests of a host. Its ticks are the host's, those of the streams begin as the guests arrive.

    ``baseline``: memory without limits on which some guests make the same accesses; ``baseline_of``: each guest's
    number there, or -1.
    """

    def __init__(
        self,
        memory: HostMemory,
        sources: Sequence[GuestSource],
        baseline: HostMemory | None = None,
        baseline_of: Sequence[int] = (),
    ) -> None:
        self.memory, self.sources, self.baseline = memory, sources, baseline
        guests = np.zeros(len(sources), QUEUE)
        guests["tick"] = [source.life.start - 1 for source in sources]
        guests["baseline"] = baseline_of if baseline else -1
        guests["batch"] = [source.batch for source in sources]
        guests["digests"] = FNV_OFFSET
        chunks = np.zeros((len(sources), 1 + 2 * MOST_TICKS), CHUNK)
        self.state = QueueState(guests, chunks, np.zeros(0, np.uint32))
        self._used = 0  # of the accesses

    def make_all(self, g: int, until: int) -> None:
        """A guest makes all accesses of its ticks up to ``until``."""
        while True:
            baseline = (self.baseline or self.memory).machine
            needs = batches.make_all(self.memory.machine, baseline, self.state, g, until, self.memory.watched)
            if needs == NONE_LEFT:
                break
            if needs == DRAW:
                self.draw(g)
            else:
                self.access(g)
                make_batch(self.memory.machine, baseline, self.state, g, True)

    def access(self, g: int) -> None:
        """Makes the accesses of the guest's next batch to its memory, or its file, alone: where these are watched."""
        guest = self.state.guests[g]
        begin = int(guest["begin"] + guest["position"])
        batch = self.state.accesses[begin : begin + batch_length(guest)]
        if guest["to_file"]:
            self.memory.access_file(g, batch)
        else:
            self.memory.access(g, batch)

    def made(self, g: int) -> tuple[float, float]:
        """Accesses so far, and those by L2, of the full guest if this one is a sample."""
        guest = self.state.guests[g]
        return float(guest["made"]), float(guest["made_by_l2"])

    def access_hash(self, g: int) -> int:
        """The hash of all accesses in the ticks that the guest has begun."""
        digests = self.state.guests[g]["digests"]
        if self.sources[g].file is None:
            return int(digests[0])
        return int(hash_accesses(digests[0], digests[1:].view(np.uint32)))

    def draw(self, g: int) -> None:
        """Draws the ticks after the guest's present one; in the first it writes to all of its memory."""
        source, stream = self.sources[g], self.sources[g].stream
        first = int(self.state.guests[g]["tick"]) + 1
        own = first - source.life.start
        if own and stream.l2_runs(own - 1) and not stream.l2_runs(own):
            self._stop_nested(g)
        drawn = [stream.populate(own)]
        scale = _scale(stream)
        chunks = self.state.chunks[g]
        chunks[0] = (first, 0, len(drawn[0]), 0, scale, scale, stream.digest)
        count = 1
        if own:
            ticks = self._ticks_ahead(stream, own, source.life.stop - first)
            kinds = 2 if source.file else 1
            for to_file, part in enumerate((stream, source.file)[:kinds]):
                assert part is not None
                each = chunks[1 + to_file : 1 + kinds * ticks : kinds]
                accesses, ends, digests = part.draw_ticks(own, ticks)
                each["tick"] = np.arange(first, first + ticks)
                each["end"] = sum(map(len, drawn)) + ends
                each["begin"] = each["end"] - np.diff(ends, prepend=0)
                each["to_file"], each["digest"] = to_file, digests
                each["weight"], each["l2_weight"] = _weights(part, own)
                drawn.append(accesses)
            count += kinds * ticks
        self._store(g, drawn)
        guest = self.state.guests[g]
        guest["chunk"], guest["chunks"] = 0, count

    def _ticks_ahead(self, stream: Stream, first: int, left: int) -> int:
        """How many ticks from ``first`` on, of which so many are ``left``, are drawn together: L2 runs in all of them,
        or in none."""
        fit = MOST_ACCESSES // max(stream.accesses_in(first), 1)
        return max(min(stream.next_change(first) - first, left, MOST_TICKS, fit), 1)

    def _stop_nested(self, g: int) -> None:
        self.memory.stop_nested(g)
        if self.baseline and self.state.guests[g]["baseline"] >= 0:
            self.baseline.stop_nested(int(self.state.guests[g]["baseline"]))

    def _store(self, g: int, drawn: Sequence[npt.NDArray[np.uint32]]) -> None:
        """Puts what was drawn into the guest's part of the accesses; if that is too small, it gets one at the end.

        They grow by more than is needed now, or many guests would have all of them copied for each.
        """
        guests, chunks, accesses = self.state
        length = sum(map(len, drawn))
        if guests[g]["room"] < length:
            room = max(length, int(guests[g]["room"]) * 3 // 2)  # a load that rises all morning wants few moves
            guests[g]["begin"], guests[g]["room"] = self._used, room
            if (end := self._used + room) > len(accesses):
                grown = np.empty(max(end, len(accesses) * 5 // 4), np.uint32)
                grown[: self._used] = accesses[: self._used]
                self.state = QueueState(guests, chunks, grown)
            self._used = end
        begin = int(guests[g]["begin"])
        np.concatenate(drawn, out=self.state.accesses[begin : begin + length])


def _scale(stream: Stream) -> float:
    """Pages that a page of a stream's guest stands for."""
    if isinstance(stream, GuestStream):
        return stream.full.memory_pages / stream.spec.memory_pages
    return 1.0


def _weights(part: Stream | FileStream, tick: int) -> tuple[float, float]:
    """Accesses that one of the stream's stands for: any, and one of L2's."""
    if isinstance(part, FileStream):
        return _weights(part.stream, tick)[0], 0.0
    if isinstance(part, GuestStream) and part.spec.sample:
        thinned = part.thinned(tick)
        return thinned.weight, thinned.l2_weight
    return 1.0, 1.0
