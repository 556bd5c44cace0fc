"""Laws of figures that capacity gives beside its answer: hosts at a load, hosts by class, and where vCPUs decide."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import coldfleet
from coldfleet.cluster.answers.fewest_hosts import Fewest, fewest_hosts
from coldfleet.cluster.answers.peak_hosts import binding
from coldfleet.cluster.answers.sizing import FleetSize
from coldfleet.cluster.answers.sizing_over_time import FleetOverTime
from coldfleet.cluster.study.fleet_tables import Outage
from coldfleet.cluster.study.model import merge
from coldfleet.cluster.study.placement import HostResources, Request
from coldfleet.cluster.study.reader import read_study
from tests.cluster.answers.test_capacity_over_time import HOUR, STUDY, VCPUS, SyntheticHost
from tests.cluster.answers.test_sizing import account

STAYING: dict[str, Any] = {
    "ticks": 4,
    "policy": "evict-only",
    "overcommit": 1.0,
    "fleet": {
        "vcpus_per_cpu": 2,
        "host": {
            "big": {"count": 4, "memory": "96 MiB", "cpus": 8},
            "small": {"count": 6, "memory": "32 MiB", "cpus": 2},
        },
        "guest": {
            "web": {"memory": "4 MiB", "count": 9, "vcpus": 1},
            "db": {"memory": "10 MiB", "count": 3, "vcpus": 2},
        },
    },
    "guest": {"memory": "4 MiB", "accesses_per_page": 1.0},
}


ROOMY = merge(VCPUS, {"fleet": {"host": {"node": {"memory": "64 MiB"}}}})


def at(study: dict[str, Any], path: str, load: float) -> dict[str, Any]:
    """The study with a key at a load."""
    for name in reversed(path.split(".")):
        load = {name: load}  # type: ignore[assignment]
    return merge(study, load)  # type: ignore[arg-type]


loads = st.one_of(
    st.tuples(st.just("fleet.vcpus_per_cpu"), st.sampled_from((2, 3, 6))),
    st.tuples(st.just("fleet.host.big.cpus"), st.sampled_from((2, 4, 16))),
    st.tuples(st.just("fleet.host.small.count"), st.sampled_from((5, 9))),
    st.tuples(st.just("fleet.guest.web.count"), st.integers(1, 12)),
)


@settings(deadline=None, max_examples=20)
@given(loads, st.none() | st.integers(1, 300), st.integers(0, 2), st.sampled_from((0.3, 0.8, 1.0)), st.integers(1, 5))
def test_hosts_at_a_load_are_those_of_a_study_that_has_it(
    load: tuple[str, int], hosts: int | None, spare: int, used: float, small_guests: int
) -> None:
    own = merge(STAYING, {"fleet": {"guest": {"db": {"count": small_guests}}}})
    fleet, there = FleetSize.of(read_study(own), hosts, 0.0, spare), read_study(at(own, *load))
    count = fleet.at(there.cell(0)).hosts_needed(account(there, used))
    if hosts is None:
        assert count.without == FleetSize.of(there, None, 0.0, spare).hosts
    else:
        assert abs(fleet.hosts - spare - hosts) <= 1, "as nearly as whole guests allow"
    same = fleet.at(read_study(own).cell(0)).hosts_needed(account(read_study(own), used))
    assert same.without == fleet.hosts, "which is what fleet_hosts is"
    for each in (count, same):
        assert sum(each.classes.values()) + each.spare == each.hosts
        assert list(each.classes) == ["big", "small"]


@settings(deadline=None, max_examples=10)
@given(
    st.sampled_from(("fleet.vcpus_per_cpu", "fleet.host.node.cpus", "fleet.guest.web.arrivals.per_hour")),
    st.sampled_from((1, 2, 6)),
    st.integers(0, 1),
)
def test_hosts_at_a_load_are_those_of_a_study_over_time_that_has_it(path: str, load: int, failures: int) -> None:
    study = merge(STUDY, {"fleet": {"vcpus_per_cpu": 1, "guest": {"web": {"vcpus": 1}}}})
    there = read_study(at(study, path, load))
    moved = FleetOverTime.over_time(read_study(study), failures=failures).at(there.cell(0))
    assert moved.hosts == FleetOverTime.over_time(there, failures=failures).hosts


@pytest.mark.parametrize(
    ("study", "path", "own", "load", "more"),
    [
        (ROOMY, "fleet.vcpus_per_cpu", 1, 4, {"spare_hosts": 1}),
        (STAYING, "fleet.vcpus_per_cpu", 2, 2, {"hosts": 7}),
        (STAYING, "fleet.guest.web.count", 9, 9, {"hosts": 1}),
        (STAYING, "overcommit", None, 2, {"hosts": 50, "spare_hosts": 2}),
    ],
)
def test_a_fleet_needs_its_hosts_at_its_own_load(
    study: dict[str, Any], path: str, own: int | None, load: int, more: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldfleet.hostsim.host.simulate_host", SyntheticHost(9.0, 0.0))
    asked = {"vary": path, "low": load, "high": load, "executor": "serial", "budget": 100_000, **more}
    answer = coldfleet.capacity(study, "fault_rate<10%", **asked)
    (policy,) = answer.policies
    assert (answer.fleet_load, policy.capacity) == (own, load)
    if own in (None, load):
        assert policy.hosts_without_overcommit == answer.fleet_hosts
    else:
        there = FleetOverTime.over_time(read_study(at(study, path, load)), failures=1)
        assert policy.hosts_without_overcommit == there.hosts < answer.fleet_hosts


guests = st.lists(
    st.tuples(
        st.integers(1, 6), st.integers(1, 4), st.none() | st.integers(-3, 10), st.none() | st.integers(1, 6),
        st.integers(0, 1),
    ),
    min_size=2,
    max_size=16,
)  # fmt: skip
rooms = st.lists(st.tuples(st.sampled_from((6, 8, 16)), st.sampled_from((4, 5, 8))), min_size=1, max_size=2)
outages = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 2), st.integers(1, 9), st.integers(0, 3)), max_size=2)
OVER_TIME = read_study({**STUDY, "ticks": 12})
RUN = FleetOverTime.over_time(OVER_TIME).runs[0]


def fewest(
    requests: list[Request],
    rooms: list[tuple[int, int]],
    outages: list[tuple[int, int, int, int]],
    failures: int,
    rule: str,
) -> Fewest:
    out = {
        f"o{n}": Outage.model_validate({"host": host, "count": many, "at": f"{at} h", "back": f"{back % 99} h"})
        for n, (host, many, at, hours) in enumerate(outages)
        for back in [at + hours if hours else 99]
    }
    spec = RUN.cell.spec
    fleet = spec.fleet.model_copy(update={"outage": out, "placement": rule})
    run = replace(RUN, cell=replace(RUN.cell, spec=spec.model_copy(update={"fleet": fleet})))
    return fewest_hosts(run, requests, [HostResources(*room) for room in rooms], failures)


def requests_of(guests: list[tuple[int, int, int | None, int | None, int]]) -> list[Request]:
    """Those that live at some time of the run."""
    standing_first = sorted(guests, key=lambda each: each[2] is not None)
    return [
        Request("web", number, pages, vcpus, None if start is None else start * HOUR,
                None if hours is None else ((start or 0) + hours) * HOUR, priority)
        for number, (pages, vcpus, start, hours, priority) in enumerate(standing_first)
        if (start or 0) + (hours or 99) > 0
    ]  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(guests, rooms, outages, st.integers(0, 1), st.sampled_from(("first-fit", "best-fit", "worst-fit", "random")),
       st.data())  # fmt: skip
def test_where_vcpus_decide_no_use_of_memory_saves_a_host(
    guests: list[tuple[int, int, int | None, int | None, int]],
    rooms: list[tuple[int, int]],
    outages: list[tuple[int, int, int, int]],
    failures: int,
    rule: str,
    data: st.DataObject,
) -> None:
    if not (requests := requests_of(guests)):
        return
    found = fewest(requests, rooms, outages, failures, rule)
    assert (binding(found) == "vCPUs") == (found.because == "vCPUs")
    if found.because != "vCPUs":
        return
    assert found.less.refused, "which the answer tells"
    for _ in range(3):
        memory = data.draw(st.lists(st.integers(1, 6), min_size=len(requests), max_size=len(requests)))
        others = [replace(each, memory_pages=pages) for each, pages in zip(requests, memory, strict=True)]
        assert fewest(others, rooms, outages, failures, rule).hosts >= found.hosts


@settings(deadline=None, max_examples=60)
@given(guests, st.integers(1, 4), st.sampled_from((4, 5, 8)), outages)
def test_guests_with_room_for_all_their_memory_need_hosts_for_their_vcpus(
    guests: list[tuple[int, int, int | None, int | None, int]],
    vcpus: int,
    room: int,
    outages: list[tuple[int, int, int, int]],
) -> None:
    """And the line says how many vCPUs they ask for when most hosts would be needed, and how many a host has."""
    requests = [replace(each, vcpus=vcpus) for each in requests_of(guests)]
    if not requests:
        return
    times = sorted({max(each.start_ns or 0, 0) for each in requests})
    alive = {
        time: sum((each.start_ns or 0) <= time < (each.end_ns or 99 * HOUR) for each in requests) for time in times
    }
    found = fewest(requests, [(999, room)], [], 0, "best-fit")
    assert found.hosts == max(math.ceil(max(alive.values()) / (room // vcpus)), 1)
    assert (found.because == "vCPUs") == (found.hosts > 1)
    assert found.busiest.vcpus == vcpus * max(alive.values())
    assert found.busiest.vcpus == vcpus * alive[found.busiest.time_ns]

    with_outages = fewest(requests, [(999, room)], outages, 0, "best-fit")
    need = with_outages.busiest
    out = {
        host + more
        for host, many, at, hours in outages
        for more in range(many)
        if at * HOUR <= need.time_ns and (not hours or need.time_ns < (at + hours) * HOUR)
    }
    there = sum((each.start_ns or 0) <= need.time_ns < (each.end_ns or 99 * HOUR) for each in requests)
    assert (need.vcpus, need.out) == (vcpus * there, len(out))
    assert with_outages.hosts >= math.ceil(need.vcpus / room + need.out - 1e-9)
