"""Hosts for guests that come and go: as the study places them, enough in every replicate, by brute force."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import coldfleet
from coldfleet.cluster.answers.fewest_hosts import (
    BOTH,
    Fewest,
    Try,
    enough_hosts,
    fewest_hosts,
    hardest_of,
    outages_on,
)
from coldfleet.cluster.answers.peak_hosts import PeakHosts, what_fails
from coldfleet.cluster.answers.sizing import DramAccount, FleetSize
from coldfleet.cluster.answers.sizing_over_time import FleetOverTime
from coldfleet.cluster.study.fleet_tables import Outage
from coldfleet.cluster.study.lives import all_lives
from coldfleet.cluster.study.model import merge
from coldfleet.cluster.study.placement import HostResources, Need, Request, Room, most_at_once, pack, uncut_hosts
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.cluster.study.timeline import REFUSED, Life
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import HostSpec
from tests.cluster.answers.test_capacity_over_time import HOUR, STUDY, SyntheticHost, ask
from tests.cluster.answers.test_sizing import account, plan
from tests.reference.fleet import Fleet as PlainFleet
from tests.reference.fleet import Out, Vm

AS_PROMISED = DramAccount((1.0,), (1.0,), {}, {}, 1.0)
MIB = 256  # pages


def needed(study: Any, failures: int = 0) -> PeakHosts:
    """The hosts of a study whose guests use all that they are promised."""
    count = FleetOverTime.over_time(read_study(study), failures=failures).hosts_needed(AS_PROMISED)
    assert isinstance(count, PeakHosts)
    return count


def standing_study(folder: Path, hosts: int) -> Plan:
    """Two small guests that are there throughout, and two large ones from before the start, of a higher priority."""
    (folder / "guests.csv").write_text("class,start_s,end_s,priority\nbig,-10,,0\nbig,-5,,0\n")
    (folder / "study.toml").write_text(f"""
        ticks = 6
        replicates = 1
        overcommit = 1.0
        policy = "evict-only"
        [fleet]
        tick = "1 h"
        placement = "first-fit"
        arrivals = "guests.csv"
        [fleet.host.node]
        count = {hosts}
        memory = "12 MiB"
        [fleet.guest.small]
        memory = "4 MiB"
        priority = 1
        count = 2
        [fleet.guest.big]
        memory = "8 MiB"
        [guest]
        memory = "4 MiB"
    """)
    return read_study(folder / "study.toml")


def test_guests_that_are_there_throughout_are_placed_first_as_in_the_study(tmp_path: Path) -> None:
    refused = []
    for hosts in (2, 3):
        study = standing_study(tmp_path, hosts)
        refused.append(sum(bool(each.life.refused) for each in all_lives(study.run(0))))
    assert refused == [1, 0]
    sized = FleetOverTime.over_time(study)
    count = sized.hosts_needed(AS_PROMISED)
    assert isinstance(count, PeakHosts)
    assert count.hosts == sized.hosts == 3
    assert "big-1 (8 MiB, 1 vCPU) gets no place on day 1, 00:00" in count.moment
    places = {(e.request.name, e.request.number): host.place for host in count.placed for e in host.lives}
    assert places == {(e.request.name, e.request.number): e.life.host for e in all_lives(study.run(0))}


def test_a_guest_that_is_there_throughout_and_fits_nowhere_is_the_moment() -> None:
    count = needed({**STUDY, "fleet": {**STUDY["fleet"], "guest": {"web": {"memory": "20 MiB", "count": 3}}, "outage": {
        "late": {"at": "2 h"}}}})  # fmt: skip
    assert count.hosts == 4
    assert "gets no place on day 1, 02:00" in count.moment
    count = needed({**STUDY, "fleet": {**STUDY["fleet"], "guest": {"web": {"memory": "20 MiB", "count": 3}}, "outage": {
        "after": {"at": "25 h"}}}})  # fmt: skip
    assert count.hosts == 3
    assert "gets no place on day 1, 00:00" in count.moment
    assert (count.peak_hour, count.tightest.time_ns) == (0.0, 0), "not one tick later"


rooms = st.lists(st.tuples(st.sampled_from((8, 12, 16, 64)), st.sampled_from((4, 8, math.inf))), min_size=1, max_size=3)
guests = st.lists(
    st.tuples(
        st.integers(1, 8), st.integers(1, 4), st.none() | st.integers(-3, 10), st.none() | st.integers(1, 6),
        st.integers(0, 2)
    ),
    min_size=1,
    max_size=16,
)  # fmt: skip
outages = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 2), st.integers(1, 9), st.integers(0, 3)), max_size=2)


@settings(deadline=None, max_examples=60)
@given(
    rooms, st.lists(guests, min_size=3, max_size=3), outages, st.sampled_from(("first-fit", "best-fit", "worst-fit"))
)
@example([(8, 4)], [[(1, 1, 0, 1, 0)]] * 3, [(4, 1, 2, 3), (2, 2, 3, 3)], "first-fit")  # 3 are out at a time
def test_every_replicate_has_a_place_for_all_its_guests_and_not_with_one_host_fewer(
    rooms: list[tuple[int, float]],
    guests: list[list[tuple[int, int, int | None, int | None, int]]],
    outages: list[tuple[int, int, int, int]],
    rule: str,
) -> None:
    out = {
        f"o{n}": Outage.model_validate(
            {"host": host, "count": many, "at": f"{at} h", "back": f"{at + hours if hours else 0} h"}
        )
        for n, (host, many, at, hours) in enumerate(outages)
    }
    study = read_study({**STUDY, "ticks": 12})
    sized, cell = FleetOverTime.over_time(study), study.cell(0)
    fleet = cell.spec.fleet.model_copy(update={"outage": out, "placement": rule})
    cell = replace(cell, spec=cell.spec.model_copy(update={"fleet": fleet}))
    runs = [replace(run, cell=cell) for run in sized.runs[: len(guests)]]

    def request(number: int, pages: int, vcpus: int, start: int | None, hours: int | None, priority: int) -> Request:
        end_ns = None if hours is None else ((start or 0) + hours) * HOUR
        return Request("web", number, pages, vcpus, None if start is None else start * HOUR, end_ns, priority)

    asked = [
        [
            request(number, *guest)
            for number, guest in enumerate(sorted(some, key=lambda guest: guest[2] is not None))
            if (guest[2] or 0) + (guest[3] or 99) > 0
        ]
        for some in guests
    ]

    out_at = [
        {host + more for host, many, at, hours in outages for more in range(many) if at <= hour < at + (hours or 99)}
        for hour in range(13)
    ]
    closed = max(1, *map(len, out_at))  # fewer hosts can't be out so

    def fits(replicate: int, hosts: int) -> bool:
        if hosts < closed:
            return False
        vms = [
            Vm(str(each.number), each.memory_pages, each.vcpus, each.start_ns, each.end_ns, each.priority)
            for each in asked[replicate]
        ]
        outs = [
            Out(range(each.first, each.end), each.at_ns, each.empty_ns, each.back_ns or None)
            for each in outages_on(fleet, hosts)
        ]
        there: list[tuple[float, float]] = [rooms[n % len(rooms)] for n in range(hosts)]
        return not PlainFleet(there, vms, outs, rule).run(12 * HOUR).refusals

    if any(not any(e.memory_pages <= p and e.vcpus <= v for p, v in rooms) for some in asked for e in some):
        with pytest.raises(UserError, match="is too large for a host"):
            enough_hosts(runs, asked, [HostResources(*room) for room in rooms])
        return
    found = enough_hosts(runs, asked, [HostResources(*room) for room in rooms])
    hosts = {each.hosts for each in found}
    assert len(hosts) == 1
    most = hosts.pop()
    assert all(fits(replicate, most) for replicate in range(len(asked)))
    assert most == 1 or not all(fits(replicate, most - 1) for replicate in range(len(asked)))
    assert most == closed or any(each.less.refused for each in found)
    for replicate, each in enumerate(found):
        assert each.least <= most
        assert fits(replicate, each.least)
        assert not fits(replicate, each.least - 1)
        assert not each.less.refused or not fits(replicate, most - 1)
        assert each.uncut <= most + 1e-9


def test_as_many_hosts_are_needed_as_are_out_at_a_time_within_the_run() -> None:
    guest, many = {"web": {"memory": "20 MiB", "count": 1}}, {"count": 3}
    for at, hosts in (("5 h", 4), ("25 h", 1)):
        outage = {"power": {**many, "at": at, "back": "0 s" if at == "25 h" else "9 h"}}
        assert needed({**STUDY, "fleet": {**STUDY["fleet"], "guest": guest, "outage": outage}}).hosts == hosts


def test_a_replicate_that_does_with_fewer_hosts_only_has_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """One does with 2, 3, and 6 hosts and more, the other with 4 and more."""
    runs = FleetOverTime.over_time(read_study(STUDY)).runs[:2]
    found: list[tuple[int, int]] = []

    def fewest(run: Any, requests: Any, rooms: Any, failures: int, at_least: int = 1) -> Fewest:
        does = {0: (2, 3, 6, 7), 1: (4, 5, 6, 7)}[run.replicate]
        found.append((run.replicate, at_least))
        hosts = next(many for many in does if many >= at_least)
        return Fewest(hosts, hosts, None, None, (), 0, [], None, ())  # type: ignore[arg-type]

    monkeypatch.setattr("coldfleet.cluster.answers.fewest_hosts.fewest_hosts", fewest)
    assert [(each.hosts, each.least) for each in enough_hosts(runs, [[], []], [])] == [(6, 2), (6, 4)]
    assert found == [(0, 1), (1, 1), (0, 4), (1, 6)]


def drawn(seed: int, outage: bool) -> tuple[Any, float]:
    """A study of guests that are drawn, and what share of their memory they use."""
    draw = random.Random(seed)
    web, db = (
        {"memory": f"{memory} MiB", "vcpus": draw.choice(vcpus)} for memory, vcpus in ((8, (1, 2)), (16, (1, 4)))
    )
    out = {"host": 0, "count": draw.choice((1, 2)), "at": f"{draw.randint(1, 20)} h", "back": "22 h"}
    study = {
        **STUDY,
        "ticks": 24,
        "seed": seed,
        "fleet": {
            "tick": "1 h",
            "placement": draw.choice(("best-fit", "worst-fit", "first-fit")),
            "host": {"node": {"count": 3, "memory": "64 MiB", "cpus": draw.choice((4, 8))}},
            "guest": {
                "web": {**web, "arrivals": {"per_hour": draw.choice((2.0, 5.0)), "mean_lifetime": "3 h"}},
                "db": {**db, "arrivals": {"per_hour": 1.0, "mean_lifetime": "4 h"}},
            },
            "outage": {"o": out} if outage else {},
        },
    }
    return study, draw.choice((0.6, 0.8, 1.0))


@pytest.mark.parametrize("outage", [False, True])
@pytest.mark.parametrize("failures", [0, 1])
def test_what_is_said_to_bind_the_hosts_is_what_one_fewer_would_do_without(failures: int, outage: bool) -> None:
    told = Counter[str]()
    for seed in range(12):
        study, used = drawn(seed, outage)
        needs = account(read_study(study), used)
        sized = FleetOverTime.over_time(read_study(study), failures=failures)
        count = sized.hosts_needed(needs)
        told[count.binding] += 1
        if "failures" in count.binding or "outages" in count.binding:
            spared = study if count.binding == "failures" else drawn(seed, False)[0]
            left = failures if count.binding == "outages" else 0
            assert FleetOverTime.over_time(read_study(spared), failures=left).hosts_needed(needs).hosts < count.hosts
        nothing = account(read_study(study), 0.01)
        if count.binding == "vCPUs":
            assert sized.hosts_needed(nothing).hosts == count.hosts
        else:
            assert count.hosts - 1 <= failures or not lack_vcpus(sized, count.hosts - 1)
    others = {"vCPUs", "fragmentation", "memory", "one host"}
    assert set(told) - others if failures or outage else set(told) <= others
    assert told["vCPUs"] or (failures and outage)


def lack_vcpus(sized: FleetOverTime, hosts: int) -> bool:
    """Whether in some replicate guests ask at a time for more vCPUs than so many hosts have, none out of service."""
    have = hosts * max(room.amounts[1] for room in sized.rooms)
    return any(
        most_at_once((each.start_ns or 0, each.end_ns, 0, each.vcpus) for each, _ in some)[2] > have
        for some in sized.asked
    )


def fewest(because: tuple[str, ...], least: int = 3, refused: bool = True) -> Fewest:
    less = Try([Life(0, 0, REFUSED, None, None, "refused", "memory")] if refused else [])
    return Fewest(3, least, None, None, (), 0, [], less, because)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "hardest", "because"),
    [
        ([fewest(()), fewest(("vCPUs",))], 1, "vCPUs"),
        ([fewest(("failures", BOTH)), fewest(("vCPUs",)), fewest(())], 1, "vCPUs"),
        ([fewest(("failures", BOTH)), fewest(())], 1, ""),
        ([fewest(("failures", BOTH)), fewest(("outages", BOTH))], 0, BOTH),
        ([fewest(("failures", BOTH), refused=False), fewest(("failures", "outages", BOTH))], 1, "failures"),
        ([fewest((), least=2, refused=False), fewest(("outages",))], 1, "outages"),
    ],
)
def test_the_replicate_that_tells_why_is_one_in_which_vcpus_decide_or_that_nothing_spares(
    found: list[Fewest], hardest: int, because: str
) -> None:
    number, told = hardest_of(found)
    assert (number, told.because) == (hardest, because)


@pytest.mark.parametrize(
    ("failures", "out", "hosts", "because", "said"),
    [
        (0, 2, 2, "outages", "a moment with none in service"),
        (1, 0, 2, "failures", "none left"),
        (1, 3, 3, "outages", "a moment with none in service"),
        (2, 2, 3, "failures", "none left"),
        (1, 2, 2, BOTH, "a moment with none in service"),
    ],
)
def test_failures_or_outages_bind_only_if_one_host_fewer_would_do_without_them(
    failures: int, out: int, hosts: int, because: str, said: str
) -> None:
    """One guest, which comes after the outage."""
    run = FleetOverTime.over_time(read_study({**STUDY, "ticks": 12})).runs[0]
    outage = {"o": Outage.model_validate({"count": out, "at": "1 h", "back": "2 h"})} if out else {}
    fleet = run.cell.spec.fleet.model_copy(update={"outage": outage})
    spec = run.cell.spec.model_copy(update={"fleet": fleet})
    asked = [Request("web", 0, 8, 1, 3 * HOUR, 5 * HOUR)]
    found = fewest_hosts(replace(run, cell=replace(run.cell, spec=spec)), asked, [HostResources(8, 8)], failures)
    assert (found.hosts, found.because) == (hosts, because)
    assert what_fails(found, asked, spec) == f"there would be {said}"


def test_hosts_of_several_classes_are_counted_in_the_order_in_which_they_are_taken() -> None:
    fleet = [Room((64.0, 8.0, math.inf), 1), Room((16.0, 8.0, math.inf), 7)]
    assert uncut_hosts((140.0, 24.0, 70.0), fleet) == (1 + 76 / 16, 3.0, 0.0)
    assert uncut_hosts((64.0, 0.0, 0.0), fleet)[0] == 1
    assert uncut_hosts((176.0 + 32, 0.0, 0.0), fleet)[0] == 8.5, "from the first on again"
    assert uncut_hosts((1e9, 0.0, 0.0), [Room((1e6, math.inf, math.inf), 3)]) == (1000.0, 0.0, 0.0)


def test_what_asks_for_hosts_of_several_classes_is_named() -> None:
    count = needed({**STUDY, "ticks": 6, "fleet": {
        "tick": "1 h",
        "host": {"big": {"count": 1, "memory": "64 MiB"}, "small": {"count": 7, "memory": "16 MiB"}},
        "guest": {"tiny": {"memory": "2 MiB", "count": 70}},
        "outage": {"after": {"at": "25 h"}},
    }})  # fmt: skip
    assert count.hosts == 6
    assert count.uncut() == pytest.approx(1 + 76 / 16)
    assert count.uncut(0.9) == pytest.approx(1 + (126 - 64) / 16)
    assert count.binding == "memory"
    assert count.classes == {"big": 1, "small": 5}
    assert count.text.startswith("6 hosts (1 big, 5 small) are enough, ")
    assert "with one host fewer, one of small, tiny-" in count.text


def test_packing_counts_only_hosts_that_have_guests() -> None:
    rooms = [Room((16.0, 8.0, math.inf), 7), Room((64.0, 8.0, math.inf), 1)]
    packed = pack([Need((20.0, 1.0, 1.0), 3)], rooms)
    assert packed.hosts == 1
    assert packed.alone[0] == 60 / 64
    assert packed.least == 1
    mixed = pack([Need((2.0, 0.1, 1.0), 70)], rooms[::-1])
    assert (mixed.hosts, mixed.least) == (6, 6)


@pytest.mark.parametrize("over_time", [False, True])
def test_what_is_reserved_for_hugetlbfs_is_no_room_for_guests(over_time: bool) -> None:
    guest: dict[str, Any] = {"memory": "4 MiB", "count": 12}
    fleet = {
        "tick": "1 h",
        "host": {"node": {"count": 7, "memory": "32 MiB"}},
        "guest": {"web": guest},
        **({"outage": {"after": {"at": "25 h"}}} if over_time else {}),
    }
    study = read_study({**STUDY, "fleet": fleet, "host": {"hugetlb": "16 MiB"}, "reclaim": {"mode": "host"}})
    size = FleetOverTime.over_time(study) if over_time else FleetSize.of(study, None)
    assert size.hosts == 3
    assert replace(size, hugetlb_pages=0, rooms=(Room((32 * MIB, math.inf, math.inf), 7),)).hosts == 2


def test_a_check_has_what_is_reserved_for_hugetlbfs_on_top(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[HostSpec] = []

    def simulate(spec: HostSpec, *given: Any, **more: Any) -> Any:
        ran.append(spec)
        return SyntheticHost(1.5, 0.0)(spec, *given, **more)

    monkeypatch.setattr("coldfleet.hostsim.host.simulate_host", simulate)
    for hugetlb in (0, 16):
        study = read_study(merge(STUDY, {
            "host": {"hugetlb": f"{hugetlb} MiB"}, "reclaim": {"mode": "host"},
            "fleet": {"host": {"node": {"memory": f"{32 + hugetlb} MiB"}}},
        }))  # fmt: skip
        sized = FleetOverTime.over_time(study)
        sized.check(study.run(0), sized.hosts_needed(AS_PROMISED), 0.0, [])
    plain, reserved = ran
    assert plain.guests == reserved.guests
    assert reserved.memory_pages - plain.memory_pages == 16 * MIB
    assert reserved.hugetlb_pages == 16 * MIB


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"spare_hosts": 100_000}, "more than 100,000 hosts would be needed, 100,000 spare ones"),
        ({"headroom": 95}, r"no number of hosts is enough: web-\d+ \(4 MiB, 1 vCPU\) is too large for a host"),
        ({"vary": "fleet.guest.web.vcpus", "low": 1, "high": 64}, r"64 vCPUs\) is too large for a host"),
    ],
)  # fmt: skip
def test_what_no_number_of_hosts_is_enough_for_is_said_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], complaint: str
) -> None:
    def simulate(*given: Any, **more: Any) -> Any:
        raise AssertionError("nothing runs")

    monkeypatch.setattr("coldfleet.hostsim.host.simulate_host", simulate)
    tiny = {"memory": "2 MiB", "vcpus": 1, "arrivals": {"per_hour": 1.0, "mean_lifetime": "5 h"}}
    study = merge(STUDY, {"fleet": {"guest": {"web": {"vcpus": 1}, "tiny": tiny}}})
    with pytest.raises(UserError, match=complaint):
        coldfleet.capacity(study, "fault_rate<10%", executor="serial", budget=100_000, **more)


def test_headroom_that_leaves_no_room_for_a_guest_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def simulate(*given: Any, **more: Any) -> Any:
        raise AssertionError("nothing runs")

    monkeypatch.setattr("coldfleet.hostsim.host.simulate_host", simulate)
    study = {
        "ticks": 4,
        "policy": "evict-only",
        "overcommit": 1.5,
        "fleet": {"hosts": 1, "guests_per_host": 4},
        "guest": {"memory": "4 MiB"},
    }
    with pytest.raises(UserError, match="or keep less of them free"):
        coldfleet.capacity(study, "fault_rate<10%", executor="serial", budget=100_000, headroom=95)


def test_guests_that_use_more_than_a_host_has_get_what_they_are_promised() -> None:
    alone = plan(fleet={"hosts": 2, "guests_per_host": 1})
    count = FleetSize.of(alone, 100).hosts_needed(account(alone, 1.0), by_use=True)
    assert (count.hosts, count.without, count.by_use) == (100, 100, False)
    whole = {**STUDY, "fleet": {**STUDY["fleet"], "guest": {"web": {"memory": "32 MiB", "count": 2}}, "outage": {
        "after": {"at": "25 h"}}}}  # fmt: skip
    assert (needed(whole).hosts, needed(whole).by_use) == (2, False)


def test_the_load_at_which_the_fleet_needs_its_hosts_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"vary": "fleet.guest.web.arrivals.per_hour", "low": 1.0, "high": 3.0, "step": 2.0}
    monkeypatch.setattr("coldfleet.hostsim.host.simulate_host", SyntheticHost(9.0, 0.0))
    answer = coldfleet.capacity(STUDY, "fault_rate<10%", executor="serial", budget=100_000, **more)  # type: ignore[arg-type]
    assert (answer.fleet_hosts, answer.fleet_load) == (FleetOverTime.over_time(read_study(STUDY)).hosts, 2.0)
    assert answer.policies[0].capacity == 3
    assert answer.policies[0].hosts_without_overcommit != answer.fleet_hosts
    assert ask(monkeypatch, SyntheticHost(1.5, 0.0), 1, "fault_rate<10%").fleet_load is None
