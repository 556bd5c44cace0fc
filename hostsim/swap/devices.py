"""Devices of swap and of files as data: what a page costs on its way out and back.

Each figure has its source beside it. "Assumed" marks an order of magnitude for which no measurement was found.
"""

from __future__ import annotations

from dataclasses import dataclass

from coldfleet.hostsim.costs.constants import SWAP_IN_NS, SWAP_OUT_NS
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.units import PAGE_BYTES


@dataclass(frozen=True)
class SwapDevice:
    """One kind of device.

    ``read_ns``: median time until a page is there, when the device has nothing else to do; ``spread``: sigma of the
    log-normal distribution around it. ``write_cpu_ns``: CPU time of a page on its way out. ``pages_per_s``: pages that
    the device moves at most, in a request each, reads and writes together (0: no limit of its own). ``depth``: requests
    that it serves at a time. ``compresses``: pages stay in the host's memory, made small (hostsim.swap.zram);
    ``asynchronous``: a page is freed only when its write has ended. ``bytes_per_s``: what it moves within a request of
    many pages (0: no limit). ``rotating``: swap readahead asks for neighbours on the device, which are one request.
    """

    name: str
    read_ns: float
    spread: float
    write_cpu_ns: float
    pages_per_s: float
    depth: int
    compresses: bool
    asynchronous: bool
    bytes_per_s: float = 0.0
    rotating: bool = False

    @property
    def transfer_ns(self) -> float:
        """How much longer a request takes for each page after its first, ns."""
        return PAGE_BYTES / self.bytes_per_s * 1e9 if self.bytes_per_s else 0.0


NO_SWAP = "none"
IO_SUBMIT_NS = 2000.0  # assumed: CPU time of building and submitting one request

DEVICES = {
    device.name: device
    for device in (
        # CPU: hostsim.costs.constants, of a compressible page.
        SwapDevice("zram", SWAP_IN_NS, 0.2, SWAP_OUT_NS, 0.0, 1, True, False),
        # A SATA SSD: 4 KiB random reads in 120 us, 90,000 a second (assumed, as data sheets have it); SATA
        # moves 550 MB/s.
        SwapDevice("async", 120_000.0, 0.5, IO_SUBMIT_NS, 90_000.0, 32, False, True, 550e6),
        # A data-centre NVMe drive: 80 us and 500,000 a second; p99 is 2.5 times the median (assumed, likewise),
        # and 3 GB/s.
        SwapDevice("nvme", 80_000.0, 0.4, IO_SUBMIT_NS, 500_000.0, 64, False, True, 3e9),
        # Another host's memory by RDMA over 25 Gbit/s: 5 us a page through the swap path (assumed; of the order that
        # Infiniswap, NSDI 2017, and Fastswap, EuroSys 2020, report).
        SwapDevice("remote", 5_000.0, 0.3, IO_SUBMIT_NS, 25e9 / 8 / PAGE_BYTES, 32, False, True, 25e9 / 8),
        # A disk of 7200 rpm: half a turn, 4.2 ms, and a seek of 8.3 ms, before each request; 160 MB/s (assumed, as data
        # sheets have it). So it serves 80 a second, one at a time: its own sorting of requests is left out.
        SwapDevice("disk", 12_500_000.0, 0.3, IO_SUBMIT_NS, 80.0, 1, False, True, 160e6, rotating=True),
        # No swap at all.
        SwapDevice(NO_SWAP, 0.0, 0.0, 0.0, 0.0, 1, False, False),
    )
}


def get_device(name: str) -> SwapDevice:
    """A device by its name; raises UserError for an unknown one."""
    if name not in DEVICES:
        raise UserError(f"unknown swap device {name!r}; known are {', '.join(DEVICES)}")
    return DEVICES[name]
