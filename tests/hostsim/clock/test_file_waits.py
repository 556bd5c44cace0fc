"""Guests that wait for their files, writes at a device's speed, and faults that a nested VM makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.spec.calibration import DEFAULT
from coldfleet.hostsim.spec.host_spec import (
    ClockSpec,
    GuestSpec,
    HostResult,
    HostSpec,
    NestedSpec,
    PageCacheSpec,
    WorkloadSpec,
)
from coldfleet.hostsim.swap.devices import get_device
from coldfleet.policies import get_policy

FILE, LIMIT = 2000, 1600
CLOCK = ClockSpec(tick_ns=50_000_000, access_ns=1_000)


def host(device: str = "nvme", *, limit: int = LIMIT, ticks: int = 8, **cache: Any) -> HostSpec:
    """A guest with little memory of its own and a file that doesn't fit beside it."""
    file = PageCacheSpec(FILE, **{"access_share": 0.5, "device": device, "kind": "uniform", **cache})
    load = WorkloadSpec(kind="uniform", layout="ordered")
    guest = GuestSpec("g", 512, limit, 2000, workload=load, page_cache=file)
    return HostSpec("6.12", (guest,), ticks, swappiness=0, clock=CLOCK)


def run(spec: HostSpec) -> HostResult:
    return simulate_host(spec, get_policy("six-steps"), seed=5, replicate=0, host=0)


def test_a_read_takes_what_its_device_takes() -> None:
    waits = {}
    for name in ("zram", "remote", "nvme", "async"):
        counters = run(host(name)).totals()
        waits[name] = counters["file_read_stall_ns"] / counters["file_read_requests"]
        device = get_device(name)
        assert 0.9 * device.read_ns < waits[name] < 1.5 * device.read_ns
    assert sorted(waits.values()) == list(waits.values())


def test_a_guest_on_a_disk_falls_behind() -> None:
    clock = replace(CLOCK, batch=16)
    fast, slow = (run(replace(host(name), clock=clock)).totals() for name in ("nvme", "disk"))
    assert slow["accesses"] < fast["accesses"]
    assert slow["behind_ticks"] > 0
    most = get_device("disk").pages_per_s * 8 * CLOCK.tick_ns / 1e9
    assert slow["file_read_requests"] < 0.1 * fast["file_read_requests"]
    assert slow["file_read_requests"] < 1.5 * most + clock.batch


def test_readahead_shortens_the_waits_of_a_reader_in_order() -> None:
    alone, ahead = (run(host(kind="scan", readahead_pages=pages)).totals() for pages in (0, 32))
    assert ahead["file_read_requests"] < 0.1 * alone["file_read_requests"]
    assert 0 < ahead["file_read_stall_ns"] < 0.2 * alone["file_read_stall_ns"]


def test_first_reads_are_pressure_on_io_and_refaults_on_memory_too() -> None:
    first = run(host(limit=0))
    assert first.totals()["workingset_refault_file"] == 0
    assert first.gauges["psi_some_ns"] == 0 < first.gauges["psi_io_some_ns"]
    again = run(host())
    assert 0 < again.totals()["thrashing_waits"] <= again.totals()["file_read_requests"]
    assert 0 < again.gauges["psi_some_ns"] < again.gauges["psi_io_some_ns"]
    assert again.gauges["psi_io_some_ns"] == pytest.approx(again.totals()["file_read_stall_ns"], rel=0.1)


def test_first_reads_wait_without_reclaim_as_well() -> None:
    counters = run(host(limit=0)).totals()
    busy = sum(counters[f"{name}_ns"] for name in ("run", "fault_stall", "file_read_stall"))
    assert counters["unreclaimed_ns"] == pytest.approx(busy, rel=0.02)


def test_dirty_pages_are_written_as_fast_as_their_device_writes() -> None:
    writes = replace(host("disk", write_share=1.0), flush_every_ticks=1)
    slow = run(writes).totals()
    fast = run(replace(writes, guests=host("nvme", write_share=1.0).guests)).totals()
    assert 0 < slow["reclaim_file_write_waits"] == slow["reclaim_write_waits"]
    pages_per_s = get_device("disk").pages_per_s
    assert slow["write_wait_ns"] == pytest.approx(slow["reclaim_file_write_waits"] / pages_per_s * 1e9, rel=1e-3)
    assert slow["direct_reclaim_stall_ns"] > 5 * fast["direct_reclaim_stall_ns"]
    assert slow["accesses"] < fast["accesses"]


def nested(by_l2: float, start_tick: int) -> dict[str, int]:
    """A guest whose pages are touched for the first time on the clock, by L2 or by L1."""
    shares = NestedSpec(by_l2, 1.0, 1.0, start_tick=start_tick)
    guest = GuestSpec("g", 4096, 0, 2000, workload=WorkloadSpec(kind="uniform"), nested=shares)
    return run(HostSpec("6.12", (guest,), 4, clock=CLOCK)).totals()


def test_a_fresh_page_costs_l2_twice_what_it_costs_l1() -> None:
    counters = nested(1.0, start_tick=1)
    assert counters["nested_faults"] == counters["shadow_faults"] == 4096
    by_l1 = 4096 * DEFAULT.fault_ns
    assert counters["fault_stall_ns"] == pytest.approx(2.05 * by_l1, rel=1e-3)
    assert counters["fault_cpu_ns"] == pytest.approx(2.05 * by_l1, rel=1e-3)


def test_a_refault_of_l2_costs_more_than_one_of_l1() -> None:
    guest = GuestSpec("g", 1024, 700, 2000, workload=WorkloadSpec(kind="uniform"))
    shares = NestedSpec(1.0, 1.0, 1.0)
    l1, l2 = (
        run(HostSpec("6.12", (each,), 4, clock=CLOCK)).totals() for each in (guest, replace(guest, nested=shares))
    )
    assert l1["unreclaimed_ns"] == l2["unreclaimed_ns"] == l1["run_ns"]
    assert l1["nested_faults"] == 0 < l2["nested_faults"] == l2["shadow_faults"]
    assert l2["fault_stall_ns"] / l2["pgfault"] == pytest.approx(2.05 * l1["fault_stall_ns"] / l1["pgfault"], rel=0.01)
