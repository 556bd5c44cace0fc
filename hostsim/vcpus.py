"""Guests on their vCPUs, as compiled code runs them through a tick of a clock.

A vCPU makes a batch of accesses, owes what they cost, and makes the next batch when it has paid.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hostsim import classic, ledger, prices, psi, swap_queue, zram
from hostsim.batches import NONE_LEFT, READY, WATCHED, Demands, find_batch, make_batch
from hostsim.host_limits import contended_ns
from hostsim.jit import compiled
from hostsim.latency import BUCKETS, bucket_of
from hostsim.notifier import LOCKS
from hostsim.prices import Meter
from hostsim.resident import resident_pages
from hostsim.state import CALLER, Machine, Record
from hostsim.timing import TIMES, Cause
from policies import Lock

MS_NS = 1_000_000
TIME = np.dtype([(time.name, np.int64) for time in TIMES], align=True)
_RUN, _FAULT, _SWAP_IN, _LOCK, _RECLAIM, _IDLE = (
    int(cause) for cause in (Cause.RUN, Cause.FAULT, Cause.SWAP_IN, Cause.LOCK, Cause.RECLAIM, Cause.IDLE)
)
_SITES, _MMU_WRITE, _RMAP = CALLER + 1, LOCKS + int(Lock.MMU_WRITE), LOCKS + int(Lock.RMAP)

RULES = np.dtype(
    [
        ("tick_ns", np.int64),
        ("access_ns", np.int64),
        ("free", np.int64),  # nothing takes time
        ("scale", np.float64),  # pages that a page of the simulation stands for
        ("aging_hold_ns", np.float64),  # how long aging a page holds mmu_lock
        ("fault_ns", np.float64),  # a fault while nobody else on the host has one, ...
        ("serial_ns", np.float64),  # ... the part of it in which it keeps all others out, ...
        ("coherency_ns", np.float64),  # ... and what that takes longer from another socket (hostsim.host_limits)
    ],
    align=True,
)
"""What stays as it is; hostsim.model.ClockSpec has most of it."""

GUEST = np.dtype(
    [
        ("first", np.int64),  # the thread that is its first vCPU ...
        ("vcpus", np.int64),  # ... of so many
        ("has_work", np.int64),  # accesses of its ticks so far are left
        ("watched", np.int64),  # its next batch was made in memory, under the eyes of Python
        ("swapped_in", np.int64),  # pages: all, ...
        ("restored", np.int64),  # ... and those of the working set
        ("tdp_wait_ns", np.float64),  # waits for mmu_lock, at the rates of the last tick: of a TDP fault, ...
        ("shadow_wait_ns", np.float64),  # ... of a shadow fault, ...
        ("aging_wait_ns", np.float64),  # ... and of an aging step
        (
            "locks",
            np.int64,
            (4,),
        ),  # TDP faults, shadow faults, and aging's: mmu_lock for write, rmaps' locks; ...
        ("new_locks", np.int64, (4,)),  # ... and in the last tick
        ("locks_changed", np.int64),  # somebody wrote under mmu_lock in it, or waited
    ],
    align=True,
)


class VCpus(NamedTuple):
    """All guests of a host on a clock.

    ``rules``: RULES (1,). ``guests``: GUEST. ``threads``: ledger.THREAD, the vCPUs, then the kernel threads.
    ``tasks``: int64 (vCPUs, 2), what each did in the last tick, for PSI; ``seen``: int64 (vCPUs, causes), what they
    had done before. ``times``: TIME of each guest. ``latencies``: int64 (guests, latency.BUCKETS).
    ``psis``: psi.PSI of the guests' memcgs, then of the host. ``pressure``: float64 (CPUs, 3), scratch.
    ``queue``: swap_queue.SWAP (1,). ``pool``: that of zram.
    ``fault_ps``: int64 (1,), what a fault costs now: Meter.fault_ps.
    """

    rules: npt.NDArray[Any]
    guests: npt.NDArray[Any]
    threads: npt.NDArray[Any]
    tasks: npt.NDArray[np.int64]
    seen: npt.NDArray[np.int64]
    times: npt.NDArray[Any]
    latencies: npt.NDArray[np.int64]
    psis: npt.NDArray[Any]
    pressure: npt.NDArray[np.float64]
    queue: npt.NDArray[Any]
    pool: zram.Pool
    fault_ps: npt.NDArray[np.int64]


def new_vcpus(
    vcpus: list[int],
    workers: int,
    pcpus: int,
    rules: tuple[Any, ...],
    queue: npt.NDArray[Any],
    pool: zram.Pool,
    fault_ps: npt.NDArray[np.int64],
) -> VCpus:
    """The guests' ``vcpus`` and so many kernel threads, that have done nothing yet; ``pcpus`` 0: one for each vCPU."""
    count = sum(vcpus)
    guests = np.zeros(len(vcpus), GUEST)
    guests["vcpus"] = vcpus
    guests["first"] = np.cumsum(vcpus) - vcpus
    return VCpus(
        np.array([rules], RULES),
        guests,
        np.zeros(count + workers, ledger.THREAD),
        np.zeros((count, 2), np.int64),
        np.zeros((count, len(Cause)), np.int64),
        np.zeros(len(vcpus), TIME),
        np.zeros((len(vcpus), BUCKETS), np.int64),
        np.zeros(len(vcpus) + 1, psi.PSI),
        np.zeros((pcpus or count, 3)),
        queue,
        pool,
        fault_ps,
    )


