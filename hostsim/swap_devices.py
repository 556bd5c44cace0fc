"""Swap devices as data: what a page costs on its way out and back.

Each figure has its source beside it. "Assumed" marks an order of magnitude for which no measurement was found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hostsim.costs import SWAP_IN_NS, SWAP_OUT_NS
from hostsim.errors import UserError
from hostsim.model import PAGE_BYTES


@dataclass(frozen=True)
class SwapDevice:
    """One kind of swap device.

    ``read_ns``: median time until a page is there, when the device has nothing else to do; ``spread``: sigma of the
    log-normal distribution around it. ``write_cpu_ns``: CPU time of a page on its way out. ``pages_per_s``: pages that
    the device moves at most, reads and writes together (0: no limit of its own). ``depth``: requests that it serves
    at a time. ``compresses``: pages stay in the host's memory, made small (hostsim.zram); ``asynchronous``: a page is
    freed only when its write has ended.
    """

    name: str
    read_ns: float
    spread: float
    write_cpu_ns: float
    pages_per_s: float
    depth: int
    compresses: bool
    asynchronous: bool


IO_SUBMIT_NS = 2000.0  # assumed: CPU time of building and submitting one request
SECOND_NS = 1e9
MANY = 32  # pages
MOST_LOAD = 0.98  # a device that is asked for more slows its callers down until they ask for no more

DEVICES = {
    device.name: device
    for device in (
        # CPU: hostsim.costs, of a compressible page.
        SwapDevice("zram", SWAP_IN_NS, 0.2, SWAP_OUT_NS, 0.0, 1, True, False),
        # A SATA SSD: 4 KiB random reads in 120 us, 90,000 a second (assumed, as data sheets have it).
        SwapDevice("async", 120_000.0, 0.5, IO_SUBMIT_NS, 90_000.0, 32, False, True),
        # A data-centre NVMe drive: 80 us and 500,000 a second; p99 is 2.5 times the median (assumed, likewise).
        SwapDevice("nvme", 80_000.0, 0.4, IO_SUBMIT_NS, 500_000.0, 64, False, True),
        # Another host's memory by RDMA over 25 Gbit/s: 5 us a page through the swap path (assumed; of the order that
        # Infiniswap, NSDI 2017, and Fastswap, EuroSys 2020, report).
        SwapDevice("remote", 5_000.0, 0.3, IO_SUBMIT_NS, 25e9 / 8 / PAGE_BYTES, 32, False, True),
    )
}


def get_device(name: str) -> SwapDevice:
    """A device by its name; raises UserError for an unknown one."""
    if name not in DEVICES:
        raise UserError(f"unknown swap device {name!r}; known are {', '.join(DEVICES)}")
    return DEVICES[name]


class SwapQueue:
    """A device as the vCPUs meet it: its latency, and waiting for its other requests.

    It is an open queue with ``depth`` servers and constant service (M/D/c: half of M/M/c's wait, with the probability
    of waiting taken as utilisation to the power of sqrt(2 (c + 1)), Sakasegawa 1977), at the rate of the last tick.
    """

    def __init__(self, device: SwapDevice, random: np.random.Generator) -> None:
        self.device = device
        self.random = random
        self.wait_ns = 0.0

    def read(self, pages: float) -> int:
        """The time, ns, that a vCPU waits until so many pages have been read one after the other.

        The sum of many log-normal latencies is taken as normal.
        """
        spread = self.device.spread
        if pages < MANY:
            each = self.device.read_ns * np.exp(spread * self.random.standard_normal(round(pages)))
            latency_ns = float(each.sum())
        else:
            mean_ns = self.device.read_ns * math.exp(spread**2 / 2)
            deviation_ns = mean_ns * math.sqrt(math.expm1(spread**2) * pages)
            latency_ns = max(mean_ns * pages + deviation_ns * float(self.random.standard_normal()), 0.0)
        return round(latency_ns + pages * self.wait_ns)

    def end_tick(self, pages: float, tick_ns: int) -> None:
        """So many pages were read and written in a tick that has passed."""
        if not self.device.pages_per_s:
            return
        load = min(pages * SECOND_NS / tick_ns / self.device.pages_per_s, MOST_LOAD)
        servers = self.device.depth
        service_ns = servers * SECOND_NS / self.device.pages_per_s
        self.wait_ns = service_ns * load ** math.sqrt(2 * (servers + 1)) / (2 * servers * (1 - load))
