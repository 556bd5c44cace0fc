"""Every ns of every thread has one cause, and nobody gets more time than there is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldfleet.hostsim.clock.time_account import Thread, own_time
from coldfleet.hostsim.counters.timing import WORK, Cause

works = st.lists(st.integers(0, 3_000), min_size=len(WORK), max_size=len(WORK))
ticks = st.lists(st.tuples(st.lists(works, max_size=4), st.lists(st.integers(0, 1_000), max_size=3), st.booleans()))


@settings(deadline=None)  # the first call compiles it
@given(ticks)
def test_every_ns_has_one_cause(ticks: list[tuple[list[list[int]], list[int], bool]]) -> None:
    thread, tick_ns, owed, passed = Thread(), 1_000, 0, 0
    for todo, levels, waits in ticks:
        for work in todo:
            thread.accrue(work)
            owed += sum(work)
        for level in sorted(levels):
            before = own_time(thread.record)
            thread.work_off(level)
            assert own_time(thread.record) >= before
            assert thread.used <= max(levels)
        thread.end_tick(tick_ns, waits=waits)
        passed += tick_ns
        assert own_time(thread.record) == sum(thread.spent) == passed
        assert sum(thread.spent[cause] for cause in WORK) + thread.backlog_ns == owed
        assert thread.backlog_ns == sum(thread.record["backlog"])


def test_what_does_not_fit_is_paid_in_the_next_tick() -> None:
    thread = Thread()
    thread.accrue([700, 600, 0, 0, 0, 0])
    thread.work_off(1_000)
    thread.end_tick(1_000, waits=True)
    assert thread.spent[Cause.RUN] == 700
    assert thread.spent[Cause.FAULT] == 300
    assert thread.backlog_ns == 300
    thread.work_off(1_000)
    thread.end_tick(1_000, waits=False)
    assert thread.spent[Cause.FAULT] == 600
    assert thread.spent[Cause.IDLE] == 700
    assert thread.spent[Cause.STEAL] == 0


def test_time_does_not_run_backward() -> None:
    with pytest.raises(ValueError, match="backward"):
        Thread().accrue([0, -1, 0, 0, 0, 0])
