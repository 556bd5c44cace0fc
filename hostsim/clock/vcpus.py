"""Guests on their vCPUs, as compiled code runs them through a tick of a clock.

A vCPU makes a batch of accesses, owes what they cost, and makes the next batch when it has paid.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.clock import ledger, prices
from coldfleet.hostsim.clock.latency import bucket_of
from coldfleet.hostsim.clock.prices import Meter
from coldfleet.hostsim.clock.tick_end import end_tick
from coldfleet.hostsim.clock.vcpu_state import VCpus
from coldfleet.hostsim.counters.timing import Cause
from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.engine.state import Machine, Record
from coldfleet.hostsim.mm import classic
from coldfleet.hostsim.swap import queue as swap_queue
from coldfleet.hostsim.workload.batches import NONE_LEFT, READY, WATCHED, Demands, find_batch, make_batch

_RUN, _FAULT, _SWAP_IN, _LOCK, _RECLAIM = (
    int(cause) for cause in (Cause.RUN, Cause.FAULT, Cause.SWAP_IN, Cause.LOCK, Cause.RECLAIM)
)


EVERY_GUEST, BUT_THE_FIRST, NO_GUEST = 2, 1, 0
"""For whom a turn begins: what a guest didn't finish goes on as a CPU switches to it."""


class World(NamedTuple):
    """What guests on a clock work on.

    ``m``: the host's memory; ``twins``: memory without limits, on which some guests make the same accesses. ``meter``
    and ``twin_meter`` read the two. ``watched``: Python makes the accesses to memory, and watches.
    """

    m: Machine
    twins: Machine
    d: Demands
    v: VCpus
    meter: Meter
    twin_meter: Meter
    watched: bool


@compiled
def run_guests(
    w: World,
    first: int,
    last: int,
    tick: int,
    level_ns: int,
    turn: int,
) -> tuple[int, int]:
    """Guests ``first`` to ``last`` - 1 work until each vCPU has used ``level_ns`` of this tick, or nothing is left.

    ``turn``: EVERY_GUEST, BUT_THE_FIRST or NO_GUEST. Returns ``last`` and NONE_LEFT, or else the guest that needs more,
    and what.
    """
    for g in range(first, last):
        if w.v.guests[g].has_work and (turn == EVERY_GUEST or (turn == BUT_THE_FIRST and g > first)):
            w.m.mms[g].used = 1
        needs = _run_guest(w, g, tick, level_ns)
        if needs != NONE_LEFT:
            return g, needs
        if turn != NO_GUEST and not w.m.features[0].lru_gen:
            classic.flush_stats(w.m)
    return last, NONE_LEFT


@compiled
def run_ticks(
    w: World,
    first: int,
    tick: int,
    last_tick: int,
    turn: int,
) -> tuple[int, int, int]:
    """Whole ticks in which only guests work, each with a CPU for each vCPU, up to ``last_tick``.

    Stops earlier if the waits for a lock may change. Returns the tick in which it stopped, and as run_guests.
    """
    while True:
        g, needs = run_guests(w, first, len(w.v.guests), tick, w.v.rules[0].tick_ns, turn)
        if needs != NONE_LEFT:
            return tick, g, needs
        end_tick(w.m, w.v)
        changed = 0
        for guest in w.v.guests:
            changed += guest.locks_changed
        if tick == last_tick or changed:
            return tick, g, NONE_LEFT
        tick += 1
        first, turn = 0, EVERY_GUEST


@compiled
def _run_guest(
    w: World,
    g: int,
    tick: int,
    level_ns: int,
) -> int:
    v, guest = w.v, w.v.guests[g]
    for number in range(guest.first, guest.first + guest.vcpus):
        _pay(v, g, number, level_ns)
    while True:
        free = _next_free(v, guest, level_ns)
        if free < 0:
            return NONE_LEFT
        needs = find_batch(w.m, w.d, g, tick)
        guest.has_work = needs == READY
        if needs != READY:
            return needs
        if w.watched and not guest.watched:
            guest.watched = 1
            return WATCHED
        accesses = make_batch(w.m, w.twins, w.d, g, guest.watched != 0)
        guest.watched = 0
        thread = v.threads[free]
        thread.working, thread.began = 1, ledger.own_time(thread)
        _owe(w, guest, v.times[g], thread, accesses)
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
def _owe(w: World, guest: Record, times: Record, thread: Record, accesses: float) -> None:
    """A vCPU owes what the batch that it has just made costs."""
    v, rules = w.v, w.v.rules[0]
    bill = w.meter.bill
    prices.read_meter(w.meter)
    guest.swapped_in += bill[prices.SWAPPED_IN]
    guest.restored += bill[prices.RESTORED]
    times.batches += 1
    if rules.free:
        return
    prices.read_meter(w.twin_meter)
    run_ns = int(np.rint(accesses * rules.access_ns))
    times.unreclaimed_ns += run_ns + w.twin_meter.bill[prices.FAULT]
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
