"""Functions that compiled code calls by address: what is raised in one reaches Python."""

from __future__ import annotations

from typing import Any

import numba
import pytest
from numba import types

from coldfleet.hostsim.engine.far_calls import apart
from coldfleet.hostsim.engine.kernels import KERNELS
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
