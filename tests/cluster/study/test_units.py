"""Sizes are read with their unit, exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.units import MEMORY, TIME, Quantity


@pytest.mark.parametrize(
    ("text", "pages"),
    [("64 GiB", 1 << 24), ("64MiB", 1 << 14), ("0.5 MiB", 128), ("4 KiB", 1), ("8192 B", 2), ("4k pages", 4096),
     ("1 page", 1), (" 3  pages ", 3), ("2 M pages", 2 << 20), (17, 17), ("0 B", 0)],
)  # fmt: skip
def test_reads(text: str | int, pages: int) -> None:
    assert MEMORY.parse(text) == pages


@pytest.mark.parametrize(
    ("text", "expected"),
    [("64 MB", "did you mean 'MiB'?"), ("64 mib", "did you mean 'MiB'?"), ("64", "has no unit"), ("-1 MiB", "negative"),
     (-1, "negative"), ("1 KiB", "whole number"), ("MiB", "not an amount"), ("", "not an amount"), (True, "not an"),
     ("1e3 MiB", "unknown unit|not an amount"), ("64 s", "one of"), ("1 pags", "did you mean 'page")],
)  # fmt: skip
def test_refuses_in_one_line(text: str | int, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        MEMORY.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "ns"),
    [("1 us", 1000), ("0.25s", 250_000_000), ("5 min", 300 * 10**9), ("3 h", 10_800 * 10**9), (7, 7), ("1.5 us", 1500)],
)  # fmt: skip
def test_reads_times(text: str | int, ns: int) -> None:
    assert TIME.parse(text) == ns


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5", "has no unit"), ("0.5 ns", "whole number of ns"), ("-1 s", "can't be negative"),
     ("5 sec", "did you mean 's'?"), ("5 m", "did you mean 'min'?"), ("4 pages", "one of: ns, us"), ("", "not a time")],
)  # fmt: skip
def test_refuses_times_in_one_line(text: str | int, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        TIME.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("ns", "text"), [(10**9, "1 s"), (250 * 10**6, "250 ms"), (1001, "1001 ns"), (0, "0 ns")])
def test_prints_times(ns: int, text: str) -> None:
    assert TIME.format(ns) == text


@given(st.integers(0, 2**60), st.sampled_from([MEMORY, TIME]))
def test_prints_what_it_reads_back(amount: int, quantity: Quantity) -> None:
    assert quantity.parse(quantity.format(amount)) == amount
