"""One hypervisor host, from its spec to its results: the function that every cell of a sweep calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from coldfleet.hostsim.clock.host_clock import HostClock, gauges
from coldfleet.hostsim.clock.kernel_threads import Worker
from coldfleet.hostsim.clock.user_space import UserSpace, act, new_user_space
from coldfleet.hostsim.costs.constants import cpu_ns
from coldfleet.hostsim.counters.counters import COUNTERS, EVENTS
from coldfleet.hostsim.counters.timing import no_time
from coldfleet.hostsim.engine.hybrids import get_kernel
from coldfleet.hostsim.engine.philox import study_key
from coldfleet.hostsim.engine.state import CALLS, FAILED, FALSE, FLUSHES, LOCKS, MISSED, MONITOR, YOUNG
from coldfleet.hostsim.engine.streams import SAMPLE_STARTS, Source, guest_word
from coldfleet.hostsim.memory.audit import check_memory
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot, Watermarks
from coldfleet.hostsim.memory.result_laws import check_result
from coldfleet.hostsim.memory.watermarks import kernel_watermarks
from coldfleet.hostsim.mm.khugepaged import Khugepaged
from coldfleet.hostsim.monitors.monitor import make_monitor
from coldfleet.hostsim.sampling import scale_up, simulate_sampled
from coldfleet.hostsim.spec.calibration import DEFAULT, Calibration
from coldfleet.hostsim.spec.checks import MAX_SWAPPINESS
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import FILE_DEVICES, Epoch, GuestResult, GuestSpec, HostResult, HostSpec
from coldfleet.hostsim.swap.devices import NO_SWAP, get_device
from coldfleet.hostsim.swap.queue import SWAP, new_queue
from coldfleet.hostsim.swap.zram import fill_in_sizes, with_compression
from coldfleet.hostsim.workload.access_queues import AccessQueues, GuestSource, Stream
from coldfleet.hostsim.workload.guest_extras import GuestExtras
from coldfleet.hostsim.workload.guest_streams import make_stream
from coldfleet.hostsim.workload.scenario import RecordedStream
from coldfleet.hostsim.workload.streams import FileStream
from coldfleet.policies import Lock, Policy, Site

LEAST_BATCH = 64  # accesses: what a sample draws is not cut finer
NO_TIME = no_time()


def simulate_host(
    spec: HostSpec,
    policy: Policy,
    *,
    seed: int,
    replicate: int,
    host: int,
    make_memory: Callable[..., HostMemory] = HostMemory,
    audit: bool = False,
) -> HostResult:
    """Runs a host for ``spec.ticks`` ticks; the same arguments give the same result, bit for bit.

    ``make_memory``: what the host runs on; a :class:`HostMemory` that also watches what is done to it.
    ``audit``: checks the laws of hostsim.memory.audit after every tick, and those of hostsim.memory.result_laws at the
    end; raises LawBrokenError. The result is the same.
    Raises UserError for an unknown kernel or mode, a host without guests, min_ttl_ms without a clock or generations,
    or agings without generations.
    """
    kernel = replace(get_kernel(spec.kernel), lru_gen=spec.lru_gen)
    if spec.min_ttl_ms and not spec.lru_gen:
        raise UserError("min_ttl_ms protects generations, which the classic LRU doesn't have: leave it out")
    if not spec.lru_gen and (spec.mode in ("debugfs", "age") or spec.aging_every_ticks):
        raise UserError("the classic LRU has no generations to age: mode is not debugfs or age, aging_every_ticks is 0")
    if spec.min_ttl_ms and not spec.clock:
        raise UserError("min_ttl_ms is a time, and without a clock there is none")
    if spec.swappiness > MAX_SWAPPINESS and not kernel.swappiness_anon_only:
        raise UserError(f"swappiness {spec.swappiness} is only known since 6.14: at most {MAX_SWAPPINESS}")
    if not spec.guests:
        raise UserError("a host without guests has nothing to simulate")
    if spec.scenario and any(guest.arrives or guest.leaves for guest in spec.guests):
        raise UserError("the guests of a scenario are there from its start to its end: leave out arrives and leaves")
    _check_huge_pages(spec)
    if spec.sample > 1:
        key = int(study_key(seed, replicate))
        random = np.random.Generator(np.random.Philox(key=key, counter=[0, SAMPLE_STARTS, host, 0]))
        again = partial(
            simulate_host,
            policy=policy,
            seed=seed,
            replicate=replicate,
            host=host,
            make_memory=make_memory,
            audit=audit,
        )
        estimate = simulate_sampled(spec, random, again)
        if audit:
            check_result(spec, estimate, host)
        return estimate
    limited = spec.mode == "limit"
    slots = [
        Memslot(
            pages=guest.memory_pages,
            own_pages=guest.own_pages,
            kernel_pages=guest.kernel_pages,
            kvm=guest.kind != "process",
            tdp=guest.vm.tdp and guest.kind not in ("shadow", "rmap"),
            extras=guest.vm.extras or bool(spec.monitor),
            max_pages=guest.limit_pages if limited and not spec.parent_pages else 0,
            min_pages=guest.min_pages,
            low_pages=guest.low_pages,
            high_pages=guest.high_pages,
            swappiness=spec.swappiness,
            file_pages=guest.page_cache.pages if guest.page_cache else 0,
            readahead_pages=guest.page_cache.readahead_pages if guest.page_cache else 0,
            online=not guest.arrives,
            **_huge_pages(spec, guest),
        )
        for guest in spec.guests
    ]
    parent_limit = spec.parent_pages if limited else 0
    kernel_pages = sum(slot.kernel_pages for slot in slots if slot.online)
    device = get_device(spec.swap_device)
    memory = make_memory(
        slots,
        kernel,
        policy,
        parent_max_pages=parent_limit,
        parent_protection=(0, 0) if spec.parent_pages else None,
        shared_cpu=spec.scenario,
        async_swap=device.asynchronous,
        free_pages=max(spec.memory_pages - spec.hugetlb_pages - kernel_pages, 0),
        watermarks=_watermarks(spec),
        swap_pages=0 if device.name == NO_SWAP else spec.swap_pages or None,
        compressed_swap=device.compresses,
        page_cluster=spec.page_cluster,
        rotating_swap=device.rotating,
        pool_limit=spec.pool_pages,
        scale=round(spec.scale),
        call_scale=spec.call_scale,
    )
    who = seed, replicate, host
    if spec.scheduler == "drawn":
        numbers = [guest_word(Source.ACCESSES, g, guest.part) for g, guest in enumerate(spec.guests)]
        memory.draw_scheduler(study_key(seed, replicate), host, numbers)
    queues = _access_queues(memory, spec, policy, who)
    user_space = new_user_space(spec)
    extras = [_extras(memory, spec, g, who) for g in range(len(spec.guests))]
    if len(memory.machine.size_classes):
        numbers = [guest_word(Source.ACCESSES, g, guest.part) for g, guest in enumerate(spec.guests)]
        fill_in_sizes(memory, spec.compression, study_key(seed, replicate), host, numbers)
    clock = None
    workers = _workers(memory, spec, study_key(seed, replicate), host)
    # if nothing happens between ticks that takes no time
    together = not (workers or memory.has_io or memory.watched or audit)
    turnovers = sorted({tick for guest in spec.guests for tick in (guest.arrives, guest.leaves)} | {0})
    epochs: list[Epoch] = []
    tick = 0
    while tick <= spec.ticks:
        memory.tick = tick
        if turnovers and tick == turnovers[0]:
            del turnovers[0]
            _turn_over(memory, spec, tick)
            if clock is not None:
                clock.turn_over()
        if clock is not None:
            epoch = -(-tick // spec.epochs) * spec.epochs if spec.epochs else spec.ticks
            last = min(spec.ticks, epoch, *(each - 1 for each in turnovers[:1]))
            last = last if together else tick
            clock.run_ticks(tick, last)
            tick = last
        else:
            for g, own in enumerate(extras):
                if memory.is_online(g):
                    _run_tick(queues, g, user_space, own, tick)
            for worker in workers.values():
                for _ in worker.begin() if tick and tick % worker.every_ticks == 0 else ():
                    pass
        if clock is not None:
            clock.complete_io()
        else:
            memory.complete_io()
        if spec.clock and not tick:
            clock = _clock(memory, queues, user_space, extras, workers, spec, who)
            memory.protect_generations(spec.min_ttl_ms)
        if memory.flusher_woken or tick % spec.flush_every_ticks == 0:
            memory.flush()
        if tick and clock is None:
            memory.count_tick()
        if tick and spec.epochs and (tick % spec.epochs == 0 or tick == spec.ticks):
            epochs.append(_epoch(tick, memory, spec, _results(memory, policy, spec, queues, clock, tick)))
        if audit:
            check_memory(memory, host)
        tick += 1
    result = replace(_results(memory, policy, spec, queues, clock, spec.ticks), epochs=tuple(epochs))
    if audit:
        check_result(spec, result, host)
    return result


def _turn_over(memory: HostMemory, spec: HostSpec, tick: int) -> None:
    """Before a tick, guests leave, and then others come."""
    for g, guest in enumerate(spec.guests):
        if tick and guest.leaves == tick:
            memory.leave(g)
    for g, guest in enumerate(spec.guests):
        if guest.arrives == tick:
            if tick:
                memory.arrive(g)
            if guest.own_pages:
                memory.touch_own(g)


def _results(
    memory: HostMemory, policy: Policy, spec: HostSpec, queues: AccessQueues, clock: HostClock | None, tick: int
) -> HostResult:
    """How the host stands after a tick."""
    guests = range(len(spec.guests))
    times = clock.finish(tick) if clock else [NO_TIME] * len(guests)
    results = tuple(_result(memory, policy, spec, g, queues, times[g]) for g in guests)
    return HostResult(results) if clock is None else _with_gauges(results, clock)


def _epoch(tick: int, memory: HostMemory, spec: HostSpec, result: HostResult) -> Epoch:
    free = round(int(memory.machine.node[0]["free_pages"]) * spec.scale) if memory.has_watermarks else 0
    living = [guest for g, guest in enumerate(spec.guests) if memory.is_alive(g)]
    pages = sum((guest.sample.of if guest.sample else guest).memory_pages for guest in living)
    return Epoch(tick, result.totals(), result.gauges, free, len(living), pages)


def _watermarks(spec: HostSpec) -> Watermarks | None:
    if not spec.memory_pages:
        return None
    return kernel_watermarks(spec.memory_pages, spec.watermark_scale_factor, spec.scale)


def _with_gauges(results: tuple[GuestResult, ...], clock: HostClock) -> HostResult:
    """The results of a run on a clock."""
    *own, everybody = zip(clock.psis, clock.io_psis, strict=True)
    latencies = clock.vcpus.latencies
    guests = (
        replace(result, gauges=gauges(*psi, each), latencies=tuple(each.tolist()))
        for result, psi, each in zip(results, own, latencies, strict=True)
    )
    return HostResult(tuple(guests), gauges(*everybody, latencies.sum(axis=0)))


def _stream(guest: GuestSpec, ticks: int, paced: bool, who: tuple[int, int, int, int]) -> Stream:
    seed, replicate, host, number = who
    if guest.recorded is not None:
        return RecordedStream(
            guest, guest.recorded, ticks=ticks, seed=seed, replicate=replicate, host=host, guest=number
        )
    return make_stream(guest, paced=paced, seed=seed, replicate=replicate, host=host, guest=number)


def _access_queues(memory: HostMemory, spec: HostSpec, policy: Policy, who: tuple[int, int, int]) -> AccessQueues:
    """What the guests do; on a clock, some also on memory that isn't reclaimed, to know how long it takes there."""
    seed, replicate, host = who
    batch = 0
    if spec.clock:
        batch = max(round(spec.clock.batch / spec.scale), min(spec.clock.batch, LEAST_BATCH))
    sources: list[GuestSource] = []
    slots: list[Memslot] = []
    baseline_of: list[int] = []
    for g, guest in enumerate(spec.guests):
        number = guest_word(Source.ACCESSES, g, guest.part)
        own = {"seed": seed, "replicate": replicate, "host": host, "guest": number}
        file = FileStream(guest, guest.page_cache, **own) if guest.page_cache else None
        stream = _stream(guest, spec.ticks, spec.clock is not None, (*who, number))
        sources.append(GuestSource(stream, guest.life(spec.ticks), file, batch))
        has_baseline = spec.clock and (guest.nested or guest.page_cache)
        baseline_of.append(len(slots) if has_baseline else -1)
        if has_baseline:
            slots.append(_baseline(spec, guest))
    baseline = HostMemory(slots, memory.kernel, policy) if slots else None
    return AccessQueues(memory, sources, baseline, baseline_of)


