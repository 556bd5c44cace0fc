"""The catalogue's controls are known to be wrong: each is caught, and what catches it doesn't catch its mended form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_WRITE, MIN_NR_GENS, PRESENT
from coldfleet.hostsim.host import collect
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.policies import Policy, Step, get_policy

PAGES = 1024
L1_PAGES = np.arange(PAGES // 2, dtype=np.uint32)
L2_PAGES = np.arange(PAGES // 2, PAGES, dtype=np.uint32) | np.uint32(ACCESS_L2)


def start(policy: Policy, *accesses: np.ndarray) -> HostMemory:
    """A VM that has made these accesses, once, and then was aged until they should be forgotten."""
    memory = HostMemory([Memslot(PAGES)], KERNELS["6.12"], policy)
    for some in accesses:
        memory.touch(0, some | np.uint32(ACCESS_WRITE))
    for _ in range(4):
        memory.age(0)
    return memory


def evict(memory: HostMemory, pages: int) -> None:
    for _ in range(4):
        oldest = int(memory.lruvec(0)["max_seq"]) - MIN_NR_GENS
        pages -= memory.evict(0, oldest, 200, pages)


def resident(memory: HostMemory, pages: np.ndarray) -> int:
    present = np.unpackbits(memory.machine.bits[memory.words(0), PRESENT].copy().view(np.uint8), bitorder="little")
    return int(present[pages & np.uint32(PAGES - 1)].sum())


def l1_hot_pages_are_lost(policy: Policy) -> None:
    """L1 touches its pages again and again while an L2 exists, and they are swapped out all the same."""
    memory = start(policy, L1_PAGES, L2_PAGES)
    for _ in range(3):
        memory.touch(0, L1_PAGES)
        evict(memory, PAGES // 4)
    assert collect(memory, 0)["missed_young_evict"] > PAGES // 4


def cold_l2_pages_stay(policy: Policy) -> None:
    """L2 touched its pages once, long ago, and L1 goes on working; yet it's never L2's that go."""
    memory = start(policy, L1_PAGES, L2_PAGES)
    for _ in range(3):
        memory.touch(0, L1_PAGES)
        memory.age(0)
        evict(memory, PAGES // 4)
    assert resident(memory, L2_PAGES) == len(L2_PAGES)


def a_stale_bit_makes_pages_young_again(policy: Policy) -> None:
    """L1 and L2 touch the same pages once, and a later aging finds them young once more."""
    memory = start(policy, L1_PAGES, L1_PAGES | np.uint32(ACCESS_L2))
    assert collect(memory, 0)["false_young_walk"] > 0


def with_step(policy: Policy, old: str, new: str) -> Policy:
    assert old in [step.text for step in policy.steps]
    return replace(policy, steps=tuple(Step.parse(new) if step.text == old else step for step in policy.steps))


CAUGHT: list[tuple[Callable[[Policy], None], Policy, Policy]] = [
    (l1_hot_pages_are_lost, get_policy("fast-only-v6-posted"), get_policy("fast-only-v6")),
    (
        cold_l2_pages_stay,
        get_policy("test-all-clear-tdp"),
        with_step(
            get_policy("test-all-clear-tdp"),
            "if not clearing and shadow sptes: test shadow under mmu_lock write",
            "if shadow sptes: age shadow under mmu_lock write",
        ),
    ),
    (
        a_stale_bit_makes_pages_young_again,
        replace(get_policy("six-steps-early"), walk=get_policy("six-steps-early").evict),
        with_step(
            replace(get_policy("six-steps-early"), walk=get_policy("six-steps-early").evict),
            "if young: return fast",
            "if young and not clearing: return fast",
        ),
    ),
]


@pytest.mark.parametrize(("catches", "control", "mended"), CAUGHT, ids=[catches.__name__ for catches, _, _ in CAUGHT])
def test_a_control_is_caught_and_its_mended_form_is_not(
    catches: Callable[[Policy], None], control: Policy, mended: Policy
) -> None:
    catches(control)
    with pytest.raises(AssertionError):
        catches(mended)
