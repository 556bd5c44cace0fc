"""Published measurements and calibrations with anything in them: figures that the model can run with, or one line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given

from coldfleet.hostsim.published.access_tracking import run_benchmark
from coldfleet.hostsim.published.fit import fit
from coldfleet.hostsim.published.rows import V4, find_policy, read_rows
from coldfleet.hostsim.spec.calibration import DEFAULT, format_calibration, parse_calibration, read_calibration
from tests.fuzzing import BOUNDED, LONG, Edit, edited, edits_with, outcome, phrases

CSV = V4.read_text("utf-8")
FIGURES = format_calibration(DEFAULT, ["as published"])
ROWS = edits_with([",", "\n", '"', "\r", ";", "1,locked,2,1\n", "nan", "1e-300", "1e300", "64", "0", "-1", "no-aging"])
TABLES = edits_with(["=", "\n", "[", "]", "#", "1e15", "1e-300", "0", "-1", "nan", "inf", "fault_ns = 1\n", "{}"])
TEXTS = phrases(["fault_ns", "read_hold_ns", "zone_lock_ns", "zero_bytes_per_s", "=", ",", "1", "0", "1e15", "1e-300"])


def check_csv(path: Path, edits: list[Edit]) -> None:
    path.write_text(edited(CSV, edits), "utf-8", errors="surrogatepass")

    def use() -> None:
        rows = read_rows(path)
        assert all(row.vcpu_wall_s > 0 and 1 <= row.vcpus <= 1024 for row in rows)

    outcome(use)


def check_figures(text: str) -> None:
    """The model gives times of any calibration that is accepted."""
    calibration = parse_calibration(text)
    for vcpus in (1, 64):
        for name in ("no-aging", "locked-6.12", "lockless-6.15"):
            found = run_benchmark(vcpus, find_policy(name), calibration)
            assert 0 < found.vcpu_wall_s < math.inf
            assert found.aging_pass_s is None or 0 < found.aging_pass_s < math.inf


def check_table(path: Path, edits: list[Edit]) -> None:
    path.write_text(edited(FIGURES, edits), "utf-8", errors="surrogatepass")
    outcome(lambda: check_figures(read_calibration(path).as_text()))


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    """Spreadsheets write it."""
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbf" + CSV.encode())
    assert read_rows(tmp_path / "rows.csv") == read_rows()
    (tmp_path / "figures.toml").write_bytes(b"\xef\xbb\xbf" + FIGURES.encode())
    assert read_calibration(tmp_path / "figures.toml") == DEFAULT


def test_rows_that_no_figures_fit_are_fitted_or_refused(tmp_path: Path) -> None:
    for wall in ("1e-300", "1e300"):
        text = (
            CSV.splitlines()[0] + f"\n1,locked,{wall},1\n16,locked,{wall},1\n64,locked,{wall},1\n4,lockless,1,{wall}\n"
        )
        (tmp_path / "rows.csv").write_text(text)
        outcome(lambda: check_figures(fit(read_rows(tmp_path / "rows.csv")).as_text()))


def test_a_fit_that_would_take_hours_is_refused(tmp_path: Path) -> None:
    rows = [f"1024,{name},1,0.5" for name in ("no-aging", "locked", "lockless")] * 4
    (tmp_path / "rows.csv").write_text("\n".join([CSV.splitlines()[0], *rows]))
    assert "the fit would take about" in outcome(lambda: fit(read_rows(tmp_path / "rows.csv")))


@BOUNDED
@given(ROWS)
def test_an_edited_csv_is_rows_or_one_line(tmp_path: Path, edits: list[Edit]) -> None:
    check_csv(tmp_path / "rows.csv", edits)


@BOUNDED
@given(TABLES)
def test_an_edited_calibration_is_figures_or_one_line(tmp_path: Path, edits: list[Edit]) -> None:
    check_table(tmp_path / "figures.toml", edits)


@BOUNDED
@given(TEXTS)
def test_the_text_of_a_calibration_is_figures_or_one_line(text: str) -> None:
    outcome(lambda: check_figures(text))


@pytest.mark.slow
@LONG
@given(ROWS)
def test_fuzz_rows(tmp_path: Path, edits: list[Edit]) -> None:
    check_csv(tmp_path / "rows.csv", edits)


@pytest.mark.slow
@LONG
@given(TABLES)
def test_fuzz_calibrations(tmp_path: Path, edits: list[Edit]) -> None:
    check_table(tmp_path / "figures.toml", edits)
