"""What happens when memory runs out: who is killed, when, why, and what that frees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import ACCESS_WRITE, PTRS_PER_PTE
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.memory.audit import check_memory
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot, Watermarks
from coldfleet.hostsim.mm.oom_kill import oom_badness
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import ClockSpec, CompressionSpec, GuestSpec, HostResult, HostSpec
from coldfleet.policies import Enter, get_policy, policy

UPPER_LEVELS = 2
TRIES = 35  # failed charges of a process that is killed for its own: memory.events max of k6.12 and k6.18 fmixs0 limit
CLOCK = ClockSpec()


def memory_of(slots: list[Memslot], kernel: str = "6.12", **options: Any) -> HostMemory:
    return HostMemory(slots, KERNELS[kernel], get_policy(KERNELS[kernel].policy), **options)


def write(memory: HostMemory, guest: int, first: int, end: int) -> None:
    memory.touch(guest, np.arange(first, end, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    memory.drain()
    check_memory(memory)


def reasons(memory: HostMemory) -> list[str]:
    return [memory.oom_reason(guest) for guest in range(len(memory.machine.mms))]


def simulate(guests: int = 2, pages: int = 1024, limit: int = 0, **options: Any) -> HostResult:
    """Guests that are alike, under audit."""
    slots = tuple(GuestSpec(f"g{number}", pages, limit_pages=limit, accesses_per_tick=4096) for number in range(guests))
    spec = replace(HostSpec("6.12", slots, ticks=5), **options)
    return simulate_host(spec, get_policy("locked-6.12"), seed=1, replicate=0, host=0, audit=True)


# The recordings.
@pytest.mark.parametrize("kernel", ["6.12", "6.18"])
def test_swappiness_0_under_memory_max_kills_while_swap_is_free(kernel: str) -> None:
    """fmixs0 limit: 8,192 anonymous pages, memory.max 8,192, a file, 2 GiB of swap. It dies as it populates."""
    slot = Memslot(8192, max_pages=8192, file_pages=8192, kvm=False, swappiness=0)
    memory = memory_of([slot], kernel, swap_pages=2 << 18)
    write(memory, 0, 0, 8192)
    events = memory.events(0)
    assert reasons(memory) == ["memcg"]
    assert (events["oom_kills"], events["limit_hits"], events["pswpout"]) == (1, TRIES, 0)
    assert memory.machine.node[0]["free_slots"] == 2 << 18
    memory.access_file(0, np.arange(8, dtype=np.uint32))
    assert events["cached_pages"] == 0


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "6.18"])
@pytest.mark.parametrize("min_ttl_ms", [0, 1000])
def test_min_ttl_kills_under_kswapd(kernel: str, min_ttl_ms: int) -> None:
    """globttl: 65,536 pages on a host of 240 MiB; with min_ttl_ms it dies as it populates, with 120 to 136 MB of it."""
    zone = Watermarks(low=513, high=615, goal=664, min=411)  # DMA32 of k6.12_globttl1000; DMA gives 3,550 more
    memory = memory_of([Memslot(65536, kvm=False)], kernel, free_pages=37271, watermarks=zone, min_ttl_ms=min_ttl_ms)
    for first in range(0, 65536, 4096):
        write(memory, 0, first, first + 4096)
    resident_mb = int(memory.events(0)["accesses"]) * 4096 / 1e6
    assert reasons(memory) == ["min_ttl" if min_ttl_ms else ""]
    assert 120 < resident_mb < 152 if min_ttl_ms else resident_mb > 260


@pytest.mark.parametrize("kernel", KERNELS)
def test_min_ttl_does_nothing_in_reclaim_of_a_memcg(kernel: str) -> None:
    """hostttl1000 equals hostttl0."""
    seen = []
    for min_ttl_ms in (0, 1000):
        memory = memory_of([Memslot(4096, max_pages=2048)], kernel, min_ttl_ms=min_ttl_ms)
        write(memory, 0, 0, 4096)
        memory.memory_reclaim(0, 500)
        seen.append(memory.events(0).tolist())
    assert seen[0] == seen[1]


# Swap that is full, or absent.
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("slots", "fits"), [(0, 700), (300, 700 + 300 - 64), (2000, 1536)])
def test_a_guest_has_its_limit_and_the_swap(kernel: str, slots: int, fits: int) -> None:
    """MGLRU leaves anonymous pages alone with fewer than 64 slots."""
    memory = memory_of([Memslot(1536, max_pages=700, kvm=False)], kernel, swap_pages=slots)
    write(memory, 0, 0, 1536)
    made = int(memory.events(0)["accesses"])
    assert reasons(memory) == ["memcg" if fits < 1536 else ""]
    assert fits - 70 <= made <= fits + 64
    if fits < 1536:
        assert memory.machine.node[0]["free_slots"] == slots
        assert memory.machine.mms[0]["charged"] == 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_classic_lru_uses_every_slot(kernel: str) -> None:
    features = replace(KERNELS[kernel], lru_gen=False)
    memory = HostMemory(
        [Memslot(1536, max_pages=700, kvm=False)], features, get_policy(features.policy), swap_pages=300
    )
    write(memory, 0, 0, 1536)
    assert reasons(memory) == ["memcg"]
    assert memory.events(0)["pswpout"] == 300


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_page_that_comes_back_gives_its_slot_to_another(kernel: str) -> None:
    memory = memory_of([Memslot(1200, max_pages=800)], kernel, swap_pages=600)
    for _ in range(5):
        write(memory, 0, 0, 1200)
    assert reasons(memory) == [""]
    assert memory.events(0)["pswpout"] > 1200


@pytest.mark.parametrize("kernel", KERNELS)
def test_pages_in_memory_lose_their_slots_when_swap_is_half_full(kernel: str) -> None:
    """Read in from an asynchronous device a page keeps its slot; then nobody else has it."""
    seen = []
    for slots in (450, 4000):
        memory = memory_of([Memslot(1200)], kernel, async_swap=True, swap_pages=slots)
        write(memory, 0, 0, 1200)
        memory.memory_reclaim(0, 300)
        memory.complete_io()
        memory.memory_reclaim(0, 300)
        memory.touch(0, np.arange(1200, dtype=np.uint32))
        check_memory(memory)
        seen.append(slots - int(memory.machine.node[0]["free_slots"]))
    assert seen[0] <= 225 < seen[1]


# The victim.
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_host_kills_whom_it_gains_most_from_of_equal_ones_the_last(kernel: str) -> None:
    marks = Watermarks(low=120, high=160, goal=160, min=80)
    memory = memory_of(
        [Memslot(1024, kvm=False) for _ in range(4)], kernel, free_pages=2600, watermarks=marks, swap_pages=0
    )
    write(memory, 0, 0, 900)
    write(memory, 1, 0, 700)
    write(memory, 2, 0, 700)
    write(memory, 3, 0, 1024)
    assert reasons(memory) == ["host", "", "", ""]
    assert memory.events(3)["allocstall"] > 0
    write(memory, 0, 0, 900)  # the dead do nothing
    assert memory.events(0)["accesses"] == 900
    write(memory, 1, 700, 1024)
    write(memory, 2, 700, 1024)
    assert reasons(memory) == ["host", "", "", "host"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_below_a_parent_who_is_in_swap_counts_too(kernel: str) -> None:
    memory = memory_of([Memslot(1024), Memslot(1024)], kernel, parent_max_pages=1200, swap_pages=400)
    write(memory, 0, 0, 800)
    memory.memory_reclaim(0, 330)
    tables = -(-800 // PTRS_PER_PTE) + UPPER_LEVELS
    assert oom_badness(memory.machine, 0) == 800 + tables
    write(memory, 1, 0, 1024)
    assert sorted(reasons(memory)) == ["", "parent"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_killed_guest_leaves_only_the_page_cache_of_its_file_until_that_is_reclaimed(kernel: str) -> None:
    marks = Watermarks(low=60, high=80, goal=80, min=40)
    slots = [Memslot(2048, own_pages=3, file_pages=600, swappiness=0), Memslot(512, swappiness=0, file_pages=3000)]
    memory = memory_of(slots, kernel, free_pages=1800, watermarks=marks)
    memory.touch_own(0)
    memory.access_file(0, np.arange(300, dtype=np.uint32))
    write(memory, 1, 0, 512)
    write(memory, 0, 0, 2048)
    assert reasons(memory) == ["host", ""]
    cached = int(memory.events(0)["cached_pages"])
    mm = memory.machine.mms[0]
    assert (memory.resident(0), mm["charged"], mm["kernel_pages"]) == (0, cached, 0)
    memory.access_file(0, np.arange(300, 600, dtype=np.uint32))
    assert memory.events(0)["cached_pages"] == cached
    memory.access_file(1, np.arange(3000, dtype=np.uint32))
    check_memory(memory)
    assert memory.events(0)["cached_pages"] < max(cached, 1)


# Whole hosts.
@pytest.mark.parametrize("clock", [None, CLOCK])
def test_swappiness_0_and_no_file_ends_in_oom_not_in_free_memory(clock: ClockSpec | None) -> None:
    """Two guests of 1,024 pages on a host with room for one and a half."""
    result = simulate(mode="host", memory_pages=1500, swappiness=0, clock=clock, epochs=1)
    assert [(guest.oom_tick, guest.oom_reason) for guest in result.guests] == [(0, "host"), (-1, "")]
    assert [guest.counters["oom_kills"] for guest in result.guests] == [1, 0]
    assert result.totals()["pswpout"] == 0
    assert all(0 <= epoch.free_pages <= 1500 for epoch in result.epochs)


@pytest.mark.parametrize("clock", [None, CLOCK])
@pytest.mark.parametrize("device", ["zram", "nvme", "none"])
def test_incompressible_pages_save_nothing(clock: ClockSpec | None, device: str) -> None:
    """What zram stores as it is takes the host's memory; another device holds it."""
    compression = CompressionSpec(incompressible_share=1.0)
    result = simulate(mode="host", memory_pages=1500, swap_device=device, compression=compression, clock=clock)
    assert result.totals()["oom_kills"] == (device != "nvme")


