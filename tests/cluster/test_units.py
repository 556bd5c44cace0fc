"""Sizes are read with their unit, exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostsim.errors import UserError
from hostsim.units import format_pages, parse_pages


@pytest.mark.parametrize(
    ("text", "pages"),
    [("64 GiB", 1 << 24), ("64MiB", 1 << 14), ("0.5 MiB", 128), ("4 KiB", 1), ("8192 B", 2), ("4k pages", 4096),
     ("1 page", 1), (" 3  pages ", 3), ("2 M pages", 2 << 20), (17, 17), ("0 B", 0)],
)  # fmt: skip
def test_reads(text: str | int, pages: int) -> None:
    assert parse_pages(text) == pages


@pytest.mark.parametrize(
    ("text", "expected"),
    [("64 MB", "did you mean 'MiB'?"), ("64 mib", "did you mean 'MiB'?"), ("64", "has no unit"), ("-1 MiB", "negative"),
     (-1, "negative"), ("1 KiB", "whole number"), ("MiB", "not an amount"), ("", "not an amount"), (True, "not an"),
     ("1e3 MiB", "unknown unit|not an amount"), ("64 s", "one of"), ("1 pags", "did you mean 'page")],
)  # fmt: skip
def test_refuses_in_one_line(text: str | int, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        parse_pages(text)
    assert "\n" not in str(caught.value)


@given(st.integers(0, 2**40))
def test_prints_what_it_reads_back(pages: int) -> None:
    assert parse_pages(format_pages(pages)) == pages
