"""What a host is made of has names, and a name that isn't known is refused as the spec is made."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import (
    GUEST_KINDS,
    MONITORS,
    GuestSpec,
    HostSpec,
    PageCacheSpec,
    RecordedWorkload,
    VmSpec,
    WorkloadSpec,
)
from coldfleet.hostsim.workload.scenario import KINDS

GUEST = GuestSpec("guest", 512)


def host(**settings: str) -> HostSpec:
    return HostSpec("6.12", (GUEST,), ticks=1, **settings)  # type: ignore[arg-type]


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


def test_kinds_of_guests_are_those_of_scenarios() -> None:
    assert tuple(KINDS) == GUEST_KINDS


def test_a_host_may_have_no_access_monitor() -> None:
    assert host().monitor == "" not in MONITORS
