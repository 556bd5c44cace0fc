"""What a policy believes against what is true: ages, the working set, cold pages; on cases small enough to count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import ACCESS_WRITE
from coldfleet.hostsim.host import collect
from coldfleet.hostsim.memory.extras import set_up
from coldfleet.hostsim.memory.ground_truth import take_sample
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.hostsim.spec.host_spec import VmSpec
from coldfleet.policies import get_policy

PAGES = 512


class Guest:
    """A VM of one page table; ``tick`` makes the accesses of a tick, ages if asked to, and takes the sample."""

    def __init__(self, policy: str = "lockless-6.15") -> None:
        self.memory = HostMemory([Memslot(PAGES, extras=True)], KERNELS["6.12"], get_policy(policy))
        set_up(self.memory.machine, 0, VmSpec(truth=True), key=np.uint64(1), host=0, number=0)
        self.now = -1

    def tick(self, pages: range, *, age: bool = False, evict: int = 0, limit: int = PAGES) -> dict[str, int]:
        self.now += 1
        m = self.memory.machine
        m.vms[0]["tick"] = self.now
        self.memory.touch(0, np.array(pages, np.uint32) | np.uint32(ACCESS_WRITE))
        before = collect(self.memory, 0)
        if age:
            self.memory.age(0)
        if evict:
            self.memory.evict(0, int(self.memory.lruvec(0)["max_seq"]) - 2, 200, evict)
        take_sample(m, 0, limit, np.zeros(self.now + 2, np.int64))
        after = collect(self.memory, 0)
        return {name: after[name] - before[name] for name in after} | {"wrong_evictions": after["wrong_evictions"]}


def test_a_generation_that_is_right_has_no_age_error() -> None:
    guest = Guest()
    guest.tick(range(PAGES))
    for _ in range(4):
        found = guest.tick(range(100), age=True)
        assert found["too_old_ticks"] == found["too_young_ticks"] == 0
        assert found["resident_samples"] == PAGES


def test_pages_that_aging_doesn_t_see_are_thought_older_than_they_are() -> None:
    blind = Guest("evict-only")
    blind.tick(range(PAGES))
    ages = [blind.tick(range(100), age=True)["too_old_ticks"] for _ in range(4)]
    # 100 hot pages stay in the generation that they were born in, the youngest until tick 1; then it joins the next
    assert ages == [0, 100, 200, 200]


def test_pages_that_nobody_cleared_are_thought_younger_than_they_are() -> None:
    guest = Guest()
    guest.tick(range(PAGES))
    for _ in range(3):
        guest.tick(range(0))
    assert guest.tick(range(0), age=True)["too_young_ticks"] == 0
    stale = Guest("test-all-clear-tdp")
    m = stale.memory.machine
    m.mms[0]["tdp"] = 0  # every page is in the shadow MMU, whose bits this control never clears
    stale.tick(range(PAGES))
    errors = [stale.tick(range(0), age=True)["too_young_ticks"] for _ in range(3)]
    assert errors == [0, PAGES, 2 * PAGES]


def test_cold_pages_are_found_as_their_generation_becomes_evictable() -> None:
    guest = Guest()
    guest.tick(range(PAGES), limit=100)
    found = [guest.tick(range(100), age=True, limit=100) for _ in range(3)]
    assert [tick["cold_samples"] for tick in found] == [PAGES - 100] * 3
    assert [tick["cold_found"] for tick in found] == [0, PAGES - 100, PAGES - 100]
    assert [tick["cold_mistaken"] for tick in found] == [0, 0, 0]


@pytest.mark.parametrize(("policy", "mistaken"), [("lockless-6.15", 0), ("evict-only", 100)])
def test_a_blind_aging_takes_hot_pages_for_cold(policy: str, mistaken: int) -> None:
    guest = Guest(policy)
    guest.tick(range(PAGES), limit=100)
    found = [guest.tick(range(100), age=True, limit=100) for _ in range(3)]
    assert found[-1]["cold_mistaken"] == mistaken


def test_an_eviction_is_wrong_if_lru_would_have_kept_the_page() -> None:
    guest = Guest("fast-only-v6-posted")
    guest.tick(range(PAGES), limit=PAGES // 2)
    for _ in range(4):
        guest.tick(range(PAGES // 2), age=True, limit=PAGES // 2)
    cold = guest.tick(range(0), evict=PAGES // 4, limit=PAGES // 2)
    assert cold["pgsteal"] > 0
    again = guest.tick(range(PAGES), limit=PAGES // 2)
    assert again["wrong_evictions"] == 0  # what was swapped out was cold, so its refaults are right
    m = guest.memory.machine
    m.mms[0]["indirect_shadow_pages"] = 4  # now this control loses what L1 touches
    for _ in range(3):
        guest.tick(range(PAGES // 2), age=True, limit=PAGES // 2)
    guest.memory.touch(0, np.arange(PAGES // 2, dtype=np.uint32))
    lost = guest.tick(range(0), evict=PAGES // 2, limit=PAGES // 2)
    assert lost["pgsteal"] > 0
    assert guest.tick(range(PAGES // 2), limit=PAGES // 2)["wrong_evictions"] >= 0


@pytest.mark.parametrize(("policy", "lost"), [("lockless-6.15", False), ("fast-only-v6-posted", True)])
def test_the_classic_lru_asks_the_policy_s_eviction_call_and_is_held_against_the_truth(policy: str, lost: bool) -> None:
    kernel = replace(KERNELS["6.12"], lru_gen=False)
    memory = HostMemory([Memslot(PAGES, extras=True)], kernel, get_policy(policy))
    set_up(memory.machine, 0, VmSpec(truth=True), key=np.uint64(1), host=0, number=0)
    m = memory.machine
    m.mms[0]["indirect_shadow_pages"] = 4
    for tick in range(4):
        m.vms[0]["tick"] = tick
        memory.touch(0, np.arange(PAGES if tick == 0 else PAGES // 2, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
        take_sample(m, 0, PAGES // 2, np.zeros(tick + 2, np.int64))
        memory.flush_stats()
        memory.memory_reclaim(0, 64)
    found = collect(memory, 0)
    assert (found["missed_young_evict"] > 0) == lost
    assert found["young_walk"] == found["too_old_ticks"] == found["too_young_ticks"] == 0
    assert 0 < found["cold_samples"] < found["resident_samples"]
    assert 0 < found["cold_found"] < found["cold_samples"]
