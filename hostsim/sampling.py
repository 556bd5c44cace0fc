"""A host at sampled scale: some of each guest's page tables stand for all, and the counters say how sure they are.

Page tables (2 MiB of guest memory, 512 PTEs) are sampled whole, so that look-around, Bloom filter and word tricks are
exact inside the sample. A sample has four parts, each simulated as a small host of its own, whose guests have every
so-manyth rank of their workload from a start of their own (systematic sampling with several random starts, Gautschi
1957).

A reclaim call frees 64 pages however many there are, and a part has fewer. It can have as many calls as the whole, of
fewer pages, or calls as large, but fewer: the neighbourhood of a page is then as the kernel sees it, but for few pages
such calls are coarse. In two parts calls are smaller, in the other two there are fewer. Which page tables were taken
shows in how the parts of a pair differ, what depends on the size of calls in how the pairs do.

A guest counts as killed by the OOM killer if it was killed in any part, in the first tick in which that happened; its
other counters are the means over all parts nevertheless.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from coldfleet.hostsim.counters.columns import HEADLINE, ci_column
from coldfleet.hostsim.counters.timing import TIMES
from coldfleet.hostsim.engine.state import DEF_PRIORITY, MIN_LRU_BATCH, PTRS_PER_PTE, UPPER_LEVELS
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import (
    ORDERED_KINDS,
    GuestResult,
    GuestSpec,
    HostResult,
    HostSpec,
    PageCacheSpec,
    SampleOf,
)

PARTS = 4
T_975 = 4.303  # Student's t for a two-sided 95 % interval with two degrees of freedom, one for each pair
SAFETY = 1.5  # on what the pairs differ by, as both may be wrong on the same side
COMMON = 0.01  # of the value: what all parts have in common, whose lists and limits are short and in whole pages
_PER_PAGE_TIMES = ("resident_page_ms", "pool_page_ms", "reclaimed_page_ms")
_TIMES = {time.name for time in TIMES}
_ALIKE = {"agings", "mm_walks", "oom_kills", *(_TIMES - set(_PER_PAGE_TIMES))}
"""Counters that a sample has as the whole does: passes over the memory, and times, whose costs are scaled already."""


def parts_of(spec: HostSpec, random: np.random.Generator) -> list[HostSpec]:
    """The parts of a sample, two with smaller calls, then two with fewer; raises UserError for what has none."""
    if spec.scenario or spec.monitor or any(guest.vm.device_share for guest in spec.guests):
        raise UserError("sampled scale knows no scenarios, access monitors or devices: leave them out, or sample = 1")
    if ordered := [kind for guest in spec.guests if (kind := guest.workload.kind) in ORDERED_KINDS]:
        raise UserError(
            f"sampled scale knows no workload of kind {ordered[0]!r}, whose accesses have an order: sample = 1"
        )
    step = PARTS * spec.sample
    starts = (random.permutation(step)[:PARTS] + 0.5) / step
    return [
        # what "pressure" asks for is less than a call of the whole
        _part_of_host(spec, number, float(start), step, number < PARTS // 2 or spec.mode == "pressure")
        for number, start in enumerate(starts)
    ]


def _part_of_host(spec: HostSpec, number: int, start: float, step: int, smaller_calls: bool) -> HostSpec:
    guests = tuple(_part(guest, SampleOf(guest, start, number), step) for guest in spec.guests)
    scale = sum(guest.memory_pages for guest in spec.guests) / sum(guest.memory_pages for guest in guests)
    part = replace(spec, guests=guests, sample=1, scale=scale, call_scale=round(scale) if smaller_calls else 1)
    guests = tuple(_with_limits(part, guest, of) for guest, of in zip(guests, spec.guests, strict=True))
    return replace(
        part,
        guests=guests,
        parent_pages=_limit(part, spec.parent_pages, scale),
        memory_pages=round(spec.memory_pages / scale),
        hugetlb_pages=round(spec.hugetlb_pages / scale),
        swap_pages=math.ceil(spec.swap_pages / scale),
        pool_pages=math.ceil(spec.pool_pages / scale),
    )


def _with_limits(part: HostSpec, guest: GuestSpec, of: GuestSpec) -> GuestSpec:
    scale = of.memory_pages / guest.memory_pages
    limits = (_limit(part, pages, scale) for pages in (of.limit_pages, of.min_pages, of.low_pages, of.high_pages))
    limit, least, low, high = limits
    return replace(guest, limit_pages=limit, min_pages=least, low_pages=low, high_pages=high)


def _limit(part: HostSpec, pages: int, scale: float) -> int:
    """A limit of a part: as much less as its memory, but for what does not become less with it.

    That is the page tables above the PTE tables, and how far below its limit a guest is on average: half of a call.
    """
    if not pages:
        return 0
    fixed = 0.0
    if part.mode == "limit":
        fixed += UPPER_LEVELS
        if part.call_scale == 1:
            fixed += max(MIN_LRU_BATCH, pages >> DEF_PRIORITY) / 2
    return round(pages / scale + fixed * (1 - 1 / scale))


def _part(guest: GuestSpec, sample: SampleOf, step: int) -> GuestSpec:
    tables = max(round(guest.memory_pages / PTRS_PER_PTE / step), 1)
    pages = min(tables * PTRS_PER_PTE, guest.memory_pages)
    cache: PageCacheSpec | None = None
    if guest.page_cache:
        cache = replace(guest.page_cache, pages=max(round(guest.page_cache.pages * pages / guest.memory_pages), 1))
    return replace(guest, memory_pages=pages, page_cache=cache, sample=sample)


def scale_up(result: GuestResult, guest: GuestSpec, made: float, made_by_l2: float) -> GuestResult:
    """A part's result in the units of the guest that it stands for, which made so many accesses."""
    assert guest.sample is not None
    scale = guest.sample.of.memory_pages / guest.memory_pages
    counters = {name: n if name in _ALIKE else round(n * scale) for name, n in result.counters.items()}
    counters["accesses"], counters["l2_accesses"] = round(made), round(made_by_l2)
    return replace(result, counters=counters, step_pages=tuple(round(n * scale) for n in result.step_pages))


