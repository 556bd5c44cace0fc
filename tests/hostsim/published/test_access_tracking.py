"""The model of access_tracking_perf_test: published rows, what must hold where nobody measured, and the fit."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldfleet.hostsim.costs.scalability import serial_ns
from coldfleet.hostsim.published.access_tracking import PAGES_PER_VCPU, Measured, count_passes, run_benchmark
from coldfleet.hostsim.published.fit import fit, log_errors
from coldfleet.hostsim.published.rows import PublishedRow, find_policy, read_rows
from coldfleet.hostsim.spec.calibration import DEFAULT
from coldfleet.hostsim.spec.errors import UserError

VCPUS = [1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32, 48, 64, 96, 128]
NAMES = ("no-aging", "locked-6.12", "lockless-6.15")


def run(vcpus: int, policy: str, *, tdp: bool = True) -> Measured:
    return run_benchmark(vcpus, find_policy(policy), DEFAULT, tdp=tdp)


def pass_s(vcpus: int, policy: str, *, tdp: bool = True) -> float:
    found = run(vcpus, policy, tdp=tdp).aging_pass_s
    assert found is not None
    return found


@pytest.mark.parametrize("row", read_rows(), ids=lambda row: f"{row.vcpus}-{row.policy_name}")
def test_published_rows_come_out_near_what_was_measured(row: PublishedRow) -> None:
    wall, *aging_pass = map(math.exp, log_errors(row, DEFAULT))
    assert 0.85 <= wall <= 1.15
    assert all(0.85 <= ratio <= 1.15 for ratio in aging_pass)


def test_the_fit_gives_the_figures_that_come_along() -> None:
    """Fitted to the rows with 1, 16 and 64 vCPUs; those with 4 take no part."""
    found = fit(read_rows(), hold_out=[4])
    for name, value in vars(found).items():
        assert value == pytest.approx(getattr(DEFAULT, name), rel=0.02), name


@pytest.mark.slow
@pytest.mark.parametrize("vcpus", [1, 16, 64])
def test_rows_held_out_come_out_near_what_was_measured(vcpus: int) -> None:
    """The rows with 64 vCPUs from those with up to 16, too: nothing in the model is there for them alone."""
    found = fit(read_rows(), hold_out=[vcpus])
    for row in read_rows():
        if row.vcpus == vcpus:
            wall, *aging_pass = map(math.exp, log_errors(row, found))
            assert 0.8 <= wall <= 1.2
            assert all(1 / 1.4 <= ratio <= 1.4 for ratio in aging_pass)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 64), st.floats(0.01, 0.9), st.floats(1, 20), st.floats(1000, 1e5))
def test_passes_are_those_of_a_walk_from_vcpu_to_vcpu(vcpus: int, known: float, dearer: float, starts: float) -> None:
    new = min(known * dearer, 0.95)
    found = count_passes(vcpus, starts, known / vcpus, new / vcpus)
    assert found == pytest.approx(walk_vcpus(vcpus, starts, known / vcpus, new / vcpus), rel=0.15, abs=1)


def walk_vcpus(vcpus: int, starts: float, known: float, new: float) -> float:
    """The same, pass by pass: when it is at each vCPU, and how much of its memory there is by then and was before."""
    seen, start, now, passes = [0.0] * vcpus, 1 / starts, 0.0, 0
    while True:
        now += start
        for vcpu, before in enumerate(seen):
            took = (known * before + new * (now - before)) / (1 - new)
            if now + took >= 1:
                return passes + (vcpu + max(1 - now, 0) / took) / vcpus
            now += took
            seen[vcpu] = now
        passes += 1


def test_a_pass_that_is_slower_than_the_faults_never_catches_up() -> None:
    assert count_passes(8, 1e4, 0.5, 1.0) == 0.0
    assert count_passes(8, 1e4, 0.5, 0.999999) < 0.1
    one = run(64, "locked-6.12")
    assert one.aging_pass_s is not None
    assert one.aging_pass_s > one.vcpu_wall_s


def test_a_fit_finds_the_figures_that_made_the_rows() -> None:
    """Rows made by the model itself, with other figures."""
    truth = replace(DEFAULT, fault_ns=5000.0, zone_lock_ns=100.0, aging_page_ns=100.0)
    rows = []
    for vcpus in (1, 4, 16, 48):
        for name in ("no-aging", "locked", "lockless"):
            made = run_benchmark(vcpus, find_policy(name), truth)
            rows.append(PublishedRow(vcpus, name, made.vcpu_wall_s, made.aging_pass_s))
    found = fit(rows)
    assert found.fault_ns == pytest.approx(5000, rel=0.02)
    assert found.zone_lock_ns == pytest.approx(100, rel=0.05)
    assert found.aging_page_ns == pytest.approx(100, rel=0.05)
    assert max(abs(error) for row in rows for error in log_errors(row, found)) < 0.05


def test_too_few_rows_determine_nothing() -> None:
    with pytest.raises(UserError, match="6 figures"):
        fit(read_rows()[:3])


@pytest.mark.parametrize("tdp", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_more_vcpus_take_longer_without_jumps(name: str, tdp: bool) -> None:
    found = [run(vcpus, name, tdp=tdp) for vcpus in VCPUS]
    for (few, before), (many, after) in pairwise(zip(VCPUS, found, strict=True)):
        ratio = many / few
        assert before.vcpu_wall_s < after.vcpu_wall_s <= before.vcpu_wall_s * ratio**1.2
        if before.aging_pass_s is not None and after.aging_pass_s is not None:
            assert before.aging_pass_s < after.aging_pass_s <= before.aging_pass_s * ratio**5


def test_faults_reach_the_hosts_limit_and_no_more() -> None:
    """One part of each fault keeps all others out, so no number of vCPUs faults faster than those parts allow."""
    limit = 1e9 / sum(serial_ns(DEFAULT).values())
    rates = [vcpus * PAGES_PER_VCPU / run(vcpus, "no-aging").vcpu_wall_s for vcpus in (24, 64, 256, 1024)]
    assert rates == sorted(rates)
    assert 0.95 * limit < rates[-1] < limit


def test_waiting_for_the_lock_is_what_locked_aging_costs() -> None:
    """Published: the pass is slower by far with 16 vCPUs and more, and vCPUs by up to a fifth."""
    assert run(1, "lockless-6.15").vcpu_wall_s == run(1, "no-aging").vcpu_wall_s
    for vcpus in (16, 32, 64):
        assert pass_s(vcpus, "locked-6.12") > 5 * pass_s(vcpus, "lockless-6.15")
        assert 1 < run(vcpus, "locked-6.12").vcpu_wall_s / run(vcpus, "no-aging").vcpu_wall_s < 1.25
    assert pass_s(1, "locked-6.12") < 1.5 * pass_s(1, "lockless-6.15")


def test_without_the_tdp_mmu_faults_write_and_lockless_aging_gains_most() -> None:
    """v8's cover letter: with 64 vCPUs the pass is faster by about an order of magnitude or more, the vCPUs hardly."""
    assert run(64, "no-aging", tdp=False).vcpu_wall_s > 1.5 * run(64, "no-aging").vcpu_wall_s
    assert pass_s(64, "locked-6.12", tdp=False) > 10 * pass_s(64, "lockless-6.15", tdp=False)
    ratio = run(64, "locked-6.12", tdp=False).vcpu_wall_s / run(64, "lockless-6.15", tdp=False).vcpu_wall_s
    assert ratio == pytest.approx(1, abs=0.05)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 96), st.sampled_from(NAMES), st.booleans())
