"""PSI as the kernel computes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfleet.hostsim.clock.psi import (
    EXPS,
    FIXED_1,
    PSI,
    Psi,
    add_pressure,
    calc_load,
    pressure_of_cpus,
    some_since_last,
)
from coldfleet.hostsim.counters.timing import KINDS, WINDOWS

TICK_NS = 2_000_000_000
Tasks = list[tuple[int, int]]  # of each, ns stalled and ns running; it sleeps for the rest


def pressure(tasks: Tasks, tick_ns: int, cpus: int = 1, first: int = 0) -> Any:
    found = np.zeros((cpus, 4))
    own = (first + np.arange(len(tasks))) % cpus
    pressure_of_cpus(found, np.array([(*task, sum(task)) for task in tasks], np.int64), own, tick_ns)
    return found[:, :3]


def new_psi() -> Psi:
    return Psi(np.zeros(1, PSI)[0])


def add(psi: Psi, tasks: Tasks, tick_ns: int = TICK_NS, cpus: int = 1) -> None:
    add_pressure(psi.record, pressure(tasks, tick_ns, cpus), tick_ns)


def test_a_task_alone_makes_some_and_full_pressure_alike() -> None:
    assert pressure([(250, 500)], 1000)[0] == pytest.approx((0.25, 0.25, 0.75))


def test_a_task_that_runs_keeps_another_ones_stall_from_being_full() -> None:
    assert pressure([(1000, 0), (0, 1000)], 1000)[0] == pytest.approx((1, 0, 1))


def test_a_task_that_waits_for_a_device_neither_runs_nor_idles() -> None:
    found = np.zeros((1, 4))
    pressure_of_cpus(found, np.array([(1000, 0, 1000), (0, 0, 1000)], np.int64), np.zeros(2, np.int64), 1000)
    assert found[0, :3] == pytest.approx((1, 1, 1))
    pressure_of_cpus(found, np.array([(0, 0, 500)], np.int64), np.zeros(1, np.int64), 1000)
    assert found[0, :3] == pytest.approx((0, 0, 0.5))


def test_tasks_take_the_cpus_in_turn() -> None:
    found = pressure([(1000, 0), (0, 1000), (0, 0)], 1000, cpus=4, first=3)
    assert found[[3, 0, 1, 2]].tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0]]


def test_cpus_are_weighted_by_the_time_they_are_not_idle() -> None:
    psi = new_psi()
    add(psi, [(TICK_NS, 0), (0, 0)], cpus=2)
    assert psi.record["total_ns"].tolist() == [TICK_NS, TICK_NS]


def test_averages_rise_and_fall_with_their_windows() -> None:
    psi = new_psi()
    for _ in range(5):
        add(psi, [(TICK_NS // 2, TICK_NS // 2)])
    risen = [psi.average("some", window) for window in WINDOWS]
    assert 50 > risen[0] > risen[1] > risen[2] > 0
    assert risen[0] == pytest.approx(50 * (1 - 0.3679), rel=0.02)  # after one window, 1 - 1/e
    for _ in range(300):
        add(psi, [(0, TICK_NS)])
    assert psi.average("some", 10) == 0


def test_long_ticks_move_the_averages_as_short_ones_do() -> None:
    long, short = new_psi(), new_psi()
    add(long, [(12 * TICK_NS, 18 * TICK_NS)], 30 * TICK_NS)
    for _ in range(30):
        add(short, [(TICK_NS * 2 // 5, TICK_NS * 3 // 5)])
    assert long.record["averages"].tolist() == short.record["averages"].tolist()
    assert long.record["total_ns"] == pytest.approx(short.record["total_ns"], rel=1e-6)


def test_load_rounds_up_while_it_grows() -> None:
    assert calc_load(0, EXPS[2], 1) == 1
    assert calc_load(FIXED_1, EXPS[0], 0) == EXPS[0]


def test_pressure_since_the_last_question() -> None:
    psi = new_psi()
    assert some_since_last(psi.record) == 0
    add(psi, [(TICK_NS // 100, 0)])
    assert some_since_last(psi.record) == pytest.approx(1)
    add(psi, [(0, TICK_NS)])
    assert some_since_last(psi.record) == 0


class PlainPsi:
    """A group whose averages are updated piece by piece, however long the tick."""

    def __init__(self) -> None:
        self.total, self.at_update = [0, 0], [0, 0]
        self.averages = [[0] * len(EXPS) for _ in KINDS]
        self.now = self.updated = 0

    def add(self, shares: tuple[float, float], tick_ns: int) -> None:
        """A tick passes with these shares of pressure."""
        before, pieces = list(self.total), max(1, tick_ns // TICK_NS)
        for piece in range(1, pieces + 1):
            passed = tick_ns * piece // pieces
            self.now += passed - tick_ns * (piece - 1) // pieces
            self.total = [old + round(share * passed) for old, share in zip(before, shares, strict=True)]
            if self.now - self.updated >= TICK_NS:
                self.update()

    def update(self) -> None:
        period = self.now - self.updated
        for kind, averages in enumerate(self.averages):
            percent = min(self.total[kind] - self.at_update[kind], period) * 100 // period * FIXED_1
            self.averages[kind] = [calc_load(old, exp, percent) for old, exp in zip(averages, EXPS, strict=True)]
        self.at_update, self.updated = list(self.total), self.now


@given(
    st.lists(st.sampled_from([0.0, 1e-5, 0.005, 0.0099999, 0.01, 0.010001, 0.3, 1.0]), max_size=20),
    st.sampled_from([500_000_000, 1_999_999_999, 2_000_000_000, 3_999_999_999, 5_000_000_001, 60_000_000_000]),
)
def test_a_tick_without_pressure_to_speak_of_is_one_step(shares: list[float], tick_ns: int) -> None:
    psi, plain = new_psi(), PlainPsi()
    for some in shares:
        full = some / 3
        add_pressure(psi.record, np.array([[some, full, 1.0, 0.0]]), tick_ns)
        plain.add((some, full), tick_ns)
        assert psi.record["total_ns"].tolist() == plain.total
        assert psi.record["averages"].tolist() == plain.averages
        assert (psi.record["now_ns"], psi.record["updated_ns"]) == (plain.now, plain.updated)
