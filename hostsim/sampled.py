"""A host at sampled scale: some of each guest's page tables stand for all, and the counters say how sure they are.

Page tables (2 MiB of guest memory, 512 PTEs) are sampled whole, so that look-around, Bloom filter and word tricks are
exact inside the sample. A sample is one large part, half of it, and PARTS small ones, each simulated as a small host of
its own, whose guests have every so-manyth rank of their workload from a start of their own (systematic sampling with
several random starts, Gautschi 1957). The large part is the estimate. Its error has two sources: which tables are in
it, told by how much the small parts differ; and that the kernel's batches (64 pages of isolation, 32 of a reclaim) are
coarser for few pages than for many, told by how far the small parts' mean is from the large one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from hostsim.errors import UserError
from hostsim.intervals import HEADLINE, ci_column
from hostsim.model import GuestResult, GuestSpec, HostResult, HostSpec, PageCacheSpec, SampleOf
from hostsim.state import PTRS_PER_PTE
from hostsim.timing import TIMES

PARTS = 4
T_975 = 3.182  # Student's t for a two-sided 95 % interval with PARTS - 1 degrees of freedom
SLACK_PAGES = 24  # half of what a reclaim call frees (32 to 64 pages): how far below its limit a guest is, on average
_PER_PAGE_TIMES = ("resident_page_ms", "pool_page_ms", "reclaimed_page_ms")
_ALIKE = {"agings", "mm_walks", *(time.name for time in TIMES if time.name not in _PER_PAGE_TIMES)}
"""Counters that a sample has as the whole does: passes over the memory, and times, whose prices are scaled already."""


def parts_of(spec: HostSpec, random: np.random.Generator) -> list[HostSpec]:
    """The large part of a sample and its small ones; raises UserError for what has no sampled scale."""
    if spec.scene or spec.caller or any(guest.vm.device_share for guest in spec.guests):
        raise UserError("sampled scale knows no scenes, callers or devices: leave them out, or sample = 1")
    step = 2 * PARTS * spec.sample
    large, *small = random.permutation(step)[: 1 + PARTS].tolist()
    return [
        _part_of_host(spec, 0, (large % (2 * spec.sample) + 0.5) / (2 * spec.sample), 2 * spec.sample),
        *(_part_of_host(spec, 1 + number, (start + 0.5) / step, step) for number, start in enumerate(small)),
    ]


def _part_of_host(spec: HostSpec, number: int, start: float, step: int) -> HostSpec:
    guests = tuple(_part(guest, SampleOf(guest, start, number), step) for guest in spec.guests)
    scale = sum(guest.memory_pages for guest in spec.guests) / sum(guest.memory_pages for guest in guests)
    parent = _limit(spec.parent_pages, 1 / scale)
    memory = round(spec.memory_pages / scale)
    return replace(spec, guests=guests, parent_pages=parent, memory_pages=memory, sample=1, scale=scale)


def _limit(pages: int, share: float) -> int:
    """A limit of a part. Its guests are as many pages below it as the whole is: more, in proportion."""
    return round(pages * share + SLACK_PAGES * (1 - share)) if pages else 0


def _part(guest: GuestSpec, sample: SampleOf, step: int) -> GuestSpec:
    tables = max(round(guest.memory_pages / PTRS_PER_PTE / step), 1)
    pages = min(tables * PTRS_PER_PTE, guest.memory_pages)
    share = pages / guest.memory_pages
    cache: PageCacheSpec | None = None
    if guest.page_cache:
        cache = replace(guest.page_cache, pages=max(round(guest.page_cache.pages * share), 1))
    return replace(
        guest, memory_pages=pages, limit_pages=_limit(guest.limit_pages, share), page_cache=cache, sample=sample
    )


def scale_up(result: GuestResult, guest: GuestSpec, made: float, made_by_l2: float) -> GuestResult:
    """A part's result in the units of the guest that it stands for, which made so many accesses."""
    assert guest.sample is not None
    scale = guest.sample.of.memory_pages / guest.memory_pages
    counters = {name: n if name in _ALIKE else round(n * scale) for name, n in result.counters.items()}
    counters["accesses"], counters["l2_accesses"] = round(made), round(made_by_l2)
    return replace(result, counters=counters, step_pages=tuple(round(n * scale) for n in result.step_pages))


def combine(spec: HostSpec, large: HostResult, small: Sequence[HostResult]) -> HostResult:
    """The estimate for a host: its large part's, with intervals."""
    guests = tuple(
        replace(guest, ci95=_intervals(guest.counters, [part.guests[g].counters for part in small], spec.sample))
        for g, guest in enumerate(large.guests)
    )
    return replace(
        large, guests=guests, ci95=_intervals(large.totals(), [part.totals() for part in small], spec.sample)
    )


def _intervals(large: Mapping[str, int], small: Sequence[Mapping[str, int]], sample: int) -> dict[str, float]:
    """Half the widths of 95 % intervals.

    The small parts together are as large as the large one, so the standard error of their mean is its error, too.
    """
    found = {}
    for name in HEADLINE:
        values = [part[name] for part in small]
        sampling = T_975 * float(np.std(values, ddof=1)) * math.sqrt((1 - 1 / sample) / len(values))
        found[ci_column(name)] = math.hypot(sampling, large[name] - sum(values) / len(values))
    return found


Simulate = Callable[[HostSpec], HostResult]


def simulate_sampled(spec: HostSpec, random: np.random.Generator, simulate: Simulate) -> HostResult:
    """The estimate for a host whose ``sample`` is more than 1; ``simulate`` runs one part."""
    large, *small = (simulate(part) for part in parts_of(spec, random))
    return combine(spec, large, small)