def test_a_pass_ends_at_most_an_undisturbed_pass_after_the_vcpus(vcpus: int, name: str, tdp: bool) -> None:
    found = run(vcpus, name, tdp=tdp)
    assert found.vcpu_wall_s >= PAGES_PER_VCPU * DEFAULT.fault_ns / 1e9
    assert (found.aging_pass_s is None) == (name == "no-aging")
    if found.aging_pass_s is not None:
        alone = PAGES_PER_VCPU * vcpus * 300 / 1e9
        assert found.aging_pass_s <= found.vcpu_wall_s + alone


BAD_CSV = {
    "vcpus,policy\n1,locked\n": ":1: no column 'vcpu_wall_s'",
    "vcpus,policy,vcpu_wall_s,aging_pass_s\n": ": no rows",
    "vcpus,policy,vcpu_wall_s,aging_pass_s\n1,lokced,1,1\n": ":2: policy 'lokced' is none of",
    "vcpus,policy,vcpu_wall_s,aging_pass_s\n1.5,locked,1,1\n": ":2: vcpus '1.5' is not",
    "vcpus,policy,vcpu_wall_s,aging_pass_s\n1,locked,-1,1\n": ":2: vcpu_wall_s '-1' is not",
    "vcpus,policy,vcpu_wall_s,aging_pass_s\n1,locked,1,\n": ":2: aging_pass_s '' is not",
}


@pytest.mark.parametrize("text", BAD_CSV)
def test_bad_rows_are_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=str(path)) as caught:
        read_rows(path)
    assert BAD_CSV[text] in str(caught.value)
    assert "\n" not in str(caught.value)
