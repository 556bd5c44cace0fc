"""What the scheduler decides for reclaim: by rule, or drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coldfleet.hostsim.engine.kernels import KERNELS, Kernel
from coldfleet.hostsim.engine.philox import study_key
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot, Watermarks
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import GuestSpec, HostSpec
from coldfleet.policies import get_policy

NO_LUCK: dict[str, Any] = {name: 0 for name in KERNELS["6.12"].__dataclass_fields__ if name.startswith("luck_of_")} | {
    "kswapd_delay": 0
}
PAGES = 6144


def run(kernel: Kernel, key: np.uint64 | None, policy: str = "", host: bool = False) -> HostMemory:
    """A process and a guest under memory.max, or on a host that runs out of memory, touch twice as much as there is."""
    limit = 0 if host else PAGES // 2
    slots = [Memslot(PAGES, kvm=kvm, max_pages=limit) for kvm in (False, True)]
    room: dict[str, Any] = {"free_pages": PAGES, "watermarks": Watermarks(low=200, high=260, goal=320)} if host else {}
    memory = HostMemory(slots, kernel, get_policy(policy or kernel.policy), **room)
    if key is not None:
        memory.draw_scheduler(key, 0, range(2))
    random = np.random.default_rng(1)
    for _ in range(6):
        for guest in range(2):
            memory.touch(guest, (PAGES * random.random(PAGES) ** 3).astype(np.uint32))
    return memory


def same(one: HostMemory, other: HostMemory) -> bool:
    return bool((one.machine.pages == other.machine.pages).all()) and bool(
        (one.machine.events == other.machine.events).all()
    )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("host", [False, True])
def test_without_luck_what_is_drawn_is_the_rule(kernel: str, host: bool) -> None:
    without = replace(KERNELS[kernel], **NO_LUCK)
    assert same(run(without, study_key(1, 0), host=host), run(without, None, host=host))


@pytest.mark.parametrize("host", [False, True])
def test_luck_goes_by_the_key_alone(host: bool) -> None:
    kernel = replace(KERNELS["6.12"], luck_of_faults=200, luck_of_process_walk=500)
    runs = [run(kernel, study_key(1, replicate), host=host) for replicate in (0, 0, 1, 2, 3)]
    assert same(runs[0], runs[1])
    assert not all(same(runs[0], other) for other in runs[2:])


@pytest.mark.parametrize("luck", ["luck_of_faults", "luck_of_checks", "luck_of_guest_walk", "luck_of_process_walk"])
def test_a_rule_that_comes_out_the_other_way_changes_who_is_walked(luck: str) -> None:
    walks = []
    for kernel in ("6.1", "6.12", "6.18"):
        without = replace(KERNELS[kernel], **NO_LUCK)
        contrary = replace(KERNELS[kernel], **{**NO_LUCK, luck: 1000})
        memories = [run(each, study_key(1, 0)) for each in (without, contrary)]
        walks.append([[int(memory.events(guest)["mm_walks"]) for guest in range(2)] for memory in memories])
    assert any(usual != other for usual, other in walks)


def test_kswapd_comes_late_by_some_pages() -> None:
    def least_free(delay: int) -> int:
        kernel = replace(KERNELS["6.12"], **{**NO_LUCK, "kswapd_delay": delay})
        slots = [Memslot(PAGES, kvm=False)]
        marks = Watermarks(low=200, high=260, goal=320)
        memory = HostMemory(slots, kernel, get_policy(kernel.policy), free_pages=PAGES // 2, watermarks=marks)
        memory.draw_scheduler(study_key(1, 0), 0, [0])
        least = PAGES
        for page in range(PAGES):
            memory.access(0, np.array([page], np.uint32))
            least = min(least, int(memory.machine.node[0]["free_pages"]))
        return least

    assert least_free(0) >= 200 - 1
    assert least_free(100) < 200 - 20


def test_a_study_has_the_same_luck_under_all_policies() -> None:
    """Where KVM isn't there policies make no difference, so that any would come from luck."""
    guests = (GuestSpec("g", PAGES, limit_pages=PAGES // 2, accesses_per_tick=PAGES, kind="process"),)

    def pgscan(policy: str, scheduler: str, replicate: int) -> int:
        spec = HostSpec("6.18", guests, ticks=24, scheduler=scheduler)
        result = simulate_host(spec, get_policy(policy), seed=1, replicate=replicate, host=0)
        return int(result.guests[0].counters["pgscan"])

    for replicate in range(3):
        assert pgscan("evict-only", "drawn", replicate) == pgscan("lockless-6.15", "drawn", replicate)
    assert any(pgscan("evict-only", "drawn", r) != pgscan("evict-only", "usual", r) for r in range(6))
    with pytest.raises(UserError, match="scheduler"):
        HostSpec("6.18", guests, ticks=6, scheduler="luck")
