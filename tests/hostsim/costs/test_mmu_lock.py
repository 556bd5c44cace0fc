"""What a tick's rates make a VM wait: for mmu_lock, in a pass and beside it, and for the locks of its rmaps."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from coldfleet.hostsim.costs.constants import MMU_LOCK_NS, RMAP_LOCK_NS, SHADOW_FAULT_HOLD_NS
from coldfleet.hostsim.costs.mmu_lock import LockRates, LockWaits, ager
from coldfleet.hostsim.costs.qrwlock import Threads, simulate
from coldfleet.hostsim.costs.scalability import fault_ns, serial_ns
from coldfleet.hostsim.published.access_tracking import PAGES_PER_VCPU, run_benchmark
from coldfleet.hostsim.published.rows import find_policy
from coldfleet.hostsim.spec.calibration import DEFAULT

TICK_NS = 1_000_000_000
BUSY = LockRates(8, TICK_NS, tdp_faults=200_000, shadow_faults=100_000, aging_writes=0)


def test_readers_alone_wait_for_nobody() -> None:
    assert replace(BUSY, shadow_faults=0).waits() == LockWaits()


def test_all_aging_beside_both_kinds_of_faults_is_the_queues_events() -> None:
    """A pass that lasts for the whole tick: TDP faults read, shadow faults and the ager write."""
    waits = replace(BUSY, aging_writes=1e9, calibration=replace(DEFAULT, lock_transfer_ns=0.0)).waits()
    exact = simulate(
        Threads(8, 8 * TICK_NS / BUSY.tdp_faults - DEFAULT.read_hold_ns, DEFAULT.read_hold_ns),
        Threads(8, 8 * TICK_NS / BUSY.shadow_faults - SHADOW_FAULT_HOLD_NS, SHADOW_FAULT_HOLD_NS),
        ager(1, DEFAULT.aging_page_ns),
        requests=10_000,
        seed=6,
    )
    assert waits.tdp_fault_ns == pytest.approx(exact.reader_wait_ns, rel=0.15)
    assert waits.shadow_fault_ns == pytest.approx(exact.writer_wait_ns, rel=0.15)
    assert waits.aging_ns == pytest.approx(exact.ager_wait_ns, rel=0.15)


def test_a_lone_vcpu_does_not_wait_for_itself() -> None:
    alone, pair = (replace(BUSY, vcpus=vcpus).waits() for vcpus in (1, 2))
    assert alone == LockWaits()
    assert min(pair.tdp_fault_ns, pair.shadow_fault_ns) > 0


@pytest.mark.parametrize(("vcpus", "least"), [(2, 0.65), (4, 0.65), (16, 0.8), (32, 0.6), (64, 0.25)])
def test_the_benchmarks_rates_make_its_vcpus_wait_as_in_its_model(vcpus: int, least: float) -> None:
    """Which finds waits and rates together, from what vCPUs do otherwise; here waits follow from the rates.

    With 64 vCPUs the lock is always busy there.
    """
    wall_s = run_benchmark(vcpus, find_policy("locked-6.12"), DEFAULT).vcpu_wall_s
    every_ns = wall_s * 1e9 / PAGES_PER_VCPU
    in_fault_ns = DEFAULT.fault_ns / (1 - sum(serial_ns(DEFAULT).values()) * (vcpus - 1) / every_ns)
    waits = LockRates(vcpus, TICK_NS, vcpus * TICK_NS / every_ns, shadow_faults=0, aging_writes=1e9).waits()
    assert least < waits.tdp_fault_ns / (every_ns - in_fault_ns) < 1.05


@pytest.mark.parametrize(("tdp_faults", "shadow_faults"), [(1e12, 0), (0, 1e12), (1e12, 1)])
def test_no_rate_makes_holds_longer_than_the_time_between_faults(tdp_faults: float, shadow_faults: float) -> None:
    rates = replace(BUSY, tdp_faults=tdp_faults, shadow_faults=shadow_faults, aging_writes=1e6)
    assert all(0 <= wait < math.inf for wait in rates.waits())


@pytest.mark.parametrize("vcpus", [8, 16, 32, 64, 128, 256])
def test_waits_hardly_swing_where_vcpus_do_nothing_but_fault(vcpus: int) -> None:
    """From tick to tick: the waits of one lower the rates of the next."""
    waits = [0.0]
    for _ in range(8):
        every_ns = fault_ns(vcpus, DEFAULT) + waits[-1]
        rates = LockRates(vcpus, TICK_NS, vcpus * TICK_NS / every_ns, shadow_faults=0, aging_writes=1e9)
        waits.append(rates.waits().tdp_fault_ns)
    assert waits[-1] == pytest.approx(waits[-2], rel=0.3)


def test_a_short_pass_counts_for_its_share_of_the_tick() -> None:
    calm, some, whole = (replace(BUSY, aging_writes=writes).waits() for writes in (0, 1e6, 1e9))
    assert calm.tdp_fault_ns < some.tdp_fault_ns < whole.tdp_fault_ns
    share = 1e6 * (DEFAULT.aging_page_ns + MMU_LOCK_NS + some.aging_ns) / TICK_NS
    between = calm.tdp_fault_ns + share * (whole.tdp_fault_ns - calm.tdp_fault_ns)
    assert some.tdp_fault_ns == pytest.approx(between)


def test_shadow_faults_spin_for_an_rmap_that_is_being_aged() -> None:
    lockless = replace(BUSY, rmap_locks=1e7, rmaps=10)
    more_ns = lockless.waits().shadow_fault_ns - BUSY.waits().shadow_fault_ns
    assert more_ns == pytest.approx(1e7 / TICK_NS * RMAP_LOCK_NS**2 / 10)
