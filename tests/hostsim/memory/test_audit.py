"""The laws hold of every host that can be drawn, and each of them can be broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import ACCESS_WRITE, HPAGE_PMD_ORDER, ORDER_SHIFT, SWAPCACHE, TDP_MAPPED, WRITABLE
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.memory.audit import MEMORY_LAWS, check_memory
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot, Watermarks
from coldfleet.hostsim.memory.result_laws import GUEST_LAWS, HOST_LAWS, check_guest, check_result
from coldfleet.hostsim.spec.host_spec import (
    ClockSpec,
    CompressionSpec,
    GuestSpec,
    HostSpec,
    NestedSpec,
    PageCacheSpec,
    VmSpec,
    WorkloadSpec,
)
from coldfleet.hostsim.spec.laws import LawBrokenError, statement
from coldfleet.policies import POLICIES, get_policy

SIZES = st.sampled_from([512, 600, 1024])
FEW = st.sampled_from([0, 1, 64, 200, 700])


@st.composite
def guests(draw: st.DrawFn) -> GuestSpec:
    pages = draw(SIZES)
    kind = draw(st.sampled_from(["vm", "vm", "process"]))
    cache = None
    if draw(st.booleans()):
        cache = PageCacheSpec(draw(st.sampled_from([40, 300])), 0.3, "zipf", draw(st.sampled_from([0.0, 0.5])), 0.3)
    return GuestSpec(
        "g",
        pages,
        limit_pages=round(pages * draw(st.sampled_from([0.3, 0.6, 0.9]))),
        accesses_per_tick=draw(st.sampled_from([100, 1500])),
        kind=kind,
        workload=WorkloadSpec(draw(st.sampled_from(["zipf", "scan", "hotcold"])), write_share=0.3),
        nested=NestedSpec() if kind == "vm" and draw(st.booleans()) else None,
        own_pages=draw(st.sampled_from([0, 3])),
        kernel_pages=draw(st.sampled_from([0, 0, 70])),
        min_pages=draw(st.sampled_from([0, 0, 64, 300, 1200])),
        low_pages=draw(st.sampled_from([0, 0, 64, 300])),
        high_pages=draw(st.sampled_from([0, 0, 200, 500])),
        page_cache=cache,
        vm=VmSpec(truth=draw(st.booleans())),
        arrives=draw(st.sampled_from([0, 0, 1, 3])),
    )


@st.composite
def hosts(draw: st.DrawFn) -> HostSpec:
    classic = draw(st.integers(0, 2)) == 0
    each = tuple(
        replace(guest := draw(guests()), name=f"g{number}", leaves=draw(st.sampled_from([0, 0, guest.arrives + 1])))
        for number in range(draw(st.integers(1, 3)))
    )
    memory = sum(guest.memory_pages for guest in each)
    mode = draw(
        st.sampled_from(["limit", "proactive", "host"] if classic else ["limit", "proactive", "debugfs", "host"])
    )
    limited = mode == "host" or draw(st.booleans())
    clock = draw(st.sampled_from([None, ClockSpec(), ClockSpec(tick_ns=2_000_000, pcpus=1)]))
    device = draw(st.sampled_from(["zram", "zram", "nvme", "disk", "none"]))
    return HostSpec(
        draw(st.sampled_from(list(KERNELS))),
        each,
        ticks=4,
        mode=mode,
        lru_gen=not classic,
        memory_pages=round(memory * draw(st.sampled_from([0.5, 0.7, 1.2]))) + 200 if limited else 0,
        parent_pages=round(memory * 0.7) if mode in ("limit", "proactive") and draw(st.booleans()) else 0,
        swap_device=device,
        swap_pages=draw(FEW) if device != "none" else 0,
        page_cluster=draw(st.sampled_from([0, 3, 5])),
        pool_pages=draw(FEW) if device == "zram" else 0,
        compression=CompressionSpec(incompressible_share=draw(st.sampled_from([0.0, 0.1, 1.0]))),
        swappiness=draw(st.sampled_from([0, 1, 60, 200])),
        scheduler=draw(st.sampled_from(["usual", "drawn"])),
        aging_every_ticks=0 if classic else draw(st.sampled_from([0, 2])),
        min_ttl_ms=draw(st.sampled_from([0, 1, 1000])) if clock and not classic else 0,
        clock=clock,
        sample=draw(st.sampled_from([1, 1, 1, 2])),
        epochs=draw(st.sampled_from([0, 1, 3])),
    )


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(spec=hosts(), policy=st.sampled_from(list(POLICIES)))
def test_no_law_is_broken(spec: HostSpec, policy: str) -> None:
    check_laws(spec, policy)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(spec=hosts(), policy=st.sampled_from(list(POLICIES)))
def test_no_law_of_many_hosts_is_broken(spec: HostSpec, policy: str) -> None:
    check_laws(spec, policy)


@pytest.mark.parametrize("limits", [{"limit_pages": 1}, {"limit_pages": 30}, {"parent_pages": 1}, {"parent_pages": 30}])
@pytest.mark.parametrize("kernel", ["6.12", "6.18"])
def test_a_limit_near_the_kernel_memory_of_a_guest_leaves_its_cpu_no_stock(kernel: str, limits: dict[str, int]) -> None:
    """It is charged in advance only where it fits; where not even one page fits, the OOM killer comes."""
    guest = GuestSpec("g", 1, limits.get("limit_pages", 0), 100, kernel_pages=20)
    spec = HostSpec(kernel, (guest,), 2, parent_pages=limits.get("parent_pages", 0))
    (result,) = simulate_host(spec, get_policy("was-fast"), seed=1, replicate=0, host=0, audit=True).guests
    assert bool(result.oom_reason) == (1 in limits.values())


def test_all_of_the_stack_of_a_vmm_may_be_young() -> None:
    guest = GuestSpec("g", 1, 0, 100, kind="shadow", nested=NestedSpec(), own_pages=33)
    spec = HostSpec("6.18", (guest,), 2, aging_every_ticks=1)
    (result,) = simulate_host(spec, get_policy("was-fast"), seed=1, replicate=0, host=0, audit=True).guests
    assert result.counters["young_walk"] >= 33


def check_laws(spec: HostSpec, policy: str) -> None:
    result = simulate_host(spec, get_policy(policy), seed=1, replicate=0, host=0, audit=True)
    for guest in result.guests:
        event(f"killed: {guest.oom_reason}" if guest.oom_reason else "alive")
    if spec.sample == 1:
        assert all(0 <= epoch.free_pages <= spec.memory_pages for epoch in result.epochs)


def memory() -> HostMemory:
    """A guest that has pages everywhere: in memory, in its file, and in zram."""
    marks = Watermarks(low=20, high=30, goal=30)
    slot = Memslot(1024, max_pages=700, file_pages=64)
    host = HostMemory(
        [slot],
        KERNELS["6.12"],
        get_policy("locked-6.12"),
        free_pages=2000,
        watermarks=marks,
        swap_pages=900,
        compressed_swap=True,
    )
    host.machine.size_classes[:], host.machine.class_units[:] = 1, 1 << 19
    host.touch(0, np.arange(1024, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    host.access_file(0, np.arange(40, dtype=np.uint32))
    host.drain()
    return host


def lose_a_free_page(host: HostMemory) -> None:
    host.machine.node["free_pages"] -= 1


def charge_too_much(host: HostMemory) -> None:
    host.machine.mms["charged"] += 1


def forget_a_swapped_page(host: HostMemory) -> None:
    swapped = np.flatnonzero(host.machine.pages["shadow"][:1024])
    host.machine.pages["shadow"][swapped[0]] = 0


def count_a_generation_twice(host: HostMemory) -> None:
    host.machine.lruvecs["nr_pages"][0, 0, 0] += 1


def lose_a_slot(host: HostMemory) -> None:
    host.machine.node["free_slots"] -= 1


def inflate_the_pool(host: HostMemory) -> None:
    host.machine.node["pool_units"] += 1


def kill_without_burying(host: HostMemory) -> None:
    host.machine.mms["oom_reason"] = 1


def leave_the_file_behind(host: HostMemory) -> None:
    host.leave(0)
    host.machine.events["cached_pages"] = 1


def keep_a_slot_twice(host: HostMemory) -> None:
    resident = np.flatnonzero(host.machine.pages["shadow"][:1024] == 0)
    host.machine.pages["flags"][resident[0]] |= SWAPCACHE


def touch_nothing(host: HostMemory) -> None:
    swapped = np.flatnonzero(host.machine.pages["shadow"][:1024])
    host.machine.pages["shadow"][swapped[0]] = 0
    host.machine.pages["flags"][swapped[0]] = WRITABLE
    host.machine.events["pgsteal"] -= 1


def evict_without_counting(host: HostMemory) -> None:
    host.machine.events["pgsteal"] += 1


def map_what_is_not_there(host: HostMemory) -> None:
    host.machine.bits[15, TDP_MAPPED] = ~np.uint64(0)
    host.machine.bits[0, TDP_MAPPED] = ~np.uint64(0)


def take_what_is_protected(host: HostMemory) -> None:
    host.machine.mms["memory_min"], host.machine.mms["least_charged"] = 600, 400


def make_a_huge_page_of_one(host: HostMemory) -> None:
    swapped = np.flatnonzero(host.machine.pages["shadow"][:1024])
    host.machine.pages["flags"][swapped[0]] |= HPAGE_PMD_ORDER << ORDER_SHIFT


BREACHES = [
    (take_what_is_protected, "protection"),
    (lose_a_free_page, "free memory"),
    (charge_too_much, "limits"),
    (forget_a_swapped_page, "flows"),
    (touch_nothing, "every page is somewhere"),
    (evict_without_counting, "flows"),
    (count_a_generation_twice, "lists"),
    (lose_a_slot, "swap slots"),
    (keep_a_slot_twice, "swap slots"),
    (inflate_the_pool, "pool"),
    (kill_without_burying, "the dead"),
    (leave_the_file_behind, "the dead"),
    (map_what_is_not_there, "mappings"),
    (make_a_huge_page_of_one, "huge pages"),
]


def test_every_law_of_memory_has_a_breach_and_every_law_a_sentence() -> None:
    assert {law for _, law in BREACHES} == set(MEMORY_LAWS)
    laws: dict[str, Callable[..., Iterator[str]]] = {**MEMORY_LAWS, **GUEST_LAWS, **HOST_LAWS}
    for law in laws.values():
        assert statement(law).endswith(".")
        assert statement(law).count(". ") == 0


@pytest.mark.parametrize(("breach", "law"), BREACHES)
def test_every_law_of_memory_can_be_broken(breach: Callable[[HostMemory], None], law: str) -> None:
    host = memory()
    check_memory(host)
    breach(host)
    with pytest.raises(LawBrokenError, match=law):
        check_memory(host)


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"oom_reason": "host"}, "OOM kills"),
    ({"oom_tick": 3}, "OOM kills"),
    ({"pgsteal": 1 << 40}, "parts and wholes"),
    ({"pgmajfault": 1 << 40}, "parts and wholes"),
    ({"missed_young_walk": 1 << 40}, "parts and wholes"),
    ({"l2_accesses": -1}, "nothing negative"),
    ({"mm_walks": 1 << 40}, "walks"),
    ({"pswpout": 0}, "swap reads"),
    ({"accesses": 1 << 40}, "accesses"),
    ({"accesses": 512}, "accesses"),
    ({"resident_pages": 513}, "resident"),
    ({"resident_pages": 401}, "resident"),
    ({"thp_fault_alloc": 1, "thp_swpout": 1}, "huge pages"),
    ({"anon_huge_pages": 512}, "huge pages"),
    ({"low_events": 1}, "protection"),
    ({"high_events": 1}, "protection"),
    ({"high_delay_ns": 1}, "protection"),
    ({"idle_ns": 1}, "time"),
    ({"psi_full_ns": 9.0}, "gauges"),
    ({"latency_p50_ns": 9.0}, "gauges"),
]
SPEC = HostSpec("6.12", (GuestSpec("g", 512, limit_pages=400, accesses_per_tick=900),), ticks=2, epochs=1)


@pytest.mark.parametrize(("changes", "law"), CHANGES)
def test_every_law_of_a_guest_can_be_broken(changes: dict[str, Any], law: str) -> None:
    guest = simulate_host(SPEC, get_policy("locked-6.12"), seed=1, replicate=0, host=0, audit=True).guests[0]
    check_guest(SPEC, SPEC.guests[0], guest)
    assert guest.counters["pswpin"] > 0
    own = {name: value for name, value in changes.items() if name.startswith("oom_")}
    gauges = {name: value for name, value in changes.items() if name in guest.gauges}
    counters = {name: value for name, value in changes.items() if name in guest.counters}
    broken = replace(guest, counters=guest.counters | counters, gauges=guest.gauges | gauges, **own)
    assert any(True for _ in GUEST_LAWS[law](SPEC, SPEC.guests[0], broken))
    with pytest.raises(LawBrokenError, match="host 0, guest g: "):
        check_guest(SPEC, SPEC.guests[0], broken)


def test_every_law_of_a_host_can_be_broken() -> None:
    timed = replace(SPEC, clock=ClockSpec())
    result = simulate_host(timed, get_policy("locked-6.12"), seed=1, replicate=0, host=0, audit=True)
    first, last = result.epochs
    less = replace(last, counters=last.counters | {"pgfault": first.counters["pgfault"] - 1})
    guest = replace(result.guests[0], latencies=(7,))
    for broken, law in (
        (replace(result, epochs=(first, less)), "epochs"),
        (replace(result, epochs=(first,)), "epochs"),
        (replace(result, epochs=(first, replace(last, free_pages=9))), "epochs"),
        (replace(result, epochs=(replace(first, guests=2), last)), "epochs"),
        (replace(result, gauges=result.gauges | {"psi_full_avg10": 101.0}), "host gauges"),
        (replace(result, guests=(guest,)), "batches"),
    ):
        with pytest.raises(LawBrokenError, match=f"^{law}, host 0"):
            check_result(timed, broken)


def test_a_guest_that_has_left_has_no_memory_and_no_more_time() -> None:
    gone = replace(SPEC, guests=(replace(SPEC.guests[0], leaves=2),), clock=ClockSpec())
    result = simulate_host(gone, get_policy("locked-6.12"), seed=1, replicate=0, host=0, audit=True).guests[0]
    for name, law in (("resident_pages", "resident"), ("idle_ns", "time")):
        broken = replace(result, counters=result.counters | {name: result.counters[name] + 1})
        with pytest.raises(LawBrokenError, match=f"^{law}, host 0"):
            check_guest(gone, gone.guests[0], broken)


def test_every_law_of_results_has_a_breach() -> None:
    assert {law for _, law in CHANGES} | {"batches"} == set(GUEST_LAWS)
