"""What is compiled for whom, and what of it is found on the disk again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coldfleet.hostsim.engine.jit import compiled, inlined

pytestmark = pytest.mark.xdist_group("code_cache")  # numba's index of a file loses what two processes write at a time


@inlined
def half(number: int) -> int:
    if number % 2:
        raise ValueError("an odd number")
    return number // 2


@compiled
def quarter(number: int) -> int:
    return half(half(number))


@compiled
def eighth(number: int) -> int:
    return half(quarter(number))


def signatures(function: Callable[..., Any]) -> int:
    """For how many types a function is compiled, as Python calls it."""
    dispatcher: Any = function
    return len(dispatcher.signatures)


def again(function: Callable[..., Any]) -> Any:
    """The function as another process has it, with nothing loaded yet."""
    dispatcher: Any = function
    return compiled(dispatcher.py_func)


def test_what_compiled_code_takes_in_is_compiled_for_python_once_python_calls_it() -> None:
    taken_in = compiled(lambda number: number + 1)

    @compiled
    def caller(number: int) -> int:
        return taken_in(number) + taken_in(number + 1)

    assert caller(3) == 9
    assert (signatures(caller), signatures(taken_in)) == (1, 0)
    assert taken_in(3) == 4
    assert signatures(taken_in) == 1
    assert caller(4) == 11


def test_an_error_in_what_was_taken_in_reaches_python() -> None:
    assert eighth(16) == 2
    for number in (17, 18, 20):
        with pytest.raises(ValueError, match="an odd number"):
            eighth(number)
    assert eighth(24) == 3


def test_machine_code_and_parts_are_found_on_the_disk() -> None:
    assert (quarter(8), eighth(16)) == (2, 2)
    loaded, part = again(quarter), again(quarter)

    @compiled
    def caller(number: int) -> int:
        return part(number) + 1

    assert (loaded(8), caller(8)) == (2, 3)
    assert [sum(each.stats.cache_hits.values()) for each in (loaded, part._part)] == [1, 1]
    with pytest.raises(ValueError, match="an odd number"):
        loaded(6)


def test_code_of_another_signature_is_not_taken() -> None:
    def plain(number: float) -> float:
        return number / 4

    function: Any = compiled(plain)
    assert (function(2), function(True), function(2.5)) == (0.5, 0.25, 0.625)
    place = Path(function._cache.cache_path)
    one, other, _ = sorted(place.glob(f"{function._cache._impl.filename_base}.*.nbc"))
    code = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(code)
    loaded = again(function)
    assert (loaded(2), loaded(True), loaded(2.5)) == (0.5, 0.25, 0.625)
    assert sum(loaded.stats.cache_hits.values()) == 1
