"""PSI as the kernel computes it."""

from __future__ import annotations

import pytest

from hostsim.psi import EXPS, FIXED_1, Psi, Share, calc_load, pressure_of_cpu

TICK_NS = 2_000_000_000


def test_a_task_alone_makes_some_and_full_pressure_alike() -> None:
    assert pressure_of_cpu([Share(250, 500)], 1000) == pytest.approx((0.25, 0.25, 0.75))


def test_a_task_that_runs_keeps_another_ones_stall_from_being_full() -> None:
    some, full, nonidle = pressure_of_cpu([Share(1000, 0), Share(0, 1000)], 1000)
    assert (some, full, nonidle) == (1, 0, 1)


def test_cpus_are_weighted_by_the_time_they_are_not_idle() -> None:
    psi = Psi()
    psi.add([[Share(TICK_NS, 0)], [Share(0, 0)]], TICK_NS)
    assert psi.total_ns == [TICK_NS, TICK_NS]


def test_averages_rise_and_fall_with_their_windows() -> None:
    psi = Psi()
    for _ in range(5):
        psi.add([[Share(TICK_NS // 2, TICK_NS // 2)]], TICK_NS)
    risen = [psi.average("some", window) for window in EXPS]
    assert 50 > risen[0] > risen[1] > risen[2] > 0
    assert risen[0] == pytest.approx(50 * (1 - 0.3679), rel=0.02)  # after one window, 1 - 1/e
    for _ in range(300):
        psi.add([[Share(0, TICK_NS)]], TICK_NS)
    assert psi.average("some", 10) == 0


def test_long_ticks_move_the_averages_as_short_ones_do() -> None:
    long, short = Psi(), Psi()
    long.add([[Share(12 * TICK_NS, 18 * TICK_NS)]], 30 * TICK_NS)
    for _ in range(30):
        short.add([[Share(TICK_NS * 2 // 5, TICK_NS * 3 // 5)]], TICK_NS)
    assert long.averages == short.averages
    assert long.total_ns == pytest.approx(short.total_ns, rel=1e-6)


def test_load_rounds_up_while_it_grows() -> None:
    assert calc_load(0, EXPS[300], 1) == 1
    assert calc_load(FIXED_1, EXPS[10], 0) == EXPS[10]


def test_pressure_since_the_last_question() -> None:
    psi = Psi()
    assert psi.some_since_last() == 0
    psi.add([[Share(TICK_NS // 100, 0)]], TICK_NS)
    assert psi.some_since_last() == pytest.approx(1)
    psi.add([[Share(0, TICK_NS)]], TICK_NS)
    assert psi.some_since_last() == 0
