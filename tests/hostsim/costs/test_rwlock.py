"""The model of mmu_lock's queue against the same queue, event by event, and against what any queue obeys."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coldfleet.hostsim.costs.qrwlock import Threads, Waits, simulate
from coldfleet.hostsim.costs.rwlock import solve
from tests.benchmarks.bench_rwlock import random_locks, wait_errors

NOBODY = Threads(0, 1.0, 1.0)


def utilisation(waits: Waits) -> float:
    """Share of the time in which somebody has the lock."""
    return waits.reading + waits.writing


def threads(counts: st.SearchStrategy[int], low: float = 0.5, high: float = 5.5) -> st.SearchStrategy[Threads]:
    """Threads with thinking and holding times of 10^low to 10^high ns."""
    times = st.floats(low, high).map(lambda power: 10**power)
    return st.builds(Threads, counts, times, times)


def near(fast: float, exact: float, share: float, slack: float = 0.0) -> bool:
    return abs(fast - exact) <= share * exact + slack


def assert_conserves(
    waits: Waits, readers: Threads, writers: Threads, ager: Threads = NOBODY, tolerance: float = 1e-6
) -> None:
    """Little's law for thinking, waiting and holding; utilisation; one writer at a time."""
    for kind, rate, wait in (
        (readers, waits.reader_rate, waits.reader_wait_ns),
        (writers, waits.writer_rate, waits.writer_wait_ns),
        (ager, waits.ager_rate, waits.ager_wait_ns),
    ):
        assert rate * (kind.think_ns + wait + kind.hold_ns) == pytest.approx(kind.count, rel=tolerance)
    writing = waits.writer_rate * writers.hold_ns + waits.ager_rate * ager.hold_ns
    waiting = waits.reader_rate * waits.reader_wait_ns + waits.writer_rate * waits.writer_wait_ns
    waiting += waits.ager_rate * waits.ager_wait_ns
    assert waits.holders == pytest.approx(waits.reader_rate * readers.hold_ns + writing, rel=tolerance)
    assert waits.waiters == pytest.approx(waiting, rel=tolerance, abs=tolerance)
    assert waits.writing == pytest.approx(writing, rel=tolerance)
    assert 0 <= waits.reading <= waits.reader_rate * readers.hold_ns + 1e-9
    assert utilisation(waits) <= 1 + 1e-9


GRID = [
    (readers, think, hold, writer_think, writer_hold)
    for readers in (1, 4, 16, 64, 128)
    for think, hold in ((3_000.0, 100.0), (3_000.0, 600.0), (30_000.0, 600.0))
    for writer_think, writer_hold in ((30.0, 20.0), (30.0, 500.0), (1_000.0, 100.0))
]


@pytest.mark.parametrize(("readers", "think", "hold", "writer_think", "writer_hold"), GRID)
def test_one_writer_beside_readers_waits_as_the_events_say(
    readers: int, think: float, hold: float, writer_think: float, writer_hold: float
) -> None:
    """Within 15 %; waits of under 2 % of the other kind's hold are too rare for the events to measure."""
    who = Threads(readers, think, hold), Threads(1, writer_think, writer_hold)
    fast, exact = solve(*who), simulate(*who, requests=20_000, seed=readers)
    assert near(fast.writer_wait_ns, exact.writer_wait_ns, 0.15, hold / 50)
    assert near(fast.reader_wait_ns, exact.reader_wait_ns, 0.15, writer_hold / 50)
    assert utilisation(fast) == pytest.approx(utilisation(exact), abs=0.03)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(threads(st.integers(1, 128), 2.0, 4.0), threads(st.just(1), 1.5, 3.5))
def test_one_writer_anywhere(readers: Threads, writer: Threads) -> None:
    fast, exact = solve(readers, writer), simulate(readers, writer, requests=5_000, seed=1)
    assert near(fast.writer_wait_ns, exact.writer_wait_ns, 0.15, readers.hold_ns / 50)
    assert near(fast.reader_wait_ns, exact.reader_wait_ns, 0.15, writer.hold_ns / 50)


@settings(max_examples=150, deadline=None)
@given(threads(st.integers(1, 128)), threads(st.just(1)))
def test_one_writer_conserves(readers: Threads, writer: Threads) -> None:
    assert_conserves(solve(readers, writer), readers, writer)


@settings(max_examples=100, deadline=None)
@given(threads(st.integers(0, 128)), threads(st.integers(0, 128)))
def test_each_kind_alone_conserves(readers: Threads, writers: Threads) -> None:
    assert_conserves(solve(readers, NOBODY), readers, NOBODY)
    assert_conserves(solve(NOBODY, writers), NOBODY, writers)


@settings(max_examples=60, deadline=None)
@given(threads(st.integers(1, 64)), threads(st.integers(2, 64)))
@example(Threads(15, 10.0, 10**3.25), Threads(48, 100_000.0, 10.0))
def test_a_mixture_conserves(readers: Threads, writers: Threads) -> None:
    assert_conserves(solve(readers, writers), readers, writers, tolerance=1e-4)


