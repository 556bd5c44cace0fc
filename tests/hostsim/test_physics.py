"""What must come out whatever the numbers: which policies see the same pages, and what each of them misses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import MISSED, PRESENT, PRIMARY, SHADOW, TDP, TOUCHED
from coldfleet.hostsim.host import collect, simulate_host
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.hostsim.replay.observe import page_states
from coldfleet.hostsim.spec.host_spec import GuestSpec, HostSpec, NestedSpec, WorkloadSpec
from coldfleet.hostsim.workload.streams import GuestStream
from coldfleet.policies import POLICIES, Policy, Site, get_policy
from tests.hostsim.one_word import compiled_ask

PAGES, LIMIT, TICKS = 3000, 1800, 6
WORKLOADS = [
    WorkloadSpec(kind="zipf", write_share=0.2),
    WorkloadSpec(kind="hotcold", layout="ordered"),
    WorkloadSpec(kind="phases", phase_ticks=2),
    WorkloadSpec(kind="hotscan"),
]
MODES = ("limit", "proactive", "debugfs")
YOUNG = ("young_walk", "young_look_around", "young_evict")
ALWAYS_L2 = NestedSpec(access_share=0.5, exposed_share=0.5, l2_only_share=0.25)
ONCE_L2 = replace(ALWAYS_L2, stop_tick=1)
LOCKS_AND_TIME = {
    "rcu_walks",
    "rmap_lock_acquisitions",
    "mmu_lock_read_acquisitions",
    "mmu_lock_write_acquisitions",
    "aging_cpu_ns",
    "reclaim_cpu_ns",
}
Observer = Callable[[HostMemory], None]


def run(
    policy: Policy, kernel: str, mode: str, load: WorkloadSpec, nested: NestedSpec | None, look: Observer | None = None
) -> HostMemory:
    """One guest on one host, tick by tick as hostsim.host does it; ``look`` sees the memory before each reclaim."""
    guest = GuestSpec("g", PAGES, LIMIT, accesses_per_tick=2500, workload=load, nested=nested)
    stream = GuestStream(guest, seed=3, replicate=0, host=0, guest=0)
    memory = HostMemory([Memslot(PAGES, max_pages=LIMIT if mode == "limit" else 0)], KERNELS[kernel], policy)
    for tick in range(TICKS + 1):
        if tick and stream.l2_runs(tick - 1) and not stream.l2_runs(tick):
            memory.stop_nested(0)
        memory.touch(0, stream.populate(tick))
        if tick:
            memory.touch(0, stream.draw(tick))
        if look:
            look(memory)
        surplus = memory.resident(0) - LIMIT
        if mode == "debugfs":
            memory.age(0)
            if surplus > 0:
                memory.evict(0, int(memory.lruvec(0)["max_seq"]) - 2, 200, surplus)
        elif mode == "proactive" and surplus > 0:
            memory.memory_reclaim(0, surplus)
    memory.drain()
    return memory


def outcome(memory: HostMemory, names: tuple[str, ...] = YOUNG) -> tuple[dict[str, int], list[int]]:
    counters = collect(memory, 0)
    return {name: counters[name] for name in names}, page_states(memory, 0).tolist()


@pytest.mark.parametrize("kernel", ["6.12", "6.16"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("load", WORKLOADS, ids=lambda load: load.kind)
def test_without_nested_guests_all_but_two_see_the_same_pages(load: WorkloadSpec, mode: str, kernel: str) -> None:
    found = {name: outcome(run(policy, kernel, mode, load, None)) for name, policy in POLICIES.items()}
    blind = found.pop("evict-only")
    found.pop("every-mmu-v4")  # sees them in its aging, but never looks around in a VM
    first = found["locked-6.12"]
    assert all(other == first for other in found.values())
    assert blind[0]["young_walk"] < first[0]["young_walk"]


@pytest.mark.parametrize("kernel", ["6.12", "6.18"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("load", WORKLOADS, ids=lambda load: load.kind)
@pytest.mark.parametrize("nested", [ONCE_L2, ALWAYS_L2], ids=["L2 ran once", "L2 runs"])
def test_locked_and_lockless_differ_in_locks_only(
    nested: NestedSpec, load: WorkloadSpec, mode: str, kernel: str
) -> None:
    locked, lockless = (run(get_policy(name), kernel, mode, load, nested) for name in ("locked-6.12", "lockless-6.15"))
    assert page_states(locked, 0).tolist() == page_states(lockless, 0).tolist()
    ours, theirs = collect(locked, 0), collect(lockless, 0)
    assert {name for name in ours if ours[name] != theirs[name]} <= LOCKS_AND_TIME
    calls = sum(ours[f"notifier_calls_{site.name.lower()}"] for site in Site)
    assert ours["mmu_lock_write_acquisitions"] == calls > 0
    assert theirs["mmu_lock_write_acquisitions"] == 0
    assert theirs["rcu_walks"] == calls


def asked(memory: HostMemory, policy: Policy, site: Site) -> Iterator[tuple[dict[str, int], int]]:
    """(bits by name, young pages) of every word, as the policy would answer now; the memory is left as it was."""
    code = policy.encode()
    m = replace(
        memory.machine,
        bits=memory.machine.bits.copy(),
        sites=memory.machine.sites.copy(),
        step_pages=memory.machine.step_pages.copy(),
        steps=code.steps,
        calls=code.calls,
        policy=code.control,
    )
    columns = {"p": PRIMARY, "t": TDP, "s": SHADOW, "touched": TOUCHED, "present": PRESENT}
    for word in range(len(m.bits)):
        bits = {name: int(m.bits[word, column]) for name, column in columns.items()}
        young, _ = compiled_ask(m, 0, word, m.bits[word, PRESENT], int(site))
        yield bits, int(young)


@pytest.mark.parametrize("nested", [ONCE_L2, ALWAYS_L2], ids=["L2 ran once", "L2 runs"])
def test_after_any_l2_fast_only_v5_sees_what_evict_only_sees(nested: NestedSpec) -> None:
    v5, evict_only = get_policy("fast-only-v5"), get_policy("evict-only")
    hidden = 0

    def look(memory: HostMemory) -> None:
        nonlocal hidden
        for site in (Site.WALK, Site.LOOK_AROUND):
            both = zip(asked(memory, v5, site), asked(memory, evict_only, site), strict=True)
            for (bits, young), (_, young_by_evict_only) in both:
                assert young == young_by_evict_only == bits["p"] & bits["present"]
                hidden += (bits["touched"] & ~young).bit_count()

    run(v5, "6.12", "debugfs", WORKLOADS[0], nested, look)
    assert hidden > 1000


@pytest.mark.parametrize("mode", ["proactive", "debugfs"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("nested", [ONCE_L2, ALWAYS_L2], ids=["L2 ran once", "L2 runs"])
def test_after_any_l2_fast_only_v5_is_evict_only_that_doesn_t_trust_the_pmd(
    nested: NestedSpec, kernel: str, mode: str
) -> None:
    evict_only = replace(get_policy("evict-only"), trusts_pmd=False)
    found = [
        outcome(run(policy, kernel, mode, WORKLOADS[0], nested), (*YOUNG, "pgscan", "pgmajfault", "pgactivate"))
        for policy in (get_policy("fast-only-v5"), evict_only)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("load", WORKLOADS, ids=lambda load: load.kind)
@pytest.mark.parametrize("name", ["was-fast", "six-steps"])
def test_was_fast_and_six_steps_miss_only_what_is_young_in_the_shadow_mmu_alone(name: str, load: WorkloadSpec) -> None:
    missed_in_all = 0

    def look(memory: HostMemory) -> None:
        nonlocal missed_in_all
        for site in Site:
            for bits, young in asked(memory, get_policy(name), site):
                missed = bits["touched"] & bits["present"] & ~young
                assert missed & ~(bits["s"] & ~bits["t"] & ~bits["p"]) == 0
                assert site != Site.EVICT or not missed
                missed_in_all += missed.bit_count()

    memory = run(get_policy(name), "6.12", "debugfs", load, ALWAYS_L2, look)
    assert missed_in_all > 0
    assert memory.machine.sites[0, Site.WALK, MISSED] > 0
    assert memory.machine.sites[0, Site.EVICT, MISSED] == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["locked-6.12", "lockless-6.15"])
def test_the_merged_policies_miss_no_page_that_they_ask_for(name: str, mode: str) -> None:
    counters = collect(run(get_policy(name), "6.12", mode, WORKLOADS[0], ALWAYS_L2), 0)
    assert [counters[f"missed_young_{site.name.lower()}"] for site in Site] == [0, 0, 0]


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "fast-only-v6-posted"])
def test_the_eviction_check_never_loses_a_hot_page(name: str) -> None:
    counters = collect(run(get_policy(name), "6.12", "limit", WORKLOADS[0], ALWAYS_L2), 0)
    assert counters["missed_young_evict"] == 0
    assert counters["young_evict"] > 0


def hosts(policy: str, order: list[int], replicate: int = 0) -> dict[int, Any]:
    guests = tuple(GuestSpec(f"g{g}", 700, 400, 1000, nested=ALWAYS_L2 if g else None) for g in range(3))
    spec = HostSpec("6.12", guests, ticks=3)
    return {host: simulate_host(spec, get_policy(policy), seed=5, replicate=replicate, host=host) for host in order}


def hashes(results: dict[int, Any]) -> dict[tuple[int, int], int]:
    return {(host, g): guest.access_hash for host, result in results.items() for g, guest in enumerate(result.guests)}


def test_a_guest_s_accesses_are_the_same_under_every_policy() -> None:
    expected = hashes(hosts("evict-only", [0, 1]))
    assert all(hashes(hosts(name, [0, 1])) == expected for name in POLICIES)


def test_no_two_guests_hosts_or_replicates_have_the_same_accesses() -> None:
    found = [digest for replicate in range(3) for digest in hashes(hosts("evict-only", [0, 1, 2], replicate)).values()]
    assert len(set(found)) == 27


def test_the_order_of_hosts_doesn_t_matter() -> None:
    forwards, backwards = hosts("six-steps", [0, 1, 2]), hosts("six-steps", [2, 0, 1])
    assert {host: forwards[host] for host in backwards} == backwards
