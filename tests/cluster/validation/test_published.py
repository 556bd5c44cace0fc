"""coldfleet validate and calibrate, and studies with another calibration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coldfleet.cluster.execution.work import simulate_run
from coldfleet.cluster.study.plan import Run
from coldfleet.cluster.study.reader import read_study
from coldfleet.cluster.validation.published import chromeos_lines, multichase_lines
from coldfleet.hostsim.published.rows import V4
from coldfleet.hostsim.spec.calibration import (
    DEFAULT,
    Calibration,
    format_calibration,
    parse_calibration,
    read_calibration,
)
from coldfleet.hostsim.spec.errors import UserError
from tests.cluster.conftest import STUDY, Said

Coldfleet = Callable[..., Said]


@pytest.mark.parametrize("policy", ["no-aging", "locked-6.12", "lockless-6.15"])
@pytest.mark.parametrize("tdp", ["on", "off"])
def test_one_row_is_one_object(coldfleet: Coldfleet, policy: str, tdp: str) -> None:
    said = coldfleet("validate", "--vcpus", 8, "--policy", policy, "--tdp", tdp, "--json")
    row = json.loads(said.out)
    assert said.code == 0
    assert list(row) == ["vcpus", "policy", "tdp", "vcpu_wall_s", "aging_pass_s"]
    assert (row["vcpus"], row["policy"], row["tdp"]) == (8, policy, tdp)
    assert 1 < row["vcpu_wall_s"] < 3
    assert (row["aging_pass_s"] is None) == (policy == "no-aging")


def test_all_rows_stand_side_by_side(coldfleet: Coldfleet) -> None:
    said = coldfleet("validate")
    assert said.code == 0
    assert max(map(len, said.out.splitlines())) <= 100
    first_words = {line.split()[0] for line in said.out.splitlines()}
    assert first_words == {"what", "1", "4", "16", "64", "ChromeOS,", "multichase,"}
    rows = json.loads(coldfleet("validate", "--json").out)
    assert {row["basis"] for row in rows} == {"fitted", "held out", "engine"}
    assert all(row["error"] == pytest.approx(row["simulated"] / row["published"] - 1) for row in rows)
    assert all(row["missed"] == (abs(row["error"]) > 0.15) for row in rows)
    assert any(row["missed"] for row in rows)
    assert [line.endswith("miss") for line in said.out.splitlines()[1:]] == [row["missed"] for row in rows]


def test_chromeos_latencies_are_near_the_published_but_for_the_tail_without_mglru() -> None:
    """The medians within 15 %, the tail of MGLRU within 30 %. Without MGLRU the letter's tail is shorter than the
    fix's, ours is longer: reclaim in the background is too even here (docs/time.md)."""
    lines = chromeos_lines()
    assert [line.what.split()[1] for line in lines] == ["p50", "p50", "p99", "p99"]
    without, blind, tail_without, tail_blind = (line.simulated / line.published for line in lines)
    assert without == pytest.approx(1, abs=0.15)
    assert blind == pytest.approx(1, abs=0.15)
    assert tail_blind == pytest.approx(1, abs=0.3)
    assert 1.3 < tail_without < 1.6
    assert 1 < lines[2].simulated < lines[3].simulated


def test_multichase_gains_a_few_percent() -> None:
    (line,) = multichase_lines()
    assert 1 < line.simulated < 1.12


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["validate", "--vcpus", "0"], "greater than or equal to 1"),
        (["validate", "--vcpus", "4", "--policy", "locked"], "'locked' is not one of"),
        (["validate", "--policy", "locked-6.12"], "go with --vcpus"),
        (["validate", "--vcpus", "4", "--calibration", "nowhere.toml"], "nowhere.toml: no such file"),
        (["calibrate", "measured"], "calibrate published"),
        (["calibrate", "published", "--data", "nowhere.csv"], "nowhere.csv: no such file"),
        (["calibrate", "published", "--hold-out", "1", "--hold-out", "4", "--hold-out", "16"], "figures"),
    ],
)
def test_bad_input_is_one_line(coldfleet: Coldfleet, arguments: list[str], complaint: str) -> None:
    said = coldfleet(*arguments)
    assert (said.code, said.out) == (2, "")
    assert complaint in said.err
    assert said.err.count("\n") == 1