def _baseline(spec: HostSpec, guest: GuestSpec) -> Memslot:
    """Memory without limit for a guest that has faults after tick 0 even so: by L2, or of a file's pages."""
    return Memslot(
        guest.memory_pages,
        kvm=guest.kind != "process",
        tdp=guest.vm.tdp,
        file_pages=guest.page_cache.pages if guest.page_cache else 0,
        readahead_pages=guest.page_cache.readahead_pages if guest.page_cache else 0,
        **_huge_pages(spec, guest),
    )


def _huge_pages(spec: HostSpec, guest: GuestSpec) -> dict[str, Any]:
    """What a guest's Memslot says of huge pages."""
    if guest.huge_pages == "never":
        return {}
    return {
        "huge_pages": True,
        "huge_reclaims": spec.huge_pages.reclaims(guest.huge_pages),
        "huge_wakes": spec.huge_pages.wakes_kswapd(guest.huge_pages),
        "l1_huge": guest.vm.l1_huge_pages,
        "split_share": guest.vm.split_share,
    }


def _workers(memory: HostMemory, spec: HostSpec, key: np.uint64, host: int) -> dict[str, Worker]:
    """The access monitor and khugepaged, if they are there, by the column of their CPU time."""
    workers, huge = {}, spec.huge_pages
    if spec.monitor:
        monitor = make_monitor(memory, spec, key=key, host=host)
        workers["monitor_cpu_ns"] = Worker(monitor, spec.monitor_every_ticks)
    if huge.khugepaged and len(memory.machine.huge):
        limits = {"max_ptes_none": huge.max_ptes_none, "max_ptes_swap": huge.max_ptes_swap}
        khugepaged = Khugepaged(memory.machine, pages_to_scan=huge.pages_to_scan, **limits)
        workers["khugepaged_cpu_ns"] = Worker(khugepaged.wake_up, huge.every_ticks)
    return workers