def combine(parts: Sequence[HostResult]) -> HostResult:
    """The estimate for a host: the mean of its parts, with intervals. Times, which add up, are those of the first."""
    first = parts[0]
    guests = []
    for g, guest in enumerate(first.guests):
        counters = [part.guests[g].counters for part in parts]
        kills = [(each.oom_tick, each.oom_reason) for part in parts if (each := part.guests[g]).oom_reason]
        tick, reason = min(kills, default=(guest.oom_tick, guest.oom_reason))
        estimate = replace(guest, counters=_means(counters), ci95=_intervals(counters))
        guests.append(replace(estimate, oom_tick=tick, oom_reason=reason))
    epochs = (
        replace(epochs[0], counters=_means([epoch.counters for epoch in epochs]))
        for epochs in zip(*(part.epochs for part in parts), strict=True)
    )
    ci95 = _intervals([part.totals() for part in parts])
    return replace(first, guests=tuple(guests), ci95=ci95, epochs=tuple(epochs))


def _means(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    means = {
        name: n if name in _TIMES else round(sum(part[name] for part in parts) / PARTS) for name, n in parts[0].items()
    }
    return means | {"oom_kills": max(part["oom_kills"] for part in parts)}


def _intervals(parts: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """Half the widths of 95 % intervals.

    A pair's difference d has twice the variance of one of its parts: d^2/2 is an estimate of that. The sampling error
    is that of one pair, as the truth may be with either.
    """
    found = {}
    for name in HEADLINE:
        a, b, c, d = (part[name] for part in parts)
        variance = ((a - b) ** 2 / 2 + (c - d) ** 2 / 2) / 2  # of a part
        sampling = T_975 * math.sqrt(variance / 2)
        found[ci_column(name)] = math.hypot(sampling, SAFETY * (a + b - c - d) / 2, COMMON * (a + b + c + d) / PARTS)
    return found


Simulate = Callable[[HostSpec], HostResult]


def simulate_sampled(spec: HostSpec, random: np.random.Generator, simulate: Simulate) -> HostResult:
    """The estimate for a host whose ``sample`` is more than 1; ``simulate`` runs one part."""
    return combine([simulate(part) for part in parts_of(spec, random)])
