"""Idle page tracking, khugepaged and DAMON: what they find, and what they take away from MGLRU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.monitors.damon import Damon
from coldfleet.hostsim.monitors.damos import Region
from coldfleet.hostsim.spec.host_spec import GuestSpec, HostSpec, NestedSpec, VmSpec, WorkloadSpec
from coldfleet.policies import get_policy

NESTED = NestedSpec(access_share=0.5, exposed_share=0.5, l2_only_share=0.25)
GUEST = GuestSpec("g", 2048, 2048, 2000, workload=WorkloadSpec(layout="ordered"), vm=VmSpec(truth=True))


def run(monitor: str, policy: str = "lockless-6.15", guest: GuestSpec = GUEST, **spec: object) -> dict[str, int]:
    settings: dict[str, object] = {"ticks": 9, "mode": "proactive", "monitor": monitor, **spec}
    host = HostSpec(str(settings.pop("kernel", "6.12")), (guest,), **settings)  # type: ignore[arg-type]
    return simulate_host(host, get_policy(policy), seed=3, replicate=0, host=0).totals()


@pytest.mark.parametrize("monitor", ["idle", "damon-vaddr", "damon-paddr"])
@pytest.mark.parametrize("policy", ["evict-only", "fast-only-v5", "locked-6.12", "lockless-6.15"])
def test_alone_a_monitor_makes_no_mistake_whatever_the_policy(monitor: str, policy: str) -> None:
    found = run(monitor, policy, replace(GUEST, nested=NESTED))
    assert found["monitor_young"] > 0
    assert found["monitor_asked"] > found["monitor_young"]
    assert found["monitor_missed_young"] == found["monitor_false_young"] == 0
    assert found["notifier_calls_monitor"] > 0


def test_the_call_takes_the_locks_that_the_policy_s_kvm_takes() -> None:
    locked, lockless = run("idle", "locked-6.12"), run("idle", "lockless-6.15")
    assert locked["mmu_lock_write_acquisitions"] == locked["notifier_calls_monitor"] > 0
    assert lockless["mmu_lock_write_acquisitions"] == 0


def test_numa_balancing_makes_idle_page_tracking_miss_pages() -> None:
    zapped = replace(GUEST, vm=VmSpec(truth=True, numa_zap_share=0.5))
    assert run("idle", guest=zapped, kernel="6.18")["monitor_missed_young"] > 0


def test_a_test_that_forgets_the_shadow_mmu_blinds_damon() -> None:
    forgetful = get_policy("lockless-6.15")
    forgetful = replace(forgetful, name="tdp-only", steps=forgetful.steps[:1])
    guest = replace(GUEST, nested=replace(NESTED, access_share=1.0))
    host = HostSpec("6.12", (guest,), ticks=60, mode="proactive", monitor="damon-vaddr")
    blind, sees = (
        simulate_host(host, chosen, seed=3, replicate=0, host=0).totals()
        for chosen in (forgetful, get_policy("lockless-6.15"))
    )
    assert blind["monitor_missed_young"] > 0 == sees["monitor_missed_young"]
    assert blind["damon_rate_error"] > sees["damon_rate_error"] > 0


def test_khugepaged_only_looks() -> None:
    guest = replace(GUEST, nested=NESTED)
    found = run("khugepaged", guest=guest)
    assert found["collapse_candidates"] > 0
    assert found["monitor_missed_young"] == 0
    nobody = run("", guest=guest)
    mglru = ("young_walk", "young_evict", "pgmajfault", "pgactivate", "missed_young_walk")
    assert {name: found[name] for name in mglru} == {name: nobody[name] for name in mglru}


def test_idle_page_tracking_hides_pages_from_the_walk_but_not_from_the_eviction_check() -> None:
    guest = replace(GUEST, limit_pages=1200, nested=NESTED)
    found = run("idle", guest=guest, mode="debugfs", ticks=12)
    assert found["missed_young_walk"] == 0  # it comes after the walk of its tick
    late = run("idle", guest=guest, mode="limit", aging_every_ticks=3, ticks=12)
    assert late["missed_young_walk"] > 0
    assert late["monitor_missed_young"] > 0  # MGLRU takes from the monitor, too


def damon(pages: int = 1000) -> Damon:
    return Damon({0: slice(0, pages)}, key=np.uint64(5), host=0)


def test_regions_cover_the_target_without_gaps_as_they_split_and_merge() -> None:
    d = damon()
    for threshold in (1, 2, 20):
        d._split()
        for number, region in enumerate(d.regions):
            region.nr_accesses = number % 3
        d._merge(threshold)
        assert [region.first for region in d.regions] == [0, *(region.end for region in d.regions[:-1])]
        assert d.regions[-1].end == 1000
        assert max(region.pages for region in d.regions) <= d.largest


def test_neighbours_that_are_alike_merge_with_the_mean_of_their_counts() -> None:
    d = damon()
    d.regions = [Region(0, 30, 10), Region(30, 40, 6), Region(40, 90, 0), Region(90, 1000, 20)]
    d._merge(4)
    assert [(r.first, r.end, r.nr_accesses) for r in d.regions] == [(0, 40, 9), (40, 90, 0), (90, 1000, 20)]


def test_splitting_stops_at_half_of_the_most_regions() -> None:
    d = damon(100_000)
    for _ in range(12):
        d._split()
    assert 500 < len(d.regions) <= 1500
    before = list(d.regions)
    d._split()
    assert d.regions == before
