"""A calibration makes sense however it is made: by hand, of text, or of a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from coldfleet.hostsim.spec.calibration import DEFAULT, Calibration, parse_calibration, read_calibration
from coldfleet.hostsim.spec.errors import UserError

Made = Callable[[str, str], Calibration]


def by_hand(name: str, value: str) -> Calibration:
    return replace(DEFAULT, **{name: float(value)})


def of_text(name: str, value: str) -> Calibration:
    return parse_calibration(f"{name}={value}")


@pytest.fixture
def of_file(tmp_path: Path) -> Made:
    def made(name: str, value: str) -> Calibration:
        (tmp_path / "a.toml").write_text(f"[calibration]\n{name} = {value}\n")
        return read_calibration(tmp_path / "a.toml")

    return made


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("fault_ns", "0.0", "fault_ns = 0: it must be above 0"),
        ("zero_bytes_per_s", "0.0", "zero_bytes_per_s = 0: it must be above 0"),
        ("charge_ns", "-1.0", "charge_ns = -1.0 is not a number from 0 to 1e+12"),
        ("charge_ns", "nan", "charge_ns = nan is not a number from 0 to 1e+12"),
        ("charge_ns", "inf", "charge_ns = inf is not a number from 0 to 1e+12"),
        ("tlb_saving", "1.0", "tlb_saving is 1.0, a share: it must be less than 1"),
        ("fault_ns", "1.0", "read_hold_ns is 455.9: it must be less than fault_ns"),
    ],
)
def test_figures_that_make_no_sense_are_refused_in_the_same_words(
    name: str, value: str, why: str, of_file: Made
) -> None:
    for made in (by_hand, of_text, of_file):
        with pytest.raises(UserError) as refused:
            made(name, value)
        assert str(refused.value).endswith(why)


def test_whole_numbers_are_taken_for_floats(of_file: Made) -> None:
    assert Calibration(charge_ns=7) == of_text("charge_ns", "7") == of_file("charge_ns", "7")
    assert isinstance(Calibration(charge_ns=7).charge_ns, float)
