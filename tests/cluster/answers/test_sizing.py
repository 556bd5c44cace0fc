"""What a capacity is worth: DRAM saved lies in 0..promised, hosts come from packing, and what binds is named."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldfleet.cluster.answers.capacity import Capacity, SloStatus
from coldfleet.cluster.answers.capacity_answer import PolicyCapacity, recommend
from coldfleet.cluster.answers.host_check import HostCheck
from coldfleet.cluster.answers.limiting_guest import binding
from coldfleet.cluster.answers.policy_answer import SizedLoads
from coldfleet.cluster.answers.sizing import DramAccount, FleetSize, HostCount, Rows, memory_of
from coldfleet.cluster.answers.slo import NO_KILLS, parse_slo
from coldfleet.cluster.answers.study_capacity import _placeable
from coldfleet.cluster.stats.statistics import short
from coldfleet.cluster.study.fleet import build_hosts
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.host_spec import HostSpec

TICKS = 10
PAGES = 1024
KERNEL = 12


def plan(**keys: Any) -> Plan:
    return read_study(
        {
            "ticks": TICKS,
            "policy": "lockless-6.15",
            "overcommit": 2.0,
            "fleet": {"hosts": 2, "guests_per_host": 16},
            "guest": {"memory": f"{PAGES} pages"},
            **keys,
        }
    )


def classes(cpus: int, vcpus: int = 1, count: int = 32, **keys: Any) -> Plan:
    fleet = {
        "vcpus_per_cpu": 1,
        "host": {"h": {"count": 2, "memory": f"{16 * PAGES} pages", "cpus": cpus}},
        "guest": {"w": {"count": count, "memory": f"{PAGES} pages", "vcpus": vcpus}},
    }
    return plan(overcommit=1.5, **{"fleet": fleet, **keys})


def rows(hosts: list[HostSpec], resident: float, pool: float) -> Rows:
    """Rows of guests that have a share of their memory resident, and one in the pool."""
    return [
        {
            "host": h,
            "guest": g,
            "resident_page_ticks": round(resident * memory_of(guest) * TICKS),
            "pool_page_ticks": round(pool * memory_of(guest) * TICKS),
            "kernel_page_ticks": KERNEL * TICKS,
            "lived_ticks": TICKS,
        }
        for h, host in enumerate(hosts)
        for g, guest in enumerate(host.guests)
    ]


def account(study: Plan, resident: float, pool: float = 0.0, replicates: int = 2) -> DramAccount:
    runs = [build_hosts(study.run(0))] * replicates
    return DramAccount.of([(hosts, rows(hosts, resident, pool)) for hosts in runs])


@settings(deadline=None, max_examples=20)
@given(st.floats(0, 1), st.floats(0, 1))
def test_dram_saved_lies_between_nothing_and_what_is_promised(resident: float, pool: float) -> None:
    found = account(plan(), resident, pool)
    promised = found.promised[0]
    assert promised == 32 * (PAGES + KERNEL)
    assert 0 <= found.saved <= promised
    low, high = found.saved_interval(95)
    assert 0 <= low <= found.saved + 1e-6 <= high + 2e-6
    assert found.saved == pytest.approx(max(32 * PAGES * (1 - resident - pool), 0), abs=32)
    low, high = found.saved_share_interval(95)
    assert 0 <= low <= found.saved_share + 1e-9 <= high + 2e-9 <= 1 + 2e-9
    assert found.saved_share == pytest.approx(found.saved / promised)


def test_pages_that_do_not_compress_save_neither_dram_nor_hosts() -> None:
    study = plan()
    found = account(study, 0.2, 0.8)
    count = FleetSize.of(study, 1000).hosts_needed(found)
    assert (found.saved, count.hosts, count.without, count.saved) == (0, 1000, 1000, 0)
    assert count.text.startswith("No host is saved, because of memory (")


def test_hosts_follow_from_memory_that_is_used_not_from_overcommit() -> None:
    study = plan()
    usable = 16 * PAGES - 384  # the high watermark of 64 MiB
    for used in (0.25, 0.5, 0.7):
        each = used * PAGES + KERNEL
        count = FleetSize.of(study, 1000).hosts_needed(account(study, used))
        assert count.hosts == math.ceil(16_000 / (usable // each))
        assert (count.without, count.binding) == (1000, "memory")


@settings(deadline=None, max_examples=20)
@given(st.floats(0.05, 1), st.floats(0.9, 1.1))
def test_hosts_of_guests_that_could_be_cut_are_the_fewest_and_follow_what_is_used(used: float, times: float) -> None:
    study = plan()
    found = account(study, used)
    for spare in (0, 3):
        count = FleetSize.of(study, 1000, spare=spare).hosts_needed(found)
        assert spare < count.uncut() <= count.hosts + 1e-9 <= count.without + 1e-9
        assert (count.uncut(times) >= count.uncut()) is (times >= 1 or count.uncut(times) == count.uncut())
        per_host, active = count.guests_per_host, count.hosts - spare
        assert per_host * active == pytest.approx(16_000), "the guests of the fleet"
        fewer, more = 16_000 / (per_host + 1), 16_000 / (per_host - 1)
        assert active - fewer <= count.of_one_guest <= more - active
        assert f"± one guest a host is {short(count.of_one_guest)} hosts)" in count.text


def test_the_more_memory_is_used_the_more_hosts_are_needed() -> None:
    study = plan()
    hosts = [FleetSize.of(study, 100).hosts_needed(account(study, used / 20)).hosts for used in range(1, 21)]
    assert hosts == sorted(hosts)
    assert hosts[-1] == 100


def test_where_vcpus_bind_no_host_is_saved() -> None:
    study = classes(cpus=16)
    for hosts in (None, 10_000):
        count = FleetSize.of(study, hosts).hosts_needed(account(study, 0.3))
        assert (count.saved, count.binding) == (0, "vCPUs")
        assert count.text.startswith("No host is saved, because of vCPUs (")
    more = FleetSize.of(classes(cpus=32), 10_000).hosts_needed(account(classes(cpus=32), 0.3))
    assert (more.binding, more.hosts) == ("vCPUs", 5000)


def test_a_study_without_classes_has_vcpus_without_limit_unless_its_clock_has_cpus() -> None:
    free = plan(clock={"mode": "timed"})
    bound = plan(clock={"mode": "timed", "pcpus": 4})  # 4 vCPUs each
    hosts = [FleetSize.of(study, 100).hosts_needed(account(study, 0.3)).saved for study in (free, bound)]
    assert hosts[0] > 60
    assert hosts[1] == 0


def test_headroom_and_spare_hosts_cost_hosts() -> None:
    study = plan()
    found = account(study, 0.5)
    plain, roomy, safe = (
        FleetSize.of(study, 1000, headroom, spare).hosts_needed(found) for headroom, spare in ((0, 0), (0.2, 0), (0, 3))
    )
    assert (safe.hosts, safe.without, safe.saved) == (plain.hosts + 3, 1003, plain.saved)
    assert "3 of them spare" in safe.text
    assert roomy.without == 1000, "the fleet fills so many hosts with headroom, too"
    assert FleetSize.of(study, None).hosts == 2
    assert FleetSize.of(study, None, 0.2).hosts == 3
    per_host = [sum(count.guests.values()) for count in (plain, roomy)]
    assert per_host[1] == pytest.approx(0.8 * per_host[0], abs=1)


def test_guests_that_cannot_be_cut_in_pieces_are_fragmentation() -> None:
    study = plan(fleet={"hosts": 2, "guests_per_host": 2})
    count = FleetSize.of(study, 1000).hosts_needed(account(study, 0.7))  # 2.8 of them fit
    assert (count.hosts, count.binding) == (1000, "fragmentation")
    assert FleetSize.of(study, None).hosts_needed(account(study, 0.4)).hosts == 1


def test_no_host_has_more_guests_than_were_tried_where_their_number_is_the_load() -> None:
    study = plan()
    count = FleetSize.of(study, 1000).hosts_needed(account(study, 0.1), most_guests=20)
    assert (count.hosts, count.binding) == (800, "guests per host")
    assert "not fewer because of guests per host (" in count.text


def test_a_host_that_uses_more_than_its_guests_means_makes_all_need_more() -> None:
    hosts = build_hosts(plan().run(0))
    uneven = [
        {**row, "resident_page_ticks": row["resident_page_ticks"] * (1 + row["host"])} for row in rows(hosts, 0.3, 0)
    ]
    found = DramAccount.of([(hosts, uneven)])
    assert found.spread == pytest.approx(0.6 / 0.45, rel=0.02)
    assert account(plan(), 0.3).spread == 1


def test_a_file_is_promised_too() -> None:
    study = plan(guest={"memory": f"{PAGES} pages", "page_cache": {"memory": "512 pages"}})
    assert account(study, 1.0).promised[0] == 32 * (PAGES + 512 + KERNEL)


def test_placement_ends_the_loads_that_can_be_asked_for() -> None:
    study = classes(cpus=16)
    loads, why = _placeable(study, "fleet.guest.w.count", list(range(8, 49)))
    assert (loads[0], loads[-1]) == (8, 32)
    assert why.startswith("there is no room for more than fleet.guest.w.count 32: the fleet doesn't fit: after 32")
    assert "2 lack vCPUs" in why
    loads, why = _placeable(classes(cpus=64, count=40), "overcommit", [1.0, 1.25, 1.5, 2.0])
    assert loads == [1.25, 1.5, 2.0]
    assert why.startswith("there is no room for less than overcommit 1.25")
    assert _placeable(study, "ticks", [1, 2]) == ([1, 2], "")


def sized(statuses: dict[int, SloStatus], fits_up_to: int) -> Any:
    """An answer whose check fails above a level."""

    def size(_: str, level: int, by_use: bool) -> Any:
        passed = level <= fits_up_to
        count = HostCount(hosts=10 - level, spare=0, without=10, binding="memory")
        return account(plan(), 0.5), count, lambda: HostCheck(passed, 1000, 5, 4, 0 if passed else 2)

    slo = parse_slo("fault_rate<1%")
    row = {
        "pgmajfault": 1,
        "accesses": 10,
        "device_accesses": 0,
        "oom_kills": 0,
        "host": 0,
        "guest": 0,
        "replicate": 0,
        "nested": False,
    }
    causes = {name: 0 for metric in _needs() for name in metric}
    bound = binding([slo, NO_KILLS], [{"guests": [{**causes, **row}]}])
    levels = SizedLoads("overcommit", [1.0, 1.5, 2.0, 2.5], 95.0)
    return levels.answer("p", Capacity(4, statuses), bound, size)


def _needs() -> list[Any]:
    from coldfleet.cluster.stats.metrics import SUMMARY

    return [metric.needs for metric in SUMMARY]


def policy(name: str, hosts: int | None, share: float = 0.3) -> PolicyCapacity:
    """The answer of a policy that needs so many hosts for 10,000 guests, and saves such a share of DRAM, ±0.01."""
    known = sized({0: SloStatus.MEETS, 1: SloStatus.FAILS}, 9)
    per_host = None if hosts is None else 10_000 / hosts
    interval = (share - 0.01, share + 0.01)
    return replace(
        known,
        policy=name,
        hosts=hosts,
        guests_per_host=per_host,
        dram_saved_share=share,
        dram_saved_share_interval=interval,
    )


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([("a", 1000, 0.3), ("b", 500, 0.4)], "Take b: it needs 500 hosts, where a, the next, needs 1,000"),
        ([("a", 770, 0.3), ("b", 715, 0.31)], "Hosts are a tie within one guest a host between a and b, which need "
         "715 to 770 hosts; nor is one sure to save the most DRAM"),
        ([("a", 770, 0.3), ("b", 770, 0.33), ("c", None, 0.0)], "a and b need the same number of hosts, 770; "
         "b saves the most DRAM of them"),
        ([("a", 1, 0.3)], "Take a: it needs 1 host"),
        ([("a", None, 0.0)], "No policy is sure to meet what was asked at any load that was tried"),
    ],
)  # fmt: skip
def test_one_sentence_says_which_policy_to_take(answers: list[tuple[str, int | None, float]], expected: str) -> None:
    assert recommend([policy(*each) for each in answers]) == expected


MEETS, FAILS = SloStatus.MEETS, SloStatus.FAILS


def test_an_answer_whose_run_fails_steps_down() -> None:
    good = sized({0: MEETS, 1: MEETS, 2: MEETS, 3: FAILS}, 2)
    assert (good.capacity, good.checked, good.check_host_memory_pages, good.check_free_pages) == (2.0, True, 1000, 5)
    lower = sized({0: MEETS, 1: MEETS, 2: MEETS, 3: FAILS}, 1)
    assert (lower.capacity, lower.interval, lower.checked, lower.hosts) == (1.5, (1.5, 2.5), True, 9)
    assert "But at 2 a host of 4 guests ran out of memory: 2 of them killed, so the answer is 1.5." in lower.sentence
    none = sized({0: MEETS, 1: FAILS}, -1)
    assert (none.capacity, none.hosts, none.dram_saved_pages, none.dram_used_pages) == (None, None, 0, none.dram_pages)


def test_hosts_for_what_is_promised_that_do_not_hold_are_answered_by_more() -> None:
    def size(_: str, level: int, by_use: bool) -> Any:
        count = HostCount(12 if by_use else 10, 0, 10, "memory", by_use=by_use)
        return account(plan(), 0.5), count, lambda: HostCheck(by_use or passed, 1000, broken=not by_use and broken)

    for passed, broken in ((False, False), (True, True), (True, False)):
        found = SizedLoads("overcommit", [1.0, 1.5], 95.0).answer("p", Capacity(2, {0: MEETS, 1: MEETS}), None, size)
        assert (found.capacity, found.hosts) == (1.5, 10 if passed and not broken else 12)
        assert found.hosts_without_overcommit == 10
        more = "12 hosts are enough, 2 more than for what guests are promised, which didn't hold in a run, as kernel"
        assert (more in found.sentence) is (found.hosts == 12)


def test_a_host_of_a_check_has_no_more_memory_than_the_study_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[HostSpec] = []

    def check(hosts: Any, *_: Any) -> HostCheck:
        ran.extend(host.spec for host in hosts)
        return HostCheck(True, ran[-1].memory_pages)

    monkeypatch.setattr("coldfleet.cluster.answers.sizing.check_hosts", check)
    for used in (0.3, 0.99, 1.2):
        study = classes(cpus=16)
        fleet = FleetSize.of(study, None, 0.1)
        for by_use in (False, True):
            count = fleet.hosts_needed(account(study, used), by_use=by_use)
            fleet.check(study.run(0), count, 0.0, [])
            assert ran[-1].memory_pages <= 0.9 * 16 * PAGES
            assert ran[-1].mode == "host"
    unsized = FleetSize.of(plan(), None)
    unsized.check(plan().run(0), unsized.hosts_needed(account(plan(), 1.2)), 0.0, [])
    assert ran[-1].memory_pages > 16 * PAGES, "hosts of no size have what their guests need"


def test_a_metric_that_falls_with_the_load_is_met_from_somewhere_on() -> None:
    on = sized({0: FAILS, 1: FAILS, 2: MEETS, 3: MEETS}, 9)
    assert on.sentence.startswith("every SLO is met from overcommit 2 on; at 1 fault_rate<1% is broken")
    once = sized({0: FAILS, 1: MEETS, 2: FAILS, 3: FAILS}, 9)
    assert once.sentence.startswith("every SLO is met at overcommit 1.5, but not from there on; at 1 fault_rate<1%")
    assert sized({0: FAILS, 1: FAILS}, 9).sentence.startswith("out of reach: even at overcommit 1 ")


def test_a_guest_that_was_killed_breaks_every_slo_and_is_named_before_all() -> None:
    slo = parse_slo("pgmajfault<1")
    causes = {name: 0 for metric in _needs() for name in metric}
    guests = [
        {**causes, "pgmajfault": 99 - 90 * n, "oom_kills": n, "host": 0, "guest": n, "nested": False} for n in (0, 1)
    ]
    assert NO_KILLS.excess(guests) > 0
    assert NO_KILLS.excess(guests[:1]) == 0, "met"
    assert binding([slo, NO_KILLS], [{"guests": guests}]).guest == "host 0 guest 1"
    assert binding([slo, NO_KILLS], [{"guests": guests[:1]}]).slo == slo
