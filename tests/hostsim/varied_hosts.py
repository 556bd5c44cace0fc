"""Hosts of all sorts, drawn at random, on which sampled scale is judged."""

from __future__ import annotations

import random
from dataclasses import replace

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.spec.host_spec import (
    DRAWN_KINDS,
    RECLAIM_MODES,
    ClockSpec,
    GuestSpec,
    HostSpec,
    NestedSpec,
    PageCacheSpec,
    WorkloadSpec,
)

GIB = 262_144  # pages
POLICIES = ("six-steps", "locked-6.12", "evict-only", "was-fast", "lockless-6.15", "fast-only-v5")
LIMITED_SHARE = 0.75  # of the host's memory that its guests need, where only the host is short of it


def varied_hosts(seed: int, count: int, sizes_gib: tuple[int, ...]) -> list[tuple[HostSpec, str]]:
    """So many hosts, each with the name of a policy; their guests have one of these sizes each."""
    draws = random.Random(seed)
    return [(_host(draws, sizes_gib), draws.choice(POLICIES)) for _ in range(count)]


def _host(draws: random.Random, sizes_gib: tuple[int, ...]) -> HostSpec:
    mode = draws.choice(RECLAIM_MODES)
    guests = tuple(_guest(draws, number, sizes_gib) for number in range(draws.randint(2, 4)))
    timed = mode == "pressure" or draws.random() < 0.3
    spec = HostSpec(
        draws.choice(tuple(KERNELS)),
        guests,
        ticks=draws.choice((6, 8, 12)),
        mode=mode,
        aging_every_ticks=draws.choice((0, 0, 1, 3)),
        period_ticks=draws.choice((2, 3, 6)),
        clock=ClockSpec(access_ns=draws.choice((500, 1000)), pcpus=draws.choice((0, 8))) if timed else None,
        swap_device=draws.choice(("zram", "zram", "nvme")),
    )
    needed = sum(guest.memory_pages + (guest.page_cache.pages if guest.page_cache else 0) for guest in guests)
    if mode == "host":
        return replace(spec, memory_pages=round(LIMITED_SHARE * needed))
    if mode in ("limit", "proactive") and draws.random() < 0.15:
        unlimited = tuple(replace(guest, limit_pages=0) for guest in guests)
        return replace(spec, guests=unlimited, parent_pages=sum(guest.limit_pages for guest in guests))
    if mode in ("limit", "proactive") and draws.random() < 0.1:
        return replace(spec, lru_gen=False, aging_every_ticks=0)
    return spec


def _guest(draws: random.Random, number: int, sizes_gib: tuple[int, ...]) -> GuestSpec:
    pages = draws.choice(sizes_gib) * GIB
    load = WorkloadSpec(
        kind=draws.choice(DRAWN_KINDS),
        skew=draws.choice((0.6, 0.8, 0.9, 1.1)),
        hot_share=draws.choice((0.1, 0.2, 0.4)),
        hot_access_share=draws.choice((0.6, 0.8, 0.95)),
        phase_ticks=draws.choice((2, 3, 6)),
        write_share=draws.choice((0.0, 0.2, 0.5)),
        layout=draws.choice(("shuffled", "shuffled", "ordered")),
    )
    nested = NestedSpec(access_share=draws.choice((0.2, 0.5, 0.9))) if draws.random() < 0.4 else None
    return GuestSpec(
        f"guest{number}",
        pages,
        limit_pages=round(pages / draws.choice((1.1, 1.3, 1.5, 2.0))),
        accesses_per_tick=pages // draws.choice((1, 2, 4)),
        kind="vm" if nested or draws.random() < 0.85 else "process",
        workload=load,
        nested=nested,
        page_cache=PageCacheSpec(pages // 4) if draws.random() < 0.15 else None,
        vcpus=draws.choice((1, 2, 4)),
    )