def test_what_a_policy_never_finds_old_cannot_be_reclaimed() -> None:
    """Accessed bits that are only tested stay: every page is young for ever."""
    names = {"summary": "", "source": "", "date": "", "status": ""}
    never = policy("never", **names, steps=("test tdp",), walk="", look_around="", evict="test", enter=Enter.YOUNG)  # type: ignore[arg-type]
    spec = HostSpec("6.12", (GuestSpec("g", 1024, limit_pages=700, accesses_per_tick=1),), ticks=1)
    result = simulate_host(spec, never, seed=1, replicate=0, host=0, audit=True)
    assert result.guests[0].oom_reason == "memcg"


@pytest.mark.parametrize("pages", [700, 1000])
def test_no_guest_is_above_its_limit(pages: int) -> None:
    for guest in simulate(limit=pages).guests:
        assert pages - 100 < guest.counters["resident_pages"] <= pages


def test_a_limited_pool_and_a_limited_device_end_alike() -> None:
    for options in ({"pool_pages": 20}, {"swap_pages": 100}):
        assert simulate(mode="host", memory_pages=1500, **options).totals()["oom_kills"] == 1


def test_min_ttl_on_a_clock_needs_one_and_spares_what_is_old() -> None:
    with pytest.raises(UserError, match="without a clock"):
        simulate(mode="host", memory_pages=1800, min_ttl_ms=1)
    kept, killed = (
        simulate(mode="host", memory_pages=1800, clock=CLOCK, ticks=12, min_ttl_ms=ms) for ms in (5, 3_600_000)
    )
    assert kept.totals()["oom_kills"] == 0
    assert [guest.oom_reason for guest in killed.guests] == ["", "min_ttl"]
    assert killed.guests[1].oom_tick > 0  # populating took no time, and is old


def test_a_sampled_guest_dies_if_one_of_its_parts_does() -> None:
    guest = GuestSpec("g", 1 << 14, limit_pages=1 << 13, accesses_per_tick=1 << 14)
    for swap_pages, killed in ((1, 1), (1 << 15, 0)):
        spec = HostSpec("6.12", (guest, guest), ticks=2, sample=2, swap_pages=swap_pages)
        result = simulate_host(spec, get_policy("locked-6.12"), seed=1, replicate=0, host=0, audit=True)
        assert [each.counters["oom_kills"] for each in result.guests] == [killed, killed]
        assert {each.oom_reason for each in result.guests} == {"memcg" if killed else ""}


def test_a_killed_guest_is_idle_and_not_late() -> None:
    result = simulate(mode="host", memory_pages=1500, swappiness=0, clock=CLOCK)
    dead, alive = (guest.counters for guest in result.guests)
    assert dead["behind_ticks"] == alive["behind_ticks"] == 0
    assert dead["idle_ns"] == 5 * CLOCK.tick_ns
    assert alive["run_ns"] > 0
