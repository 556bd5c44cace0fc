"""Capacity where guests come and go: the border of a known law, guest-time, and hosts that are enough at any moment."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import coldfleet
from coldfleet.cluster.answers.capacity_answer import CapacityAnswer
from coldfleet.cluster.answers.fewest_hosts import fewest_hosts, outages_on
from coldfleet.cluster.answers.peak_hosts import PeakHosts
from coldfleet.cluster.answers.sizing import DramAccount, kind_of, memory_of
from coldfleet.cluster.answers.sizing_over_time import FleetOverTime
from coldfleet.cluster.answers.slo import parse_slo
from coldfleet.cluster.execution.work import simulate_run
from coldfleet.cluster.study.fleet import requested_guests
from coldfleet.cluster.study.fleet_tables import Outage
from coldfleet.cluster.study.model import merge
from coldfleet.cluster.study.placement import HostResources, Request
from coldfleet.cluster.study.reader import read_study
from coldfleet.cluster.study.timeline import HostOutage, place_in_time
from coldfleet.hostsim.counters.counters import COUNTERS
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import Epoch, GuestResult, HostResult, HostSpec
from coldfleet.policies import Policy
from tests.reference.fleet import Fleet as PlainFleet
from tests.reference.fleet import Out, Vm

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
        self.ran: list[HostSpec] = []

    def __call__(
        self, spec: HostSpec, policy: Policy, *, seed: int, replicate: int, host: int, audit: bool = False
    ) -> HostResult:
        self.ran.append(spec)
        guests = []
        for number, guest in enumerate(spec.guests):
            luck = np.random.default_rng((seed, replicate, host, number)).normal()
            lived = guest.life(spec.ticks).stop - max(guest.arrives, 1)
            overcommit = guest.memory_pages / guest.limit_pages if guest.limit_pages else 1.0
            rate = 0.1 + 0.1 * (overcommit - self.border) + self.noise * luck
            counters = {counter.name: 0 for counter in COUNTERS}
            refaults = round(max(rate, 0.0) * 10**6)
            counters |= {"accesses": 10**6, "refaults": refaults, "pgsteal": refaults}
            counters["resident_page_ticks"] = round(guest.memory_pages / overcommit * lived)
            guests.append(GuestResult(guest.name, False, number, counters, (0,) * len(policy.steps)))
        epochs = (Epoch(spec.ticks, guests[0].counters, guests[0].gauges, 100, len(guests), 0),) if spec.epochs else ()
        return HostResult(tuple(guests), epochs=epochs)


def ask(monkeypatch: pytest.MonkeyPatch, host: SyntheticHost, seed: int, slo: str, **more: Any) -> CapacityAnswer:
    monkeypatch.setattr("coldfleet.hostsim.host.simulate_host", host)
    asked = {"study": {**STUDY, "seed": seed}, "low": 1.0, "high": 2.0, "step": 0.05, "budget": 100_000, **more}
    return coldfleet.capacity(slo=slo, executor="serial", **asked)


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
    assert "gets no place on day 1, " in policy.binding_moment
    assert policy.binding_moment in policy.sentence
    assert answer.fleet_hosts == policy.hosts_without_overcommit, "the host that may fail is in both"
    assert policy.checked
    assert 1 < policy.checked_hosts <= policy.hosts
    assert (
        f"Checked by a run of all its {policy.checked_hosts} hosts that have guests, with all of their memory"
        in policy.sentence
    )
    kept = f"{policy.check_free_pages:,} of its {policy.check_host_memory_pages:,} pages free"
    assert f"keeps {kept}; with that memory fault_rate_p99<10% is met, with" in policy.sentence


def test_a_budget_that_is_too_small_for_all_hosts_checks_the_fullest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldfleet.hostsim.host.simulate_host", SyntheticHost(1.5, 0.0))
    plan = read_study(STUDY)
    fleet = FleetOverTime.over_time(plan)
    count = fleet.hosts_needed(DramAccount((1.0,), (1.0,), {}, {}, 1.0))
    assert isinstance(count, PeakHosts)
    assert count.hosts > 2
    slos = [parse_slo("fault_rate<10%")]
    all_of_it, first = (fleet.check(plan.run(0), count, seconds, slos) for seconds in (math.inf, 0.0))
    assert all_of_it.hosts == all_of_it.of == len(count.placed) > 1
    assert all_of_it.slos == ("fault_rate<10% is met, with 5%",)
    assert (first.hosts, first.of, first.slos) == (1, all_of_it.of, ())
    assert (
        "1 of its 3 hosts that have guests, the fullest at the peak, as the budget left no time for more" in first.text
    )
    assert first.guests == len(count.placed[0].lives)


def whole_study(guests: int, outage: dict[str, Any]) -> dict[str, Any]:
    """Guests that stay, each of which takes a whole host."""
    host, web = {"node": {"count": 10, "memory": "32 MiB"}}, {"memory": "30 MiB", "count": guests}
    table = outage or {"after_the_end": {"at": "25 h"}}  # so that it is a fleet over time
    return {**STUDY, "fleet": {"tick": "1 h", "host": host, "guest": {"web": web}, "outage": table}}


def whole_hosts(guests: int, outage: dict[str, Any], failures: int = 0) -> int:
    """Hosts for them."""
    return FleetOverTime.over_time(read_study(whole_study(guests, outage)), failures=failures).hosts


def test_a_check_counts_a_guest_once_however_often_it_lost_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldfleet.hostsim.host.simulate_host", SyntheticHost(1.5, 0.0))
    slos = [parse_slo("fault_rate<10%")]
    plan = read_study(whole_study(2, {"x": {"host": 9, "at": "5 h"}}))
    fleet = FleetOverTime.over_time(plan, failures=2)
    count = fleet.hosts_needed(DramAccount((1.0,), (1.0,), {}, {}, 1.0))
    assert isinstance(count, PeakHosts)
    check = fleet.check(plan.run(0), count, math.inf, slos)
    assert check.guests == 2 < sum(len(host.lives) for host in count.placed)
    assert check.hosts == check.of <= count.hosts == 5
    assert f"all its {check.of} hosts that have guests" in check.text
    alone = replace(check, of=1, hosts=1)
    assert alone.text.endswith("; with that memory fault_rate<10% is met, with 5%")


VCPUS: dict[str, Any] = {
    **STUDY,
    "fleet": {
        "tick": "1 h",
        "host": {"node": {"count": 10, "memory": "32 MiB", "cpus": 16}},
        "vcpus_per_cpu": 1,
        "guest": {"web": {"memory": "2 MiB", "count": 64}},
        "outage": {"update": {"count": 2, "at": "10 h", "back": "16 h"}},
    },
}
"""Four hosts have memory and vCPUs for all guests; two more may be out of service."""


def sized(study: dict[str, Any], used: float, by_use: bool = False, **more: Any) -> PeakHosts:
    """Hosts if each guest used so much of its memory."""
    fleet = FleetOverTime.over_time(read_study(study), **more)
    means = {kind: used * memory_of(kind) for kind in fleet.guests}
    count = fleet.hosts_needed(DramAccount((1.0,), (1.0,), fleet.guests, means, 1.0), by_use=by_use)
    assert isinstance(count, PeakHosts)
    return count


@pytest.mark.parametrize("used", [0.3, 0.9, 1.2])
def test_where_vcpus_decide_that_is_said_whatever_guests_use(used: float) -> None:
    count = sized(VCPUS, used, failures=1)
    assert (count.hosts, count.without, count.saved) == (7, 7, 0)
    assert (count.binding, count.by_use) == ("vCPUs", used < 1)
    assert count.moment.endswith("no host had enough vCPUs left, however little memory guests take")
    assert (
        "(2 MiB, 1 vCPU) gets no place on day 1, 10:00, after the failure, during fleet.outage.update: " in count.moment
    )
    decide = "vCPUs decide: 64 on day 1, 10:00, 16 a host: no policy can save a host; raise fleet.vcpus_per_cpu"
    assert decide in count.text
    assert "7 hosts, of which 1 host may fail at the peak, are enough, as many as without overcommit" in count.text
    assert "3 of the study's 10 can go (7 if guests could be cut in pieces, 2 out of service and 1 that failed inc" in (
        count.text
    )
    more = sized(merge(VCPUS, {"fleet": {"vcpus_per_cpu": 4}}), used, failures=1)
    assert (more.binding, more.hosts) == ("failures", 5 if used == 0.3 else 7)
    assert "vCPUs decide" not in more.text


def test_guests_that_take_more_than_they_are_promised_need_more_hosts() -> None:
    count = sized(VCPUS, 1.2, by_use=True)
    assert (count.hosts, count.without, count.binding) == (8, 6, "outages")
    assert count.uncut() > count.without
    assert "are enough, 2 more than for what guests are promised, which didn't hold in a run, as kernel" in count.text


@settings(deadline=None, max_examples=20)
@given(st.floats(0.1, 1.3), st.floats(0, 0.4), st.booleans(), st.sampled_from(["limit", "host", "proactive"]))
def test_the_hosts_of_a_check_never_have_more_than_they_have(
    used: float, headroom: float, by_use: bool, mode: str
) -> None:
    host = SyntheticHost(1.5, 0.0)
    study = {**VCPUS, "overcommit": 1.5, "reclaim": {"mode": mode}}
    plan = read_study(study)
    fleet = FleetOverTime.over_time(plan, headroom)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coldfleet.hostsim.host.simulate_host", host)
        check = fleet.check(plan.run(0), sized(study, used, by_use, headroom=headroom), math.inf, [])
    assert check.memory_pages <= 8192 * (1 - headroom)
    assert len(host.ran) == check.hosts
    for spec in host.ran:
        assert spec.memory_pages <= 8192 * (1 - headroom)
        assert (spec.mode, spec.guests[0].limit_pages) == (mode, 341), "what the load means"


def test_a_load_that_changes_nothing_is_said_and_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Steady(SyntheticHost):
        def __call__(self, spec: HostSpec, *args: Any, **more: Any) -> HostResult:
            spec = replace(spec, guests=tuple(replace(guest, limit_pages=0) for guest in spec.guests))
            return super().__call__(spec, *args, **more)

    fleet = {"vcpus_per_cpu": 1, "guest": {"web": {"vcpus": 1}}}  # they keep guests from using the overcommit
    more = {"study": merge(STUDY, {"fleet": fleet}), "step": 0.25}
    (met,) = ask(monkeypatch, Steady(1.5, 0.01), 3, "fault_rate<10%", **more).policies
    assert (met.capacity, met.alike, met.binding) == (2.0, True, None)
    same = "all loads gave the same results: overcommit changes nothing in this study. At all of them "
    assert met.sentence.startswith(f"{same}every SLO is met. ")
    (broken,) = ask(monkeypatch, Steady(0.5, 0.01), 3, "fault_rate<10%", **more).policies
    assert (broken.capacity, broken.alike, broken.binding) == (None, True, None)
    assert broken.sentence.startswith(f"{same}fault_rate<10% is broken, with 1")
    (other,) = ask(monkeypatch, SyntheticHost(1.5, 0.01), 3, "fault_rate<10%").policies
    assert not other.alike
    assert other.binding is not None


def test_a_check_where_nothing_is_reclaimed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    (policy,) = ask(monkeypatch, SyntheticHost(9.0, 0.0), 3, "fault_rate<10%").policies
    assert "fault_rate<10% is met, with 0%: no page was reclaimed there, as the hosts have room" in policy.sentence


def test_one_load_may_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    met, broken = (
        ask(monkeypatch, SyntheticHost(border, 0.0), 3, "fault_rate<10%", low=1.2, high=1.2).policies[0]
        for border in (1.5, 1.1)
    )
    assert (met.interval, broken.interval) == ((1.2, None), (None, 1.2))
    assert not met.alike
    assert met.sentence.startswith("every SLO is met at overcommit 1.2, the only load that was tried. ")
    assert broken.sentence.startswith("out of reach: at overcommit 1.2 fault_rate<10% is broken")


def test_a_budget_that_is_too_small_for_the_pilot_is_said_before_guests_are_placed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("coldfleet.cluster.answers.study_capacity._placeable", None)
    with pytest.raises(UserError, match="budget 24: the pilot takes 25 runs: give more"):
        ask(monkeypatch, SyntheticHost(1.5, 0.0), 3, "fault_rate<10%", budget=24)


def test_where_all_hosts_but_one_may_fail_one_host_fewer_leaves_none() -> None:
    fleet = FleetOverTime.over_time(read_study(whole_study(1, {})), failures=3)
    text = fleet.hosts_needed(DramAccount((1.0,), (1.0,), {}, {}, 1.0)).text
    assert text.startswith("4 hosts, of which 3 hosts may fail")
    assert text.endswith("with one host fewer there would be none left")


def test_more_hosts_are_needed_than_may_fail() -> None:
    plan = read_study({**STUDY, "overcommit": 1.5})
    few, many = (max(each.hosts for each in FleetOverTime.over_time(plan, failures=n)._without) for n in (0, 20))
    assert few < 20 < many


@pytest.mark.parametrize(("guests", "failures"), [(1, 3), (2, 0), (2, 3), (2, 5), (3, 5), (4, 6)])
def test_hosts_without_guests_fail_too(guests: int, failures: int) -> None:
    assert whole_hosts(guests, {}, failures) == guests + failures


@pytest.mark.parametrize("host", [0, 1, 4, 7, 8])
def test_a_host_in_two_outages_at_a_time_is_out_once(host: int) -> None:
    both = {"host": host, "count": 2, "at": "5 h", "back": "9 h"}
    other = {"host": host + 1, "at": "7 h", "back": "12 h"}
    assert whole_hosts(3, {"x": both, "y": both}) == 5
    assert whole_hosts(3, {"x": both, "y": other}) == 5
    assert whole_hosts(3, {"x": both, "y": {**other, "host": (host + 5) % 10}}) == 6


@pytest.mark.parametrize("back", ["0 ns", "9 h"])
def test_a_failure_and_an_outage_never_share_a_host(back: str) -> None:
    for host in range(10):
        assert whole_hosts(2, {"x": {"host": host, "at": "5 h", "back": back}}, 1) == 4
    rolling = {f"h{host}": {"host": host, "at": f"{host + 1} h", "back": f"{host + 2} h"} for host in range(10)}
    assert whole_hosts(2, rolling, 2) == 5


outages_of_hosts = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 3), st.integers(1, 23), st.integers(0, 12)), min_size=1, max_size=4
)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 24), st.none() | st.integers(1, 12)), max_size=8),
    outages_of_hosts,
    st.integers(0, 4),
    st.permutations(range(12)),
)
def test_whole_hosts_are_counted_hour_by_hour_whatever_their_numbers(
    lives: list[tuple[int, int | None]], outages: list[tuple[int, int, int, int]], failures: int, numbers: list[int]
) -> None:
    guests = [(0, 99), *((start, start + life if life else 99) for start, life in lives)]
    out = [
        (host, at, at + hours if hours else 99)
        for first, many, at, hours in outages
        for host in range(first, first + many)
    ]
    alive = [sum(start <= hour < end for start, end in guests) for hour in range(25)]
    peak = alive.index(max(alive))
    needed = [
        alive[hour] + len({host for host, at, back in out if at <= hour < back}) + failures * (hour >= peak)
        for hour in range(25)
    ]

    plan = read_study(merge(STUDY, {"fleet": {"placement": "best-fit"}}))
    sized, cell = FleetOverTime.over_time(plan), plan.cell(0)
    requests = [
        Request("web", n, 7680, 1, start * HOUR, None if end == 99 else end * HOUR)
        for n, (start, end) in enumerate(guests)
    ]

    def answer(number: Callable[[int], int], failures: int) -> int:
        tables = {
            f"o{n}": Outage.model_validate({"host": number(host), "at": f"{at} h", "back": f"{back % 99} h"})
            for n, (host, at, back) in enumerate(out)
        }
        spec = cell.spec.model_copy(update={"fleet": cell.spec.fleet.model_copy(update={"outage": tables})})
        run = replace(sized.runs[0], cell=replace(cell, spec=spec))
        found = fewest_hosts(run, requests, [HostResources(8192, 32)], failures)
        assert found.uncut <= found.hosts, "also with those that are out of service"
        return found.hosts

    assert answer(lambda host: host, failures) == answer(numbers.__getitem__, failures) == max(needed)
    assert answer(lambda host: host, failures + 1) == max(needed[hour] + (hour >= peak) for hour in range(25))


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


@pytest.mark.parametrize("outages", [[], [(0, 2, 11, 13)], [(0, 1, 8, 0), (1, 1, 12, 14)]])
@pytest.mark.parametrize("failures", [0, 1])
def test_hosts_are_the_fewest_on_which_nobody_is_refused(
    failures: int, outages: list[tuple[int, int, int, int]]
) -> None:
    out = {
        f"o{n}": {"host": host, "count": count, "at": f"{at} h", "back": f"{back} h"}
        for n, (host, count, at, back) in enumerate(outages)
    }
    plan = read_study(merge(STUDY, {"overcommit": 1.5, "fleet": {"outage": out}}))
    fleet = FleetOverTime.over_time(plan, failures=failures)
    for run, found in zip(fleet.runs, fleet._without, strict=True):
        requests = [request for request, _ in requested_guests(run)]

        def refused(hosts: int, requests: Any = requests, run: Any = run) -> int:
            rooms = [HostResources(8192, 32)] * hosts
            out = [HostOutage(h, h + count, at * HOUR, at * HOUR, back * HOUR) for h, count, at, back in outages]
            lives = place_in_time(rooms, requests, "best-fit", lambda *who: b"", out, 24 * HOUR)
            return sum(bool(life.refused) for life in lives)

        fewest = next(hosts for hosts in range(2, 100) if not refused(hosts))
        assert fewest <= found.least <= fewest + failures + 1
        assert failures or found.least == fewest
        assert found.least >= math.ceil(found.uncut - 1e-9) >= math.ceil(max(found.alone))
        assert found.tightest.failed <= failures
        assert not refused(found.hosts), "on which the guests of every replicate have a place"


def test_outages_ask_for_hosts_and_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    study = merge(STUDY, {"fleet": {"outage": {"update": {"count": 2, "at": "10 h", "back": "16 h"}}}})
    counts = [FleetOverTime.over_time(read_study(each)).hosts for each in (STUDY, study)]
    assert counts[0] < counts[1] <= counts[0] + 2
    count = FleetOverTime.over_time(read_study(study)).hosts_needed(DramAccount((1.0,), (1.0,), {}, {}, 1.0))
    assert isinstance(count, PeakHosts)
    assert count.binding == "outages"
    assert "during fleet.outage.update" in count.moment


def test_as_many_hosts_are_out_on_fewer_hosts() -> None:
    outages = {"a": {"host": 4, "count": 2, "at": "1 h", "back": "5 h"}, "b": {"host": 1, "at": "2 h"}}
    hosts = {"node": {"count": 6, "memory": "32 MiB", "cpus": 8}}
    fleet = read_study(merge(STUDY, {"fleet": {"host": hosts, "outage": outages}})).cell(0).spec.fleet
    for many in range(1, 8):
        for hour, wanted in ((0, 0), (1, 2), (3, 3), (6, 1)):
            out = {
                host
                for each in outages_on(fleet, many)
                for host in range(each.first, each.end)
                if each.at_ns <= hour * HOUR and (not each.back_ns or hour * HOUR < each.back_ns)
            }
            assert len(out) == min(wanted, many)
            assert out <= set(range(many))


@pytest.mark.slow
def test_a_real_answer_is_confirmed_at_the_answer_and_broken_one_step_above(monkeypatch: pytest.MonkeyPatch) -> None:
    """The load by runs of other seeds; the hosts by the run that is the check, and by a plain simulation of events."""
    asked: list[tuple[FleetOverTime, DramAccount, PeakHosts]] = []
    needed = FleetOverTime.hosts_needed

    def noted(self: FleetOverTime, account: DramAccount, most_guests: float = 0.0, by_use: bool = False) -> Any:
        count = needed(self, account, most_guests, by_use)
        assert isinstance(count, PeakHosts)
        asked.append((self, account, count))
        return count

    monkeypatch.setattr(FleetOverTime, "hosts_needed", noted)
    outage = {"power": {"host": 1, "at": "11 h", "back": "15 h"}}
    more = {"host": {"node": {"count": 7}}, "guest": {"web": {"arrivals": {"per_hour": 5.0}}}}
    study = merge(STUDY, {"nested_ratio": 0.25, "fleet": {"outage": outage, **more}})
    text = "fault_rate_mean<20%"
    answer = coldfleet.capacity(study, text, low=2.0, high=4.0, step=0.1, executor="serial", budget=100_000)
    (policy,) = answer.policies
    best, broken = policy.interval
    assert best is not None
    assert broken is not None
    assert broken - best <= 0.2 + 1e-9
    slo = parse_slo(text)
    for load, is_met in ((best, True), (broken, False)):
        plan = read_study({**study, "overcommit": load, "seed": 99, "replicates": 20})
        rates = [slo.value(simulate_run(run)["guests"]) for run in plan.runs()]
        assert (statistics.fmean(rates) <= slo.bound) is is_met, (load, rates)
    assert policy.checked
    assert policy.checked_hosts == len(asked[-1][2].placed)
    fleet, account, count = asked[-1]
    assert count.hosts == policy.hosts
    assert count.saved > 0
    assert count.run is not None
    room = fleet._usable(fleet.rooms[0], math.inf).amounts
    requests = fleet.asked[count.run.replicate]
    pages = [math.ceil(account.means.get(kind_of(guest), memory_of(guest)) * account.spread) for _, guest in requests]

    def refusals(hosts: int) -> int:
        guests = [
            Vm(str(n), need, each.vcpus, each.start_ns or 0, each.end_ns, each.priority)
            for n, ((each, _), need) in enumerate(zip(requests, pages, strict=True))
        ]
        out = Out(range(1 % hosts, 1 % hosts + 1), 11 * HOUR, 11 * HOUR, 15 * HOUR)
        return len(PlainFleet([(room[0], room[1])] * hosts, guests, [out], "best-fit").run(24 * HOUR).refusals)

    assert refusals(count.hosts) == 0
    assert refusals(count.hosts - 1) > 0


def test_a_fleet_over_time_needs_hosts_of_a_size_and_is_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="leave it out"):
        ask(monkeypatch, SyntheticHost(1.5, 0.0), 1, "fault_rate<10%", hosts=100)
    with pytest.raises(UserError, match="leave it out"):
        ask(monkeypatch, SyntheticHost(1.5, 0.0), 1, "fault_rate<10%", hosts=100, budget=1)
    for low in (math.nan, math.inf):
        with pytest.raises(UserError, match=r"from (nan|inf) to 8: give a number for each"):
            ask(monkeypatch, SyntheticHost(1.5, 0.0), 1, "fault_rate<10%", low=low, high=8.0)
    fleet = {**STUDY["fleet"], "host": {"node": {"count": 3}}}
    with pytest.raises(UserError, match="never too few"):
        FleetOverTime.over_time(read_study({**STUDY, "fleet": fleet}))
