"""Guests that come and go while their host runs: what they do, what they leave, and what others have of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import ACCESS_WRITE
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.memory.audit import check_memory
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot, Watermarks
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import (
    ClockSpec,
    GuestSpec,
    HostResult,
    HostSpec,
    NestedSpec,
    PageCacheSpec,
    RecordedWorkload,
    VmSpec,
    WorkloadSpec,
)
from coldfleet.hostsim.spec.huge_spec import HugePageSpec
from coldfleet.policies import get_policy

CLOCK = ClockSpec(tick_ns=10_000_000)
MARKS = Watermarks(low=120, high=160, goal=160, min=80)
WEB = GuestSpec("web", 1024, limit_pages=700, accesses_per_tick=1500, workload=WorkloadSpec(write_share=0.3))


def simulate(*guests: GuestSpec, audit: bool = True, **options: Any) -> HostResult:
    spec = HostSpec("6.12", guests, **{"ticks": 8, **options})
    return simulate_host(spec, get_policy("locked-6.12"), seed=1, replicate=0, host=0, audit=audit)


@pytest.mark.parametrize(
    "guest",
    [
        WEB,
        replace(WEB, nested=NestedSpec(start_tick=2, stop_tick=4), own_pages=3),
        replace(WEB, page_cache=PageCacheSpec(300, mmap_share=0.5, write_share=0.3), limit_pages=900),
        replace(WEB, vm=VmSpec(truth=True, device_share=0.1, subscribers=("kvm", "slow device"), numa_zap_share=0.5)),
        replace(WEB, workload=WorkloadSpec("phases", phase_ticks=2)),
        replace(WEB, workload=WorkloadSpec("stack")),
    ],
    ids=["web", "nested", "file", "extras", "phases", "stack"],
)
def test_a_guest_that_comes_later_does_then_what_it_would_have_done_from_the_start(guest: GuestSpec) -> None:
    """In memory of its own, by a load that knows no time of day, and where the flusher comes in the same ticks."""
    before, after = simulate(guest, ticks=5).guests[0], simulate(replace(guest, arrives=4), ticks=9).guests[0]
    assert after.access_hash == before.access_hash
    known = {"resident_page_ticks", "kernel_page_ticks", "pool_page_ticks"}  # tick 0 is not counted
    assert {name for name, n in after.counters.items() if n != before.counters[name]} <= known


def test_who_was_there_and_left_has_changed_nothing_for_a_neighbour_under_its_own_limit() -> None:
    alone = simulate(WEB).guests[0]
    beside = simulate(WEB, replace(WEB, name="batch", arrives=2, leaves=5)).guests[0]
    assert beside == alone


@pytest.mark.parametrize("limit", [25, 38])
def test_who_is_killed_as_it_arrives_is_charged_nothing(limit: int) -> None:
    """39 pages of kernel memory, and 17 pages of its own that it would write to if it lived."""
    guest = GuestSpec("g0", 64, limit, own_pages=17, kernel_pages=39, arrives=2)
    killed = simulate(guest, ticks=5).guests[0]
    assert (killed.oom_reason, killed.oom_tick) == ("memcg", 2)
    assert killed.counters["accesses"] == killed.counters["pgfault"] == 0


@pytest.mark.parametrize("clock", [None, CLOCK])
@pytest.mark.parametrize("lru_gen", [True, False])
def test_one_after_another_fits_where_two_together_do_not(clock: ClockSpec | None, lru_gen: bool) -> None:
    """A host without swap, with room for one guest and a half."""
    host: dict[str, Any] = {"mode": "host", "memory_pages": 1700, "swap_device": "none", "clock": clock}
    guests = [replace(WEB, limit_pages=0, name=f"g{n}", arrives=3 * n, leaves=3 * n + 3) for n in range(3)]
    after = simulate(*guests, ticks=9, lru_gen=lru_gen, epochs=1, **host)
    assert [guest.oom_reason for guest in after.guests] == ["", "", ""]
    assert [epoch.guests for epoch in after.epochs] == [1] * 8 + [0]
    assert after.epochs[-1].free_pages == 1700
    assert after.totals()["resident_pages"] == 0
    together = simulate(*(replace(guest, leaves=9) for guest in guests), ticks=9, lru_gen=lru_gen, **host)
    assert {guest.oom_reason for guest in together.guests} == {"", "host"}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("lru_gen", [True, False])
@pytest.mark.parametrize("killed", [True, False])
def test_nothing_is_left_of_a_guest_not_even_of_its_file(kernel: str, lru_gen: bool, killed: bool) -> None:
    features = replace(KERNELS[kernel], lru_gen=lru_gen)
    slots = [Memslot(1024, own_pages=3, file_pages=300), Memslot(1024)]
    options: dict[str, Any] = {"free_pages": 1500, "watermarks": MARKS, "swap_pages": 0 if killed else 900}
    memory = HostMemory(slots, features, get_policy("locked-6.12"), async_swap=True, **options)
    memory.touch_own(0)
    memory.access_file(0, np.arange(300, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    memory.flush()
    for guest in (0, 1):
        memory.touch(guest, np.arange(1024, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    assert any(memory.oom_reason(guest) for guest in (0, 1)) == killed
    for guest in (0, 1):
        memory.leave(guest)
        memory.drain()
        check_memory(memory)
        memory.touch(guest, np.arange(9, dtype=np.uint32))  # who is gone does nothing
    node = memory.machine.node[0]
    assert (node["free_pages"], node["free_slots"]) == (1500, options["swap_pages"])
    assert memory.machine.parent[0]["charged"] == 0
    assert (memory.machine.pages["shadow"] == 0).all()


@pytest.mark.parametrize("clock", [None, CLOCK])
def test_reclaim_makes_room_for_a_guest_that_comes_into_a_full_host(clock: ClockSpec | None) -> None:
    host: dict[str, Any] = {"mode": "host", "memory_pages": 2600, "clock": clock, "epochs": 1, "ticks": 12}
    guests = [replace(WEB, limit_pages=0, name=f"g{n}", arrives=arrives) for n, arrives in enumerate((0, 0, 4))]
    epochs = simulate(guests[0], guests[1], replace(guests[2], leaves=9), **host).epochs
    swapped = [epoch.counters["pswpout"] for epoch in epochs]
    assert swapped[2] == 0 < swapped[3]
    assert epochs[7].free_pages < 300 < 700 < epochs[8].free_pages


def test_populating_takes_time_and_is_no_batch_of_the_workload() -> None:
    """What of its time is lost to reclaim is known nevertheless: without reclaim it is nothing."""
    late = replace(WEB, limit_pages=0, arrives=2, leaves=7, vcpus=2, accesses_per_tick=1024)
    counters = simulate(late, clock=CLOCK).guests[0].counters
    busy = {name: n for name, n in counters.items() if name in ("run_ns", "fault_stall_ns")}
    assert counters["accesses"] == 1024 * 5
    assert counters["batches"] == 4
    assert busy["run_ns"] == 5 * 1024 * CLOCK.access_ns
    assert busy["fault_stall_ns"] > 1024 * 100
    assert counters["unreclaimed_ns"] == pytest.approx(sum(busy.values()), rel=0.01)
    assert counters["idle_ns"] == 5 * 2 * CLOCK.tick_ns - sum(busy.values())


def test_vcpus_that_are_not_there_use_no_cpu() -> None:
    """Two guests in turn have as much time on one CPU as one alone."""
    busy = replace(WEB, limit_pages=0, accesses_per_tick=9000)
    first, second = (
        replace(busy, name=name, arrives=arrives, leaves=leaves) for name, arrives, leaves in (("a", 0, 4), ("b", 4, 8))
    )
    clock = replace(CLOCK, pcpus=1)
    alone = simulate(first, clock=clock).guests[0]
    in_turn = simulate(first, second, clock=clock).guests
    assert in_turn[0] == alone
    assert in_turn[1].counters["steal_ns"] == 0


@pytest.mark.parametrize("load", ["diurnal", "table", "bursts"])
def test_a_load_by_the_time_of_day_does_not_ask_when_the_guest_came(load: str) -> None:
    table = (0.0, 1.0, 3.0, 1.0) if load == "table" else ()
    day = WorkloadSpec("uniform", load=load, load_ticks=8, load_swing=1.0, load_phase=0.25, load_table=table)
    early = replace(WEB, workload=day, accesses_per_tick=1000)

    def accesses(guest: GuestSpec) -> list[int]:
        made = [epoch.counters["accesses"] for epoch in simulate(guest, ticks=16, epochs=1).epochs]
        return np.diff(made).tolist()

    assert accesses(replace(early, arrives=5))[5:] == pytest.approx(accesses(early)[5:], abs=1)  # in whole accesses


@pytest.mark.parametrize("monitor", ["idle", "khugepaged", "damon-vaddr", "damon-paddr"])
@pytest.mark.parametrize("clock", [None, CLOCK])
def test_access_monitors_look_at_those_who_are_there(monitor: str, clock: ClockSpec | None) -> None:
    first, short, late = (replace(WEB, arrives=arrives, leaves=leaves) for arrives, leaves in ((0, 3), (2, 5), (5, 0)))
    at_5, at_12 = (simulate(first, short, late, monitor=monitor, clock=clock, ticks=ticks) for ticks in (5, 12))
    before, after = ([guest.counters["monitor_asked"] for guest in result.guests] for result in (at_5, at_12))
    assert before[:2] == after[:2]
    assert 0 < after[0] < after[2]


def test_khugepaged_gives_its_time_to_those_who_are_there() -> None:
    guest = replace(WEB, memory_pages=2048, limit_pages=0, huge_pages="always")
    options: dict[str, Any] = {"mode": "host", "memory_pages": 3000, "huge_pages": HugePageSpec(khugepaged=True)}
    for clock in (None, CLOCK):
        result = simulate(replace(guest, leaves=4), replace(guest, name="b", arrives=2), clock=clock, **options)
        assert result.guests[0].counters["anon_huge_pages"] == 0
        assert result.guests[0].counters["thp_fault_alloc"] > 0


def test_an_audit_changes_nothing_and_ticks_in_one_go_are_as_good_as_one_by_one() -> None:
    guests = (WEB, replace(WEB, name="a", arrives=3, leaves=9), replace(WEB, name="b", arrives=9, vcpus=2))
    for options in ({}, {"epochs": 5}, {"mode": "proactive", "page_cluster": 3, "swap_device": "nvme"}):
        runs = [simulate(*guests, clock=CLOCK, ticks=16, audit=audit, **options) for audit in (True, False)]
        assert runs[0] == runs[1]
    assert [epoch.tick for epoch in simulate(*guests, clock=CLOCK, ticks=16, epochs=5).epochs] == [5, 10, 15, 16]


LIVES = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 8)), min_size=1, max_size=5)


@settings(max_examples=25, deadline=None, database=None, derandomize=True)
@given(lives=LIVES, clock=st.sampled_from([None, CLOCK]), sample=st.sampled_from([1, 1, 2]))
def test_guests_are_conserved_and_little_is_right(
    lives: list[tuple[int, int]], clock: ClockSpec | None, sample: int
) -> None:
    """The mean number of guests is the rate at which they come times the mean of how long they stay; and each epoch has
    those who came before it, less those who left."""
    guests = [
        replace(WEB, name=f"g{n}", memory_pages=4096, arrives=arrives, leaves=arrives + stays if stays else 0)
        for n, (arrives, stays) in enumerate(lives)
    ]
    guests = [replace(guest, leaves=guest.leaves if guest.leaves <= 12 else 0, limit_pages=3000) for guest in guests]
    result = simulate(*guests, ticks=12, clock=clock, sample=sample, epochs=1)
    stays = sum(len(guest.life(12)) - (guest.arrives == 0) for guest in guests)
    assert sum(epoch.guests for epoch in result.epochs) == stays
    for epoch in result.epochs:
        come = sum(guest.arrives <= epoch.tick for guest in guests)
        gone = sum(0 < guest.leaves <= epoch.tick for guest in guests)
        assert (epoch.guests, epoch.guest_pages) == (come - gone, 4096 * (come - gone))


def test_a_scenario_has_its_guests_from_the_start_to_the_end() -> None:
    guest = GuestSpec("g", 512, kind="vm", recorded=RecordedWorkload("zipf"), accesses_per_tick=100, leaves=3)
    with pytest.raises(UserError, match="leave out arrives and leaves"):
        simulate(guest, scenario=True)
