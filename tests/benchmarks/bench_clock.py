"""How fast a host on a clock is: ``python -m tests.benchmarks.bench_clock [full|sampled|turnover] [--profile]``.

* full: a host of 64 GiB at full scale, 16 guests of which 15 % run a nested VM, a million touches a second by each;
* sampled: hosts at 1/256 and 1/512 of their page tables, a day each in ticks of a minute; scaled to 1,000 hosts;
* turnover: two hours of a host at 1/256 whose guests come and go, and want half as much again as its memory: so kswapd
  has to keep up all the time.

Times are CPU seconds of one process, populating included where it says so; the first run compiles the engine.
"""

from __future__ import annotations

import cProfile
import pstats
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.spec.host_spec import ClockSpec, GuestSpec, HostResult, HostSpec, NestedSpec, WorkloadSpec
from coldfleet.policies import get_policy

GIB_PAGES = 1 << 18
SECOND_NS = 1_000_000_000
HOT = WorkloadSpec(kind="hotcold", hot_share=0.6, hot_access_share=0.98, write_share=0.2)
POLICY = get_policy("six-steps")


def guests(count: int, accesses_per_tick: int, nested: frozenset[int], vcpus: int = 1) -> tuple[GuestSpec, ...]:
    """Guests of 4 GiB, limited to 1/1.25 of that; those with these numbers run a nested VM."""
    return tuple(
        GuestSpec(
            f"g{n}",
            4 * GIB_PAGES,
            int(4 * GIB_PAGES / 1.25),
            accesses_per_tick=accesses_per_tick,
            workload=HOT,
            nested=NestedSpec() if n in nested else None,
            vcpus=vcpus,
        )
        for n in range(count)
    )


def full_host(seconds: int) -> HostSpec:
    """64 GiB in 16 guests, of which 15 % run a nested VM, aged every 5 seconds."""
    nested = frozenset(n for n in range(16) if n * 15 // 100 < (n + 1) * 15 // 100)
    clock = ClockSpec(SECOND_NS, access_ns=1000, batch=1 << 15)
    return HostSpec("6.12", guests(16, 1_000_000, nested, vcpus=4), seconds, aging_every_ticks=5, clock=clock)


def sampled_host(ticks: int, sample: int = 256) -> HostSpec:
    """Four such guests, one of them with a nested VM, in minutes with 10,000 touches a second each."""
    clock = ClockSpec(60 * SECOND_NS, access_ns=1000, batch=1 << 20)
    specs = guests(4, 600_000, frozenset({0}))
    return HostSpec("6.12", specs, ticks, aging_every_ticks=10, clock=clock, sample=sample)


def turnover_host(ticks: int) -> HostSpec:
    """140 GiB for 210 GiB of guests of 2 to 16 GiB, each of whom stays some hours, and is followed by others."""
    random = np.random.default_rng(1)
    guests: list[GuestSpec] = []
    load = replace(HOT, hot_share=0.4)
    for tick in range(ticks):
        room = 210 * GIB_PAGES - sum(guest.memory_pages for guest in guests if not guest.leaves or guest.leaves > tick)
        while room > 2 * GIB_PAGES:
            pages = min(int(random.integers(2, 17)) * GIB_PAGES, room)
            leaves = tick + 1 + int(random.exponential(210))
            guest = GuestSpec(f"g{len(guests)}", pages, accesses_per_tick=1_400_000, workload=load, vcpus=2)
            guests.append(replace(guest, arrives=tick, leaves=leaves if leaves <= ticks else 0))
            room -= pages
    clock = ClockSpec(60 * SECOND_NS, access_ns=1000, batch=1 << 20)
    return HostSpec("6.12", tuple(guests), ticks, mode="host", memory_pages=140 * GIB_PAGES, clock=clock, sample=256)


def timed(spec: HostSpec, host: int = 0) -> tuple[float, HostResult]:
    """CPU seconds of a run, and its result."""
    start = time.process_time()
    result = simulate_host(spec, POLICY, seed=1, replicate=0, host=host)
    return time.process_time() - start, result


def bench_full(seconds: int = 10) -> None:
    """Simulated seconds for each CPU second, without the tick that populates."""
    populating, _ = timed(full_host(1))
    whole, result = timed(full_host(1 + seconds))
    totals = result.totals()
    per_second = (whole - populating) / seconds
    rss_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    print(f"full: {per_second:.2f} CPU s a simulated second; populating and the first: {populating:.1f} s")
    print(f"      {totals['pgmajfault']:,} refaults, {totals['walk_ptes']:,} PTEs walked; {rss_gib:.2f} GiB")


def bench_sampled(ticks: int = 1440, hosts: int = 12) -> None:
    """Core-minutes for 1,000 hosts, by the mean of some."""
    for sample in (256, 512):
        each = sorted(timed(sampled_host(ticks, sample), host)[0] for host in range(hosts))
        mean = sum(each) / hosts
        print(f"1/{sample}: {mean:.2f} CPU s a host of {ticks} ticks, {each[0]:.2f} to {each[-1]:.2f}")
        print(f"       {mean * 1000 / 60:.1f} core-minutes for 1,000 hosts")


def bench_turnover(ticks: int = 120) -> None:
    """CPU seconds of a host whose guests come and go."""
    timed(turnover_host(2))
    spec = turnover_host(ticks)
    seconds, result = timed(spec)
    totals = result.totals()
    print(f"turnover: {seconds:.2f} CPU s for {ticks} ticks, {len(spec.guests)} guests")
    print(f"       {totals['pgmajfault']:,} refaults, {totals['kswapd_runs']:,} runs of kswapd")


def main(what: list[str]) -> None:
    """Warms up, then runs what is asked for."""
    timed(sampled_host(20))
    profile = cProfile.Profile()
    if "--profile" in what:
        profile.enable()
    named: dict[str, Callable[[], None]] = {"full": bench_full, "sampled": bench_sampled, "turnover": bench_turnover}
    for name, bench in named.items():
        if name in what or not named.keys() & set(what):
            bench()
    if "--profile" in what:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(18)


if __name__ == "__main__":
    main(sys.argv[1:])
