"""What a study says of a guest in relation to its size: its limit, its accesses, and which host it gets."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfleet.cluster.answers.question import only_policies, set_keys, vary
from coldfleet.cluster.execution.work import simulate_run
from coldfleet.cluster.execution.worker_memory import _most_on_a_host, worker_bytes
from coldfleet.cluster.study.fleet import build_fleet, build_hosts
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.cluster.study.values import overcommit_of
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import GuestSpec

GUESTS = {"web": {"count": 5, "memory": "4 MiB"}, "db": {"count": 1, "memory": "16 MiB", "accesses_per_page": 2.0}}


def read(**tables: Any) -> Plan:
    study = {
        "ticks": 3,
        "replicates": 1,
        "policy": "six-steps",
        "fleet": {"hosts": 2, "guests_per_host": 1},
        "guest": {"memory": "4 MiB"},
    }
    return read_study({**study, **tables})


def guests(plan: Plan, run: int = 0) -> list[GuestSpec]:
    return [guest for host in build_hosts(plan.run(run)) for guest in host.guests]


@given(st.integers(100, 10_000), st.integers(512, 1 << 31))
def test_a_limit_is_that_share_of_the_memory_in_whole_pages(hundredths: int, pages: int) -> None:
    share = hundredths / 10_000
    assert int(pages / overcommit_of(share)) == pages * Fraction(hundredths, 10_000) // 1


def test_a_limit_and_the_overcommit_that_it_means_are_the_same_cell() -> None:
    limited, over = read(limit="50 %"), read(overcommit=2)
    assert limited.cell_ids == over.cell_ids == read(limit=0.5).cell_ids
    assert [guest.limit_pages for guest in guests(limited)] == [512, 512]
    assert Plan.thaw(limited.frozen()) == limited
    assert Plan.thaw(limited.frozen()).cell_ids == limited.cell_ids


def test_a_limit_can_vary_and_be_set_in_the_other_way() -> None:
    plan = read(grid={"limit": ["25 %", "50 %", 1]}, where=["limit <= '50 %'"])
    assert [guests(plan, number)[0].limit_pages for number in range(len(plan))] == [256, 512]
    assert plan.values("overcommit") == (4, 2)
    set_back = set_keys(read(limit="70 %"), {"overcommit": 4.0})
    assert guests(set_back)[0].limit_pages == 256
    assert guests(set_keys(set_back, {"limit": "70%"}))[0].limit_pages == 716


def test_an_answer_varies_what_the_study_says_in_the_other_way() -> None:
    plan = read(grid={"limit": ["25 %", "50 %"]})
    only_policies(plan, ["overcommit"])
    assert vary(plan, "overcommit", [1.5, 2.0]).varied == ("overcommit",)
    with pytest.raises(UserError, match="the study varies limit"):
        only_policies(plan, ["nested_ratio"])


@pytest.mark.parametrize("memory", ["2 MiB", "64 MiB", "1 GiB"])
def test_accesses_follow_the_size_unless_they_are_counted(memory: str) -> None:
    pages = guests(read(limit=1, guest={"memory": memory}))[0].memory_pages

    def accesses(**keys: Any) -> int:
        return guests(read(limit=1, guest={"memory": memory, **keys}))[0].accesses_per_tick

    assert accesses() == pages
    assert accesses(accesses_per_page=0.25) == pages // 4
    assert accesses(accesses_per_tick=8192) == 8192
    assert accesses(page_cache={"memory": memory}) == 2 * pages


@pytest.mark.parametrize("pages", [512, 1024, 49 * 512])
def test_a_guest_makes_at_least_one_access_a_tick(pages: int) -> None:
    memory = {"memory": f"{pages} pages"}
    with pytest.raises(UserError) as caught:
        read(limit=1, guest={**memory, "accesses_per_page": 1e-9})
    matched = re.search(r"less than one access in a tick: set it to (\S+) or more", str(caught.value))
    assert matched
    least = float(matched[1])
    assert guests(read(limit=1, guest={**memory, "accesses_per_page": least}))[0].accesses_per_tick == 1
    assert guests(read(limit=1, guest={**memory, "accesses_per_tick": 1}))[0].accesses_per_tick == 1
    with pytest.raises(UserError, match="less than one access"):
        read(limit=1, guest={**memory, "accesses_per_page": math.nextafter(least, 0)})


def test_both_keys_of_accesses_are_known_in_every_cell() -> None:
    plan = read(limit=1, grid={"guest.memory": ["2 MiB", "8 MiB"]}, guest={"accesses_per_tick": 1024})
    assert plan.values("guest.accesses_per_page") == (2.0, 0.5)
    assert guests(set_keys(plan, {"accesses_per_page": 1}), 1)[0].accesses_per_tick == 2048


def test_guests_of_any_size_behave_alike() -> None:
    """Refaults and touched pages are the same share of a guest's memory."""

    def shares(memory: str) -> tuple[float, float]:
        run = read(limit="60 %", ticks=12, guest={"memory": memory, "workload": {"kind": "hotcold"}}).run(0)
        row = simulate_run(run)["cells"][0]
        pages = sum(guest.memory_pages for guest in guests(read(limit=1, guest={"memory": memory})))
        return row["pgmajfault"] / pages, row["accesses"] / pages

    small, large = shares("8 MiB"), shares("64 MiB")
    assert small == pytest.approx(large, rel=0.1)