@compiled
def start(m: Machine, v: VCpus) -> None:
    """Time begins: what was done so far doesn't count."""
    for g in range(len(v.guests)):
        _count_locks(m, v, g)
        v.queue[0].traffic += m.events[g].pswpin + m.events[g].pswpout


@compiled
def run_guests(
    m: Machine,
    twins: Machine,
    d: Demands,
    v: VCpus,
    meters: tuple[Meter, Meter],
    watched: bool,
    first: int,
    last: int,
    tick: int,
    level_ns: int,
    turn: int,
) -> tuple[int, int]:
    """Guests ``first`` to ``last`` - 1 work until each vCPU has used ``level_ns`` of this tick, or nothing is left.

    ``meters``: of the memory, and of the twins. ``turn``: 2 at the beginning of a turn, in which what a guest didn't
    finish goes on as a CPU switches to it; 1 for all but the first guest; 0 for none. Returns ``last`` and NONE_LEFT,
    or else the guest that needs more, and what.
    """
    for g in range(first, last):
        if v.guests[g].has_work and (turn == 2 or (turn == 1 and g > first)):
            m.mms[g].used = 1
        needs = _run_guest(m, twins, d, v, meters, watched, g, tick, level_ns)
        if needs != NONE_LEFT:
            return g, needs
        if turn and not m.features[0].lru_gen:
            classic.flush_stats(m)
    return last, NONE_LEFT


@compiled
def run_ticks(
    m: Machine,
    twins: Machine,
    d: Demands,
    v: VCpus,
    meters: tuple[Meter, Meter],
    watched: bool,
    first: int,
    tick: int,
    last_tick: int,
    turn: int,
) -> tuple[int, int, int]:
    """Whole ticks in which only guests work, each with a CPU for each vCPU, up to ``last_tick``.

    Stops earlier if the waits for a lock may change. Returns the tick in which it stopped, and as run_guests.
    """
    while True:
        g, needs = run_guests(m, twins, d, v, meters, watched, first, len(v.guests), tick, v.rules[0].tick_ns, turn)
        if needs != NONE_LEFT:
            return tick, g, needs
        end_tick(m, v)
        changed = 0
        for guest in v.guests:
            changed += guest.locks_changed
        if tick == last_tick or changed:
            return tick, g, NONE_LEFT
        tick += 1
        first, turn = 0, 2


@compiled
def _run_guest(
    m: Machine,
    twins: Machine,
    d: Demands,
    v: VCpus,
    meters: tuple[Meter, Meter],
    watched: bool,
    g: int,
    tick: int,
    level_ns: int,
) -> int:
    guest = v.guests[g]
    for number in range(guest.first, guest.first + guest.vcpus):
        _pay(v, g, number, level_ns)
    while True:
        free = _next_free(v, guest, level_ns)
        if free < 0:
            return NONE_LEFT
        needs = find_batch(m, d, g, tick)
        guest.has_work = needs == READY
        if needs != READY:
            return needs
        if watched and not guest.watched:
            guest.watched = 1
            return WATCHED
        accesses = make_batch(m, twins, d, g, guest.watched != 0)
        guest.watched = 0
        thread = v.threads[free]
        thread.working, thread.began = 1, ledger.own_time(thread)
        _owe(v, guest, v.times[g], thread, meters, accesses)
        _pay(v, g, free, level_ns)


