"""DAMON's regions and the error of its counts, and DAMOS, which pages out the regions that fit its pattern."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.memory.watch import Watch
from coldfleet.hostsim.monitors.damon import Damon
from coldfleet.hostsim.monitors.damos import Damos, Region
from coldfleet.hostsim.spec.damon_spec import DamonSpec, PageoutSpec
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import ClockSpec, GuestSpec, HostSpec, NestedSpec, VmSpec, WorkloadSpec
from coldfleet.policies import get_policy

HOT_PAGES = 256
EAGER = PageoutSpec(min_age=1)  # the test has no time for 120 s


def one_hot_megabyte(pages: int, **workload: Any) -> GuestSpec:
    """A guest whose first MiB gets almost all accesses: each of its pages some 16 in a tick."""
    hot = WorkloadSpec("hotcold", hot_share=HOT_PAGES / pages, hot_access_share=0.99, layout="ordered")
    return GuestSpec("g", pages, 0, 4096, workload=replace(hot, **workload), vm=VmSpec(truth=True))


def run(guest: GuestSpec, damon: DamonSpec, monitor: str = "damon-vaddr", **spec: Any) -> dict[str, int]:
    host = HostSpec("6.12", (guest,), damon=damon, monitor=monitor, **{"ticks": 200, **spec})
    return simulate_host(host, get_policy("lockless-6.15"), seed=1, replicate=0, host=0).totals()


def hot_error(found: dict[str, int]) -> float:
    assert 0 <= found["damon_hot_rate_error"] <= found["damon_hot_accesses"] <= found["damon_samples"]
    assert 0 <= found["damon_rate_error"] <= found["damon_samples"]
    return found["damon_hot_rate_error"] / found["damon_hot_accesses"]


def test_the_error_of_hot_pages_grows_with_the_memory_while_the_mean_over_all_falls() -> None:
    small, large = (run(one_hot_megabyte(pages), DamonSpec(), ticks=100) for pages in (4096, 65536))
    assert small["damon_hot_accesses"] == large["damon_hot_accesses"] > 0
    assert hot_error(large) > 2 * hot_error(small)
    assert large["damon_rate_error"] / large["damon_samples"] < small["damon_rate_error"] / small["damon_samples"]


def test_more_regions_see_a_small_hot_area_better() -> None:
    guest = one_hot_megabyte(32768)
    coarse, fine = (run(guest, DamonSpec(min_nr_regions=regions), ticks=100) for regions in (10, 400))
    assert hot_error(fine) < hot_error(coarse) / 2


@pytest.mark.parametrize("kind", ["uniform", "zipf", "scan", "phases"])
def test_the_error_of_hot_pages_is_a_share(kind: str) -> None:
    guest = one_hot_megabyte(1024, kind=kind)
    assert 0 <= hot_error(run(guest, DamonSpec(samples_per_aggregation=7), "damon-paddr", ticks=60)) <= 1


def test_hot_pages_are_those_touched_in_half_of_the_samples() -> None:
    damon = Damon({0: slice(0, 6)}, key=np.uint64(5), host=0)
    damon.samples = 4
    damon.touches[:] = [4, 2, 1, 0, 3, 0]
    damon.regions = [Region(0, 4, 1), Region(4, 6, 4)]
    machine: Any = SimpleNamespace(events=[Counter()])
    damon._compare(machine)
    assert machine.events[0] == {
        "damon_rate_error": abs(4 * 1 - 7) + abs(2 * 4 - 3),
        "damon_samples": 6 * 4,
        "damon_hot_accesses": 4 + 2 + 3,
        "damon_hot_rate_error": 3 + 1 + 1,
    }


def test_a_region_grows_older_while_its_count_changes_little() -> None:
    damon = Damon({0: slice(0, 1000)}, key=np.uint64(5), host=0)
    damon.regions = [Region(0, 100, 9, age=4, last_nr_accesses=10), Region(100, 1000, 3, age=4, last_nr_accesses=0)]
    damon._grow_older(2)
    assert [region.age for region in damon.regions] == [5, 0]
    damon.regions = [Region(0, 30, 1, age=8), Region(30, 40, 1, age=4), Region(40, 1000, 9, age=2)]
    damon._merge(1)
    assert [(region.end, region.age) for region in damon.regions] == [(40, 7), (1000, 2)]
    damon._split()
    assert {region.age for region in damon.regions if region.end <= 40} == {7}


REGIONS = [Region(0, 10, age=3), Region(10, 30, age=9), Region(30, 70, age=5), Region(70, 75, 2, age=9)]


def chosen(spec: PageoutSpec) -> list[tuple[int, int]]:
    return [(region.first, region.end) for region in Damos(spec, False).choose([replace(each) for each in REGIONS])]


@pytest.mark.parametrize(
    ("spec", "regions"),
    [
        (PageoutSpec(), []),
        (PageoutSpec(min_age=3), [(10, 30), (30, 70), (0, 10)]),
        (PageoutSpec(min_age=4, max_age=8), [(30, 70)]),
        (PageoutSpec(min_age=3, min_size=20), [(10, 30), (30, 70)]),
        (PageoutSpec(min_age=3, max_size=20), [(10, 30), (0, 10)]),
        (PageoutSpec(min_age=3, min_nr_accesses=1, max_nr_accesses=2), [(70, 75)]),
        (PageoutSpec(min_age=3, quota=25), [(10, 30), (30, 35)]),
        (PageoutSpec(min_age=3, quota=20), [(10, 30)]),
        (PageoutSpec(min_age=3, quota=0), [(10, 30), (30, 70), (0, 10)]),
    ],
)
def test_a_scheme_takes_the_regions_that_fit_the_oldest_first_up_to_its_quota(
    spec: PageoutSpec, regions: list[tuple[int, int]]
) -> None:
    assert chosen(spec) == regions


def test_what_a_quota_leaves_of_a_region_keeps_its_age_and_goes_in_the_next_window() -> None:
    regions = [replace(each) for each in REGIONS]
    damos = Damos(PageoutSpec(min_age=4, quota=25, quota_window=2), False)
    assert [(each.first, each.end) for each in damos.choose(regions)] == [(10, 30), (30, 35)]
    assert [(each.end, each.age) for each in regions] == [(10, 3), (30, 0), (35, 0), (70, 5), (75, 9)]
    assert damos.choose(regions) == []
    assert [(each.first, each.end) for each in damos.choose(regions)] == [(35, 60)]


def test_watermarks_let_damon_work_between_low_and_high_once_it_was_below_mid() -> None:
    damos = Damos(PageoutSpec(), True, memory_pages=10_000)
    free = [9000, 4500, 3900, 4500, 5010, 4500, 2000, 1999, 4500]
    assert [damos.is_active(pages) for pages in free] == [False, False, True, True, False, False, True, False, False]
    assert Damos(PageoutSpec(), True).is_active(0)


@pytest.mark.parametrize("monitor", ["damon-vaddr", "damon-paddr"])
@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"mode": "proactive"},
        {"lru_gen": False},
        {"swap_device": "nvme"},
        {"clock": ClockSpec(tick_ns=10_000_000)},
        {"kernel": "6.18"},
        {"kernel": "6.1"},
    ],
    ids=str,
)
def test_cold_regions_are_paged_out(monitor: str, spec: dict[str, Any]) -> None:
    guest = replace(one_hot_megabyte(4096), nested=NestedSpec())
    settings = {"kernel": "6.12", **spec}
    host = HostSpec(guests=(guest,), ticks=200, damon=DamonSpec(pageout=EAGER), monitor=monitor, **settings)
    memories: list[Watch] = []

    def make(*arguments: Any, **options: Any) -> Watch:
        memories.append(Watch(*arguments, **options))
        return memories[0]

    found = simulate_host(host, get_policy("lockless-6.15"), seed=1, replicate=0, host=0, make_memory=make).totals()
    asynchronous = spec.get("swap_device") == "nvme"
    assert found["damos_tried"] > 0
    assert 0 <= found["damos_applied"] <= found["damos_tried"]
    assert found["pswpout"] > 2000
    assert (found["damos_applied"] == found["pswpout"]) != asynchronous
    assert found["pgsteal"] == found["pgscan"] == 0
    assert found["resident_pages"] < 2500
    if not asynchronous:
        assert 4096 - found["resident_pages"] == found["pswpout"] - found["pswpin"]
        assert any("pageout" in operation.cause for operation in memories[0].operations)
    if host.lru_gen:
        memory = memories[0]
        lruvec = memory.lruvec(0)
        seqs = range(int(lruvec["min_seq"][0]), int(lruvec["max_seq"]) + 1)
        listed = [page for seq in seqs for page in memory.generation(0, seq)]
        assert len(listed) == len(set(listed)) == int(lruvec["nr_pages"].sum())


def test_the_first_attempt_on_physical_addresses_only_marks_the_pages() -> None:
    guest = one_hot_megabyte(4096)
    damon = DamonSpec(samples_per_aggregation=10, pageout=replace(EAGER, min_age=4))
    once, twice = (run(guest, damon, "damon-paddr", ticks=ticks) for ticks in (45, 100))
    assert once["damos_tried"] > 3000
    assert once["damos_applied"] < 0.2 * once["damos_tried"]  # those that DAMON had sampled, and so marked, before
    assert twice["damos_applied"] - once["damos_applied"] > 0.5 * (twice["damos_tried"] - once["damos_tried"])
    virtual = run(guest, damon, "damon-vaddr", ticks=45)  # MADV_PAGEOUT asks nobody
    assert virtual["damos_applied"] == virtual["damos_tried"] > 3000


def test_a_scheme_that_nothing_fits_changes_nothing() -> None:
    guest = one_hot_megabyte(4096)
    alone, idle = (run(guest, DamonSpec(pageout=pageout), ticks=60) for pageout in (None, PageoutSpec()))
    assert alone == idle


def test_above_the_high_watermark_damon_does_not_even_look() -> None:
    guest = one_hot_megabyte(4096)
    found = run(guest, DamonSpec(pageout=EAGER), ticks=60, memory_pages=20_000)
    assert found["monitor_asked"] == found["damos_tried"] == 0
    assert run(guest, DamonSpec(pageout=EAGER), ticks=60, memory_pages=6_000)["damos_tried"] > 0


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: DamonSpec(min_nr_regions=2), "min_nr_regions 2: DAMON needs at least 3"),
        (lambda: DamonSpec(20, 10), "min_nr_regions 20 is more than max_nr_regions 10: lower it"),
        (lambda: DamonSpec(samples_per_aggregation=0), "samples_per_aggregation 0: an aggregation needs a sample"),
        (lambda: PageoutSpec(max_age=100), "min_age 1200 is more than max_age 100"),
        (lambda: PageoutSpec(min_nr_accesses=1), "min_nr_accesses 1 is more than max_nr_accesses 0"),
        (lambda: PageoutSpec(min_size=9, max_size=8), "min_size 9 is more than max_size 8"),
        (lambda: PageoutSpec(wmarks_low=450), "wmarks_low 450, wmarks_mid 400, wmarks_high 500: let them ascend"),
    ],
)
def test_what_the_kernel_refuses_is_refused(make: Any, why: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value).startswith(why)
