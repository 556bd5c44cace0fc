"""A swap device as the vCPUs meet it: its latency, and waiting for its other requests.

It is an open queue with ``depth`` servers and constant service (M/D/c: half of M/M/c's wait, with the probability
of waiting taken as utilisation to the power of sqrt(2 (c + 1)), Sakasegawa 1977), at the rate of the last tick.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled
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
        ("wait_ns", np.float64),  # for each page that is read, at the traffic of the last tick
        ("traffic", np.int64),  # pages read and written up to then
        ("waited", np.float64),  # pages written in this tick while a reclaim waited for them
        ("key", np.uint64),  # of the random numbers
        ("host", np.uint64),
        ("stream", np.uint64),
        ("draws", np.uint64),  # random numbers used
    ],
    align=True,
)


def new_queue(device: SwapDevice, *, key: np.uint64, host: int, part: int = 0) -> npt.NDArray[Any]:
    """One SWAP record, of a device that is idle. ``part``: of a sample, 0 without one."""
    queue = np.zeros(1, SWAP)
    queue[["read_ns", "spread", "pages_per_s", "depth"]] = (
        device.read_ns,
        device.spread,
        device.pages_per_s,
        device.depth,
    )
    queue[["key", "host", "stream"]] = (key, host, guest_word(Source.SWAP_DEVICE, part=part))
    return queue


@compiled
def read_pages(queue: Record, pages: float) -> int:
    """The time, ns, that a vCPU waits until so many pages have been read one after the other.

    The sum of many log-normal latencies is taken as normal.
    """
    if pages <= 0:
        return 0
    if pages < MANY:
        latency_ns = 0.0
        for _ in range(np.int64(np.rint(pages))):
            latency_ns += queue.read_ns * math.exp(queue.spread * _standard_normal(queue))
    else:
        mean_ns = queue.read_ns * math.exp(queue.spread**2 / 2)
        deviation_ns = mean_ns * math.sqrt(math.expm1(queue.spread**2) * pages)
        latency_ns = max(mean_ns * pages + deviation_ns * _standard_normal(queue), 0.0)
    return np.int64(np.rint(latency_ns + pages * queue.wait_ns))  # type: ignore[return-value]


@compiled
def end_tick(queue: Record, pages: float, tick_ns: int) -> None:
    """So many pages were read and written in a tick that has passed."""
    if not queue.pages_per_s:
        return
    load = min(pages * SECOND_NS / tick_ns / queue.pages_per_s, MOST_LOAD)
    service_ns = queue.depth * SECOND_NS / queue.pages_per_s
    queue.wait_ns = service_ns * load ** math.sqrt(2 * (queue.depth + 1)) / (2 * queue.depth * (1 - load))


@compiled
def wait_for_writes(queue: Record, pages: float) -> int:
    """The time, ns, that a reclaim waits until so many pages have been written, the device doing nothing else."""
    if not pages or not queue.pages_per_s:
        return 0
    queue.waited += pages
    return np.int64(np.rint(pages * SECOND_NS / queue.pages_per_s))  # type: ignore[return-value]


@compiled
def end_writes(queue: Record, pages_read: float, tick_ns: int) -> float:
    """Pages whose write ends with a tick in which so many were read.

    Who reads is served first, but for a share of the device that is left for writes.
    """
    can_move = queue.pages_per_s * tick_ns / SECOND_NS
    ended = max(can_move - pages_read - queue.waited, LEAST_WRITES * can_move)
    queue.waited = 0.0
    return ended


@compiled
def _standard_normal(queue: Record) -> float:
    """By Box and Muller (1958)."""
    a, b, _, _ = philox(queue.key, queue.draws, np.uint64(0), queue.host, queue.stream)
    queue.draws += np.uint64(1)
    return math.sqrt(-2 * math.log((np.float64(a) + 1) / _WORD)) * math.cos(2 * math.pi * np.float64(b) / _WORD)
