"""How DAMON monitors, and what its scheme pages out, as plain frozen data with the kernel's defaults."""

from __future__ import annotations

from dataclasses import dataclass

from coldfleet.hostsim.spec.errors import UserError

LEAST_REGIONS = 3  # mm/damon/core.c, damon_set_attrs


@dataclass(frozen=True)
class PageoutSpec:
    """A scheme of DAMOS with the action pageout; the defaults are those of DAMON_RECLAIM (mm/damon/reclaim.c).

    The access pattern of the regions that it pages out: ``min_size`` to ``max_size`` pages (0: any size), with
    ``min_nr_accesses`` to ``max_nr_accesses`` samples of an aggregation found young, and an age of ``min_age`` to
    ``max_age`` aggregations (0: any age) in which that changed little. 1200 is 120 s of aggregations of 100 ms.
    ``quota``: pages that it tries in ``quota_window`` aggregations, the oldest regions first (0: no limit); 128 MiB in
    1 s. ``wmarks_high``, ``wmarks_mid``, ``wmarks_low``: thousandths of the host's memory that are free. DAMON rests
    above the high and below the low one, and starts below the mid one; only where the host's memory is limited.
    Raises UserError for a pattern that nothing fits.
    """

    min_size: int = 1
    max_size: int = 0
    min_nr_accesses: int = 0
    max_nr_accesses: int = 0
    min_age: int = 1200
    max_age: int = 0
    quota: int = 32768
    quota_window: int = 10
    wmarks_high: int = 500
    wmarks_mid: int = 400
    wmarks_low: int = 200

    def __post_init__(self) -> None:
        for what, least, most in (
            ("nr_accesses", self.min_nr_accesses, self.max_nr_accesses),
            ("size", self.min_size, self.max_size or self.min_size),
            ("age", self.min_age, self.max_age or self.min_age),
        ):
            if least > most:
                raise UserError(f"min_{what} {least} is more than max_{what} {most}, so that nothing fits: lower it")
        low, mid, high = self.wmarks_low, self.wmarks_mid, self.wmarks_high
        if not low <= mid <= high:
            raise UserError(f"wmarks_low {low}, wmarks_mid {mid}, wmarks_high {high}: let them ascend")


@dataclass(frozen=True)
class DamonSpec:
    """DAMON's regions and intervals; the defaults are those of its modules and of its sysfs files.

    ``min_nr_regions`` bounds the size of a region, ``max_nr_regions`` their number, as the kernel's do.
    ``samples_per_aggregation``: aggregation interval over sampling interval, 100 ms over 5 ms. ``pageout``: the scheme
    (None: it only looks). The kernel's update interval has no counterpart: the guests' memory maps never change.
    Raises UserError for what damon_set_attrs (mm/damon/core.c) refuses.
    """

    min_nr_regions: int = 10
    max_nr_regions: int = 1000
    samples_per_aggregation: int = 20
    pageout: PageoutSpec | None = None

    def __post_init__(self) -> None:
        if self.min_nr_regions < LEAST_REGIONS:
            raise UserError(f"min_nr_regions {self.min_nr_regions}: DAMON needs at least {LEAST_REGIONS}")
        if self.min_nr_regions > self.max_nr_regions:
            raise UserError(
                f"min_nr_regions {self.min_nr_regions} is more than max_nr_regions {self.max_nr_regions}: lower it"
            )
        if self.samples_per_aggregation < 1:
            raise UserError(f"samples_per_aggregation {self.samples_per_aggregation}: an aggregation needs a sample")


KERNEL_DAMON = DamonSpec()
