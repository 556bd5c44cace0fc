"""Compiled ticks, with user space and the waits for locks in them, beside the plain clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldfleet.hostsim import host as host_module
from coldfleet.hostsim.clock.user_space import UserSpace
from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.spec.host_spec import (
    RECLAIM_MODES,
    ClockSpec,
    GuestSpec,
    HostResult,
    HostSpec,
    NestedSpec,
    VmSpec,
    WorkloadSpec,
)
from coldfleet.policies import get_policy
from tests.hostsim.clock.plain_clock import plain_clock_of
from tests.reference.user_space import user_space_reclaim

BIG, SMALL = 66 * 512, 1500  # pages; the big one's agings are made in parts
LIMITED = 0.7


def run(spec: HostSpec, policy: str, **parts: Any) -> HostResult:
    """With parts of hostsim.host replaced."""
    with pytest.MonkeyPatch.context() as patch:
        for name, part in parts.items():
            patch.setattr(host_module, name, part)
        return simulate_host(spec, get_policy(policy), seed=3, replicate=0, host=1, audit=False)


@st.composite
def hosts(draw: st.DrawFn) -> HostSpec:
    """Of all modes, with few CPUs or as many as needed, and an aging thread that is idle, busy, or far behind."""
    mode = draw(st.sampled_from(RECLAIM_MODES))
    guests = []
    for n in range(draw(st.integers(1, 3))):
        pages = BIG if draw(st.integers(0, 4)) == 0 else SMALL
        arrives = draw(st.sampled_from([0, 0, 0, 3]))
        guests.append(
            GuestSpec(
                f"g{n}",
                pages,
                draw(st.sampled_from([0, int(pages * LIMITED), int(pages * LIMITED)])),
                accesses_per_tick=draw(st.integers(100, 2500)),
                workload=WorkloadSpec(kind=draw(st.sampled_from(["zipf", "hotcold", "uniform"])), write_share=0.2),
                nested=NestedSpec() if draw(st.booleans()) else None,
                vcpus=draw(st.integers(1, 3)),
                vm=VmSpec(truth=True) if draw(st.integers(0, 5)) == 0 else VmSpec(),
                arrives=arrives,
                leaves=draw(st.sampled_from([0, 0, arrives + 4])),
            )
        )
    spec = HostSpec(
        draw(st.sampled_from(sorted(KERNELS))),
        tuple(guests),
        draw(st.integers(8, 20)),
        mode=mode,
        aging_every_ticks=draw(st.sampled_from([0, 1, 3])),
        period_ticks=draw(st.integers(1, 4)),
        psi_target=5.0,
        swap_device=draw(st.sampled_from(["zram", "zram", "nvme"])),
        monitor=draw(st.sampled_from(["", "", "", "idle"])),
        epochs=draw(st.sampled_from([0, 5])),
        clock=ClockSpec(
            draw(st.sampled_from([20_000, 1_000_000, 5_000_000, 1_000_000_000, 60_000_000_000])),
            access_ns=draw(st.integers(1, 1000)),
            pcpus=draw(st.sampled_from([0, 0, 1, 2])),
            batch=draw(st.sampled_from([64, 1 << 20])),
        ),
    )
    pages = sum(guest.memory_pages for guest in guests)
    if mode == "host":
        return replace(spec, memory_pages=int(pages * LIMITED))
    if mode in ("limit", "proactive") and draw(st.integers(0, 4)) == 0:
        return replace(spec, parent_pages=int(pages * LIMITED))
    if mode in ("limit", "proactive") and draw(st.integers(0, 4)) == 0 and not spec.monitor:
        return replace(spec, lru_gen=False, aging_every_ticks=0)
    return spec


def recorded(spec: HostSpec) -> HostSpec:
    """The same whose CPUs' batches are drained before statistics are read."""
    return replace(spec, scenario=True, guests=tuple(replace(guest, arrives=0, leaves=0) for guest in spec.guests))


@settings(max_examples=40, deadline=None)
@given(hosts(), st.sampled_from(["six-steps", "locked-6.12", "lockless-6.15"]), st.booleans())
def test_compiled_ticks_are_the_plain_ones_bit_for_bit(spec: HostSpec, policy: str, scenario: bool) -> None:
    spec = recorded(spec) if scenario else spec
    assert run(spec, policy) == run(spec, policy, HostClock=plain_clock_of(spec))


@settings(max_examples=30, deadline=None)
@given(hosts(), st.booleans())
def test_without_time_user_space_does_what_it_does_plainly(spec: HostSpec, scenario: bool) -> None:
    def act(memory: HostMemory, _u: UserSpace, g: int, tick: int) -> None:
        for _ in user_space_reclaim(memory, spec, g, tick, None):
            pass

    spec = replace(recorded(spec) if scenario else spec, clock=None)
    assert run(spec, "six-steps") == run(spec, "six-steps", act=act)
