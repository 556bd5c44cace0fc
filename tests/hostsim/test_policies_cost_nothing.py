"""A policy is data: running another one compiles nothing new."""

from __future__ import annotations

from typing import Any

import numba.core.registry

from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.mm import faults, reclaim
from coldfleet.hostsim.spec.host_spec import GuestSpec, HostSpec, NestedSpec
from coldfleet.policies import POLICIES

COMPILED: tuple[Any, ...] = (faults.touch_guest, faults.touch_process, reclaim.memory_reclaim, reclaim.debugfs_age)


def signatures() -> list[int]:
    assert all(isinstance(f, numba.core.registry.CPUDispatcher) for f in COMPILED)
    return [len(f.signatures) for f in COMPILED]


def test_twenty_policies_compile_what_one_compiles() -> None:
    guests = tuple(GuestSpec(f"g{g}", 700, 400, 500, nested=NestedSpec() if g else None) for g in range(2))
    spec = HostSpec("6.12", guests, ticks=2, aging_every_ticks=1)
    first, *others = POLICIES.values()
    simulate_host(spec, first, seed=1, replicate=0, host=0)
    before = signatures()
    assert sum(before) > 0
    for policy in others:
        simulate_host(spec, policy, seed=1, replicate=0, host=0)
    assert signatures() == before
