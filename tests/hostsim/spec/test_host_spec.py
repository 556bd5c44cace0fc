"""What a host is made of has names and numbers: those that can't be are refused as the spec is made."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfleet.hostsim.mm import aging
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import (
    GUEST_KINDS,
    MONITORS,
    STACK_PAGES,
    ClockSpec,
    CompressionSpec,
    GuestSpec,
    HostSpec,
    NestedSpec,
    PageCacheSpec,
    RecordedWorkload,
    VmSpec,
    WorkloadSpec,
)
from coldfleet.hostsim.workload.scenario import KINDS
from tests.fuzzing import BOUNDED, JUNK, outcome

GUEST = GuestSpec("guest", 512)


def host(**settings: Any) -> HostSpec:
    return HostSpec(**{"kernel": "6.12", "guests": (GUEST,), "ticks": 1, **settings})


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: WorkloadSpec("zipff"), "unknown kind of workload 'zipff': did you mean 'zipf'?"),
        (lambda: WorkloadSpec(layout="sorted"), "unknown layout of a workload 'sorted'"),
        (lambda: PageCacheSpec(8, kind="hot"), "unknown kind of workload 'hot': did you mean 'hotscan' or 'hotcold'?"),
        (lambda: RecordedWorkload("mix-scan"), "unknown recorded workload 'mix-scan'"),
        (lambda: RecordedWorkload("zipf", "shuffled"), "unknown layout of a recording 'shuffled'"),
        (lambda: VmSpec(subscribers=("kvm", "device")), "unknown subscriber 'device'"),
        (lambda: GuestSpec("guest", 512, kind="container"), "unknown kind of guest 'container'"),
        (lambda: host(mode="limits"), "unknown mode of reclaim 'limits': did you mean 'limit'?"),
        (lambda: host(monitor="damon"), "unknown access monitor 'damon': did you mean 'damon-vaddr' or 'damon-paddr'?"),
        (lambda: host(swap_device="tape"), "unknown swap device 'tape'"),
    ],
)
def test_an_unknown_name_is_refused(make: Callable[[], object], why: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value).startswith(why)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: host(ticks=-1), "HostSpec: ticks is -1, not a whole number from 1 to 2147483647"),
        (lambda: host(ticks=0), "HostSpec: ticks is 0"),
        (lambda: host(ticks=1.5), "HostSpec: ticks is 1.5, not a whole number"),
        (lambda: host(sample=0), "HostSpec: sample is 0, not a whole number from 1 to 1024"),
        (lambda: host(swappiness=999), "HostSpec: swappiness is 999"),
        (lambda: host(page_cluster=6), "HostSpec: page_cluster is 6, not a whole number from 0 to 5"),
        (lambda: host(psi_target=math.nan), "HostSpec: psi_target is nan, not a number from 0.0 to 100.0"),
        (lambda: host(scale=0), "HostSpec: scale is 0"),
        (lambda: host(guests=5), "HostSpec: guests is 5, not a tuple"),
        (lambda: host(guests=("web",)), "HostSpec: guests has 'web', not a GuestSpec"),
        (
            lambda: host(guests=(GuestSpec("web", 2**31 - 1),) * 2),
            "the guests of a host have up to 4,294",
        ),
        (lambda: GuestSpec("web", 0), "GuestSpec: memory_pages is 0"),
        (lambda: GuestSpec("web", 512, accesses_per_tick=2**31), "GuestSpec: accesses_per_tick is 2147483648"),
        (
            lambda: GuestSpec(
                "web", 512, accesses_per_tick=1000, workload=WorkloadSpec(load="bursts", load_ticks=2**31 - 1)
            ),
            "a tick with a burst has 1,717,986,917,800 accesses; at most 67,108,864",
        ),
        (lambda: GuestSpec("web", 512, own_pages=34), "GuestSpec: own_pages is 34, not a whole number from 0 to 33"),
        (lambda: GuestSpec("web", 512, arrives=-1), "GuestSpec: arrives is -1"),
        (lambda: GuestSpec("web", 512, leaves=-1), "GuestSpec: leaves is -1, not a whole number"),
        (lambda: GuestSpec("web", 512, arrives=3, leaves=3), "guest 'web' arrives in tick 3 and leaves in tick 3: let"),
        (lambda: host(guests=(replace(GUEST, leaves=2),)), "guest 'guest' arrives in tick 0 and leaves in tick 2 of 1"),
        (
            lambda: host(guests=(replace(GUEST, arrives=2),)),
            "guest 'guest' arrives in tick 2 and leaves in tick 0 of",
        ),
        (lambda: NestedSpec(l2_only_share=0.75), "l2_only_share 0.75 is more than exposed_share 0.5"),
        (lambda: ClockSpec(tick_ns=0), "ClockSpec: tick_ns is 0"),
        (lambda: CompressionSpec(incompressible_share=0.9, same_filled_share=0.2), "incompressible_share 0.9 and"),
        (lambda: VmSpec(shared_share=True), "VmSpec: shared_share is True, not a number from 0.0 to 1.0"),
    ],
)
def test_a_number_out_of_its_range_is_refused(make: Callable[[], object], why: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value).startswith(why)


SPECS = (WorkloadSpec(), NestedSpec(), VmSpec(), PageCacheSpec(8), ClockSpec(), CompressionSpec(), GUEST, host())
FIELDS = st.sampled_from(SPECS).flatmap(lambda spec: st.tuples(st.just(spec), st.sampled_from(list(vars(spec)))))


@BOUNDED
@given(FIELDS, JUNK)
def test_junk_in_a_spec_is_refused_or_of_no_harm(field: tuple[Any, str], value: Any) -> None:
    spec, name = field
    outcome(lambda: replace(spec, **{name: value}))


def test_the_own_pages_of_a_guest_are_within_the_mapping_that_is_walked() -> None:
    assert STACK_PAGES == aging.STACK_PAGES


def test_kinds_of_guests_are_those_of_scenarios() -> None:
    assert tuple(KINDS) == GUEST_KINDS


def test_a_host_may_have_no_access_monitor() -> None:
    assert host().monitor == "" not in MONITORS
