"""Capacity where guests come and go: the border of a known law, guest-time, and hosts that are enough at any moment."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import coldfleet
from coldfleet.cluster.answers.sizing_over_time import FleetOverTime
from coldfleet.cluster.answers.slo import parse_slo
from coldfleet.cluster.answers.study_capacity import CapacityAnswer
from coldfleet.cluster.study.fleet import requested_guests
from coldfleet.cluster.study.model import merge
from coldfleet.cluster.study.placement import HostResources
from coldfleet.cluster.study.reader import read_study
from coldfleet.cluster.study.timeline import place_in_time
from coldfleet.hostsim.counters.counters import COUNTERS
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import Epoch, GuestResult, HostResult, HostSpec
from coldfleet.policies import Policy

HOUR = 3600 * 10**9
STUDY: dict[str, Any] = {
    "ticks": 24,
    "overcommit": 1.0,
    "policy": "evict-only",
    "fleet": {
        "tick": "1 h",
        "host": {"node": {"count": 3, "memory": "32 MiB", "cpus": 8}},
        "guest": {
            "web": {
                "memory": "4 MiB",
                "workload": {"load": "diurnal", "load_ticks": 24},
                "arrivals": {"per_hour": 2.0, "day_swing": 0.8, "mean_lifetime": "5 h"},
            }
        },
    },
    "guest": {"memory": "4 MiB", "accesses_per_page": 1.0},
}


class SyntheticHost:
    """A host whose guests refault at a rate that passes 10 % at a known overcommit, some a little more than others."""

    def __init__(self, border: float, noise: float) -> None:
        self.border, self.noise = border, noise

    def __call__(
        self, spec: HostSpec, policy: Policy, *, seed: int, replicate: int, host: int, audit: bool = False
    ) -> HostResult:
        guests = []
        for number, guest in enumerate(spec.guests):
            luck = np.random.default_rng((seed, replicate, host, number)).normal()
            lived = guest.life(spec.ticks).stop - max(guest.arrives, 1)
            overcommit = guest.memory_pages / guest.limit_pages if guest.limit_pages else 1.0
            rate = 0.1 + 0.1 * (overcommit - self.border) + self.noise * luck
            counters = {counter.name: 0 for counter in COUNTERS}
            counters |= {"accesses": 10**6, "refaults": round(max(rate, 0.0) * 10**6)}
            counters["resident_page_ticks"] = round(guest.memory_pages / overcommit * lived)
            guests.append(GuestResult(guest.name, False, number, counters, (0,) * len(policy.steps)))
        epochs = (Epoch(spec.ticks, guests[0].counters, guests[0].gauges, 100, len(guests), 0),) if spec.epochs else ()
        return HostResult(tuple(guests), epochs=epochs)


def ask(monkeypatch: pytest.MonkeyPatch, host: SyntheticHost, seed: int, slo: str, **more: Any) -> CapacityAnswer:
    monkeypatch.setattr("coldfleet.hostsim.host.simulate_host", host)
    study = {**STUDY, "seed": seed}
    return coldfleet.capacity(study, slo, low=1.0, high=2.0, step=0.05, executor="serial", budget=100_000, **more)


def hits(monkeypatch: pytest.MonkeyPatch, trials: int) -> int:
    """In how many trials the known border of the mean lies in the answer's interval, which is narrow."""
    inside = 0
    rng = np.random.default_rng(7)
    for trial in range(trials):
        border = float(rng.uniform(1.2, 1.8))
        answer = ask(monkeypatch, SyntheticHost(border, 0.01), trial, "fault_rate_mean<10%").policies[0]
        low, high = answer.interval
        assert low is not None
        assert high is not None
        assert high - low <= 0.25
        inside += low <= border <= high
    return inside


def test_the_known_border_of_a_diurnal_fleet_is_in_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hits(monkeypatch, 1) == 1


@pytest.mark.slow
def test_the_known_border_is_in_the_interval_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hits(monkeypatch, 100) >= 95


def test_an_answer_has_its_peak_and_its_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ask(monkeypatch, SyntheticHost(1.52, 0.0), 3, "fault_rate_p99<10%", spare_hosts=1)
    (policy,) = answer.policies
    assert policy.interval == (1.5, 1.55)
    assert policy.peak_hour is not None
    assert 0 < policy.peak_hour <= 24
    assert policy.hosts is not None
    assert policy.hosts_least is not None
    assert 1 < policy.hosts_least <= policy.hosts <= policy.hosts_without_overcommit  # type: ignore[operator]
    assert "gets no place at hour" in policy.binding_moment
    assert policy.binding_moment in policy.sentence
    assert policy.checked


def test_more_hosts_are_needed_than_may_fail() -> None:
    plan = read_study({**STUDY, "overcommit": 1.5})
    few, many = (max(each.hosts for each in FleetOverTime.over_time(plan, failures=n)._without) for n in (0, 20))
    assert few < 20 < many


def test_another_load_has_other_guests() -> None:
    plan = read_study(STUDY)
    fleet = FleetOverTime.over_time(plan)
    busy = read_study(merge(STUDY, {"fleet": {"guest": {"web": {"arrivals": {"per_hour": 20.0}}}}}))
    assert fleet.at(busy.cell(0)).hosts > 3 * fleet.hosts


def test_the_largest_host_bounds_the_fewest() -> None:
    small = {
        "small": {"count": 1, "memory": "8 MiB", "cpus": 8},
        "large": {"count": 1, "memory": "256 MiB", "cpus": 99},
    }
    plan = read_study(merge(STUDY, {"fleet": {"host": {**small, "node": {"count": 1, "memory": "8 MiB", "cpus": 8}}}}))
    assert FleetOverTime.over_time(plan).hosts <= 3


def test_a_percentile_is_of_guest_time() -> None:
    rows = [{"refaults": 1, "lived_ticks": 98}, {"refaults": 5, "lived_ticks": 1}, {"refaults": 9, "lived_ticks": 1}]
    assert [parse_slo(f"refaults{ending}<1").value(rows) for ending in ("_p98", "_p99", "", "_p50")] == [1, 5, 9, 1]
    assert parse_slo("refaults_mean<1").value(rows) == pytest.approx((98 + 5 + 9) / 100)


@pytest.mark.parametrize("failures", [0, 1])
def test_hosts_are_the_fewest_on_which_nobody_is_refused(failures: int) -> None:
    plan = read_study({**STUDY, "overcommit": 1.5})
    fleet = FleetOverTime.over_time(plan, failures=failures)
    for run, found in zip(fleet.runs, fleet._without, strict=True):
        requests = [request for request, _ in requested_guests(run)]

        def refused(hosts: int, requests: Any = requests, run: Any = run) -> int:
            rooms = [HostResources(8192, 32)] * hosts
            lives = place_in_time(rooms, requests, "best-fit", lambda *who: b"", (), 24 * HOUR)
            return sum(bool(life.refused) for life in lives)

        fewest = next(hosts for hosts in range(1, 100) if not refused(hosts))
        assert fewest <= found.hosts <= fewest + failures + 1
        assert failures or found.hosts == fewest
        assert found.hosts >= math.ceil(max(found.alone))


def test_a_fleet_over_time_needs_hosts_of_a_size_and_is_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="leave it out"):
        ask(monkeypatch, SyntheticHost(1.5, 0.0), 1, "fault_rate<10%", hosts=100)
    fleet = {**STUDY["fleet"], "host": {"node": {"count": 3}}}
    with pytest.raises(UserError, match="never too few"):
        FleetOverTime.over_time(read_study({**STUDY, "fleet": fleet}))
