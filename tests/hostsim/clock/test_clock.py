"""A host on a clock: the same run as a replay when nothing takes time, and an exact account when it does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldfleet.hostsim.counters.timing import CAUSES, KINDS, RESOURCES, TIMES, WORK, Cause
from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.memory.watch import Watch
from coldfleet.hostsim.spec.host_spec import (
    MONITORS,
    ClockSpec,
    GuestResult,
    GuestSpec,
    HostResult,
    HostSpec,
    NestedSpec,
    PageCacheSpec,
    VmSpec,
    WorkloadSpec,
)
from coldfleet.hostsim.swap.devices import get_device
from coldfleet.policies import POLICIES, get_policy

PAGES, LIMIT = 3000, 1800
TIME = {counter.name for counter in TIMES}
LOADS = [
    WorkloadSpec(kind="zipf", write_share=0.2),
    WorkloadSpec(kind="hotcold", layout="ordered"),
    WorkloadSpec(kind="scan"),
    WorkloadSpec(kind="phases", phase_ticks=2),
]
MODES = ["limit", "proactive", "debugfs", "age", "pressure", "host"]


def host(mode: str = "limit", ticks: int = 6, **changes: Any) -> HostSpec:
    """Four guests, one of them with a nested VM, two of them with two vCPUs."""
    guests = tuple(
        GuestSpec(
            f"g{n}",
            PAGES,
            LIMIT,
            accesses_per_tick=2500,
            workload=load,
            nested=NestedSpec(stop_tick=4) if n == 1 else None,
            kind="process" if n == 3 else "vm",
            vcpus=1 + n % 2,
        )
        for n, load in enumerate(LOADS)
    )
    spec = HostSpec("6.12", guests, ticks, mode=mode, memory_pages=len(guests) * LIMIT if mode == "host" else 0)
    return replace(spec, **changes)


def run(spec: HostSpec, policy: str = "six-steps") -> HostResult:
    return simulate_host(spec, get_policy(policy), seed=5, replicate=0, host=0)


def without_time(guest: GuestResult) -> GuestResult:
    counters = {name: value for name, value in guest.counters.items() if name not in TIME}
    return replace(guest, counters=counters, gauges={}, latencies=())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "change", ["plain", "parent", "async", "file", "extras", "aging", "6.1", "6.18", "monitor", "watermarks"]
)
def test_a_run_in_which_nothing_takes_time_is_a_replay(mode: str, change: str) -> None:
    spec = host(mode)
    guests = spec.guests
    if change == "parent":
        spec = replace(spec, parent_pages=len(guests) * LIMIT)
    elif change == "async":
        spec = replace(spec, swap_device="async")
    elif change == "file":
        spec = replace(spec, guests=tuple(replace(g, page_cache=PageCacheSpec(600, mmap_share=0.5)) for g in guests))
    elif change == "extras":
        spec = replace(spec, guests=tuple(replace(g, vm=VmSpec(tlb_hit=0.1, truth=True)) for g in guests))
    elif change == "aging":
        spec = replace(spec, aging_every_ticks=2)
    elif change == "watermarks":
        spec = replace(spec, memory_pages=len(guests) * (PAGES + LIMIT) // 2)
    elif change == "monitor":
        spec = replace(spec, monitor="idle")
    elif change != "plain":
        spec = replace(spec, kernel=change)
    replay = run(spec)
    timed = run(replace(spec, clock=ClockSpec(batch=300, free=True)))
    assert [without_time(guest) for guest in timed.guests] == [without_time(guest) for guest in replay.guests]


@pytest.mark.parametrize("change", ["plain", "async", "aging", "few CPUs", "locked"])
def test_a_watched_run_is_the_same(change: str) -> None:
    """It makes each batch of accesses from outside of the compiled clock, and its ticks one at a time."""
    spec = host(clock=ClockSpec(5_000_000, batch=300, pcpus=2 if change == "few CPUs" else 0), ticks=12)
    if change == "async":
        spec = replace(spec, swap_device="async")
    elif change == "aging":
        spec = replace(spec, aging_every_ticks=5)
    policy = "locked-6.12" if change == "locked" else "six-steps"
    watched = simulate_host(spec, get_policy(policy), seed=5, replicate=0, host=0, make_memory=Watch)
    assert watched == run(spec, policy)


@settings(max_examples=25, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    tick_ns=st.integers(100_000, 20_000_000),
    access_ns=st.integers(1, 2_000),
    pcpus=st.integers(0, 4),
    batch=st.integers(64, 1024),
    device=st.sampled_from(["zram", "nvme", "remote", "disk"]),
    files=st.lists(st.sampled_from(["", "nvme", "disk", "zram"]), min_size=4, max_size=4),
    readahead=st.sampled_from([0, 2, 32]),
)
def test_every_ns_of_every_vcpu_has_one_cause(
    mode: str, tick_ns: int, access_ns: int, pcpus: int, batch: int, device: str, files: list[str], readahead: int
) -> None:
    clock = ClockSpec(tick_ns, access_ns, pcpus, batch)
    spec = host(mode, ticks=4, clock=clock, swap_device=device, aging_every_ticks=2)
    cache = PageCacheSpec(700, 0.3, "phases", mmap_share=0.5, write_share=0.2, readahead_pages=readahead)
    caches = [replace(cache, device=name) if name else None for name in files]
    spec = replace(
        spec, guests=tuple(replace(guest, page_cache=own) for guest, own in zip(spec.guests, caches, strict=True))
    )
    result = run(spec)
    elapsed = spec.ticks * tick_ns
    busy = 0
    for guest, made_of in zip(result.guests, spec.guests, strict=True):
        times = {cause: guest.counters[name] for cause, (name, _) in CAUSES.items()}
        assert min(guest.counters[name] for name in TIME) >= 0
        assert sum(times.values()) == elapsed * made_of.vcpus
        assert made_of.page_cache or not guest.counters["file_read_stall_ns"]
        for resource in RESOURCES.values():
            some, full = (guest.gauges[f"{resource}_{kind}_ns"] for kind in KINDS)
            assert 0 <= full <= some <= elapsed
        busy += sum(times[Cause(cause)] for cause in WORK)
    if pcpus:
        assert busy <= pcpus * elapsed


def test_a_slow_device_makes_guests_fall_behind() -> None:
    clock = ClockSpec(tick_ns=8_000_000, access_ns=100)
    fast, slow = (run(host(clock=clock, swap_device=device)) for device in ("zram", "nvme"))
    one, other = fast.totals(), slow.totals()
    assert other["swap_in_stall_ns"] > one["swap_in_stall_ns"]
    assert other["behind_ticks"] > one["behind_ticks"]
    assert other["accesses"] < one["accesses"]
    assert slow.gauges["latency_p99_ns"] > fast.gauges["latency_p99_ns"] > fast.gauges["latency_p50_ns"] > 0


def test_guests_share_the_cpus() -> None:
    clock = ClockSpec(tick_ns=5_000_000, access_ns=1_000)
    plenty, few = (run(host(clock=replace(clock, pcpus=cpus))) for cpus in (0, 2))
    assert plenty.totals()["steal_ns"] == 0
    assert few.totals()["steal_ns"] > 0
    assert few.totals()["run_ns"] < plenty.totals()["run_ns"]


def test_faults_slow_each_other_down() -> None:
    """Eight guests that all fault, beside one that does so alone."""
    load = WorkloadSpec(kind="scan")
    clock = ClockSpec(tick_ns=20_000_000, access_ns=100)
    one, many = (
        run(
            HostSpec(
                "6.12",
                tuple(GuestSpec(f"g{n}", PAGES, LIMIT, 2500, workload=load) for n in range(count)),
                8,
                clock=clock,
            )
        )
        for count in (1, 8)
    )
    for result in one, many:
        assert min(guest.counters["pgfault"] for guest in result.guests) > 2 * PAGES
    each = [result.totals()["fault_stall_ns"] / result.totals()["pgfault"] for result in (one, many)]
    assert each[1] > 1.05 * each[0]


def test_an_aging_pass_lasts_while_the_guest_runs_on() -> None:
    big = GuestSpec("big", 200_000, accesses_per_tick=5_000, workload=WorkloadSpec(kind="uniform"))
    tick_ns = 4_000_000
    spec = HostSpec("6.12", (big,), 12, mode="limit", aging_every_ticks=1, clock=ClockSpec(tick_ns, 1_000))
    counters = run(spec, "locked-6.12").totals()
    assert 1 <= counters["aging_passes"] < spec.ticks
    assert counters["aging_pass_ns"] > 2 * tick_ns * counters["aging_passes"]
    assert counters["accesses"] > 200_000 + 3 * 5_000


def test_an_aging_pass_that_has_no_time_to_end_breaks_no_law() -> None:
    guests = (GuestSpec("big", 200_000, accesses_per_tick=5_000, workload=WorkloadSpec(kind="uniform")),)
    spec = HostSpec("6.12", guests, 6, mode="limit", aging_every_ticks=1, clock=ClockSpec(1_000_000, 100))
    counters = simulate_host(spec, get_policy("locked-6.12"), seed=5, replicate=0, host=0, audit=True).totals()
    assert (counters["mm_walks"], counters["aging_passes"]) == (1, 0)


def test_kswapd_reclaims_for_guests_while_it_keeps_up() -> None:
    load = WorkloadSpec(kind="uniform")
    guests = tuple(replace(guest, workload=load, nested=None, vcpus=1) for guest in host("host").guests)
    slow, fast = (ClockSpec(tick_ns=100_000_000, access_ns=access_ns, batch=16) for access_ns in (40_000, 200))
    kept_up, left_behind = (
        run(host("host", guests=guests, clock=clock, watermark_scale_factor=300)) for clock in (slow, fast)
    )
    for result in (kept_up, left_behind):
        assert result.totals()["kswapd_runs"] > 0
        assert 0 < result.totals()["kswapd_cpu_ns"] <= 6 * 100_000_000
    assert 0 <= 5 * kept_up.totals()["allocstall"] < left_behind.totals()["allocstall"]
    assert 0 <= 5 * kept_up.totals()["direct_reclaim_stall_ns"] < left_behind.totals()["direct_reclaim_stall_ns"]
    assert 0 <= 5 * kept_up.gauges["psi_some_ns"] < left_behind.gauges["psi_some_ns"]


@pytest.mark.parametrize("monitor", MONITORS)
def test_an_access_monitor_has_no_more_than_a_cpu(monitor: str) -> None:
    truth = tuple(replace(guest, vm=VmSpec(truth=True)) for guest in host().guests)
    spec = host(guests=truth, monitor=monitor)
    slow, fast = (
        run(replace(spec, clock=ClockSpec(tick_ns=tick_ns, access_ns=10))).totals() for tick_ns in (5_000, 50_000_000)
    )
    most_at_once_ns = fast["monitor_cpu_ns"] / spec.ticks  # what it has begun it does to its end
    assert 0 < slow["monitor_cpu_ns"] <= spec.ticks * 5_000 + most_at_once_ns
    assert slow["monitor_asked"] < fast["monitor_asked"]


def test_a_monitor_under_mmu_lock_holds_up_vcpus() -> None:
    truth = tuple(replace(guest, vm=VmSpec(truth=True)) for guest in host().guests)
    clock = ClockSpec(tick_ns=10_000_000, access_ns=100)
    alone, beside = (run(host(guests=truth, clock=clock, monitor=monitor), "locked-6.12") for monitor in ("", "idle"))
    assert beside.totals()["mmu_lock_hold_ns"] > alone.totals()["mmu_lock_hold_ns"]
    assert beside.totals()["lock_stall_ns"] > alone.totals()["lock_stall_ns"]


def lone(vcpus: int = 1, **changes: Any) -> HostSpec:
    """Guests that reclaim their own memory, and nothing else ages it; the first and the last run nested VMs."""
    guests = tuple(
        replace(guest, vcpus=vcpus, kind="vm", nested=NestedSpec() if n != 1 else None)
        for n, guest in enumerate(host().guests)
    )
    return host(guests=guests, clock=ClockSpec(5_000_000, 100, batch=300), **changes)


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_a_lone_vcpu_that_nobody_else_ages_never_waits_for_mmu_lock(policy: str, kernel: str) -> None:
    guests = run(lone(kernel=kernel), policy).guests
    assert all(guest.counters["direct_reclaim_stall_ns"] > 0 for guest in guests)
    assert [guest.counters["lock_stall_ns"] for guest in guests] == [0] * len(guests)


LONE_VMS = [
    VmSpec(),
    VmSpec(tdp=False),
    VmSpec(truth=True, lock_contended=0.5),
    VmSpec(numa_zap_share=0.2),
]


@settings(max_examples=20, deadline=None)
@given(
    policy=st.sampled_from(sorted(POLICIES)),
    kernel=st.sampled_from(sorted(KERNELS)),
    vm=st.sampled_from(LONE_VMS),
    tick_ns=st.sampled_from([20_000, 1_000_000, 1_000_000_000]),
    pcpus=st.integers(0, 2),
    batch=st.sampled_from([64, 1 << 20]),
    arrives=st.sampled_from([0, 2]),
    file=st.booleans(),
    lru_gen=st.booleans(),
)
def test_nothing_makes_a_lone_vcpu_wait_for_itself(
    policy: str,
    kernel: str,
    vm: VmSpec,
    tick_ns: int,
    pcpus: int,
    batch: int,
    arrives: int,
    file: bool,
    lru_gen: bool,
) -> None:
    spec = lone(kernel=kernel, lru_gen=lru_gen)
    cache = PageCacheSpec(700, 0.3, mmap_share=0.5, write_share=0.2) if file else None
    guests = tuple(replace(guest, vm=vm, arrives=arrives, page_cache=cache) for guest in spec.guests)
    spec = replace(spec, guests=guests, clock=ClockSpec(tick_ns, 100, pcpus, batch))
    assert run(spec, policy).totals()["lock_stall_ns"] == 0


@pytest.mark.parametrize("beside", ["vcpus", "aging", "parent", "proactive", "host", "device"])
def test_a_vcpu_waits_for_others_under_mmu_lock(beside: str) -> None:
    spec = lone(vcpus=2) if beside == "vcpus" else lone()
    if beside == "aging":
        spec = replace(spec, aging_every_ticks=1)
    elif beside == "parent":
        spec = replace(spec, parent_pages=len(spec.guests) * LIMIT * 3 // 4)
    elif beside == "proactive":
        spec = replace(spec, mode="proactive")
    elif beside == "host":
        spec = replace(spec, mode="host", memory_pages=len(spec.guests) * LIMIT)
    elif beside == "device":  # reclaims for what it accesses
        vm = VmSpec(subscribers=("kvm", "slow device"), device_share=0.2)
        spec = replace(spec, guests=tuple(replace(guest, vm=vm) for guest in spec.guests))
    assert run(spec, "locked-6.12").totals()["lock_stall_ns"] > 0


def test_pages_are_freed_as_fast_as_the_device_writes() -> None:
    clock = ClockSpec(tick_ns=2_000_000, access_ns=100)
    counters = run(host("proactive", ticks=10, clock=clock, swap_device="async", guests=host().guests[2:3])).totals()
    device = get_device("async")
    moved = device.pages_per_s * 10 * clock.tick_ns / 1e9
    assert counters["reclaim_write_waits"] > 0
    assert counters["write_wait_ns"] == pytest.approx(
        counters["reclaim_write_waits"] / device.pages_per_s * 1e9, rel=1e-3
    )
    assert 0 < counters["pgsteal"] <= moved + counters["reclaim_write_waits"]


def test_pressure_follows_the_stalls() -> None:
    clock = ClockSpec(tick_ns=1_000_000_000, access_ns=1_000)
    calm = run(host(ticks=10, clock=clock, guests=tuple(replace(g, limit_pages=0) for g in host().guests)))
    pressed = run(host(ticks=10, clock=replace(clock, tick_ns=20_000_000, pcpus=2), swap_device="nvme"))
    assert calm.gauges["psi_some_ns"] == 0
    assert pressed.gauges["psi_some_ns"] > pressed.gauges["psi_full_ns"] > 0


def test_reclaim_by_age_takes_what_nobody_touches() -> None:
    load = WorkloadSpec(kind="hotcold", hot_share=0.25, hot_access_share=1.0)
    guest = GuestSpec("g", PAGES, accesses_per_tick=6000, workload=load)
    counters = run(HostSpec("6.12", (guest,), 12, mode="age", period_ticks=2)).totals()
    assert counters["resident_pages"] < 0.3 * PAGES
    assert counters["pgmajfault"] < 0.02 * PAGES


def test_pressure_stops_reclaim_at_its_target() -> None:
    load = WorkloadSpec(kind="uniform")
    guest = GuestSpec("g", 40_000, accesses_per_tick=2_000, workload=load)
    clock = ClockSpec(tick_ns=1_000_000_000, access_ns=1_000)
    spec = HostSpec("6.12", (guest,), 120, mode="pressure", period_ticks=1, clock=clock, swap_device="nvme")
    strict, lax = (run(replace(spec, psi_target=target)) for target in (0.01, 50.0))
    assert 0 < strict.totals()["pswpout"] < lax.totals()["pswpout"]
    assert strict.gauges["psi_some_ns"] < lax.gauges["psi_some_ns"]
