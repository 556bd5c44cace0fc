"""Watching changes nothing, and what is seen of a page is what the reference model says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_PAGE, ACCESS_WRITE
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.hostsim.memory.watch import Instant, PageWatch, Seen, Watch
from coldfleet.hostsim.spec.host_spec import (
    ClockSpec,
    GuestSpec,
    HostSpec,
    NestedSpec,
    PageCacheSpec,
    VmSpec,
    WorkloadSpec,
)
from coldfleet.policies import get_policy
from tests.reference import ReferenceHost
from tests.reference.folio import Folio

PAGES = 1024
LIMIT = 640
TICKS = 6
FOLLOWED = 20

GUESTS = {
    "plain": GuestSpec("g", PAGES, LIMIT, 4096),
    "nested": GuestSpec("g", PAGES, LIMIT, 4096, nested=NestedSpec(stop_tick=3)),
    "process": GuestSpec("g", PAGES, LIMIT, 4096, kind="process"),
    "file": GuestSpec("g", PAGES, LIMIT, 4096, page_cache=PageCacheSpec(300, mmap_share=0.5)),
    "extras": GuestSpec(
        "g", PAGES, LIMIT, 4096, nested=NestedSpec(), vm=VmSpec(numa_zap_share=0.5, tlb_hit=0.5, truth=True)
    ),
    "l1 shadows": GuestSpec("g", PAGES, LIMIT, 4096, nested=NestedSpec(), vm=VmSpec(l1_shadow_paging=True)),
}


CLOCKS = {"replay": None, "timed": ClockSpec(tick_ns=3_000_000, batch=300)}


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("mode", ["limit", "proactive", "debugfs", "host"])
@pytest.mark.parametrize("name", GUESTS)
def test_watching_changes_nothing(name: str, mode: str, clock: str) -> None:
    guests = (GUESTS[name], GUESTS["plain"])
    spec = HostSpec("6.12", guests, TICKS, mode=mode, aging_every_ticks=2, clock=CLOCKS[clock])
    spec = replace(spec, memory_pages=2 * LIMIT if mode == "host" else 0)
    policy = get_policy("six-steps")
    expected = simulate_host(spec, policy, seed=3, replicate=0, host=0)
    made: list[Watch] = []

    def keep(watch: Watch) -> HostMemory:
        made.append(watch)
        return watch

    for make in (lambda *a, **o: keep(Watch(*a, **o)), lambda *a, **o: keep(PageWatch(0, [1, 500], *a, **o))):
        assert simulate_host(spec, policy, seed=3, replicate=0, host=0, make_memory=make) == expected
    for watch in made:
        for g, guest in enumerate(expected.guests):
            for counter in ("pgsteal", "agings", "pgmajfault"):
                assert (
                    sum(s.changes.get(counter, 0) for s in watch.operations if s.guest == g) == guest.counters[counter]
                )
    assert isinstance(made[1], PageWatch)
    counters = expected.guests[0].counters
    assert len(made[1].evictions) == counters["pgsteal"] - counters["pgsteal_file"] or name in ("file", "extras")


class Change(NamedTuple):
    """What changed at a page, as either model saw it; without the truth, which the reference model doesn't know."""

    when: Instant
    before: tuple[object, ...]
    after: tuple[object, ...]


def accesses_of(tick: int) -> npt.NDArray[np.uint32]:
    """Tick 0 writes every page in order; then a skewed mixture of L1 and L2, reads and writes."""
    if tick == 0:
        return np.arange(PAGES, dtype=np.uint32) | np.uint32(ACCESS_WRITE)
    random = np.random.default_rng(tick)
    pages = (PAGES * random.random(1200) ** 2).astype(np.uint32) * np.uint32(619) % np.uint32(PAGES)
    pages[random.random(1200) < 0.3] |= np.uint32(ACCESS_L2)
    pages[random.random(1200) < 0.2] |= np.uint32(ACCESS_WRITE)
    return pages


def run_engine(kernel: str, policy: str, followed: list[int]) -> tuple[PageWatch, dict[int, list[Change]]]:
    """The accesses one by one, and how the followed pages changed by each.

    The CPU's batch is drained after each: the models keep it in ways of their own, and agree once it is empty.
    """
    watch = PageWatch(0, followed, [Memslot(PAGES, max_pages=LIMIT)], KERNELS[kernel], get_policy(policy))
    found: dict[int, list[Change]] = {page: [] for page in followed}
    for tick in range(TICKS):
        watch.tick = tick
        accesses = accesses_of(tick)
        for number in range(len(accesses)):
            known = {page: len(watch.lives[page].moments) for page in followed}
            watch.touch(0, accesses[number : number + 1])
            watch.drain()
            for page in followed:
                if new := watch.lives[page].moments[known[page] :]:
                    change = Change(Instant(tick, number), state_seen(new[0].before), state_seen(new[-1].after))
                    found[page].append(change)
    return watch, {page: [change for change in found[page] if is_more_than_a_touch(change)] for page in followed}


