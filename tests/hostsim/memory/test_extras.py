"""Guests that are more than plain VMs: MMU modes, SPTEs without A/D bits, shared pages, TLBs, races, NUMA balancing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coldfleet.hostsim.counters.counters import COUNTERS
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.spec.host_spec import GuestSpec, HostSpec, NestedSpec, VmSpec, WorkloadSpec
from coldfleet.policies import get_policy

TRUTH = (
    "wrong_evictions", "resident_samples", "too_old_ticks", "too_young_ticks", "cold_samples", "cold_found",
    "cold_mistaken",
)  # fmt: skip
NESTED = NestedSpec(access_share=0.5, exposed_share=0.5, l2_only_share=0.25)
GUEST = GuestSpec("g", 1500, 900, 3000, workload=WorkloadSpec(write_share=0.2), nested=NESTED)


def run(
    policy: str, guest: GuestSpec = GUEST, kernel: str = "6.12", mode: str = "debugfs", **vm: Any
) -> dict[str, int]:
    spec = HostSpec(kernel, (replace(guest, vm=VmSpec(**vm)),), ticks=6, mode=mode)
    return simulate_host(spec, get_policy(policy), seed=3, replicate=0, host=0).totals()


@pytest.mark.parametrize("mode", ["limit", "proactive", "debugfs"])
@pytest.mark.parametrize("guest", [GUEST, replace(GUEST, nested=None), replace(GUEST, kind="process", nested=None)])
@pytest.mark.parametrize("tdp", [True, False])
@pytest.mark.parametrize(("policy", "kernel"), [("locked-6.12", "6.12"), ("fast-only-v5", "6.18")])
def test_looking_at_the_truth_changes_nothing(policy: str, kernel: str, tdp: bool, guest: GuestSpec, mode: str) -> None:
    plain = run(policy, guest, kernel, mode, tdp=tdp)
    watched = run(policy, guest, kernel, mode, tdp=tdp, truth=True)
    assert {name for name in plain if plain[name] != watched[name]} <= set(TRUTH)
    assert watched["resident_samples"] > 0
    assert not any(plain[name] for name in TRUTH)


def test_without_the_tdp_mmu_the_shadow_mmu_maps_everything() -> None:
    found = run("lockless-6.15", tdp=False)
    assert found["tdp_faults"] == found["rcu_walks"] == 0
    assert found["shadow_faults"] > 0


def test_where_l1_shadows_its_l2_kvm_sees_no_nested_vm() -> None:
    found = run("fast-only-v5", l1_shadow_paging=True)
    assert found["shadow_faults"] == found["notifier_failed"] == found["missed_young_walk"] == 0
    assert found["l2_accesses"] > 0
    assert run("fast-only-v5")["missed_young_walk"] > 0


@pytest.mark.parametrize("vm", [{"no_ad_share": 1.0}, {"accessed_bits": False}])
def test_a_page_without_ad_bits_costs_a_fault_after_each_aging(vm: dict[str, Any]) -> None:
    found = run("lockless-6.15", **vm)
    assert found["access_track_faults"] > 0
    plain = run("lockless-6.15")
    assert plain["access_track_faults"] == 0
    assert found["missed_young_walk"] == found["false_young_walk"] == 0
    assert found["pgmajfault"] == plain["pgmajfault"]  # only slower, not worse


def test_to_v7_a_page_without_ad_bits_is_young_until_eviction_checks_it() -> None:
    assert run("fast-only-v7")["false_young_walk"] == 0
    found = run("fast-only-v7", no_ad_share=1.0)
    assert found["false_young_walk"] > 500


def test_v5_doesn_t_even_ask_where_kvm_has_no_accessed_bits() -> None:
    guest = replace(GUEST, nested=None)
    assert run("fast-only-v5", guest, accessed_bits=False)["notifier_calls_walk"] == 0
    assert run("fast-only-v5", guest)["notifier_calls_walk"] > 0


def test_an_rmap_with_several_sptes_is_lost_on_single_rmap_alone() -> None:
    assert run("single-rmap", mode="limit")["missed_young_evict"] == 0
    assert run("single-rmap", mode="limit", shared_share=1.0)["missed_young_evict"] > 0
    assert run("three-steps", shared_share=1.0)["missed_young_evict"] == 0
    assert run("three-steps", shared_share=1.0)["missed_young_walk"] > run("three-steps")["missed_young_walk"] == 0


def test_lockless_aging_pays_for_each_spte_of_a_shared_page() -> None:
    alone, shared = run("lockless-6.15"), run("lockless-6.15", shared_share=1.0, shared_by=5)
    assert shared["rmap_sptes"] == 5 * alone["rmap_sptes"] > 0
    assert shared["shadow_faults"] == 5 * alone["shadow_faults"]
    assert shared["rmap_lock_acquisitions"] == alone["rmap_lock_acquisitions"]


def test_a_tlb_hides_accesses_unless_the_call_flushes_it() -> None:
    assert run("lockless-6.15")["tlb_hidden"] == 0
    found = run("lockless-6.15", tlb_hit=0.5)
    assert found["tlb_hidden"] > 0
    assert found["missed_young_walk"] > 0
    assert run("evict-only", tlb_hit=0.5)["tlb_hidden"] == 0


def test_a_race_loses_accesses_and_brings_cleared_bits_back() -> None:
    found = run("lockless-6.15", race=0.2)
    assert found["missed_young_walk"] > 0
    assert found["false_young_walk"] > 0
    assert run("lockless-6.15", race=1e-4)["missed_young_walk"] < found["missed_young_walk"]


def test_a_contended_lock_makes_try_lock_miss_what_l2_touches() -> None:
    assert run("try-lock")["missed_young_walk"] == 0
    found = run("try-lock", lock_contended=0.5)
    assert found["missed_young_walk"] > 0
    assert found["missed_young_evict"] == 0
    assert run("lockless-6.15", lock_contended=0.5) == run("lockless-6.15", lock_contended=1e-9)


def test_numa_balancing_loses_accesses_since_6_13() -> None:
    assert run("lockless-6.15", kernel="6.18", numa_zap_share=1.0)["missed_young_walk"] > 0
    assert run("lockless-6.15", kernel="6.18")["missed_young_walk"] == 0


def test_the_same_guest_has_the_same_chances_everywhere() -> None:
    vm: dict[str, Any] = {
        "race": 0.1,
        "tlb_hit": 0.3,
        "lock_contended": 0.2,
        "shared_share": 0.3,
        "no_ad_share": 0.3,
        "truth": True,
    }
    assert run("try-lock", **vm) == run("try-lock", **vm)
    assert set(run("try-lock", **vm)) == {counter.name for counter in COUNTERS}
