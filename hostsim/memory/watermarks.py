"""How many pages a kernel keeps free: the watermarks of a host's memory (mm/page_alloc.c).

There is one zone, and nobody raises min_free_kbytes above the kernel's own choice (khugepaged does, where huge pages
are on).
"""

from __future__ import annotations

import math

from coldfleet.hostsim.engine.state import SWAP_CLUSTER_MAX
from coldfleet.hostsim.memory.host_memory import Watermarks
from coldfleet.hostsim.spec.units import PAGE_BYTES

LEAST_KIB, MOST_KIB = 128, 262_144  # min_free_kbytes is kept between (calculate_min_free_kbytes)
SCALE = 10_000  # watermark_scale_factor is in parts of so many


def kernel_watermarks(pages: int, scale_factor: int, scale: float = 1.0) -> Watermarks:
    """The watermarks of a host of so many pages; ``scale_factor``: vm.watermark_scale_factor, 10 by default.

    min_free_kbytes is the square root of 16 times the memory in KiB (calculate_min_free_kbytes); between two
    watermarks lie a quarter of it or scale_factor / 10000 of the memory, whichever is more
    (__setup_per_zone_wmarks). kswapd sets out to reclaim as many pages as the high one, 32 at least
    (kswapd_shrink_node). ``scale``: the pages are a sample, and each stands for so many.
    """
    whole = round(pages * scale)
    min_kib = math.isqrt(whole * PAGE_BYTES // 1024 * 16)
    least = min(max(min_kib, LEAST_KIB), MOST_KIB) * 1024 // PAGE_BYTES
    step = max(least // 4, whole * scale_factor // SCALE)
    low, high = least + step, least + 2 * step
    goal = max(high, SWAP_CLUSTER_MAX)
    low, high, goal, least = (max(round(mark / scale), 1) for mark in (low, high, goal, least))
    return Watermarks(low, high, goal, least)
