"""One hypervisor host, from its spec to its results: the function that every cell of a sweep calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from hostsim.calibration import DEFAULT, Calibration
from hostsim.clock import HostClock, Turn, gauges
from hostsim.costs import cpu_ns
from hostsim.counters import COUNTERS, EVENTS
from hostsim.demand import Demand, Stream
from hostsim.errors import UserError
from hostsim.guest_extras import Caller, GuestExtras, make_caller
from hostsim.hybrid import get_kernel
from hostsim.machine import HostMemory, Memslot, Watermarks
from hostsim.model import GuestResult, GuestSpec, HostResult, HostSpec
from hostsim.notifier import CALLS, FAILED, FALSE, FLUSHES, LOCKS, MISSED, YOUNG
from hostsim.philox import study_key
from hostsim.psi import Psi
from hostsim.sampled import scale_up, simulate_sampled
from hostsim.scene import RecordedStream
from hostsim.state import CALLER, MIN_NR_GENS
from hostsim.swap_devices import get_device
from hostsim.threads import Job, Piece
from hostsim.timing import no_time
from hostsim.watermarks import kernel_watermarks
from hostsim.workloads import FileStream, GuestStream, hash_accesses
from hostsim.zram import ZramPool, with_compression
from policies import Lock, Policy, Site

EVICT_SWAPPINESS = 200  # of the debugfs `-`: anonymous memory only
PART_TABLES = 64  # page tables (128 MiB) that an aging walks before it looks at its budget: about 1 ms
SENPAI_RATIO = 0.0005  # of the memory, in a period without pressure (TMO, Weiner et al., ASPLOS 2022, section 3.3)
LEAST_BATCH = 64  # accesses: what a sample draws is not cut finer
NO_TIME = no_time()
_SAMPLE_STREAM, _SWAP_STREAM = 1, 2  # of the host's random numbers; each group has its own latencies
_GROUP_STREAM = 1 << 27  # added to the guest's number in the counters of random numbers, for each group of a sample


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
    Raises UserError for an unknown kernel or mode, a host without guests, or kswapd with the classic LRU.
    """
    kernel = replace(get_kernel(spec.kernel), lru_gen=spec.lru_gen)
    if spec.memory_pages and not spec.lru_gen:
        raise UserError("kswapd is modelled for MGLRU: leave the host's memory out under the classic LRU")
    if not spec.guests:
        raise UserError("a host without guests has nothing to simulate")
    if spec.sample > 1:
        random = _generator(seed, replicate, host, _SAMPLE_STREAM)
        again = partial(
            simulate_host, policy=policy, seed=seed, replicate=replicate, host=host, make_memory=make_memory
        )
        return simulate_sampled(spec, random, again)
    limited = spec.mode == "limit"
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
        async_swap=get_device(spec.swap_device).asynchronous,
        free_pages=spec.memory_pages,
        watermarks=_watermarks(spec),
    )
    turns = [_turn(memory, spec, policy, g, (seed, replicate, host)) for g in range(len(spec.guests))]
    pool = _pool(memory, spec, (seed, replicate, host))
    clock = _clock(memory, spec, turns, pool, (seed, replicate, host)) if spec.clock else None
    for g, guest in enumerate(spec.guests):
        if guest.own_pages:
            memory.touch_own(g)
    caller = make_caller(memory, spec, key=study_key(seed, replicate), host=host) if spec.caller else None
    for tick in range(spec.ticks + 1):
        memory.tick = tick
        if clock is not None and tick:
            clock.run_tick(tick)
        else:
            for turn in turns:
                _take(turn, tick)
            if pool is not None:
                pool.update()
        if clock is not None and tick == 0:
            clock.start()
        if caller is not None and tick and tick % spec.caller_every_ticks == 0:
            _call(caller, clock)
        memory.complete_io()
        if memory.flusher_woken or tick % spec.flush_every_ticks == 0:
            memory.flush()
        if tick:
            for g in range(len(turns)):
                memory.events(g)["resident_page_ticks"] += memory.resident(g)
    times = clock.finish(spec.ticks) if clock else [NO_TIME] * len(turns)
    results = tuple(_result(memory, policy, spec, g, turn, times[g]) for g, turn in enumerate(turns))
    return HostResult(results) if clock is None else _with_gauges(results, clock)


def _watermarks(spec: HostSpec) -> Watermarks | None:
    if not spec.memory_pages:
        return None
    return kernel_watermarks(spec.memory_pages, spec.watermark_scale_factor, spec.scale)


