"""Fleets of several classes: who gets which guest, what a guest is, and refusals with their reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.execution.work import simulate_run
from coldfleet.cluster.execution.worker_memory import worker_bytes
from coldfleet.cluster.study.fleet import build_fleet, build_hosts
from coldfleet.cluster.study.lives import _placed
from coldfleet.cluster.study.placement import HostResources, Hosts, Request, place
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import HostSpec

STUDY = """\
seed = 3
replicates = 4
ticks = 3
overcommit = 1.5
nested_ratio = 0.5

[fleet]
placement = "best-fit"
vcpus_per_cpu = 2

[fleet.host.big]
count = 2
memory = "64 MiB"
cpus = 16

[fleet.host.small]
count = 3
memory = "16 MiB"
cpus = 4

[fleet.guest.web]
count = 12
memory = "8 MiB"
vcpus = 2
workload.kind = "hotcold"

[fleet.guest.db]
count = 3
memory = "32 MiB"
vcpus = 4
nested_ratio = 0
nested.l2_only_share = 0.125

[guest]
memory = "2 MiB"
accesses_per_tick = 512

[guest.workload]
hot_share = 0.25

[grid]
policy = ["evict-only", "six-steps"]
"""


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Plan]:
    def call(*changes: tuple[str, str]) -> Plan:
        text = STUDY
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "fleet.toml"
        path.write_text(text)
        return read_study(path)

    return call


def test_every_guest_has_one_place_and_no_host_has_too_much(read: Callable[..., Plan]) -> None:
    plan = read()
    for run in plan.runs():
        hosts = build_hosts(run)
        names = Counter(guest.name for host in hosts for guest in host.guests)
        assert set(names) == {f"web-{n}" for n in range(12)} | {f"db-{n}" for n in range(3)}
        assert max(names.values()) == 1
        for host in hosts:
            assert sum(guest.memory_pages for guest in host.guests) <= 1.5 * 64 * 256
            assert sum(guest.limit_pages for guest in host.guests) <= 64 * 256


def test_guest_inherits_what_its_class_does_not_say(read: Callable[..., Plan]) -> None:
    guests = {guest.name: guest for host in build_hosts(read().run(0)) for guest in host.guests}
    web, db = guests["web-0"], guests["db-0"]
    assert (web.memory_pages, db.memory_pages) == (2048, 8192)
    assert (web.workload.kind, db.workload.kind) == ("hotcold", "zipf")
    assert {guest.workload.hot_share for guest in guests.values()} == {0.25}
    assert {guest.accesses_per_tick for guest in guests.values()} == {512}
    assert sum(guest.nested is not None for name, guest in guests.items() if name.startswith("web")) == 6
    assert all(guest.nested is None for name, guest in guests.items() if name.startswith("db"))
    assert db.limit_pages == int(8192 / 1.5)


@pytest.mark.parametrize("policy", ["kernel", "six-steps"])
def test_a_class_of_hosts_has_a_kernel_of_its_own(policy: str, read: Callable[..., Plan]) -> None:
    own = ("[fleet.host.small]\n", '[fleet.host.small]\nkernel = "6.18"\n')
    hosts = build_fleet(read(own, ('["evict-only", "six-steps"]', f'["{policy}"]')).run(0))
    kernels = {"big": "6.12", "small": "6.18"}
    assert {each.host_class: each.spec.kernel for each in hosts} == kernels
    rows = simulate_run(read(own, ('["evict-only", "six-steps"]', f'["{policy}"]')).run(0))["hosts"]
    assert {row["host_class"]: row["kernel"] for row in rows} == kernels
    for each in hosts:
        assert each.policy.name == (KERNELS[kernels[each.host_class]].policy if policy == "kernel" else policy)


def test_a_host_has_the_memory_of_its_class_where_kswapd_reclaims(read: Callable[..., Plan]) -> None:
    by_host = ("[guest]\n", '[reclaim]\nmode = "host"\n\n[guest]\n')
    memory = ("[guest]\n", '[host]\nmemory = "20 MiB"\nwatermark_scale_factor = 50\n\n[guest]\n')
    run = read(by_host).run(0)
    classes = {each.host_class: each.spec for each in build_fleet(run)}
    assert {name: host.memory_pages for name, host in classes.items()} == {"big": 64 * 256, "small": 16 * 256}
    assert {host.memory_pages for host in build_hosts(read(by_host, memory).run(0))} == {20 * 256}
    beside = build_hosts(read(memory).run(0))[0]
    assert (beside.mode, beside.memory_pages, beside.watermark_scale_factor) == ("limit", 20 * 256, 50)
    assert build_hosts(read().run(0))[0].memory_pages == 0


def test_the_classic_lru_is_in_use_on_hosts_of_a_class_too(read: Callable[..., Plan]) -> None:
    classic = ("[guest]\n", '[reclaim]\nlru = "classic"\n\n[guest]\n')
    assert not any(host.lru_gen for host in build_hosts(read(classic).run(0)))


def test_placement_depends_on_seed_and_replicate_only(read: Callable[..., Plan]) -> None:
    plan = read()
    runs = list(plan.runs())
    first, second = ([build_hosts(run) for run in runs if run.cell.spec.policy == p] for p in plan.axes["policy"])
    assert first == second
    assert len({str(hosts) for hosts in first}) > 1  # guests arrive in another order in each replicate
    again = [build_hosts(run) for run in read().runs()][: len(first)]
    assert again == [build_hosts(run) for run in plan.runs()][: len(first)]


def test_keys_of_classes_can_vary(read: Callable[..., Plan]) -> None:
    axes = """[grid]
