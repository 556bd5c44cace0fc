"""Amounts as people read them: three digits, in the unit that fits."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfleet.cluster.stats.amounts import bytes_text, duration, hour_text, memory_text, moment_text, time_text

BYTES = {"B": 0, "KiB": 1, "MiB": 2, "GiB": 3, "TiB": 4}
SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86_400}


def test_amounts_are_short() -> None:
    assert [memory_text(pages) for pages in (0, 1, 256, 48_974, 2**28)] == ["0 B", "4 KiB", "1 MiB", "191 MiB", "1 TiB"]
    times = (0, 5, 2_500, 10**6, 1_500_000_000, 7_200_000_000_000)
    assert [time_text(ns) for ns in times] == ["0 ns", "5 ns", "2.5 us", "1 ms", "1.5 s", "2 h"]
    seconds = (0, 0.04, 1.26, 42, 90, 7260)
    assert [duration(each) for each in seconds] == ["0 s", "40 ms", "1.3 s", "42 s", "1 min 30 s", "2 h 1 min"]


@pytest.mark.parametrize(("hours", "text"), [(0, "day 1, 00:00"), (24, "day 2, 00:00"), (38.29, "day 2, 14:17")])
def test_a_moment_is_said_by_the_clock(hours: float, text: str) -> None:
    assert moment_text(round(hours * 3600 * 10**9)) == text


@given(st.integers(1, 10**4))
def test_an_hour_begins_at_its_moment_and_lasts_an_hour(hour: int) -> None:
    begin, end = hour_text(hour).split(" to ")
    assert begin == moment_text((hour - 1) * 3600 * 10**9)
    after = moment_text(hour * 3600 * 10**9)
    assert f"{begin.partition(',')[0]}, {end}" == after or (end == "24:00" and after.endswith(", 00:00"))


@given(st.floats(1, 1e15))
def test_no_amount_is_rounded_away(amount: float) -> None:
    number, unit = bytes_text(amount).split()
    assert float(number.replace(",", "")) * 1024 ** BYTES[unit] == pytest.approx(amount, rel=0.006)
    number, unit = time_text(amount).split()
    assert float(number.replace(",", "")) * SECONDS[unit] == pytest.approx(amount / 1e9, rel=0.006)
    parts = re.findall(r"([\d.]+) (\w+)", duration(amount / 1e9))
    assert abs(sum(float(number) * SECONDS[unit] for number, unit in parts) - amount / 1e9) <= 0.06 * amount / 1e9