def test_a_calibration_file_is_written_and_used(coldfleet: Coldfleet, tmp_path: Path) -> None:
    data, out = tmp_path / "twice.csv", tmp_path / "twice.toml"
    rows = [line.split(",") for line in V4.read_text().split() if not line.startswith("64,")]
    data.write_text("\n".join(",".join([*row[:2], *(twice(text) for text in row[2:])]) for row in rows) + "\n")
    said = coldfleet("calibrate", "published", "--data", data, "--out", out, "--json")
    assert said.code == 0
    found = read_calibration(out)
    assert json.loads(said.out)["calibration"] == vars(found)
    assert found.fault_ns == pytest.approx(2 * DEFAULT.fault_ns, rel=0.1)
    row = json.loads(coldfleet("validate", "--vcpus", 4, "--calibration", out, "--json").out)
    assert row["vcpu_wall_s"] == pytest.approx(2 * 1.22, rel=0.1)


def twice(text: str) -> str:
    return str(2 * float(text)) if text[:1].isdigit() else text


def test_what_a_calibration_writes_is_read_again() -> None:
    other = Calibration(fault_ns=5000.0, coherency_ns=60.0)
    assert parse_calibration(other.as_text()) == other
    assert DEFAULT.as_text() == "published"


def test_a_study_with_another_calibration_has_other_prices_and_no_need_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    (tmp_path / "dear.toml").write_text(format_calibration(Calibration(fault_ns=2 * DEFAULT.fault_ns), []))
    text = STUDY.replace("nested_ratio = [0, 0.5, 1]", 'calibration = ["published", "dear.toml"]')
    path.write_text(text.replace(', "six-steps"', ""))
    plan = read_study(path)
    (tmp_path / "dear.toml").unlink()
    usual, dear = (simulate_run(Run(n, plan.cell(n), 0))["cells"][0] for n in range(2))
    assert dear["calibration"] == f"fault_ns={2 * DEFAULT.fault_ns}"
    assert usual["access_hash"] == dear["access_hash"]
    assert usual["pgmajfault"] == dear["pgmajfault"]
    swapped_in = 2000.0 * usual["pgmajfault"]
    assert dear["fault_cpu_ns"] - swapped_in == pytest.approx(2 * (usual["fault_cpu_ns"] - swapped_in), rel=1e-6)


BAD_FILES = {
    "": "no table [calibration]",
    "[calibration\n": "not valid TOML",
    "[calibration]\nfalut_ns = 1.0\n": 'did you mean "fault_ns"?',
    "[calibration]\nfault_ns = -1\n": "not a number from 0 to",
    '[calibration]\nfault_ns = "3 us"\n': "not a number from 0 to",
    "[calibration]\nfault_ns = nan\n": "not a number from 0 to",
    "[calibration]\nread_hold_ns = 9e9\n": "less than fault_ns",
}


@pytest.mark.parametrize("text", BAD_FILES)
def test_a_bad_calibration_file_is_one_line_with_the_studys_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(text)
    study = tmp_path / "study.toml"
    study.write_text('calibration = "bad.toml"\n' + STUDY)
    with pytest.raises(UserError) as caught:
        read_study(study)
    assert str(caught.value).startswith(f"{study}:1: calibration: {tmp_path / 'bad.toml'}")
    assert BAD_FILES[text] in str(caught.value)


def test_a_calibration_that_is_no_file_is_refused(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text('calibration = "publisched"\n' + STUDY)
    with pytest.raises(UserError, match=r"study.toml:1: calibration: 'publisched' is no calibration"):
        read_study(study)
