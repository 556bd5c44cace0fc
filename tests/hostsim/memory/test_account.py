"""The account of a guest's memory: what its pages, the pool and the kernel take of DRAM, tick by tick."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coldfleet.cluster.study.fleet import build_hosts
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.spec.host_spec import CompressionSpec, GuestResult, HostSpec
from coldfleet.policies import get_policy

PAGES = 2048
TICKS = 6
PER_TABLE = 512


def plan(**keys: object) -> Plan:
    return read_study(
        {
            "ticks": TICKS,
            "policy": "lockless-6.15",
            "overcommit": 2.0,
            "fleet": {"hosts": 1, "guests_per_host": 2},
            "guest": {"memory": f"{PAGES} pages", "accesses_per_tick": 4096},
            **keys,
        }
    )


def host(**keys: object) -> HostSpec:
    return build_hosts(plan(**keys).run(0))[0]


def run(spec: HostSpec) -> tuple[GuestResult, ...]:
    return simulate_host(spec, get_policy("lockless-6.15"), seed=1, replicate=0, host=0, audit=spec.sample == 1).guests


def mean(guest: GuestResult, what: str) -> float:
    return guest.counters[f"{what}_page_ticks"] / TICKS


@pytest.mark.parametrize("timed", [False, True])
def test_what_does_not_compress_takes_as_much_as_before(timed: bool) -> None:
    clock = {"clock": {"mode": "timed"}} if timed else {}
    for guest in run(replace(host(**clock), compression=CompressionSpec(incompressible_share=1.0))):
        both = mean(guest, "resident") + mean(guest, "pool")
        assert both == pytest.approx(PAGES, abs=1), "but for one that may be in the swap cache"
        assert mean(guest, "pool") > PAGES / 3


def test_doubling_the_ratio_halves_the_pool_and_same_filled_pages_take_none() -> None:
    pools = [
        mean(run(replace(host(), compression=CompressionSpec(ratio, 0.0, 0.0, same)))[0], "pool")
        for ratio, same in ((2.0, 0.0), (4.0, 0.0), (4.0, 1.0))
    ]
    assert pools[1] == pytest.approx(pools[0] / 2, rel=0.05)
    assert pools[2] == 0


def test_a_device_that_is_no_memory_takes_none() -> None:
    assert all(mean(guest, "pool") == 0 for guest in run(host(swap={"device": "nvme"})))


def test_kernel_memory_is_the_page_tables_of_the_primary_mmu_and_of_kvm() -> None:
    leaves, above = PAGES // PER_TABLE, 2
    plain = run(host())[0]
    assert mean(plain, "kernel") == 2 * (leaves + above)  # primary MMU and TDP MMU
    nested = run(host(nested_ratio=1, nested={"exposed_share": 1.0}))[0]
    assert mean(nested, "kernel") == pytest.approx(2 * (leaves + above) + nested.counters["indirect_shadow_pages"])
    assert nested.counters["indirect_shadow_pages"] == leaves + 3


def test_used_and_free_memory_are_the_host_s() -> None:
    spec = replace(host(reclaim={"mode": "host"}, output={"epochs": "on"}), compression=CompressionSpec(2.0, 0.0, 0.0))
    result = simulate_host(spec, get_policy("lockless-6.15"), seed=1, replicate=0, host=0, audit=True)
    used = sum(mean(guest, what) for guest in result.guests for what in ("resident", "pool", "kernel"))
    free = sum(epoch.free_pages for epoch in result.epochs) / TICKS
    tdp_tables = 2 * (PAGES // PER_TABLE + 2)  # the engine takes them from no host's memory
    assert used + free - tdp_tables == pytest.approx(spec.memory_pages, abs=1)


def test_a_sample_estimates_the_account() -> None:
    big = {"memory": "16384 pages", "accesses_per_tick": 16384}
    whole, sample = (run(host(guest=big, host={"sample": each}))[0] for each in ("1", "1/4"))
    for what, tolerance in (("resident", 0.05), ("pool", 0.1), ("kernel", 0.1)):
        assert mean(sample, what) == pytest.approx(mean(whole, what), rel=tolerance)
