"""How small zram makes pages, what its pool takes of the host's memory, and what that costs in CPU time.

What is in a page nobody simulates. So each page has a compressed size of its own for as long as it lives, drawn by
guest and page: log-normal around a mean, and of some pages nothing is saved, or nothing is left. The pool is zsmalloc:
objects of one size class share chains of pages, and what is too large for any class takes a whole page
(mm/zsmalloc.c; drivers/block/zram/zram_drv.c zram_write_page). Chains are taken as full: without fragmentation. What
is in the pool at a time is counted by hostsim.mm.swap_slots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.costs.constants import SWAP_IN_NS, SWAP_OUT_NS
from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.engine.philox import philox
from coldfleet.hostsim.engine.streams import Purpose
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.mm.swap_slots import POOL_UNIT
from coldfleet.hostsim.spec.host_spec import CompressionSpec
from coldfleet.hostsim.spec.units import PAGE_BYTES
from coldfleet.hostsim.swap.devices import SwapDevice

CHAIN_PAGES = 8  # CONFIG_ZSMALLOC_CHAIN_SIZE, since 6.3; before it was 4
CLASS_BYTES = 16  # between two size classes (ZS_SIZE_CLASS_DELTA)
LEAST_BYTES = 32  # ZS_MIN_ALLOC_SIZE
HANDLE_BYTES = 8  # ZS_HANDLE_SIZE, stored with each object
SAME_FILLED, HUGE = 0, 255  # in the place of a size class: takes nothing; takes a page

COPY_NS = 400.0  # assumed: copying 4 KiB that is in no cache, at about 10 GB/s
FILL_NS = 150.0  # assumed: finding that 4 KiB are all the same word, or filling them with it

_QUANTILES = 4096  # of the distribution of sizes
_PAGE_SIZE = np.uint64(Purpose.PAGE_SIZE)
_CERTAIN = 1 << 32  # a probability of 1, against 32 random bits


@cache
def bytes_of_classes(chain_pages: int = CHAIN_PAGES) -> npt.NDArray[np.float64]:
    """What an object takes in the pool, float64 (HUGE + 1), by its class: its size, handle included, over CLASS_BYTES.

    A chain is as long as leaves the least of it over, up to ``chain_pages`` (calculate_zspage_chain_size). Classes from
    the first on of which a page holds one (zs_huge_class_size) are huge.
    """
    found = np.full(HUGE + 1, float(PAGE_BYTES))
    found[SAME_FILLED] = 0.0
    for number in range(1, HUGE):
        size = max(number * CLASS_BYTES, LEAST_BYTES)
        pages = min(range(1, chain_pages + 1), key=lambda pages: pages * PAGE_BYTES % size / pages)
        found[number] = pages * PAGE_BYTES / (pages * PAGE_BYTES // size)
    return found


@cache
def classes_of(compression: CompressionSpec) -> npt.NDArray[np.uint8]:
    """The size classes of compressible pages at _QUANTILES evenly spaced probabilities, uint8."""
    spread = compression.spread
    median = PAGE_BYTES / compression.ratio / math.exp(spread**2 / 2)
    normal = NormalDist()
    deviations = [normal.inv_cdf((n + 0.5) / _QUANTILES) for n in range(_QUANTILES)]
    sizes = median * np.exp(spread * np.array(deviations)) + HANDLE_BYTES
    return np.clip(np.ceil(sizes / CLASS_BYTES), 1, HUGE).astype(np.uint8)


def with_compression(device: SwapDevice, compression: CompressionSpec) -> SwapDevice:
    """A device that compresses, with the mean CPU time of its pages.

    An incompressible page is compressed in vain and then copied; on its way back it is only copied.
    """
    if not device.compresses:
        return device
    same, huge = compression.same_filled_share, compression.incompressible_share
    compressible = 1 - same - huge
    return replace(
        device,
        write_cpu_ns=same * FILL_NS + compressible * SWAP_OUT_NS + huge * (SWAP_OUT_NS + COPY_NS),
        read_ns=same * FILL_NS + compressible * SWAP_IN_NS + huge * COPY_NS,
    )


def fill_in_sizes(
    memory: HostMemory, compression: CompressionSpec, key: np.uint64, host: int, numbers: Sequence[int]
) -> None:
    """Says how small every page of the guests' memslots would be; the memory was made with ``compressed_swap``.

    ``numbers``: what names each guest's random numbers, as ``key`` and ``host`` do (hostsim.engine.philox.study_key).
    """
    machine = memory.machine
    machine.class_units[:] = np.rint(bytes_of_classes() / PAGE_BYTES * POOL_UNIT)
    same = round(compression.same_filled_share * _CERTAIN)
    huge = same + round(compression.incompressible_share * _CERTAIN)
    for guest, number in enumerate(numbers):
        own = machine.size_classes[memory.pages(guest)]
        draw_classes(own, key, (host, number), same, huge, classes_of(compression))


@compiled
def draw_classes(
    out: npt.NDArray[np.uint8],
    key: np.uint64,
    counter: tuple[int, int],
    same: int,
    huge: int,
    quantiles: npt.NDArray[np.uint8],
) -> None:
    """Fills in the size class of every page.

    ``same``, ``huge``: 32-bit numbers below which a page is same-filled, or else incompressible.
    """
    for i in range(len(out)):
        kind, size, _, _ = philox(key, np.uint64(i), _PAGE_SIZE, np.uint64(counter[0]), np.uint64(counter[1]))
        if kind < np.uint64(same):
            out[i] = SAME_FILLED
        elif kind < np.uint64(huge):
            out[i] = HUGE
        else:
            out[i] = quantiles[size * np.uint64(len(quantiles)) >> np.uint64(32)]