@settings(max_examples=60, deadline=None)
@given(threads(st.integers(0, 32)), threads(st.integers(0, 32)), threads(st.just(1)))
def test_an_ager_beside_them_conserves(readers: Threads, writers: Threads, ager: Threads) -> None:
    assert_conserves(solve(readers, writers, ager), readers, writers, ager, tolerance=1e-4)


@pytest.mark.parametrize(("count", "think"), [(1, 100.0), (2, 300.0), (16, 9_000.0), (64, 20_000.0), (128, 5_000.0)])
def test_writers_alone_wait_as_the_events_say(count: int, think: float) -> None:
    writers = Threads(count, think, 300.0)
    fast, exact = solve(NOBODY, writers), simulate(NOBODY, writers, requests=20_000, seed=2)
    assert near(fast.writer_wait_ns, exact.writer_wait_ns, 0.05)


@pytest.mark.parametrize(("readers", "writers"), [(4, 2), (4, 4), (16, 16), (64, 16), (4, 64), (128, 64)])
@pytest.mark.parametrize("think", [3_000.0, 300_000.0])
def test_a_mixture_waits_as_the_events_say(readers: int, writers: int, think: float) -> None:
    who = Threads(readers, 10_000.0, 500.0), Threads(writers, think, 400.0)
    fast, exact = solve(*who), simulate(*who, requests=20_000, seed=3)
    assert near(fast.writer_wait_ns, exact.writer_wait_ns, 0.1, 5.0)
    assert near(fast.reader_wait_ns, exact.reader_wait_ns, 0.1, 5.0)
    assert utilisation(fast) == pytest.approx(utilisation(exact), abs=0.03)


def test_mixtures_anywhere() -> None:
    """Random locks, as the benchmark draws them."""
    errors = []
    for lock in islice(random_locks(2, 64), 60):
        exact = simulate(lock.readers, lock.writers, requests=10_000, seed=1)
        errors += wait_errors(lock, solve(lock.readers, lock.writers), exact)
    assert np.mean(np.array(errors) <= 0.15) >= 0.97


@pytest.mark.parametrize(("readers", "writers"), [(8, 1), (8, 8), (64, 8), (0, 8), (8, 0)])
@pytest.mark.parametrize("think", [10_000.0, 50_000.0])
def test_an_ager_beside_faults_of_both_kinds_waits_as_the_events_say(readers: int, writers: int, think: float) -> None:
    """An aging pass in a VM with TDP and shadow faults: the ager comes back at once, and holds the lock briefly."""
    who = Threads(readers, 20_000.0, 500.0), Threads(writers, think, 1_000.0), Threads(1, 2.0, 40.0)
    fast, exact = solve(*who), simulate(*who, requests=20_000, seed=4)
    assert near(fast.ager_wait_ns, exact.ager_wait_ns, 0.15, 5.0)
    assert near(fast.writer_wait_ns, exact.writer_wait_ns, 0.15, 5.0)
    assert near(fast.reader_wait_ns, exact.reader_wait_ns, 0.15, 5.0)
    assert utilisation(fast) == pytest.approx(utilisation(exact), abs=0.03)


def test_one_writer_is_an_ager_without_other_writers() -> None:
    who = Threads(16, 3_000.0, 500.0), Threads(1, 100.0, 50.0)
    alone, ager = solve(*who), solve(who[0], NOBODY, who[1])
    assert (ager.ager_wait_ns, ager.ager_rate) == (alone.writer_wait_ns, alone.writer_rate)
    assert (ager.reader_wait_ns, ager.writer_rate) == (alone.reader_wait_ns, 0.0)


def test_a_writer_that_never_comes_leaves_the_others_as_they_are() -> None:
    """The mixture's chain agrees with the exact solution where it needn't be one."""
    readers, ager = Threads(40, 3_000.0, 500.0), Threads(1, 100.0, 50.0)
    with_it, without = solve(readers, Threads(1, 1e12, 1.0), ager), solve(readers, NOBODY, ager)
    assert with_it.ager_wait_ns == pytest.approx(without.ager_wait_ns, rel=0.03)
    assert with_it.reader_wait_ns == pytest.approx(without.reader_wait_ns, rel=0.03)


def test_two_agers_are_refused() -> None:
    with pytest.raises(ValueError, match="one ager at most"):
        solve(NOBODY, NOBODY, Threads(2, 1.0, 1.0))


def test_readers_alone_never_wait() -> None:
    waits = solve(Threads(64, 1_000.0, 500.0), NOBODY)
    assert waits.reader_wait_ns == waits.waiters == 0
    assert utilisation(waits) == pytest.approx(1 - (1_000 / 1_500) ** 64)


def test_a_writer_that_is_always_there_lets_each_batch_of_readers_in() -> None:
    """Fairness: however fast the writer comes back, readers wait for one of its holds and for those before it."""
    waits = solve(Threads(4, 10_000.0, 100.0), Threads(1, 1e-3, 1_000.0))
    assert 900 < waits.reader_wait_ns < 1_500


@pytest.mark.parametrize("bad", [(-1, 1.0, 1.0), (1, 0.0, 1.0), (1, 1.0, math.inf), (1, math.nan, 1.0)])
def test_impossible_threads_are_refused(bad: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match="Threads"):
        Threads(*bad)
