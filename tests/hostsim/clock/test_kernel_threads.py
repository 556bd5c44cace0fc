"""Kernel threads on a clock: their share of a tick, what they leave for later, and whose time it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coldfleet.hostsim.clock.kernel_threads import KernelThread
from coldfleet.hostsim.clock.time_account import Thread
from coldfleet.hostsim.counters.timing import Cause

PART_NS, WAIT_NS = 40, 5


def job(parts: int, guests: int = 2) -> Iterator[int]:
    return (part % guests for part in range(parts))


def charge(thread: Thread, _guest: int, level_ns: int) -> int:
    thread.accrue([PART_NS, 0, 0, WAIT_NS, 0, 0])
    thread.work_off(level_ns)
    return PART_NS


def test_a_job_lasts_as_long_as_its_work_and_waits_take() -> None:
    one = KernelThread(Thread(), 2)
    one.begin(job(10))
    for tick in range(1, 5):
        one.run(100, charge)
        assert one.thread.used == 100
        assert one.runnable
        one.thread.end_tick(100, waits=one.runnable)
        assert sum(one.thread.spent) == tick * 100
    one.run(100, charge)
    assert not one.runnable
    one.thread.end_tick(100, waits=one.runnable)
    assert one.spent_ns == [5 * PART_NS, 6 * PART_NS]  # the job's end is a part, too
    assert one.thread.spent[Cause.RUN] == 11 * PART_NS
    assert one.thread.spent[Cause.LOCK] == 11 * WAIT_NS
    assert one.thread.spent[Cause.STEAL] == 0
    assert sum(one.thread.spent) == 500


def test_time_that_a_thread_slept_through_is_gone() -> None:
    one = KernelThread(Thread(), 1)
    one.run(70, charge)
    one.begin(job(100, 1))
    one.run(100, charge)
    assert one.thread.used == 30
    one.thread.end_tick(100, waits=one.runnable)
    assert one.thread.spent[Cause.IDLE] == 70
    one.run(100, charge)
    assert one.thread.used == 100


def test_what_costs_nothing_is_done_at_once() -> None:
    one = KernelThread(Thread(), 1)
    one.begin(job(1000, 1))
    one.run(1, lambda *_: 0)
    assert not one.runnable
    assert one.thread.used == 0


@pytest.mark.parametrize("parts", [0, 1, 100])
def test_a_thread_that_has_run_up_to_a_point_can_only_be_woken_until_the_next(parts: int) -> None:
    one = KernelThread(Thread(), 1)
    one.begin(job(parts, 1))
    one.run(70, charge)
    before = one.thread.record.copy()
    one.run(70, charge)
    assert one.thread.record == before
    if not one.busy:
        one.begin(job(100, 1))
        one.run(70, charge)
        assert one.thread.used == before["used"]
        assert one.thread.record["spent"].tolist() == before["spent"].tolist()
    one.run(100, charge)
    assert one.thread.used > before["used"]