def _check_huge_pages(spec: HostSpec) -> None:
    """Raises UserError for a host whose huge pages are not modelled."""
    if all(guest.huge_pages == "never" for guest in spec.guests):
        return
    for wrong, why in (
        (not spec.lru_gen, "the classic LRU has none"),
        (spec.sample > 1, "reclaim takes 2 MiB at a time, which a sample can't scale: sample = 1"),
        (bool(spec.monitor), "an access monitor sees pages of 4 KiB only"),
        (any(guest.vm.extras for guest in spec.guests), "of vm they know tdp and split_share only"),
    ):
        if wrong:
            raise UserError(f"huge pages are not modelled here: {why}")


def _extras(memory: HostMemory, spec: HostSpec, g: int, who: tuple[int, int, int]) -> GuestExtras | None:
    """What happens to a guest in every tick besides its accesses and what user space does; None: nothing."""
    guest = spec.guests[g]
    if not guest.vm.extras and not spec.monitor:
        return None
    seed, replicate, host = who
    return GuestExtras(memory, g, guest, seed=seed, replicate=replicate, host=host)


def _run_tick(queues: AccessQueues, g: int, user_space: UserSpace, extras: GuestExtras | None, tick: int) -> None:
    """One tick of one guest without time: all of it."""
    if extras is not None:
        extras.begin(tick)
    queues.make_all(g, tick)
    if extras is not None:
        extras.after_accesses(tick)
    act(queues.memory, user_space, g, tick)
    if extras is not None:
        extras.end(tick)