@compiled
def _next_free(v: VCpus, guest: Record, level_ns: int) -> int:
    """The vCPU for the next batch: of those that owe nothing, the one that has used least of this tick; or -1."""
    free = -1
    for number in range(guest.first, guest.first + guest.vcpus):
        thread = v.threads[number]
        if not thread.debt and thread.used < level_ns and (free < 0 or thread.used < v.threads[free].used):
            free = number
    return free


@compiled
def _owe(v: VCpus, guest: Record, times: Record, thread: Record, meters: tuple[Meter, Meter], accesses: float) -> None:
    """A vCPU owes what the batch that it has just made costs."""
    rules = v.rules[0]
    meter, twin_meter = meters
    prices.read_meter(meter)
    bill = meter.bill
    guest.swapped_in += bill[prices.SWAPPED_IN]
    guest.restored += bill[prices.RESTORED]
    times.batches += 1
    if rules.free:
        return
    prices.read_meter(twin_meter)
    run_ns = int(np.rint(accesses * rules.access_ns))
    times.unreclaimed_ns += run_ns + twin_meter.bill[prices.FAULT]
    lock_ns = bill[prices.READS] * guest.tdp_wait_ns + bill[prices.WRITES] * guest.shadow_wait_ns
    lock_ns += bill[prices.AGING_WRITES] * guest.aging_wait_ns
    ledger.owe(thread, _RUN, run_ns)
    ledger.owe(thread, _FAULT, bill[prices.FAULT])
    ledger.owe(thread, _SWAP_IN, swap_queue.read_pages(v.queue[0], bill[prices.SWAPPED_IN] * rules.scale))
    ledger.owe(thread, _LOCK, int(np.rint(lock_ns * rules.scale)))
    ledger.owe(thread, _RECLAIM, bill[prices.RECLAIM] + _wait_for_writes(v, times, bill))


@compiled
def _wait_for_writes(v: VCpus, times: Record, bill: npt.NDArray[np.int64]) -> int:
    """How long a reclaim waited for writes to end, ns."""
    ns = swap_queue.wait_for_writes(v.queue[0], bill[prices.WRITE_WAITS] * v.rules[0].scale)
    times.write_wait_ns += ns
    return ns


@compiled
def charge_kernel_thread(v: VCpus, meter: Meter, thread: Record, g: int, level_ns: int) -> tuple[int, int, int]:
    """A kernel thread has done a piece of work for a guest, and pays for it as far as it has time.

    Returns what it takes, ns: its work, waiting for mmu_lock, and waiting for writes to end.
    """
    rules, guest = v.rules[0], v.guests[g]
    prices.read_meter(meter)
    work_ns = meter.bill[prices.FAULT] + meter.bill[prices.RECLAIM]
    lock_ns = write_ns = 0
    if not rules.free:
        lock_ns = int(np.rint(meter.bill[prices.AGING_WRITES] * guest.aging_wait_ns * rules.scale))
        write_ns = _wait_for_writes(v, v.times[g], meter.bill)
    ledger.owe(thread, _RUN, work_ns)
    ledger.owe(thread, _LOCK, lock_ns)
    ledger.owe(thread, _SWAP_IN, write_ns)
    ledger.pay(thread, level_ns)
    return work_ns, lock_ns, write_ns


@compiled
def _pay(v: VCpus, g: int, number: int, level_ns: int) -> None:
    """A vCPU pays; if that ends its batch, the latency is written down."""
    thread = v.threads[number]
    ledger.pay(thread, level_ns)
    if thread.working and not thread.debt:
        v.latencies[g, bucket_of(ledger.own_time(thread) - thread.began)] += 1
        thread.working = 0


@compiled
def count_hungry(v: VCpus, tick_ns: int) -> int:
    """vCPUs that would use more of this tick."""
    hungry = 0
    for g in range(len(v.guests)):
        guest = v.guests[g]
        for number in range(guest.first, guest.first + guest.vcpus):
            thread = v.threads[number]
            hungry += (guest.has_work or thread.debt) and thread.used < tick_ns
    return hungry


