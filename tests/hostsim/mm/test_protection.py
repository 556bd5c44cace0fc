"""memory.min, memory.low and memory.high: whom reclaim spares, against a plain model; and what a host makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import ACCESS_WRITE, PARENT_MEMCG, TASK
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.hostsim.mm import kswapd, protection
from coldfleet.hostsim.spec.host_spec import ClockSpec, GuestSpec, HostResult, HostSpec
from coldfleet.policies import get_policy
from tests.reference.protection import Memcg, effective, is_spared, part_to_scan

PAGES = 1024
COUNTS = st.integers(0, 5000)
ALL_KERNELS = [*KERNELS, "classic"]
KERNEL_PAGES = 128  # more than its page tables, and what is charged in advance, take


def trees(depth: int) -> st.SearchStrategy[Memcg]:
    """A memcg uses what its children use, and maybe something itself."""
    children = st.lists(trees(depth - 1), max_size=4) if depth else st.just([])
    return st.builds(
        lambda own, setting, below: Memcg(own + sum(each.usage for each in below), setting, below),
        COUNTS,
        st.one_of(st.just(0), COUNTS),
        children,
    )


def memory_of(parent: Memcg, with_parent: bool, recursive: bool) -> HostMemory:
    """Guests whose memcgs use and were given what the parent's children do."""
    slots = [Memslot(PAGES, kvm=False, low_pages=each.setting, min_pages=each.setting // 2) for each in parent.children]
    memory = HostMemory(
        slots,
        KERNELS["6.18"],
        get_policy("lockless-6.15"),
        parent_protection=(parent.setting // 2, parent.setting) if with_parent else None,
        recursive_protection=recursive,
    )
    for mm, each in zip(memory.machine.mms, parent.children, strict=True):
        mm["charged"] = each.usage
    memory.machine.parent[0]["charged"] = parent.usage
    return memory


def halved(parent: Memcg) -> Memcg:
    """The tree of memory.min, where every memory.min is half of the memory.low."""
    children = [halved(each) for each in parent.children]
    return Memcg(parent.usage, parent.setting // 2, children)


@settings(deadline=None, max_examples=60)
@given(trees(1).filter(lambda tree: tree.children), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_the_engine_spares_and_scans_as_the_plain_model(
    parent: Memcg, with_parent: bool, recursive: bool, of_host: bool, even_low: bool
) -> None:
    memory = memory_of(parent, with_parent, recursive)
    m = memory.machine
    least = halved(parent)
    lows, mins = (
        effective(Memcg(0, 0, [tree]) if of_host and with_parent else tree, recursive) for tree in (parent, least)
    )
    for g, (low, min_) in enumerate(zip(parent.children, least.children, strict=True)):
        protection.calculate_protection(m, g, of_host)
        mm = m.mms[g]
        found = int(mm["effective_min"]), int(mm["effective_low"])
        assert found == (mins[id(min_)], lows[id(low)])
        reclaim = m.reclaim[TASK]
        reclaim["root"], reclaim["low_reclaim"], reclaim["target"] = of_host, even_low, PARENT_MEMCG
        if m.node[0]["protection"]:
            assert protection._may_reclaim(m, g, reclaim) != is_spared(low.usage, *found, even_low)
            expected = part_to_scan(low.usage, low.usage, *found, even_low)
            assert protection._unprotected_part(m, g, low.usage, reclaim) == expected


@settings(deadline=None, max_examples=200)
@given(trees(4), st.booleans())
def test_no_more_is_effective_below_a_memcg_than_in_it(root: Memcg, recursive: bool) -> None:
    """And the engine's rule, memcg by memcg, is the plain model's at any depth."""
    one_by_one: Any = protection.effective_protection
    one_by_one = one_by_one.py_func
    found = effective(root, recursive)
    below = list(root.children)
    while below:
        parent = below.pop()
        claims = sum(min(each.usage, each.setting) for each in parent.children)
        for each in parent.children:
            share = one_by_one(each.usage, parent.usage, each.setting, found[id(parent)], claims, recursive)
            assert share == found[id(each)]
            assert recursive or share <= min(each.usage, each.setting)
        assert sum(found[id(each)] for each in parent.children) <= found[id(parent)]
        below += parent.children


def simulate(kernel: str, guests: tuple[GuestSpec, ...], **options: Any) -> HostResult:
    """A host under audit that has three quarters of what its guests need, zram's pool included."""
    name = "6.12" if kernel == "classic" else kernel
    needed = sum(guest.memory_pages for guest in guests)
    spec = HostSpec(name, guests, ticks=6, mode="host", memory_pages=needed * 3 // 4, lru_gen=kernel != "classic")
    spec = replace(spec, **options)
    return simulate_host(spec, get_policy(KERNELS[name].policy), seed=1, replicate=0, host=0, audit=True)


def guest(name: str, **options: Any) -> GuestSpec:
    return GuestSpec(name, 4 * PAGES, accesses_per_tick=4 * PAGES, **options)


@pytest.mark.parametrize("kernel", ALL_KERNELS)
@pytest.mark.parametrize("clock", [None, ClockSpec()])
def test_a_guest_keeps_its_memory_min_while_others_pay(kernel: str, clock: ClockSpec | None) -> None:
    spared, other = simulate(kernel, (guest("a", min_pages=3 * PAGES), guest("b")), clock=clock).guests
    assert spared.counters["resident_pages"] >= 3 * PAGES - 128
    assert other.counters["resident_pages"] < 3 * PAGES
    assert not spared.oom_reason
    assert not other.oom_reason


@pytest.mark.parametrize("kernel", ALL_KERNELS)
def test_nothing_can_be_reclaimed_below_everybodys_memory_min(kernel: str) -> None:
    everything = 4 * PAGES + KERNEL_PAGES
    result = simulate(kernel, (guest("a", min_pages=everything), guest("b", min_pages=everything)))
    assert sorted(each.oom_reason for each in result.guests) == ["", "host"]
    assert all(each.counters["pgsteal"] == 0 for each in result.guests)


@pytest.mark.parametrize("kernel", ALL_KERNELS)
def test_below_everybodys_memory_low_reclaim_goes_on_and_is_counted(kernel: str) -> None:
    """The classic kswapd, and that of 6.1, never goes below memory.low: then tasks do, below the min watermark."""
    result = simulate(kernel, (guest("a", low_pages=4 * PAGES), guest("b", low_pages=4 * PAGES)))
    assert not any(each.oom_reason for each in result.guests)
    assert all(each.counters["low_events"] > 0 for each in result.guests)


@pytest.mark.parametrize("kernel", ["6.1", "classic"])
def test_a_guest_keeps_its_memory_low_while_others_have_something_to_give(kernel: str) -> None:
    spared, other = simulate(kernel, (guest("a", low_pages=3 * PAGES), guest("b"))).guests
    assert spared.counters["low_events"] == 0
    assert spared.counters["resident_pages"] >= 3 * PAGES - 128 > other.counters["resident_pages"]


@pytest.mark.parametrize("kernel", ["6.12", "6.16", "6.18", "7.3"])
def test_to_kswapd_with_a_memcg_lru_memory_low_is_only_a_place_behind_the_others(kernel: str) -> None:
    """What comes first does not give enough at once, so that its turn comes in the same pass."""
    spared, other = simulate(kernel, (guest("a", low_pages=3 * PAGES), guest("b"))).guests
    assert spared.counters["low_events"] > 0
    assert other.counters["low_events"] == 0
    assert spared.counters["resident_pages"] < 3 * PAGES - 128


@pytest.mark.parametrize("kernel", ALL_KERNELS)
@pytest.mark.parametrize("kind", ["vm", "process"])
def test_a_guest_above_memory_high_reclaims_itself(kernel: str, kind: str) -> None:
    (result,) = simulate(kernel, (guest("a", kind=kind, high_pages=2 * PAGES),), mode="limit", memory_pages=0).guests
    assert result.counters["high_events"] > 0
    assert result.counters["limit_hits"] == result.counters["high_delay_ns"] == 0
    assert PAGES < result.counters["resident_pages"] <= 2 * PAGES + 64


@pytest.mark.parametrize("kernel", ["6.12", "classic"])
def test_a_guest_that_cannot_reclaim_sleeps_for_memory_high(kernel: str) -> None:
    options: dict[str, Any] = {"mode": "limit", "memory_pages": 0, "swap_device": "none", "clock": ClockSpec()}
    high = guest("a", high_pages=2 * PAGES, page_cache=None)
    (result,) = simulate(kernel, (replace(high, accesses_per_tick=1),), **options).guests
    assert result.counters["resident_pages"] == 4 * PAGES
    assert result.counters["high_delay_ns"] > 0
    assert not result.oom_reason


def test_a_killed_guest_protects_nothing_and_own_limits_know_no_protection() -> None:
    slot = Memslot(PAGES, max_pages=PAGES // 2, min_pages=PAGES, low_pages=PAGES, kvm=False)
    memory = HostMemory([slot], KERNELS["6.12"], get_policy("locked-6.12"), swap_pages=PAGES // 4)
    memory.touch(0, np.arange(PAGES // 2, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    assert memory.events(0)["pgsteal"] > 0
    assert memory.events(0)["low_events"] == 0
    memory.touch(0, np.arange(PAGES, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    assert memory.oom_reason(0) == "memcg"
    assert (memory.machine.mms[0]["memory_min"], memory.machine.mms[0]["memory_low"]) == (0, 0)


def test_a_memory_high_that_is_never_reached_changes_nothing() -> None:
    plain = simulate("6.18", (guest("a"), guest("b")))
    high = simulate("6.18", (guest("a", high_pages=4 * PAGES + 100), guest("b")))
    assert [each.counters for each in plain.guests] == [each.counters for each in high.guests]


def test_only_who_was_passed_over_for_memory_low_has_a_second_turn() -> None:
    memory = HostMemory([Memslot(PAGES, kvm=False, low_pages=600)], KERNELS["6.12"], get_policy("locked-6.12"))
    m = memory.machine
    m.mms[0]["charged"] = 700
    assert kswapd._has_turn(m, 0, False)
    m.mms[0]["charged"] = 500  # what its turn left
    assert not kswapd._has_turn(m, 0, True)
    assert not kswapd._has_turn(m, 0, False)  # the next pass
    assert kswapd._has_turn(m, 0, True)
    assert int(memory.events(0)["low_events"]) == 1