def _clock(
    memory: HostMemory,
    queues: AccessQueues,
    user_space: UserSpace,
    extras: list[GuestExtras | None],
    workers: Mapping[str, Worker],
    spec: HostSpec,
    who: tuple[int, int, int],
) -> HostClock:
    assert spec.clock is not None
    seed, replicate, host = who
    vcpus = [guest.vcpus for guest in spec.guests]
    device = with_compression(get_device(spec.swap_device), spec.compression)
    queue_of = partial(new_queue, key=study_key(seed, replicate), host=host, part=spec.guests[0].part)
    files = [guest.page_cache.device if guest.page_cache else "" for guest in spec.guests]
    kinds = sorted({name for name in files if name})
    file_queues = [
        queue_of(get_device(name), source=Source.FILE_DEVICE, kind=FILE_DEVICES.index(name)) for name in kinds
    ]
    return HostClock(
        memory,
        queues,
        user_space,
        extras,
        spec.clock,
        vcpus,
        [guest.arrives for guest in spec.guests],
        device,
        queue_of(device),
        np.concatenate(file_queues or [np.zeros(1, SWAP)]),
        [kinds.index(name) if name else 0 for name in files],
        spec.scale,
        spec.calibration,
        workers,
    )


def _result(
    memory: HostMemory, policy: Policy, spec: HostSpec, g: int, queues: AccessQueues, times: Mapping[str, int]
) -> GuestResult:
    guest = spec.guests[g]
    result = GuestResult(
        name=guest.name,
        nested=guest.nested is not None or guest.kind == "nested",
        access_hash=queues.access_hash(g),
        counters=collect(memory, g, times, spec.calibration),
        step_pages=tuple(int(n) for n in memory.machine.step_pages[g][: len(policy.steps)]),
        oom_tick=memory.oom_tick(g),
        oom_reason=memory.oom_reason(g),
    )
    return scale_up(result, guest, *queues.made(g)) if guest.sample else result


