"""What a tick's rates make a VM wait: for mmu_lock, in a pass and beside it, and for the locks of its rmaps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coldfleet.hostsim.costs.constants import PTE_NS, RMAP_LOCK_NS, SHADOW_FAULT_HOLD_NS
from coldfleet.hostsim.costs.mmu_lock import LockRates, LockWaits, aging_hold_ns
from coldfleet.hostsim.costs.qrwlock import Threads, simulate
from coldfleet.hostsim.spec.calibration import DEFAULT

TICK_NS = 1_000_000_000
BUSY = LockRates(8, TICK_NS, tdp_faults=200_000, shadow_faults=100_000, aging_writes=0)


def test_readers_alone_wait_for_nobody() -> None:
    assert replace(BUSY, shadow_faults=0).waits() == LockWaits()


def test_all_aging_beside_both_kinds_of_faults_is_the_queues_events() -> None:
    """A pass that lasts for the whole tick: TDP faults read, shadow faults and the ager write."""
    waits = replace(BUSY, aging_writes=1e9).waits()
    exact = simulate(
        Threads(8, 8 * TICK_NS / BUSY.tdp_faults, DEFAULT.read_hold_ns),
        Threads(8, 8 * TICK_NS / BUSY.shadow_faults, SHADOW_FAULT_HOLD_NS),
        Threads(1, PTE_NS, aging_hold_ns(DEFAULT)),
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


def test_a_short_pass_counts_for_its_share_of_the_tick() -> None:
    calm, some, whole = (replace(BUSY, aging_writes=writes).waits() for writes in (0, 1e6, 1e9))
    assert calm.tdp_fault_ns < some.tdp_fault_ns < whole.tdp_fault_ns
    share = 1e6 * (PTE_NS + aging_hold_ns(DEFAULT) + some.aging_ns) / TICK_NS
    between = calm.tdp_fault_ns + share * (whole.tdp_fault_ns - calm.tdp_fault_ns)
    assert some.tdp_fault_ns == pytest.approx(between)


def test_shadow_faults_spin_for_an_rmap_that_is_being_aged() -> None:
    lockless = replace(BUSY, rmap_locks=1e7, rmaps=10)
    more_ns = lockless.waits().shadow_fault_ns - BUSY.waits().shadow_fault_ns
    assert more_ns == pytest.approx(1e7 / TICK_NS * RMAP_LOCK_NS**2 / 10)
