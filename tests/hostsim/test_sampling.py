"""Sampled scale: some page tables stand for all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coldfleet.hostsim.counters.columns import HEADLINE, ci_column, no_ci95
from coldfleet.hostsim.counters.timing import CAUSES
from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.sampling import parts_of
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import ClockSpec, GuestSpec, HostResult, HostSpec, NestedSpec, WorkloadSpec
from coldfleet.hostsim.workload.thinning import Ranking
from coldfleet.policies import get_policy

PAGES = 65_536


def host(load: WorkloadSpec, **changes: Any) -> HostSpec:
    guests = tuple(
        GuestSpec(
            f"g{n}",
            PAGES,
            int(PAGES / 1.5),
            accesses_per_tick=PAGES // 2,
            workload=load,
            nested=NestedSpec() if n else None,
        )
        for n in range(2)
    )
    return replace(HostSpec("6.12", guests, 5), **changes)


def run(spec: HostSpec) -> HostResult:
    return simulate_host(spec, get_policy("six-steps"), seed=3, replicate=0, host=0)


@pytest.mark.parametrize("kind", ["zipf", "hotcold", "scan", "uniform"])
def test_a_sample_stands_for_the_whole(kind: str) -> None:
    spec = host(WorkloadSpec(kind=kind))
    full, sampled = run(spec), run(replace(spec, sample=4))
    whole, estimate = full.totals(), sampled.totals()
    for name in ("accesses", "l2_accesses", "pgfault", "tdp_faults", "pswpout", "resident_page_ticks"):
        assert estimate[name] == pytest.approx(whole[name], rel=0.06), name
    assert full.ci95 == no_ci95()
    assert all(sampled.ci95[ci_column(name)] >= 0 for name in HEADLINE)
    assert sampled.ci95[ci_column("pswpout")] > 0


def test_a_sample_is_the_same_every_time() -> None:
    spec = host(WorkloadSpec(), sample=8)
    assert run(spec) == run(spec)


def test_time_is_accounted_for_at_sampled_scale_too() -> None:
    clock = ClockSpec(tick_ns=100_000_000, access_ns=500)
    spec = host(WorkloadSpec(), clock=clock)
    full, sampled = run(spec), run(replace(spec, sample=4))
    for guest in sampled.guests:
        assert sum(guest.counters[name] for name, _ in CAUSES.values()) == spec.ticks * clock.tick_ns
    for name in ("run_ns", "fault_stall_ns", "swap_in_stall_ns", "unreclaimed_ns", "resident_page_ms"):
        assert sampled.totals()[name] == pytest.approx(full.totals()[name], rel=0.06), name


@pytest.mark.parametrize("by_table", [False, True])
def test_samples_with_all_starts_have_every_rank_once(by_table: bool) -> None:
    step, sampled = 4, 2048
    ranks = [Ranking(step * sampled, sampled, (start + 0.5) / step, by_table).weights(-1.0) for start in range(step)]
    assert np.array_equal(np.sort(np.concatenate(ranks)), np.arange(1, step * sampled + 1))
    shares = [Ranking(step * sampled, sampled, (start + 0.5) / step, by_table).share(0.9) for start in range(step)]
    assert sum(shares) == pytest.approx(1)


def test_calls_are_as_small_as_the_part_or_as_large_as_the_whole() -> None:
    kernel = KERNELS["6.12"]
    parts = parts_of(host(WorkloadSpec(), sample=2), np.random.default_rng(1))
    assert [(round(part.scale), part.call_scale) for part in parts] == [(8, 8), (8, 8), (8, 1), (8, 1)]
    batches = ("min_lru_batch", "swap_cluster_max", "charge_batch", "max_lru_batch")
    for (scale, call_scale), pages in {
        (1, 1): (64, 32, 64, 4096),
        (8, 8): (8, 4, 8, 512),
        (8, 1): (64, 32, 64, 512),
        (256, 256): (1, 1, 1, 16),
        (256, 1): (64, 32, 64, 64),
    }.items():
        features = kernel.encode(scale, call_scale)[0]
        assert tuple(features[name] for name in batches) == pages, (scale, call_scale)


def test_pressure_asks_for_less_than_a_call_so_all_parts_have_small_ones() -> None:
    spec = host(WorkloadSpec(), sample=2, mode="pressure", clock=ClockSpec())
    assert {part.call_scale for part in parts_of(spec, np.random.default_rng(1))} == {8}


def test_a_sample_covers_what_depends_on_how_calls_are_scaled() -> None:
    """Of a guest in address order most pages of a batch lie in one window, which small batches tear apart."""
    spec = host(WorkloadSpec("hotcold", layout="ordered"))
    whole, estimate = run(spec), run(replace(spec, sample=4))
    for name in ("pgscan", "young_evict", "notifier_calls_evict"):
        assert abs(estimate.totals()[name] - whole.totals()[name]) <= estimate.ci95[ci_column(name)], name


def test_what_has_no_sampled_scale_is_refused() -> None:
    with pytest.raises(UserError, match="sampled scale knows no"):
        run(host(WorkloadSpec(), sample=4, monitor="idle"))