def _with_gauges(results: tuple[GuestResult, ...], clock: HostClock) -> HostResult:
    """The results of a run on a clock."""
    latencies = np.sum([own.latencies for own in clock.guests], axis=0)
    guests = (
        replace(result, gauges=gauges(own.psi, own.latencies), latencies=tuple(own.latencies.tolist()))
        for result, own in zip(results, clock.guests, strict=True)
    )
    return HostResult(tuple(guests), gauges(clock.psi, latencies))


def _stream(guest: GuestSpec, ticks: int, who: tuple[int, int, int, int]) -> Stream:
    seed, replicate, host, number = who
    if guest.recorded is not None:
        return RecordedStream(
            guest, guest.recorded, ticks=ticks, seed=seed, replicate=replicate, host=host, guest=number
        )
    return GuestStream(guest, seed=seed, replicate=replicate, host=host, guest=number)


def _twin(guest: GuestSpec, memory: HostMemory, policy: Policy) -> HostMemory | None:
    """A guest that nobody reclaims, where that has faults of its own after tick 0: by L2 and of a file's pages."""
    if not guest.nested and not guest.page_cache:
        return None
    slot = Memslot(
        guest.memory_pages,
        kvm=guest.kind != "process",
        tdp=guest.vm.tdp,
        file_pages=guest.page_cache.pages if guest.page_cache else 0,
    )
    return HostMemory([slot], memory.kernel, policy)


def _turn(memory: HostMemory, spec: HostSpec, policy: Policy, g: int, who: tuple[int, int, int]) -> Turn:
    """What a guest does in every tick: its accesses, then the reclaim that user space asks for."""
    guest = spec.guests[g]
    seed, replicate, host = who
    number = _stream_number(guest, g)
    own = {"seed": seed, "replicate": replicate, "host": host, "guest": number}
    file = FileStream(guest, guest.page_cache, **own) if guest.page_cache else None
    extras = None
    if guest.vm.extras or spec.caller:
        extras = GuestExtras(memory, g, guest, seed=seed, replicate=replicate, host=host)
    batch = 0
    if spec.clock:
        batch = max(round(spec.clock.batch / spec.scale), min(spec.clock.batch, LEAST_BATCH))
    twin = _twin(guest, memory, policy) if spec.clock else None
    return Turn(
        Demand(memory, g, _stream(guest, spec.ticks, (*who, number)), file, batch, twin),
        lambda tick, psi: _upkeep(memory, spec, g, tick, psi),
        extras,
    )


def _take(turn: Turn, tick: int) -> None:
    """One tick of one guest without time: all of it."""
    if turn.extras is not None:
        turn.extras.begin(tick)
    turn.demand.take_all(tick)
    if turn.extras is not None and tick:
        turn.extras.after_accesses(tick)
    for _ in turn.upkeep(tick, None):
        pass
    if turn.extras is not None:
        turn.extras.end(tick)


def _upkeep(memory: HostMemory, spec: HostSpec, g: int, tick: int, psi: Psi | None) -> Job:
    """What user space does to a guest after its tick; ``psi``: its memory.pressure, None where nothing takes time."""
    if spec.aging_every_ticks and tick and tick % spec.aging_every_ticks == 0:
        yield from _age(memory, spec, g, force_scan=False)
    if spec.scene:
        memory.drain()
    memory.flush_stats()  # the kernel does it every 2 s, or when someone reads memory.stat
    if spec.parent_pages:
        yield from _reclaim_parent(memory, spec)
    else:
        yield from _reclaim(memory, spec, g, tick)
        if tick and tick % spec.period_ticks == 0:
            yield from _reclaim_cold(memory, spec, g, psi)
    if spec.scene:
        memory.drain()
    memory.flush_stats()


def _age(memory: HostMemory, spec: HostSpec, g: int, *, force_scan: bool) -> Job:
    """`+` of the debugfs file; on a clock, in parts."""
    if spec.clock:
        yield from (Piece.WALKED for _ in memory.age_in_parts(g, 1, force_scan, PART_TABLES))
    else:
        memory.age(g, force_scan=force_scan)
    yield Piece.AGED


def _reclaim(memory: HostMemory, spec: HostSpec, g: int, tick: int) -> Job:
    """What user space asks for after a guest's tick, but for the one that populates."""
    surplus = memory.in_memory(g) - spec.guests[g].limit_pages
    if spec.mode not in ("debugfs", "proactive") or not spec.guests[g].limit_pages or not tick:
        return
    if spec.mode == "debugfs":
        yield from _age(memory, spec, g, force_scan=True)
        if surplus > 0:
            oldest_evictable = int(memory.lruvec(g)["max_seq"]) - MIN_NR_GENS
            memory.evict(g, oldest_evictable, EVICT_SWAPPINESS, surplus)
    elif spec.mode == "proactive" and surplus > 0:
        memory.memory_reclaim(g, surplus)
    yield Piece.RECLAIMED


