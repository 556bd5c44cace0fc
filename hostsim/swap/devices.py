"""Swap devices as data: what a page costs on its way out and back.

Each figure has its source beside it. "Assumed" marks an order of magnitude for which no measurement was found.
"""

from __future__ import annotations

from dataclasses import dataclass

from coldfleet.hostsim.costs.constants import SWAP_IN_NS, SWAP_OUT_NS
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.units import PAGE_BYTES


@dataclass(frozen=True)
class SwapDevice:
    """One kind of swap device.

    ``read_ns``: median time until a page is there, when the device has nothing else to do; ``spread``: sigma of the
    log-normal distribution around it. ``write_cpu_ns``: CPU time of a page on its way out. ``pages_per_s``: pages that
    the device moves at most, reads and writes together (0: no limit of its own). ``depth``: requests that it serves
    at a time. ``compresses``: pages stay in the host's memory, made small (hostsim.swap.zram); ``asynchronous``: a page
    is freed only when its write has ended.
    """

    name: str
    read_ns: float
    spread: float
    write_cpu_ns: float
    pages_per_s: float
    depth: int
    compresses: bool
    asynchronous: bool


NO_SWAP = "none"
IO_SUBMIT_NS = 2000.0  # assumed: CPU time of building and submitting one request

DEVICES = {
    device.name: device
    for device in (
        # CPU: hostsim.costs.constants, of a compressible page.
        SwapDevice("zram", SWAP_IN_NS, 0.2, SWAP_OUT_NS, 0.0, 1, True, False),
        # A SATA SSD: 4 KiB random reads in 120 us, 90,000 a second (assumed, as data sheets have it).
        SwapDevice("async", 120_000.0, 0.5, IO_SUBMIT_NS, 90_000.0, 32, False, True),
        # A data-centre NVMe drive: 80 us and 500,000 a second; p99 is 2.5 times the median (assumed, likewise).
        SwapDevice("nvme", 80_000.0, 0.4, IO_SUBMIT_NS, 500_000.0, 64, False, True),
        # Another host's memory by RDMA over 25 Gbit/s: 5 us a page through the swap path (assumed; of the order that
        # Infiniswap, NSDI 2017, and Fastswap, EuroSys 2020, report).
        SwapDevice("remote", 5_000.0, 0.3, IO_SUBMIT_NS, 25e9 / 8 / PAGE_BYTES, 32, False, True),
        # No swap at all.
        SwapDevice(NO_SWAP, 0.0, 0.0, 0.0, 0.0, 1, False, False),
    )
}


def get_device(name: str) -> SwapDevice:
    """A device by its name; raises UserError for an unknown one."""
    if name not in DEVICES:
        raise UserError(f"unknown swap device {name!r}; known are {', '.join(DEVICES)}")
    return DEVICES[name]
