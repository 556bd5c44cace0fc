"""One hypervisor host, from its spec to its results: the function that every cell of a sweep calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hostsim.costs import cpu_ns
from hostsim.counters import COUNTERS, EVENTS
from hostsim.errors import UserError
from hostsim.guest_extras import GuestExtras, make_caller
from hostsim.hybrid import get_kernel
from hostsim.machine import HostMemory, Memslot
from hostsim.model import SWAP_DEVICES, GuestResult, GuestSpec, HostResult, HostSpec
from hostsim.notifier import CALLS, FAILED, FALSE, FLUSHES, LOCKS, MISSED, YOUNG
from hostsim.philox import study_key
from hostsim.scene import RecordedStream
from hostsim.state import CALLER, MIN_NR_GENS
from hostsim.workloads import FileStream, GuestStream, hash_accesses
from policies import Lock, Policy, Site

Stream = GuestStream | RecordedStream

EVICT_SWAPPINESS = 200  # of the debugfs `-`: anonymous memory only


def simulate_host(
    spec: HostSpec,
    policy: Policy,
    *,
    seed: int,
    replicate: int,
    host: int,
    make_memory: Callable[..., HostMemory] = HostMemory,
) -> HostResult:
    """Runs a host for ``spec.ticks`` ticks; the same arguments give the same result, bit for bit.

    ``make_memory``: what the host runs on; a :class:`HostMemory` that also watches what is done to it.
    Raises UserError for an unknown kernel or mode, or a host without guests.
    """
    kernel = replace(get_kernel(spec.kernel), lru_gen=spec.lru_gen)
    if not spec.guests:
        raise UserError("a host without guests has nothing to simulate")
    limited = spec.mode == "limit"
    _check(spec)
    slots = [
        Memslot(
            pages=guest.memory_pages,
            own_pages=guest.own_pages,
            kernel_pages=guest.kernel_pages,
            kvm=guest.kind != "process",
            tdp=guest.vm.tdp and guest.kind not in ("shadow", "rmap"),
            extras=guest.vm.extras or bool(spec.caller),
            max_pages=guest.limit_pages if limited and not spec.parent_pages else 0,
            swappiness=spec.swappiness,
            file_pages=guest.page_cache.pages if guest.page_cache else 0,
        )
        for guest in spec.guests
    ]
    parent_limit = spec.parent_pages if limited else 0
    memory = make_memory(
        slots,
        kernel,
        policy,
        parent_max_pages=parent_limit,
        shared_cpu=spec.scene,
        async_swap=spec.swap_device == "async",
    )
    streams = [_stream(guest, spec.ticks, (seed, replicate, host, g)) for g, guest in enumerate(spec.guests)]
    files = {
        g: FileStream(guest, guest.page_cache, seed=seed, replicate=replicate, host=host, guest=g)
        for g, guest in enumerate(spec.guests)
        if guest.page_cache
    }
    for g, guest in enumerate(spec.guests):
        if guest.own_pages:
            memory.touch_own(g)
    extras = {
        g: GuestExtras(memory, g, guest, seed=seed, replicate=replicate, host=host)
        for g, guest in enumerate(spec.guests)
        if guest.vm.extras or spec.caller
    }
    caller = make_caller(memory, spec, key=study_key(seed, replicate), host=host) if spec.caller else None
    for tick in range(spec.ticks + 1):
        memory.tick = tick
        for g, stream in enumerate(streams):
            _run_guest(memory, spec, g, stream, files.get(g), extras.get(g), tick)
        if caller is not None and tick:
            caller(tick)
        memory.complete_io()
        if memory.flusher_woken or tick % spec.flush_every_ticks == 0:
            memory.flush()
        if tick:
            for g in range(len(streams)):
                memory.events(g)["resident_page_ticks"] += memory.resident(g)
    results = (_result(memory, policy, spec, g, stream, files.get(g)) for g, stream in enumerate(streams))
    return HostResult(tuple(results))


def _stream(guest: GuestSpec, ticks: int, who: tuple[int, int, int, int]) -> Stream:
    seed, replicate, host, number = who
    if guest.recorded is not None:
        return RecordedStream(
            guest, guest.recorded, ticks=ticks, seed=seed, replicate=replicate, host=host, guest=number
        )
    return GuestStream(guest, seed=seed, replicate=replicate, host=host, guest=number)


def _check(spec: HostSpec) -> None:
    """Raises UserError for a swap device that isn't known."""
    if spec.swap_device not in SWAP_DEVICES:
        raise UserError(f"unknown swap device {spec.swap_device!r}; known are {', '.join(SWAP_DEVICES)}")