def _reclaim_cold(memory: HostMemory, spec: HostSpec, g: int, psi: Psi | None) -> Job:
    """What user space asks for in every period, whatever the guest's limit."""
    if spec.mode == "age":
        yield from _age(memory, spec, g, force_scan=True)
        memory.evict(g, int(memory.lruvec(g)["max_seq"]) - MIN_NR_GENS, EVICT_SWAPPINESS, memory.in_memory(g))
        yield Piece.RECLAIMED
    elif spec.mode == "pressure":
        calm = 1 - psi.some_since_last() / spec.psi_target if psi else 1.0
        pages = round(memory.in_memory(g) * SENPAI_RATIO * calm)
        if pages > 0:
            memory.memory_reclaim(g, pages)
            yield Piece.RECLAIMED


def _reclaim_parent(memory: HostMemory, spec: HostSpec) -> Job:
    """The same, if it asks the memcg above all guests: after every guest's turn, also as they populate."""
    surplus = sum(memory.in_memory(g) for g in range(len(spec.guests))) - spec.parent_pages
    if spec.mode == "proactive" and surplus > 0:
        memory.memory_reclaim_parent(surplus)
    yield Piece.RECLAIMED


def _call(caller: Caller, clock: HostClock | None) -> None:
    """The caller beside MGLRU; on a clock its time is written down."""
    if clock is None:
        for _ in caller():
            pass
    else:
        clock.run_caller(caller)


def _pool(memory: HostMemory, spec: HostSpec, who: tuple[int, int, int]) -> ZramPool | None:
    """The swap device's pool, if it has one and somebody looks: a clock, or kswapd at the host's free memory."""
    if not get_device(spec.swap_device).compresses or not (spec.clock or spec.memory_pages):
        return None
    seed, replicate, host = who
    numbers = [_stream_number(guest, g) for g, guest in enumerate(spec.guests)]
    return ZramPool(memory, spec.compression, study_key(seed, replicate), host, numbers)


def _stream_number(guest: GuestSpec, g: int) -> int:
    """What names a guest's random numbers: guest ``g`` of its host, and which part of a sample it is."""
    return g + (guest.sample.group * _GROUP_STREAM if guest.sample else 0)


def _clock(
    memory: HostMemory, spec: HostSpec, turns: list[Turn], pool: ZramPool | None, who: tuple[int, int, int]
) -> HostClock:
    assert spec.clock is not None
    seed, replicate, host = who
    sample = spec.guests[0].sample
    random = _generator(seed, replicate, host, _SWAP_STREAM + (sample.group if sample else 0))
    vcpus = [guest.vcpus for guest in spec.guests]
    device = with_compression(get_device(spec.swap_device), spec.compression)
    return HostClock(memory, turns, spec.clock, vcpus, device, pool, random, spec.scale, spec.calibration)


def _generator(seed: int, replicate: int, host: int, stream: int) -> np.random.Generator:
    """Random numbers of a host that are drawn in order."""
    return np.random.Generator(np.random.Philox(key=int(study_key(seed, replicate)), counter=[0, stream, host, 0]))


def _result(
    memory: HostMemory, policy: Policy, spec: HostSpec, g: int, turn: Turn, times: Mapping[str, int]
) -> GuestResult:
    stream, file = turn.demand.stream, turn.demand.file
    digest = int(stream.digest)
    if file:
        digest = int(hash_accesses(stream.digest, np.array([file.digest]).view(np.uint32)))
    result = GuestResult(
        name=spec.guests[g].name,
        nested=spec.guests[g].nested is not None or spec.guests[g].kind == "nested",
        access_hash=digest,
        counters=collect(memory, g, times, spec.calibration),
        step_pages=tuple(int(n) for n in memory.machine.step_pages[g][: len(policy.steps)]),
    )
    return scale_up(result, spec.guests[g], turn.demand) if spec.guests[g].sample else result


def collect(
    memory: HostMemory, guest: int, times: Mapping[str, int] = NO_TIME, calibration: Calibration = DEFAULT
) -> dict[str, int]:
    """Every counter of hostsim.counters.COUNTERS for one guest; ``times``: those that a clock has."""
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
    found.update(cpu_ns(found, sites, calibration))
    found.update(times)
    return {counter.name: found[counter.name] for counter in COUNTERS}
