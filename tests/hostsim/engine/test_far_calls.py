"""Functions that compiled code calls by address: what is raised in one reaches Python."""

from __future__ import annotations

import errno
import fcntl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba import types

from coldfleet.hostsim.engine import building
from coldfleet.hostsim.engine.building import Unit, build_missing
from coldfleet.hostsim.engine.far_calls import apart, link
from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.machine_type import MACHINE
from coldfleet.hostsim.engine.state import Machine
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.policies import get_policy

njit: Any = numba.njit


@apart(types.int64)
def half(m: Machine, number: int) -> int:
    if number % 2:
        raise ValueError("an odd number")
    return number // 2


@njit  # type: ignore[untyped-decorator]
def quarter(m: Machine, number: int) -> int:
    return half(m, half(m, number))


@njit  # type: ignore[untyped-decorator]
def quarters(m: Machine, number: int) -> int:
    return quarter(m, number) + quarter(m, 4 * number)


@pytest.fixture(scope="module")
def machine() -> Any:
    return HostMemory([Memslot(512)], KERNELS["6.12"], get_policy("six-steps")).machine


def test_a_far_call_returns_what_it_should(machine: Machine) -> None:
    assert quarters(machine, 8) == 10


@pytest.mark.parametrize("number", [7, 6])
def test_an_error_in_a_far_call_reaches_the_caller(machine: Machine, number: int) -> None:
    """At each level of the chain."""
    with pytest.raises(ValueError, match="an odd number"):
        quarters(machine, number)
    assert quarters(machine, 8) == 10


RARE = 12345  # pages of readahead that no other test has


@apart(types.int64, needed=lambda m: m.mms[0]["ra_pages"] == RARE)
def eighth(m: Machine, number: int) -> int:
    return number // 8


@njit  # type: ignore[untyped-decorator]
def sixteenth(m: Machine, number: int) -> int:
    return eighth(m, number) // 2


def test_what_no_machine_needs_is_linked_later() -> None:
    def machine(pages: int) -> Machine:
        return HostMemory([Memslot(512, readahead_pages=pages)], KERNELS["6.12"], get_policy("six-steps")).machine

    with pytest.raises(RuntimeError, match="eighth isn't linked"):
        sixteenth(machine(0), 160)
    assert sixteenth(machine(RARE), 160) == 10
    assert sixteenth(machine(0), 160) == 10  # it stays


def test_the_table_has_the_arrays_in_the_order_of_a_machine() -> None:
    assert list(MACHINE.arrays) == [each.name for each in fields(Machine) if each.init]


def test_arrays_of_another_type_or_shape_are_refused(machine: Machine) -> None:
    for wrong in ({"pmds": np.zeros(1, np.int64)}, {"bits": np.zeros((1, 4), np.uint64)}, {"node": machine.node[:0]}):
        with pytest.raises(TypeError, match=next(iter(wrong))):
            link(replace(machine, **wrong))


def test_functions_are_built_once_by_whoever_comes_first(tmp_path: Path) -> None:
    built: list[str] = []

    def unit(name: str) -> Unit:
        return Unit("module", name, lambda _: True, lambda: name in built, lambda: built.append(name))

    units = [unit("one"), unit("two"), unit("three")]
    with open(tmp_path / "module.one.lock", "a") as other, ThreadPoolExecutor(1) as pool:
        fcntl.flock(other, fcntl.LOCK_EX)  # another process is at it
        waiting = pool.submit(build_missing, units, tmp_path)
        while len(built) < 2:
            time.sleep(0.001)
        assert built == ["two", "three"]
        built.append("one")
        fcntl.flock(other, fcntl.LOCK_UN)
        waiting.result()
    assert built == ["two", "three", "one"]
    build_missing(units, tmp_path)
    assert built == ["two", "three", "one"]


def test_nobody_waits_for_ever_for_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "WAIT_S", 0.05)
    built: list[str] = []
    unit = Unit("module", "one", lambda _: True, lambda: "one" in built, lambda: built.append("one"))
    with open(tmp_path / "module.one.lock", "a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # another process was stopped
        build_missing([unit], tmp_path)
    assert built == ["one"]


@pytest.mark.parametrize("place", ["", "nowhere"])
def test_where_nothing_can_be_locked_each_process_builds(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    built: list[str] = []
    build_missing([Unit("module", "one", lambda _: True, lambda: False, lambda: built.append("one"))], tmp_path / place)
    assert built == ["one"]


def test_what_a_build_raises_is_not_taken_for_a_lock(tmp_path: Path) -> None:
    def fails() -> None:
        raise OSError("of the build")

    with pytest.raises(OSError, match="of the build"):
        build_missing([Unit("module", "one", lambda _: True, lambda: False, fails)], tmp_path)