def _run_guest(
    memory: HostMemory,
    spec: HostSpec,
    g: int,
    stream: Stream,
    file: FileStream | None,
    extras: GuestExtras | None,
    tick: int,
) -> None:
    """One tick of one guest: its accesses, then the reclaim that user space asks for."""
    if extras is not None:
        extras.begin(tick)
    if tick and stream.l2_runs(tick - 1) and not stream.l2_runs(tick):
        memory.stop_nested(g)
    first_writes = stream.populate(tick)
    if len(first_writes):
        memory.touch(g, first_writes)
    if tick:
        memory.touch(g, stream.draw(tick))
        if file:
            memory.access_file(g, file.draw(tick))
        if extras is not None:
            extras.after_accesses(tick)
    if spec.aging_every_ticks and tick and tick % spec.aging_every_ticks == 0:
        memory.age(g, force_scan=False)
    if spec.scene:
        memory.drain()
    memory.flush_stats()  # the kernel does it every 2 s, or when someone reads memory.stat
    if spec.parent_pages:
        _reclaim_parent(memory, spec)
    else:
        _reclaim(memory, spec, g, tick)
    if spec.scene:
        memory.drain()
    memory.flush_stats()
    if extras is not None:
        extras.end(tick)


def _reclaim(memory: HostMemory, spec: HostSpec, g: int, tick: int) -> None:
    """What user space asks for after a guest's tick, but for the one that populates."""
    surplus = memory.in_memory(g) - spec.guests[g].limit_pages
    if spec.mode == "limit" or not spec.guests[g].limit_pages or not tick:
        return
    if spec.mode == "debugfs":
        memory.age(g)
        if surplus > 0:
            oldest_evictable = int(memory.lruvec(g)["max_seq"]) - MIN_NR_GENS
            memory.evict(g, oldest_evictable, EVICT_SWAPPINESS, surplus)
    elif spec.mode == "proactive" and surplus > 0:
        memory.memory_reclaim(g, surplus)


def _reclaim_parent(memory: HostMemory, spec: HostSpec) -> None:
    """The same, if it asks the memcg above all guests: after every guest's turn, also as they populate."""
    surplus = sum(memory.in_memory(g) for g in range(len(spec.guests))) - spec.parent_pages
    if spec.mode == "proactive" and surplus > 0:
        memory.memory_reclaim_parent(surplus)


def _result(
    memory: HostMemory, policy: Policy, spec: HostSpec, g: int, stream: Stream, file: FileStream | None
) -> GuestResult:
    digest = int(stream.digest)
    if file:
        digest = int(hash_accesses(stream.digest, np.array([file.digest]).view(np.uint32)))
    return GuestResult(
        name=spec.guests[g].name,
        nested=spec.guests[g].nested is not None or spec.guests[g].kind == "nested",
        access_hash=digest,
        counters=collect(memory, g),
        step_pages=tuple(int(n) for n in memory.machine.step_pages[g][: len(policy.steps)]),
    )


def collect(memory: HostMemory, guest: int) -> dict[str, int]:
    """Every counter of hostsim.counters.COUNTERS for one guest."""
    events = memory.events(guest)
    sites = memory.machine.sites[guest]
    found = {name: int(events[name]) for name in EVENTS.names or ()}
    for site in Site:
        name = site.name.lower()
        found[f"young_{name}"] = int(sites[site, YOUNG])
        found[f"missed_young_{name}"] = int(sites[site, MISSED])
        found[f"false_young_{name}"] = int(sites[site, FALSE])
        found[f"notifier_calls_{name}"] = int(sites[site, CALLS])
    found["notifier_calls_caller"] = int(sites[CALLER, CALLS])
    found["caller_young"] = int(sites[CALLER, YOUNG])
    found["caller_missed_young"] = int(sites[CALLER, MISSED])
    found["caller_false_young"] = int(sites[CALLER, FALSE])
    totals = sites.sum(axis=0)
    found["notifier_failed"] = int(totals[FAILED])
    found["tlb_flushes"] = int(totals[FLUSHES])
    found["rcu_walks"] = int(totals[LOCKS + Lock.RCU])
    found["rmap_lock_acquisitions"] = int(totals[LOCKS + Lock.RMAP])
    found["mmu_lock_read_acquisitions"] = int(totals[LOCKS + Lock.MMU_READ])
    found["mmu_lock_write_acquisitions"] = int(totals[LOCKS + Lock.MMU_WRITE])
    found["indirect_shadow_pages"] = int(memory.machine.mms[guest]["indirect_shadow_pages"])
    found["resident_pages"] = memory.resident(guest)
    found.update(cpu_ns(found, sites))
    return {counter.name: found[counter.name] for counter in COUNTERS}