@compiled
def end_tick(m: Machine, v: VCpus) -> None:
    """A tick has passed for the vCPUs."""
    rules = v.rules[0]
    tick_ns = rules.tick_ns
    traffic = faulting_ns = 0
    zram.update_pool(m, v.pool)
    for g in range(len(v.guests)):
        guest, times, events = v.guests[g], v.times[g], m.events[g]
        for number in range(guest.first, guest.first + guest.vcpus):
            thread = v.threads[number]
            ledger.end_tick(thread, tick_ns, guest.has_work or thread.debt > 0)
            faulting_ns += thread.spent[_FAULT] - v.seen[number, _FAULT]
            _note_task(v, guest, number)
        traffic += events.pswpin + events.pswpout
        _count_locks(m, v, g)
        times.mmu_lock_hold_ns += int(np.rint(guest.new_locks[2] * rules.aging_hold_ns * rules.scale))
        resident = resident_pages(m, g)
        events.resident_page_ticks += resident
        times.resident_page_ms += (resident + events.cached_pages) * tick_ns // MS_NS
        swapped = events.pgsteal - events.pgsteal_file - events.pswpin
        in_pool = v.pool.pages[g] if len(v.pool.pages) else 0.0
        times.pool_page_ms += int(np.rint(in_pool)) * tick_ns // MS_NS
        times.reclaimed_page_ms += int(np.rint(swapped - in_pool)) * tick_ns // MS_NS
    for number in range(len(v.tasks), len(v.threads)):
        thread = v.threads[number]
        ledger.end_tick(thread, tick_ns, thread.working or thread.debt > 0)
    queue = v.queue[0]
    swap_queue.end_tick(queue, (traffic - queue.traffic) * rules.scale, tick_ns)
    queue.traffic = traffic
    if not rules.free:
        others = faulting_ns / tick_ns * (1 - 1 / len(v.tasks))  # vCPUs that a fault meets in theirs, on average
        fault_ns = contended_ns(rules.fault_ns, rules.serial_ns, rules.coherency_ns, 1 + others)
        v.fault_ps[0] = int(np.rint(fault_ns * rules.scale * prices.PS))
    _add_pressure(v, tick_ns)


@compiled
def _note_task(v: VCpus, guest: Record, number: int) -> None:
    """What a vCPU did in the tick, as PSI sees it: it was stalled on memory, or it ran or waited for its CPU."""
    spent, seen = v.threads[number].spent, v.seen[number]
    of_working_set = guest.restored / guest.swapped_in if guest.swapped_in else 0.0
    swap_in = spent[_SWAP_IN] - seen[_SWAP_IN]
    stalled = spent[_RECLAIM] - seen[_RECLAIM] + int(np.rint(swap_in * of_working_set))
    passed = 0
    for cause in range(len(seen)):
        if cause != _IDLE:
            passed += spent[cause] - seen[cause]
        seen[cause] = spent[cause]
    v.tasks[number, 0], v.tasks[number, 1] = stalled, passed - stalled


@compiled
def _count_locks(m: Machine, v: VCpus, g: int) -> None:
    """Counts how often the VM's mmu_lock was taken, and notes whether its waits may have changed."""
    guest, events = v.guests[g], m.events[g]
    writes = rmaps = 0
    for site in range(_SITES):
        writes += m.sites[g, site, _MMU_WRITE]
        rmaps += m.sites[g, site, _RMAP]
    now = (events.tdp_faults, events.shadow_faults, writes, rmaps)
    for i in range(len(now)):
        guest.new_locks[i] = now[i] - guest.locks[i]
        guest.locks[i] = now[i]
    written = guest.new_locks[1] + guest.new_locks[2]
    guest.locks_changed = written > 0 or guest.tdp_wait_ns > 0 or guest.shadow_wait_ns > 0 or guest.aging_wait_ns > 0


@compiled
def _add_pressure(v: VCpus, tick_ns: int) -> None:
    """To the host's PSI and to that of each guest's memcg."""
    host = len(v.guests)
    psi.pressure_of_cpus(v.pressure, v.tasks, 0, tick_ns)
    psi.add_pressure(v.psis[host], v.pressure, tick_ns)
    for g in range(host):
        guest = v.guests[g]
        tasks = v.tasks[guest.first : guest.first + guest.vcpus]
        psi.pressure_of_cpus(v.pressure, tasks, guest.first, tick_ns)
        psi.add_pressure(v.psis[g], v.pressure, tick_ns)