"fleet.guest.web.count" = [3, 6]
"fleet.guest.web.memory" = ["4 MiB", "8 MiB"]
"fleet.placement" = ["first-fit", "random"]
"""
    plan = read(('count = 12\nmemory = "8 MiB"\n', ""), ('placement = "best-fit"\n', ""), ("[grid]\n", axes))
    assert plan.cell_count == 2**4
    assert len(set(plan.cell_ids)) == 16
    sizes = {
        (len([g for h in hosts for g in h.guests if g.name.startswith("web")]), hosts[0].guests[0].limit_pages > 0)
        for hosts in map(build_hosts, (plan.run(number) for number in range(16)))
    }
    assert {count for count, _ in sizes} == {3, 6}
    assert plan.difference(read()) != ""
    assert Plan.thaw(plan.frozen()) == plan


def test_tables_tell_class_of_host_and_name_of_guest(
    read: Callable[..., Plan], tmp_path: Path, fake_engine: list[HostSpec]
) -> None:
    plan = read()
    results = sweep(plan, tmp_path / "out", SerialExecutor())
    hosts, guests = results.table("hosts").to_pylist(), results.table("guests").to_pylist()
    assert {row["host_class"] for row in hosts} <= {"big", "small"}
    assert len(guests) == len(plan) * 15
    assert {row["name"].split("-")[0] for row in guests} == {"web", "db"}
    assert '"fleet.guest.web.memory":2048' in results.table("cells")["fleet_classes"][0].as_py()


def test_simulated_fleet_runs_without_ray(read: Callable[..., Plan], tmp_path: Path) -> None:
    results = sweep(read(), tmp_path / "out", SerialExecutor())
    assert not results.failed
    assert worker_bytes(results.plan) > (400 << 20) + 64 * 1.5 * 64 * 256 - 1


REFUSALS = {
    "memory": (("overcommit = 1.5", "overcommit = 1"), "the fleet doesn't fit in the cell policy = evict-only: after"),
    "reasons": (("overcommit = 1.5", "overcommit = 1"), "lack memory (at most"),
    "vcpus": (("vcpus_per_cpu = 2", "vcpus_per_cpu = 0.5"), "lack vCPUs: add hosts, or raise"),
    "larger than any host": (('"32 MiB"', '"128 MiB"'), "has room for db-"),
    "both ways": (("[fleet]\n", "[fleet]\nhosts = 2\n"), "fleet.hosts is there beside classes [fleet.host.NAME]"),
    "neither way": (('[fleet.host.big]', '[fleet.hostt.big]'), "unknown table"),
    "unknown key of a class": (("vcpus = 2", "vcpu = 2"), ":24: unknown key \"vcpu\" in [fleet.guest.web]: did you"),
    "unknown key of guests": (("accesses_per_tick = 512", "accesses = 5"), ":36: unknown key \"accesses\" in [guest]"),
    "bad value in a class": (('memory = "64 MiB"', 'memory = "64 MB"'), "did you mean 'MiB'?"),
    "unknown class in a grid": (("[grid]", '[grid]\n"fleet.guest.dbs.count" = [1]'), "mean \"fleet.guest.db.count\"?"),
    "bad name": (("[fleet.host.big]", '[fleet.host."../big"]'), "fleet.host"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusal_is_one_line_with_its_reasons(
    change: tuple[str, str], expected: str, read: Callable[..., Plan]
) -> None:
    with pytest.raises(UserError) as caught:
        read(change)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def requests(*sizes: int) -> list[Request]:
    return [Request("g", number, size, 1) for number, size in enumerate(sizes)]


def by_host(rule: str, machines: list[int], sizes: list[int]) -> list[list[int]]:
    rank = partial(lambda *who: repr(who).encode())
    found = place(Hosts([HostResources(size, 100) for size in machines], rule, rank), requests(*sizes))
    return [[size for size, at in zip(sizes, found, strict=True) if at == host] for host in range(len(machines))]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("first-fit", [[5, 3], [4, 6], []]), ("best-fit", [[6], [4], [5, 3]]), ("worst-fit", [[4], [3, 6], [5]])],
)
def test_rules_by_hand(rule: str, expected: list[list[int]]) -> None:
    machines = [10, 11, 12] if rule != "best-fit" else [10, 9, 8]
    assert by_host(rule, machines, [5, 3, 4, 6]) == expected


def test_best_fit_keeps_room_where_first_fit_does_not() -> None:
    assert by_host("best-fit", [10, 6], [6, 10]) == [[10], [6]]
    with pytest.raises(UserError, match="after 1 of 2 guests none of the 2 hosts has room for g-1"):
        by_host("first-fit", [10, 6], [6, 10])


@given(
    st.sampled_from(["first-fit", "best-fit", "worst-fit", "random"]),
    st.lists(st.integers(1, 20), min_size=1, max_size=6),
    st.lists(st.integers(1, 8), max_size=20),
)
def test_nothing_is_lost_or_too_much(rule: str, machines: list[int], sizes: list[int]) -> None:
    try:
        found = by_host(rule, machines, sizes)
    except UserError:  # said, not lost
        return
    assert sorted(size for host in found for size in host) == sorted(sizes)
    assert all(sum(host) <= machine for host, machine in zip(found, machines, strict=True))


def test_fleet_of_classes_is_placed_once_a_run(
    read: Callable[..., Plan], fake_engine: list[HostSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = read().run(0)
    _placed.cache_clear()
    placed = []

    def count(hosts: Hosts, requests: list[Request]) -> list[int]:
        placed.append(len(requests))
        return place(hosts, requests)

    monkeypatch.setattr("coldfleet.cluster.study.timeline.place", count)
    rows = simulate_run(run)
    assert placed == [15]
    assert {row["host_class"] for row in rows["hosts"]} == {"big", "small"}