def test_a_class_says_it_in_its_own_way() -> None:
    fleet = {"hosts": 2, "guest": GUESTS}
    plan = read(limit="50 %", fleet=fleet, guest={"memory": "2 MiB", "accesses_per_tick": 77})
    assert {(guest.name[:2], guest.accesses_per_tick) for guest in guests(plan)} == {("we", 77), ("db", 8192)}


def of_hosts(plan: Plan) -> list[tuple[str, int, int, int]]:
    """Of each host its class, its memory, its guests and their memory."""
    hosts = build_fleet(plan.run(0))
    return [
        (name, spec.memory_pages, len(spec.guests), sum(guest.memory_pages for guest in spec.guests))
        for name, spec, _ in hosts
    ]


def test_classes_of_guests_need_no_classes_of_hosts() -> None:
    alike = {"hosts": 2, "guest": GUESTS}
    shares = [pages for _, _, _, pages in of_hosts(read(limit="50 %", fleet=alike))]
    assert sum(shares) == 9216
    assert max(shares) - min(shares) <= 4096  # no more than the largest guest
    by_kswapd = of_hosts(read(limit="50 %", fleet=alike, reclaim={"mode": "host"}))
    assert [memory for _, memory, _, _ in by_kswapd] == [pages // 2 for _, _, _, pages in by_kswapd]
    sized = of_hosts(read(limit="50 %", fleet=alike, host={"memory": "20 MiB"}))
    assert sized == [("", 5120, 6, 9216)]  # best-fit
    with pytest.raises(UserError, match="at most 2 MiB is left"):
        read(limit="50 %", fleet=alike, host={"memory": "9 MiB"})
    assert worker_bytes(read(limit="50 %", fleet=alike)) > worker_bytes(
        read(limit="50 %", fleet={**alike, "guest": {"web": GUESTS["web"]}})
    )


@given(st.integers(1, 6), st.lists(st.tuples(st.integers(1, 5), st.integers(1, 40)), min_size=1, max_size=4))
def test_a_worker_has_memory_for_the_fullest_of_hosts_without_a_size(
    hosts: int, classes: list[tuple[int, int]]
) -> None:
    of_guests = {f"c{n}": {"count": count, "memory": f"{2 * tables} MiB"} for n, (count, tables) in enumerate(classes)}
    plan = read(limit=1, fleet={"hosts": hosts, "guest": of_guests})
    fullest = max(pages for _, _, _, pages in of_hosts(plan))
    total = sum(count * tables * 512 for count, tables in classes)
    assert fullest <= _most_on_a_host(plan, total, max(tables for _, tables in classes) * 512) <= total + 40 * 512


def test_classes_of_hosts_inherit_memory_and_cpus() -> None:
    def read_classes(**host: Mapping[str, Any]) -> Plan:
        fleet = {"host": {"a": {"count": 1}, **host}, "guest": GUESTS, "vcpus_per_cpu": 2}
        return read(limit="50 %", fleet=fleet, host={"memory": "20 MiB"}, clock={"pcpus": 3})

    assert of_hosts(read_classes()) == [("a", 5120, 6, 9216)]
    spec = read_classes(b={"count": 2, "cpus": 8}).cell(0).spec
    assert {name: (each.memory, each.cpus) for name, each in spec.host_classes.items()} == {
        "a": (5120, 3),
        "b": (5120, 8),
    }
    with pytest.raises(UserError, match="2 lack vCPUs"):
        read(limit=1, fleet={"hosts": 2, "guest": GUESTS, "vcpus_per_cpu": 1}, clock={"pcpus": 2})


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "neither": ({}, "overcommit is missing: set it, or limit, at the top of the file or in [grid]"),
    "both": ({"limit": "60 %", "overcommit": 2}, "overcommit 2 and limit 0.6 say different things: give one of the"),
    "limit of percent": ({"limit": "0.5 %"}, "limit = '0.5 %': it should be greater than or equal to 1 %"),
    "limit of 1": ({"limit": 1.5}, "limit = 1.5: it should be less than or equal to 1"),
    "limit in a grid": ({"grid": {"limit": ["120 %"]}}, "grid.limit = '120 %': it should be less than or equal to 100"),
    "limit of memory": ({"limit": "3 GiB"}, "limit: '3 GiB' is not a share: write for example 0.25 or \"25 %\""),
    "GiB": ({"limit": 1, "guest": {"memory": "9000 GiB"}}, "'9000 GiB': it should be less than 8192 GiB"),
    "pages": ({"limit": 1, "guest": {"memory": "100 pages"}}, "'100 pages': it should be greater than or equal to 512"),
    "hours": ({"limit": 1, "clock": {"mode": "timed", "tick": "30 h"}}, "'30 h': it should be less than or equal to"),
    "accesses": (
        {"limit": 1, "guest": {"memory": "4 MiB", "accesses_per_page": 1.0, "accesses_per_tick": 3}},
        "accesses_per_page 1 and accesses_per_tick 3 say different things: give one of the two",
    ),
    "many accesses": (
        {"limit": 1, "guest": {"memory": "512 GiB"}, "host": {"sample": "1/1024"}},
        "accesses_per_page 1 of 512 GiB are 134,217,728 accesses in a tick; at most 67,108,864 are simulated: set",
    ),
    "asked": (
        {"grid": {"limit": [0.5, 1]}, "where": ["overcommit > 1"]},
        "where: overcommit isn't set, so each cell has its default: set it, or don't ask for it",
    ),
    "guests of hosts": ({"limit": 1, "fleet": {"host": {"a": {"count": 1}}, "guests_per_host": 1}}, "add [fleet.guest"),
}  # fmt: skip


@pytest.mark.parametrize(("tables", "expected"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusal_has_the_users_unit(tables: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        read(**tables)
    assert expected in str(caught.value)


def test_a_burst_has_no_more_accesses_than_a_tick_may_have() -> None:
    bursts = {"load": "bursts", "load_ticks": 1 << 17, "load_swing": 0.5}
    assert guests(read(limit=1, guest={"memory": "4 MiB", "accesses_per_tick": 1000, "workload": bursts}))
    with pytest.raises(UserError, match=r"a tick with a burst has 67,109,\d+ accesses; at most 67,108,864"):
        read(limit=1, guest={"memory": "4 MiB", "accesses_per_tick": 1024, "workload": bursts})