def collect(
    memory: HostMemory, guest: int, times: Mapping[str, int] = NO_TIME, calibration: Calibration = DEFAULT
) -> dict[str, int]:
    """Every counter of hostsim.counters.counters.COUNTERS for one guest; ``times``: those that a clock has."""
    events = memory.events(guest)
    sites = memory.machine.sites[guest]
    found = {name: int(events[name]) for name in EVENTS.names or ()}
    for site in Site:
        name = site.name.lower()
        found[f"young_{name}"] = int(sites[site, YOUNG])
        found[f"missed_young_{name}"] = int(sites[site, MISSED])
        found[f"false_young_{name}"] = int(sites[site, FALSE])
        found[f"notifier_calls_{name}"] = int(sites[site, CALLS])
    found["notifier_calls_monitor"] = int(sites[MONITOR, CALLS])
    found["monitor_young"] = int(sites[MONITOR, YOUNG])
    found["monitor_missed_young"] = int(sites[MONITOR, MISSED])
    found["monitor_false_young"] = int(sites[MONITOR, FALSE])
    totals = sites.sum(axis=0)
    found["notifier_failed"] = int(totals[FAILED])
    found["tlb_flushes"] = int(totals[FLUSHES])
    found["rcu_walks"] = int(totals[LOCKS + Lock.RCU])
    found["rmap_lock_acquisitions"] = int(totals[LOCKS + Lock.RMAP])
    found["mmu_lock_read_acquisitions"] = int(totals[LOCKS + Lock.MMU_READ])
    found["mmu_lock_write_acquisitions"] = int(totals[LOCKS + Lock.MMU_WRITE])
    found["indirect_shadow_pages"] = int(memory.machine.mms[guest]["indirect_shadow_pages"])
    found["resident_pages"] = memory.resident(guest)
    found["anon_huge_pages"] = memory.anon_huge_pages(guest)
    found.update(cpu_ns(found, sites, calibration))
    found.update(times)
    return {counter.name: found[counter.name] for counter in COUNTERS}
