"""Huge pages of a host: for whom, how hard a fault tries for one, and khugepaged, as in transparent_hugepage/."""

from __future__ import annotations

from dataclasses import dataclass

from coldfleet.hostsim.spec.checks import COUNT, check_names, check_ranges

HUGE_PAGES = ("never", "madvise", "always")
DEFRAG = ("never", "defer", "defer+madvise", "madvise", "always")
_PAGES = 512  # of a huge page


@dataclass(frozen=True)
class HugePageSpec:
    """What a host does for the guests that may have huge pages (GuestSpec.huge_pages).

    ``defrag``: one of DEFRAG: whether a first touch reclaims for a huge page that there is no room for: never, always,
    or if the VMM asked for huge pages (madvise); "defer" and "defer+madvise" wake kswapd where they don't.
    ``khugepaged``: collapses small pages, ``pages_to_scan`` of them looked at in a wake-up, every ``every_ticks``; of
    a table at most ``max_ptes_none`` may be absent, and ``max_ptes_swap`` in swap. The defaults are the kernel's, with
    scan_sleep_millisecs of 10 s in ticks of 1 s.
    """

    defrag: str = "madvise"
    khugepaged: bool = True
    every_ticks: int = 10
    pages_to_scan: int = 4096
    max_ptes_none: int = _PAGES - 1
    max_ptes_swap: int = 64

    def __post_init__(self) -> None:
        check_names("defrag mode", [self.defrag], DEFRAG)
        least, most = (_PAGES, COUNT[1]), (0, _PAGES - 1)
        check_ranges(self, every_ticks=COUNT, pages_to_scan=least, max_ptes_none=most, max_ptes_swap=most)

    def reclaims(self, huge_pages: str) -> bool:
        """Whether a fault of a guest with these ``huge_pages`` reclaims for one."""
        return self.defrag == "always" or (huge_pages == "madvise" and self.defrag in ("madvise", "defer+madvise"))

    def wakes_kswapd(self, huge_pages: str) -> bool:
        """Whether it at least wakes kswapd."""
        return self.reclaims(huge_pages) or self.defrag in ("defer", "defer+madvise")


KERNEL_HUGE_PAGES = HugePageSpec()
