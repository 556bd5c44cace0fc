"""Old pages of a batch are asked for together; all is as if each had been asked for alone, whatever the policy."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import numpy.typing as npt
import pytest

from coldfleet.hostsim.engine.far_calls import link
from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_WRITE, ASK, CALLS, Machine
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.policies import POLICIES, Site, get_policy

PAGES, LIMIT, ACCESSES = 2048, 700, 12_000
OTHER = {"victims", "neighbours", "followed", "asks", "places"}  # fields that don't say how the simulation went


def accesses(nested: bool) -> npt.NDArray[np.uint32]:
    """Half of them to a tenth of the pages; every fifth writes. A nested VM has every third page."""
    random = np.random.default_rng(20)
    pages = random.integers(0, PAGES, ACCESSES)
    hot = random.random(ACCESSES) < 0.5
    pages[hot] //= 10
    made = pages | np.where(random.random(ACCESSES) < 0.2, ACCESS_WRITE, 0)
    return (made | np.where(nested & (pages % 3 == 0), ACCESS_L2, 0)).astype(np.uint32)


def run(kernel: str, policy: str, slot: Memslot, nested: bool, alone: bool) -> Machine:
    """``alone``: somebody writes down who is asked (though of no page), so that no pages are asked for together."""
    memory = HostMemory([slot], KERNELS[kernel], get_policy(policy))
    if alone:
        followed = np.zeros(len(memory.machine.bits), np.uint64)
        memory.machine = replace(memory.machine, followed=followed, asks=np.zeros(16, ASK))
        link(memory.machine)
    memory.touch(0, accesses(nested))
    return memory.machine


def assert_equal(kernel: str, policy: str, slot: Memslot, nested: bool = False) -> Machine:
    together, alone = (run(kernel, policy, slot, nested, each) for each in (False, True))
    for each in fields(Machine):
        mine, other = getattr(together, each.name), getattr(alone, each.name)
        if isinstance(mine, np.ndarray) and each.name not in OTHER:
            assert mine.tobytes() == other.tobytes(), each.name
    assert int(together.events["pgsteal"][0]) > ACCESSES // 10
    return together


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_pages_asked_for_together_count_as_pages_asked_for_alone(policy: str, nested: bool) -> None:
    machine = assert_equal("6.12", policy, Memslot(PAGES, max_pages=LIMIT), nested)
    assert bool(machine.sites[0, Site.EVICT, CALLS]) == any(call["present"] for call in machine.calls[Site.EVICT])


@pytest.mark.parametrize("kernel", sorted(KERNELS))
def test_so_it_is_under_every_kernel(kernel: str) -> None:
    assert_equal(kernel, KERNELS[kernel].policy, Memslot(PAGES, max_pages=LIMIT), nested=True)
    assert_equal(kernel, KERNELS[kernel].policy, Memslot(PAGES, kvm=False, max_pages=LIMIT))
