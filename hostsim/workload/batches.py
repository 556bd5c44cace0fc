"""Batches of accesses, as compiled code makes them: the guests' accesses that were drawn, and how far each guest is.

Accesses lie in chunks: what a guest does in one tick to its memory, or to its file. hostsim.workload.access_queues
draws them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled, inlined
from coldfleet.hostsim.engine.state import ACCESS_L2, Machine, Record
from coldfleet.hostsim.memory.access import access, access_file

NONE_LEFT, READY, DRAW, WATCHED = range(4)
"""What a guest needs to make its next batch: there is none; nothing; that more is drawn; that Python accesses the
memory, which is watched."""

QUEUE = np.dtype(
    [
        ("tick", np.int64),  # of the host: the one that the guest is in; before it arrives, the one before that
        ("chunk", np.int64),  # the next of its chunks ...
        ("chunks", np.int64),  # ... of so many
        ("position", np.int64),  # its next access ...
        ("end", np.int64),  # ... and where the present chunk ends
        ("to_file", np.int64),  # what is accessed: 0 memory, 1 the file
        ("weight", np.float64),  # accesses that one of a sample stands for, ...
        ("l2_weight", np.float64),  # ... and that one by L2 stands for
        ("made", np.float64),  # accesses so far, of the full guest if this one is a sample, ...
        ("made_by_l2", np.float64),  # ... and those by L2
        ("digests", np.uint64, (2,)),  # hashes of the ticks begun so far, of memory and file
        ("batch", np.int64),  # accesses made at a time; 0: as many as there are
        ("baseline", np.int64),  # its number among the guests of the baseline; -1: it isn't among them
        ("begin", np.int64),  # its part of QueueState.accesses ...
        ("room", np.int64),  # ... and how many that holds
    ],
    align=True,
)
CHUNK = np.dtype(
    [
        ("tick", np.int64),
        ("begin", np.int64),  # in the guest's part of the accesses
        ("end", np.int64),
        ("to_file", np.int64),
        ("weight", np.float64),
        ("l2_weight", np.float64),
        ("digest", np.uint64),
    ],
    align=True,
)


class QueueState(NamedTuple):
    """``guests``: QUEUE, ``chunks``: CHUNK (guests, chunks), ``accesses``: uint32, what was drawn for all guests."""

    guests: npt.NDArray[Any]
    chunks: npt.NDArray[Any]
    accesses: npt.NDArray[np.uint32]


@compiled
def find_batch(m: Machine, queues: QueueState, g: int, until: int) -> int:
    """Goes on to the guest's next access, if it is of a tick up to ``until``: NONE_LEFT, READY or DRAW.

    A CPU switches to the guest at the begin of a chunk. A guest that was killed, or isn't there, does nothing.
    """
    if m.mms[g].exited:
        return NONE_LEFT
    guest = queues.guests[g]
    while guest.position == guest.end:
        if guest.chunk == guest.chunks:
            return NONE_LEFT if guest.tick >= until else DRAW
        chunk = queues.chunks[g, guest.chunk]
        if chunk.tick > until:
            return NONE_LEFT
        guest.chunk += 1
        guest.tick = chunk.tick
        guest.digests[chunk.to_file] = chunk.digest
        guest.position, guest.end, guest.to_file = chunk.begin, chunk.end, chunk.to_file
        guest.weight, guest.l2_weight = chunk.weight, chunk.l2_weight
        if chunk.end > chunk.begin:
            m.mms[g].used = 1
    return READY


@compiled
def batch_length(guest: Record) -> int:
    """Accesses of the guest's next batch."""
    left = guest.end - guest.position
    return min(left, guest.batch) if guest.batch else left


@compiled
def make_batch(m: Machine, baseline: Machine, queues: QueueState, g: int, accessed: bool) -> float:
    """Makes a batch that is READY; returns how many accesses it stands for. ``accessed``: but for its own memory."""
    guest = queues.guests[g]
    begin = guest.begin + guest.position
    batch = queues.accesses[begin : begin + batch_length(guest)]
    count = len(batch)
    if not accessed:
        count = _access(m, g, batch, guest.to_file)
    if guest.baseline >= 0:
        _access(baseline, guest.baseline, batch[:count], guest.to_file)
    made = count * guest.weight
    guest.position += len(batch)
    guest.made += made
    if guest.l2_weight:
        by_l2 = 0
        for one in batch[:count]:
            by_l2 += one >= ACCESS_L2
        guest.made_by_l2 += by_l2 * guest.l2_weight
    return made


@inlined
def _access(m: Machine, g: int, batch: npt.NDArray[np.uint32], to_file: int) -> int:
    return access_file(m, g, batch) if to_file else access(m, g, batch)


@compiled
def make_all(m: Machine, baseline: Machine, queues: QueueState, g: int, until: int, watched: bool) -> int:
    """Makes batches of the ticks up to ``until``, until there is NONE_LEFT or something else is needed."""
    while True:
        needs = find_batch(m, queues, g, until)
        if needs != READY:
            return needs
        if watched:
            return WATCHED
        make_batch(m, baseline, queues, g, False)
