"""Huge pages in a study: where they come from, what is refused, and what they cost on a clock."""

from __future__ import annotations

from typing import Any

import pytest

from coldfleet.cluster.execution.work import simulate_run, warm_up_shapes
from coldfleet.cluster.study.fleet import build_hosts
from coldfleet.cluster.study.model import merge
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.errors import UserError

SMALL: dict[str, Any] = {
    "replicates": 1,
    "ticks": 6,
    "policy": "kernel",
    "overcommit": 1.5,
    "fleet": {"hosts": 1, "guests_per_host": 1},
    "guest": {"memory": "8 MiB", "accesses_per_tick": 2048, "huge_pages": "madvise"},
}


UNLIMITED: dict[str, Any] = {"overcommit": 1.0, "reclaim": {"mode": "proactive"}}


def cell(**changes: Any) -> dict[str, Any]:
    """The row of "cells" of a study of one run, audited."""
    study = merge(SMALL, changes)
    return simulate_run(read_study(study).run(0), audit=True)["cells"][0]


def test_without_huge_pages_there_are_none() -> None:
    row = cell(guest={"huge_pages": "never"})
    assert not any(row[name] for name in row if name.startswith(("thp_", "khugepaged_", "anon_huge", "bloat")))


def test_a_guest_is_huge_as_far_as_there_are_whole_2_mib() -> None:
    assert cell(**UNLIMITED)["anon_huge_pages"] == 2048
    assert cell(**UNLIMITED, guest={"memory": "5 MiB"})["anon_huge_pages"] == 1024


@pytest.mark.parametrize(
    ("huge_pages", "defrag", "reclaims"),
    [
        ("madvise", "madvise", True),
        ("always", "madvise", False),
        ("always", "always", True),
        ("madvise", "never", False),
        ("madvise", "defer", False),
        ("madvise", "defer+madvise", True),
    ],
)
def test_a_fault_at_the_limit_reclaims_for_a_huge_page_if_defrag_says_so(
    huge_pages: str, defrag: str, reclaims: bool
) -> None:
    row = cell(guest={"huge_pages": huge_pages}, huge_pages={"defrag": defrag, "khugepaged": "off"})
    assert (row["thp_fault_alloc"] == 4) == reclaims
    assert (row["thp_fault_fallback"] > 0) == (not reclaims)


def test_khugepaged_collapses_only_if_it_is_on() -> None:
    busy = {"accesses_per_tick": 16384, "workload": {"kind": "hotcold"}}
    shared: dict[str, Any] = {"ticks": 8, "overcommit": 1.1, "guest": busy}
    often = {"every_ticks": 1, "max_ptes_swap": 511}
    rows = [cell(**shared, huge_pages={"khugepaged": on, **often}) for on in ("on", "off")]
    assert rows[0]["thp_collapse_alloc"] > 0
    assert rows[0]["khugepaged_ptes"] > 0
    assert rows[1]["thp_collapse_alloc"] == rows[1]["khugepaged_ptes"] == 0


def test_classes_of_guests_have_the_key_of_their_own() -> None:
    classes = {"big": {"count": 1, "huge_pages": "always"}, "plain": {"count": 1, "huge_pages": "never"}}
    study = SMALL | {"fleet": {"hosts": 1, "guest": classes}}
    (host,) = build_hosts(read_study(study).run(0))
    assert {guest.name: guest.huge_pages for guest in host.guests} == {"big-0": "always", "plain-0": "never"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reclaim": {"lru": "classic"}}, 'reclaim.lru = "classic"'),
        ({"host": {"sample": "1/4"}}, "host.sample 1/4"),
        ({"monitor": {"kind": "idle"}}, 'monitor.kind = "idle"'),
        ({"vm": {"tlb_hit": 0.5}}, "may only set tdp and split_share"),
        ({"truth": "on"}, "truth"),
    ],
)
def test_what_is_not_modelled_is_refused_in_a_line(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=r"guest\.huge_pages are not modelled here") as error:
        read_study(SMALL | change)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_small_sptes_for_huge_pages_cost_faults_and_aging() -> None:
    asked = merge(UNLIMITED, {"reclaim": {"aging_every_ticks": 2}})
    rows = [cell(**asked, vm={"split_share": share}) for share in (0, 0.5, 1)]
    for name in ("tdp_faults", "split_sptes", "split_page_ticks"):
        assert rows[0][name] < rows[1][name] < rows[2][name], name
    assert rows[0]["split_page_ticks"] == 0
    assert rows[2]["split_page_ticks"] == rows[2]["huge_page_ticks"]


def test_without_huge_pages_it_says_that_none_is_split(capsys: pytest.CaptureFixture[str]) -> None:
    read_study(merge(SMALL, {"vm": {"split_share": 0.5}}))
    assert capsys.readouterr().err == ""
    read_study(merge(SMALL, {"vm": {"split_share": 0.5}, "guest": {"huge_pages": "never"}}))
    assert capsys.readouterr().err.startswith("coldfleet: study: vm.split_share changes nothing")


def first_touch_ns(huge_pages: str, nested_ratio: int) -> int:
    """Time in faults of a first touch of 8 MiB, in tick 1: L2's memory is touched when it starts."""
    row = cell(
        ticks=2,
        **UNLIMITED,
        guest={"huge_pages": huge_pages},
        nested_ratio=nested_ratio,
        nested={"access_share": 1.0, "exposed_share": 1.0, "l2_only_share": 1.0, "start_tick": 1},
        clock={"mode": "timed"},
    )
    return int(row["fault_stall_ns"])


def test_a_nested_first_touch_costs_a_multiple_with_small_pages() -> None:
    small, huge = first_touch_ns("never", 1), first_touch_ns("madvise", 1)
    assert small / huge > 10


def test_what_is_reserved_for_hugetlbfs_no_guest_gets() -> None:
    host = {"reclaim": {"mode": "host"}, "host": {"memory": "16 MiB"}, "guest": {"huge_pages": "never"}}
    assert cell(**host)["refaults"] == 0
    less = merge(host, {"host": {"hugetlb": "8 MiB"}})
    assert cell(**less)["refaults"] > 0


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ({"memory": "16 MiB", "hugetlb": "16 MiB"}, "host.memory is 16 MiB: set host.memory to more"),
        ({"memory": "16 MiB", "hugetlb": "1 pages"}, "give a multiple of 2 MiB"),
        ({"hugetlb": "2 MiB"}, "host.memory is 0 pages: set host.memory to more"),
        (
            {"memory": "16 MiB", "hugetlb": "8 MiB", "watermark_scale_factor": 3000},
            "host.memory 8 MiB beside host.hugetlb is no more than the .* that the kernel keeps free",
        ),
    ],
)
def test_hugetlb_leaves_a_host_something_to_give(host: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_study(merge(SMALL, {"reclaim": {"mode": "host"}, "host": host}))


def test_what_is_compiled_first_has_no_hugetlb() -> None:
    host = {"memory": "16 MiB", "hugetlb": "12 MiB"}
    assert warm_up_shapes(read_study(merge(SMALL, {"reclaim": {"mode": "host"}, "host": host})))