def run_reference(kernel: str, policy: str, followed: list[int]) -> dict[int, list[Change]]:
    """The same in the reference model."""
    host = ReferenceHost(PAGES, kernel, policy, "vm", limit_pages=LIMIT)
    found: dict[int, list[Change]] = {page: [] for page in followed}
    for tick in range(TICKS):
        for number, access in enumerate(accesses_of(tick).tolist()):
            before = [state_of(host, host.mm.folios[page]) for page in followed]
            host.mm.used = True
            host.access(access & ACCESS_PAGE, "l2" if access & ACCESS_L2 else "l1", bool(access & ACCESS_WRITE))
            host.drain()
            for page, was in zip(followed, before, strict=True):
                found[page].append(Change(Instant(tick, number), was, state_of(host, host.mm.folios[page])))
    return {page: [change for change in changes if is_more_than_a_touch(change)] for page, changes in found.items()}


def state_of(host: ReferenceHost, folio: Folio) -> tuple[object, ...]:
    seq = host.max_seq - (host.max_seq - folio.gen) % 4 if folio.gen >= 0 else -1
    flags = (folio.referenced, folio.workingset, folio.active, folio.refs) if folio.present else ()
    return (folio.present, folio.swapped, seq if folio.present else -1, folio.p, folio.t, folio.s, *flags)


def state_seen(seen: Seen) -> tuple[object, ...]:
    flags = (seen.referenced, seen.workingset, seen.active, seen.refs) if seen.present else ()
    bits = (seen.primary, seen.tdp, seen.shadow)
    return (seen.present, seen.swapped, seen.seq if seen.present else -1, *bits, *flags)


def is_more_than_a_touch(change: Change) -> bool:
    """Something else happened than that Accessed bits were set."""
    before, after = list(change.before), list(change.after)
    for bit in (3, 4, 5):
        if after[bit]:
            before[bit] = True
    return before != after


@pytest.mark.parametrize(
    ("kernel", "policy"),
    [
        ("6.12", "fast-only-v5"),
        ("6.12", "locked-6.12"),
        ("6.1", "evict-only"),
        ("6.18", "lockless-6.15"),
        ("6.18", "six-steps"),
        ("7.3", "was-fast"),
    ],
)
def test_lives_of_random_pages_are_those_of_the_reference(kernel: str, policy: str) -> None:
    followed = np.random.default_rng(20).choice(PAGES, FOLLOWED, replace=False).tolist()
    watch, found = run_engine(kernel, policy, followed)
    assert found == run_reference(kernel, policy, followed)
    evicted = [any(moment.evicted for moment in watch.lives[page].moments) for page in followed]
    assert sum(evicted) > FOLLOWED / 2
    for page in followed:
        life = watch.lives[page]
        every = [
            bool(access & ACCESS_L2)
            for tick in range(TICKS)
            for access in accesses_of(tick).tolist()
            if access & ACCESS_PAGE == page
        ]
        assert [touch.by_l2 for touch in life.touches] == every


def test_the_parts_of_an_aging_on_a_clock_are_seen_as_they_are_done() -> None:
    guest = GuestSpec("g", 80_000, 0, 2000, workload=WorkloadSpec(kind="uniform"))
    spec = HostSpec("6.12", (guest,), TICKS, aging_every_ticks=1, clock=ClockSpec(tick_ns=4_000_000, batch=300))
    made: list[PageWatch] = []

    def keep(*arguments: Any, **options: Any) -> HostMemory:
        made.append(PageWatch(0, [0, 79_999], *arguments, **options))
        return made[0]

    result = simulate_host(spec, get_policy("lockless-6.15"), seed=3, replicate=0, host=0, make_memory=keep)
    parts = [step for step in made[0].operations if step.cause.startswith("a part of an aging")]
    assert sum(step.changes.get("walk_ptes", 0) for step in parts) == result.guests[0].counters["walk_ptes"]
    assert sum(step.changes.get("agings", 0) for step in parts) == result.guests[0].counters["agings"]
    first, last = (
        next(moment.when for moment in life.moments if moment.before.tdp and not moment.after.tdp)
        for life in made[0].lives.values()
    )
    assert first < last  # the guest ran on between the first part and the last


def test_evictions_have_a_time_and_the_truth() -> None:
    watch = PageWatch(0, range(PAGES), [Memslot(PAGES, max_pages=LIMIT)], KERNELS["6.12"], get_policy("fast-only-v5"))
    for tick in range(TICKS):
        watch.tick = tick
        watch.touch(0, accesses_of(tick))
    told = [
        (moment.when, page, moment.before.touched)
        for page, life in watch.lives.items()
        for moment in life.moments
        if moment.evicted
    ]
    assert sorted(told) == sorted(watch.evictions)
    assert any(touched for _, _, touched in told)
    made = {(touch.when, page) for page, life in watch.lives.items() for touch in life.touches}
    assert made == {
        (Instant(tick, number), access & ACCESS_PAGE)
        for tick in range(TICKS)
        for number, access in enumerate(accesses_of(tick).tolist())
    }
