"""What a tick's rates make a VM wait: for mmu_lock, in a pass and beside it, and for the locks of its rmaps."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coldfleet.hostsim.costs import mmu_lock
from coldfleet.hostsim.costs.constants import MMU_LOCK_NS, RMAP_LOCK_NS, SHADOW_FAULT_HOLD_NS
from coldfleet.hostsim.costs.mmu_lock import (
    FOUND,
    SOLUTION,
    Locks,
    ager,
    aging_page_ns,
    lock_waits,
    sharers,
    solutions,
    solve_missing,
    time_number,
    time_of,
)
from coldfleet.hostsim.costs.qrwlock import Threads, simulate
from coldfleet.hostsim.costs.qrwlock import Waits as QueueWaits
from coldfleet.hostsim.costs.rwlock import solve
from coldfleet.hostsim.costs.scalability import fault_ns, serial_ns
from coldfleet.hostsim.published.access_tracking import PAGES_PER_VCPU, run_benchmark
from coldfleet.hostsim.published.rows import find_policy
from coldfleet.hostsim.spec.calibration import DEFAULT, Calibration
from tests.reference import mmu_lock as plain
from tests.reference.mmu_lock import Waits

TICK_NS = 1_000_000_000
BUSY = Locks(8, TICK_NS, aging_page_ns(DEFAULT), 200_000.0, 100_000.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def waits(locks: Locks, calibration: Calibration = DEFAULT) -> Waits:
    """With whatever has to be solved first."""
    solved = solutions(calibration)
    while (found := lock_waits(solved, locks)).missing != FOUND:
        solve_missing(solved, found.missing, calibration)
    return Waits(*found[:4])


def test_readers_alone_wait_for_nobody() -> None:
    assert waits(BUSY._replace(shadow_faults=0.0)) == Waits()


def test_all_aging_beside_both_kinds_of_faults_is_the_queues_events() -> None:
    """A pass that lasts for the whole tick: TDP faults read, shadow faults and the ager write."""
    found = waits(BUSY._replace(aging_writes=1e9), replace(DEFAULT, lock_transfer_ns=0.0))
    exact = simulate(
        Threads(8, 8 * TICK_NS / BUSY.tdp_faults - DEFAULT.read_hold_ns, DEFAULT.read_hold_ns),
        Threads(8, 8 * TICK_NS / BUSY.shadow_faults - SHADOW_FAULT_HOLD_NS, SHADOW_FAULT_HOLD_NS),
        ager(1, DEFAULT.aging_page_ns),
        requests=10_000,
        seed=6,
    )
    assert found.tdp_fault_ns == pytest.approx(exact.reader_wait_ns, rel=0.15)
    assert found.shadow_fault_ns == pytest.approx(exact.writer_wait_ns, rel=0.15)
    assert found.aging_ns == pytest.approx(exact.ager_wait_ns, rel=0.15)


def test_a_lone_vcpu_does_not_wait_for_itself() -> None:
    alone, pair = (waits(BUSY._replace(vcpus=vcpus)) for vcpus in (1, 2))
    assert alone == Waits()
    assert min(pair.tdp_fault_ns, pair.shadow_fault_ns) > 0


def test_a_lone_vcpu_that_reclaims_does_not_wait_for_itself() -> None:
    reclaims = BUSY._replace(vcpus=1, own_writes=1e9, own_rmap_locks=1e9, rmaps=1.0)
    assert waits(reclaims) == Waits()
    pair = waits(reclaims._replace(vcpus=2))
    assert min(pair.tdp_fault_ns, pair.shadow_fault_ns, pair.own_aging_ns) > 0
    beside = waits(reclaims._replace(aging_writes=1e5))
    assert beside == waits(reclaims._replace(aging_writes=1e5, own_writes=0.0))
    assert beside.aging_ns > beside.own_aging_ns == 0


@pytest.mark.parametrize("vcpus", [2, 3, 16])
def test_a_vcpu_that_reclaims_is_an_ager_beside_all_others(vcpus: int) -> None:
    """While it does so it has no faults. The others have as many as before, and all of the tick is such a time."""
    own = waits(BUSY._replace(vcpus=vcpus, own_writes=1e9))
    others = (vcpus - 1) / vcpus
    tdp_faults, shadow_faults = BUSY.tdp_faults * others, BUSY.shadow_faults * others
    ager = BUSY._replace(vcpus=vcpus - 1, tdp_faults=tdp_faults, shadow_faults=shadow_faults, aging_writes=1e9)
    beside = waits(ager)
    assert own.own_aging_ns == beside.aging_ns
    assert (own.tdp_fault_ns, own.shadow_fault_ns) == (beside.tdp_fault_ns, beside.shadow_fault_ns)


def test_reclaim_by_the_vm_itself_makes_its_faults_wait_for_less_than_reclaim_by_others() -> None:
    own, others = waits(BUSY._replace(own_writes=1e5)), waits(BUSY._replace(aging_writes=1e5))
    calm = waits(BUSY)
    assert calm.tdp_fault_ns < own.tdp_fault_ns < others.tdp_fault_ns
    assert calm.shadow_fault_ns < own.shadow_fault_ns < others.shadow_fault_ns


@given(st.integers(2, 8192), st.integers(0, time_number(1e18)), st.integers(0, time_number(1e18)))
def test_the_states_of_a_tick_have_a_place_each(vcpus: int, tdp: int, shadow: int) -> None:
    """Else one would take the place of another, and a tick would never have all that it needs."""
    states = (vcpus, 0), (vcpus, 1), (vcpus - 1, 1)
    keys = [((each * 2048 + tdp) * 2048 + shadow) * 2 + aging for each, aging in states]
    solved = np.zeros(1 << 13, SOLUTION)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mmu_lock, "solve", lambda *_: QueueWaits(*[0.0] * 10))
        for key in keys:
            solve_missing(solved, key, DEFAULT)
    assert sorted(solved["key"][solved["key"] != 0].tolist()) == sorted(keys)


@pytest.mark.parametrize(("vcpus", "least"), [(2, 0.65), (4, 0.65), (16, 0.8), (32, 0.6), (64, 0.25)])
def test_the_benchmarks_rates_make_its_vcpus_wait_as_in_its_model(vcpus: int, least: float) -> None:
    """Which finds waits and rates together, from what vCPUs do otherwise; here waits follow from the rates.

    With 64 vCPUs the lock is always busy there.
    """
    wall_s = run_benchmark(vcpus, find_policy("locked-6.12"), DEFAULT).vcpu_wall_s
    every_ns = wall_s * 1e9 / PAGES_PER_VCPU
    in_fault_ns = DEFAULT.fault_ns / (1 - sum(serial_ns(DEFAULT).values()) * (vcpus - 1) / every_ns)
    faults = vcpus * TICK_NS / every_ns
    found = waits(BUSY._replace(vcpus=vcpus, tdp_faults=faults, shadow_faults=0.0, aging_writes=1e9))
    assert least < found.tdp_fault_ns / (every_ns - in_fault_ns) < 1.05


@pytest.mark.parametrize(("tdp_faults", "shadow_faults"), [(1e12, 0.0), (0.0, 1e12), (1e12, 1.0)])
def test_no_rate_makes_holds_longer_than_the_time_between_faults(tdp_faults: float, shadow_faults: float) -> None:
    rates = BUSY._replace(tdp_faults=tdp_faults, shadow_faults=shadow_faults, aging_writes=1e6)
    assert all(0 <= wait < math.inf for wait in waits(rates))


@pytest.mark.parametrize("vcpus", [8, 16, 32, 64, 128, 256])
def test_waits_hardly_swing_where_vcpus_do_nothing_but_fault(vcpus: int) -> None:
    """From tick to tick: the waits of one lower the rates of the next."""
    found = [0.0]
    for _ in range(8):
        faults = vcpus * TICK_NS / (fault_ns(vcpus, DEFAULT) + found[-1])
        rates = BUSY._replace(vcpus=vcpus, tdp_faults=faults, shadow_faults=0.0, aging_writes=1e9)
        found.append(waits(rates).tdp_fault_ns)
    assert found[-1] == pytest.approx(found[-2], rel=0.3)


def test_a_short_pass_counts_for_its_share_of_the_tick() -> None:
    calm, some, whole = (waits(BUSY._replace(aging_writes=writes)) for writes in (0.0, 1e6, 1e9))
    assert calm.tdp_fault_ns < some.tdp_fault_ns < whole.tdp_fault_ns
    share = 1e6 * (DEFAULT.aging_page_ns + MMU_LOCK_NS + some.aging_ns) / TICK_NS
    between = calm.tdp_fault_ns + share * (whole.tdp_fault_ns - calm.tdp_fault_ns)
    assert some.tdp_fault_ns == pytest.approx(between)


def test_shadow_faults_spin_for_an_rmap_that_is_being_aged() -> None:
    lockless = BUSY._replace(rmap_locks=1e7, rmaps=10.0)
    more_ns = waits(lockless).shadow_fault_ns - waits(BUSY).shadow_fault_ns
    assert more_ns == pytest.approx(1e7 / TICK_NS * RMAP_LOCK_NS**2 / 10)


@given(st.floats(1e-3, 1e18) | st.builds(lambda n, tens: n / 2 * 10.0**tens, st.integers(1, 2000), st.integers(-2, 14)))
@example(1.05)
@example(1.25)
@example(9.95)
@example(0.25)
@example(99.5)
@example(9.949999999999999)
def test_times_are_rounded_as_python_writes_them(ns: float) -> None:
    assert time_of(time_number(ns)) == plain.rounded(ns)


@cache
def solved_plainly(vcpus: int, tdp_ns: float, shadow_ns: float, aging: bool) -> Waits:
    found = solve(*sharers(vcpus, tdp_ns, shadow_ns, aging, DEFAULT))
    return Waits(found.reader_wait_ns, found.writer_wait_ns, found.ager_wait_ns)


def rates(most: float) -> st.SearchStrategy[float]:
    return st.just(0.0) | st.floats(1.0, most)


@given(
    st.builds(
        Locks,
        st.integers(1, 5),
        st.integers(1_000_000, 60 * TICK_NS),
        st.just(aging_page_ns(DEFAULT)),
        tdp_faults=rates(1e8),
        shadow_faults=rates(1e8),
        aging_writes=rates(1e9),
        rmap_locks=rates(1e9),
        own_writes=rates(1e9),
        own_rmap_locks=rates(1e9),
        rmaps=rates(1e6),
    )
)
def test_compiled_waits_are_the_plain_ones_bit_for_bit(locks: Locks) -> None:
    assert waits(locks) == plain.waits(solved_plainly, **locks._asdict())
