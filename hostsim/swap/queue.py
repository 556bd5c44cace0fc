"""A device as the vCPUs meet it, of swap or of files: its latency, and waiting for its other requests.

It is an open queue with ``depth`` servers and constant service (M/D/c: half of M/M/c's wait, with the probability
of waiting taken as utilisation to the power of sqrt(2 (c + 1)), Sakasegawa 1977), at the rate of the last tick.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled, inlined
from coldfleet.hostsim.engine.philox import philox
from coldfleet.hostsim.engine.state import Record
from coldfleet.hostsim.engine.streams import Source, guest_word
from coldfleet.hostsim.swap.devices import SwapDevice

SECOND_NS = 1e9
MANY = 32  # pages
LEAST_WRITES = 0.1  # assumed: of what a device can do, for writes while everybody reads
MOST_LOAD = 0.98  # a device that is asked for more slows its callers down until they ask for no more
_WORD = 1 << 32

SWAP = np.dtype(
    [
        ("read_ns", np.float64),  # hostsim.swap.devices.SwapDevice has the meaning of these
        ("spread", np.float64),
        ("pages_per_s", np.float64),
        ("depth", np.float64),
        ("merges", np.int64),  # what swap readahead reads is one request (SwapDevice.rotating)
        ("transfer_ns", np.float64),  # for each page of a request after its first
        ("wait_ns", np.float64),  # for each request, at the traffic of the last tick
        ("traffic", np.int64),  # requests up to then, ...
        ("more", np.int64),  # ... and their pages after the first
        ("requests", np.int64),  # the same two with this tick's, while they are added up
        ("pages", np.int64),
        ("waited", np.float64),  # pages written in this tick while a reclaim waited for them
        ("key", np.uint64),  # of the random numbers
        ("host", np.uint64),
        ("stream", np.uint64),
        ("draws", np.uint64),  # random numbers used
    ],
    align=True,
)


def new_queue(
    device: SwapDevice, *, key: np.uint64, host: int, part: int = 0, source: Source = Source.SWAP_DEVICE, kind: int = 0
) -> npt.NDArray[Any]:
    """One SWAP record, of a device that is idle. ``part``: of a sample, 0 without one. ``source``, ``kind``:
    as of guest_word."""
    queue = np.zeros(1, SWAP)
    queue[["read_ns", "spread", "pages_per_s", "depth", "merges", "transfer_ns"]] = (
        device.read_ns,
        device.spread,
        device.pages_per_s,
        device.depth,
        device.rotating,
        device.transfer_ns,
    )
    queue[["key", "host", "stream"]] = (key, host, guest_word(source, kind, part))
    return queue


@compiled
def read_pages(queue: Record, requests: float, more: float = 0.0) -> int:
    """The time, ns, that a vCPU waits for so many reads, one after the other.

    ``more``: pages of all these beyond the first of each. The sum of many log-normal latencies is taken as normal.
    """
    if requests <= 0:
        return 0
    if requests < MANY:
        latency_ns = 0.0
        for _ in range(np.int64(np.rint(requests))):
            latency_ns += queue.read_ns * math.exp(queue.spread * _standard_normal(queue))
    else:
        mean_ns = mean_read_ns(queue, 1.0)
        deviation_ns = mean_ns * math.sqrt(math.expm1(queue.spread**2) * requests)
        latency_ns = max(mean_ns * requests + deviation_ns * _standard_normal(queue), 0.0)
    return np.int64(np.rint(latency_ns + requests * queue.wait_ns + more * queue.transfer_ns))  # type: ignore[return-value]


@compiled
def mean_read_ns(queue: Record, requests: float, more: float = 0.0) -> float:
    """The mean of :func:`read_pages` while the device has nothing else to do."""
    return requests * queue.read_ns * math.exp(queue.spread**2 / 2) + more * queue.transfer_ns


@inlined
def _busy_ns(queue: Record, requests: float, more: float) -> float:
    """For how long so many requests keep the whole device busy."""
    return requests * SECOND_NS / queue.pages_per_s + more * queue.transfer_ns


@compiled
def end_tick(queue: Record, requests: float, tick_ns: int, more: float = 0.0) -> None:
    """So many requests were made in a tick that has passed; ``more``: as :func:`read_pages`."""
    if not queue.pages_per_s:
        return
    busy_ns = _busy_ns(queue, requests, more)
    load = min(busy_ns / tick_ns, MOST_LOAD)
    service_ns = queue.depth * (busy_ns / requests if requests else 0.0)
    queue.wait_ns = service_ns * load ** math.sqrt(2 * (queue.depth + 1)) / (2 * queue.depth * (1 - load))


@compiled
def wait_for_writes(queue: Record, pages: float) -> int:
    """The time, ns, that a reclaim waits until so many pages have been written, the device doing nothing else."""
    if not pages or not queue.pages_per_s:
        return 0
    queue.waited += pages
    return np.int64(np.rint(pages * SECOND_NS / queue.pages_per_s))  # type: ignore[return-value]


@compiled
def end_writes(queue: Record, reads: float, tick_ns: int, more: float = 0.0) -> float:
    """Pages whose write ends with a tick that had so many requests to read; ``more``: as :func:`read_pages`.

    Who reads is served first, but for a share of the device that is left for writes.
    """
    can_move = queue.pages_per_s * tick_ns / SECOND_NS
    read = _busy_ns(queue, reads, more) * queue.pages_per_s / SECOND_NS
    ended = max(can_move - read - queue.waited, LEAST_WRITES * can_move)
    queue.waited = 0.0
    return ended


@compiled
def _standard_normal(queue: Record) -> float:
    """By Box and Muller (1958)."""
    a, b, _, _ = philox(queue.key, queue.draws, np.uint64(0), queue.host, queue.stream)
    queue.draws += np.uint64(1)
    return math.sqrt(-2 * math.log((np.float64(a) + 1) / _WORD)) * math.cos(2 * math.pi * np.float64(b) / _WORD)
