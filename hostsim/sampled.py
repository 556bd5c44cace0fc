"""A host at sampled scale: some of each guest's page tables stand for all, and the counters say how sure they are.

Page tables (2 MiB of guest memory, 512 PTEs) are sampled whole, so that look-around, Bloom filter and word tricks are
exact inside the sample. The sample is split into GROUPS that are simulated apart, each a small host whose guests have
every (GROUPS x sample)-th rank of their workload from a start of its own (systematic sampling with several random
starts, Gautschi 1957). The mean of the groups is the estimate, and how much they differ is its error.

What doesn't scale is the kernel's batch sizes (64 pages of isolation, 32 of a reclaim): a group's guest should have
some thousand pages, else reclaim is coarser than in the full guest, and no interval covers that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from hostsim.demand import Demand
from hostsim.errors import UserError
from hostsim.intervals import HEADLINE, ci_column
from hostsim.latency import latency_gauges
from hostsim.model import GuestResult, GuestSpec, HostResult, HostSpec, PageCacheSpec, SampleOf
from hostsim.state import PTRS_PER_PTE
from hostsim.timing import CAUSES, TIMES
from hostsim.workloads import hash_accesses

GROUPS = 4
T_975 = 3.182  # Student's t for a two-sided 95 % interval with GROUPS - 1 degrees of freedom
_PER_PAGE_TIMES = ("resident_page_ms", "reclaimed_page_ms")
_ALIKE = {"agings", "mm_walks", *(time.name for time in TIMES if time.name not in _PER_PAGE_TIMES)}
"""Counters that a sample has as the whole does: passes over the memory, and times, whose prices are scaled already."""


def groups_of(spec: HostSpec, random: np.random.Generator) -> list[HostSpec]:
    """The small hosts whose mean stands for a host; raises UserError for what has no sampled scale."""
    if spec.scene or spec.caller or any(guest.vm.device_share for guest in spec.guests):
        raise UserError("sampled scale knows no scenes, callers or devices: leave them out, or sample = 1")
    step = spec.sample * GROUPS
    starts = np.sort(random.permutation(step)[:GROUPS])
    return [_group(spec, number, (int(start) + 0.5) / step, step) for number, start in enumerate(starts)]


def _group(spec: HostSpec, number: int, start: float, step: int) -> HostSpec:
    guests = tuple(_part(guest, SampleOf(guest, start, number), step) for guest in spec.guests)
    scale = sum(guest.memory_pages for guest in spec.guests) / sum(guest.memory_pages for guest in guests)
    clock = replace(spec.clock, scale=scale) if spec.clock else None
    return replace(spec, guests=guests, parent_pages=round(spec.parent_pages / scale), clock=clock, sample=1)


def _part(guest: GuestSpec, sample: SampleOf, step: int) -> GuestSpec:
    tables = max(round(guest.memory_pages / PTRS_PER_PTE / step), 1)
    pages = min(tables * PTRS_PER_PTE, guest.memory_pages)
    share = pages / guest.memory_pages
    cache: PageCacheSpec | None = None
    if guest.page_cache:
        cache = replace(guest.page_cache, pages=max(round(guest.page_cache.pages * share), 1))
    return replace(
        guest, memory_pages=pages, limit_pages=round(guest.limit_pages * share), page_cache=cache, sample=sample
    )


def scale_up(result: GuestResult, guest: GuestSpec, demand: Demand) -> GuestResult:
    """A part's result in the units of the guest that it stands for."""
    assert guest.sample is not None
    scale = guest.sample.of.memory_pages / guest.memory_pages
    counters = {name: n if name in _ALIKE else round(n * scale) for name, n in result.counters.items()}
    counters["accesses"], counters["l2_accesses"] = round(demand.made), round(demand.made_by_l2)
    return replace(result, counters=counters, step_pages=tuple(round(n * scale) for n in result.step_pages))


def combine(spec: HostSpec, groups: Sequence[HostResult]) -> HostResult:
    """The estimate for a host from its groups."""
    guests = tuple(_mean([group.guests[g] for group in groups], spec.sample) for g in range(len(spec.guests)))
    latencies = np.sum([guest.latencies for guest in guests if guest.latencies], axis=0)
    gauges = {name: _average([group.gauges[name] for group in groups]) for name in groups[0].gauges}
    if spec.clock:
        gauges |= latency_gauges(latencies)
    return HostResult(guests, gauges, _intervals([group.totals() for group in groups], spec.sample))


def _mean(parts: Sequence[GuestResult], sample: int) -> GuestResult:
    counters = {name: round(_average([part.counters[name] for part in parts])) for name in parts[0].counters}
    names = [name for name, _ in CAUSES.values()]
    passed = sum(parts[0].counters[name] for name in names)  # of each part alike: rounding must not lose a ns
    counters["idle_ns"] += passed - sum(counters[name] for name in names)
    gauges = {name: _average([part.gauges[name] for part in parts]) for name in parts[0].gauges}
    latencies = np.sum([part.latencies for part in parts], axis=0)
    if len(latencies):
        gauges |= latency_gauges(latencies)
    return replace(
        parts[0],
        access_hash=int(hash_accesses(np.uint64(0), np.array([part.access_hash for part in parts]).view(np.uint32))),
        counters=counters,
        step_pages=tuple(round(_average(each)) for each in zip(*(part.step_pages for part in parts), strict=True)),
        gauges=gauges,
        ci95=_intervals([part.counters for part in parts], sample),
        latencies=tuple(latencies.tolist()),
    )


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _intervals(groups: Sequence[dict[str, int]], sample: int) -> dict[str, float]:
    """Half the widths of 95 % intervals: t times the standard error of the mean, less what the sample covers itself."""
    rest = math.sqrt(1 - 1 / sample)
    return {
        ci_column(name): T_975
        * rest
        * float(np.std([group[name] for group in groups], ddof=1))
        / math.sqrt(len(groups))
        for name in HEADLINE
    }


Simulate = Callable[[HostSpec], HostResult]


def simulate_sampled(spec: HostSpec, random: np.random.Generator, simulate: Simulate) -> HostResult:
    """The estimate for a host whose ``sample`` is more than 1; ``simulate`` runs one group."""
    return combine(spec, [simulate(group) for group in groups_of(spec, random)])
