"""Guests on their vCPUs, as compiled code runs them through a tick of a clock.

A vCPU makes a batch of accesses. What they cost is its backlog, and when that is worked off it makes the next batch.
Those with which a guest populates its memory as it arrives are work like any other, and not counted among the batches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.clock import cost_model, time_account
from coldfleet.hostsim.clock.cost_model import CostModel
from coldfleet.hostsim.clock.latency import bucket_of
from coldfleet.hostsim.clock.user_space import UserSpace
from coldfleet.hostsim.clock.vcpu_state import VCpus
from coldfleet.hostsim.counters.timing import Cause
from coldfleet.hostsim.engine.jit import compiled, spliced
from coldfleet.hostsim.engine.machine_type import of_one_type
from coldfleet.hostsim.engine.state import Machine, Record
from coldfleet.hostsim.mm import classic
from coldfleet.hostsim.swap import queue as swap_queue
from coldfleet.hostsim.workload.batches import NONE_LEFT, READY, WATCHED, QueueState, find_batch, make_batch

_RUN, _FAULT, _SWAP_IN, _LOCK, _RECLAIM, _FILE_READ = (
    int(cause) for cause in (Cause.RUN, Cause.FAULT, Cause.SWAP_IN, Cause.LOCK, Cause.RECLAIM, Cause.FILE_READ)
)


@of_one_type
class World(NamedTuple):
    """What guests on a clock work on.

    ``m``: the host's memory; ``baseline``: memory without limits, on which some guests make the same accesses. ``u``:
    what user space does to them.
    ``cost_model`` and ``baseline_cost_model`` read the counters of the two. ``watched``: Python makes the accesses
    to memory, and watches.
    """

    m: Machine
    baseline: Machine
    queues: QueueState
    v: VCpus
    u: UserSpace
    cost_model: CostModel
    baseline_cost_model: CostModel
    watched: bool


@compiled
def flush_stats(m: Machine) -> None:
    """In each tick of a guest somebody reads its memory.stat, which only the classic LRU minds."""
    if not m.features[0].lru_gen:
        classic.flush_stats(m)


@compiled
def run_guest(w: World, g: int, level_ns: int) -> int:
    """A guest works until each vCPU has used ``level_ns`` of this tick, or nothing is left: NONE_LEFT, or else what it
    needs."""
    v, guest = w.v, w.v.guests[g]
    for number in range(guest.first, guest.first + guest.vcpus):
        _work_off(v, g, number, level_ns)
    while True:
        free = _next_free(v, guest, level_ns)
        if free < 0:
            return NONE_LEFT
        needs = find_batch(w.m, w.queues, g, v.progress[0].tick)
        guest.has_work = needs == READY
        if needs != READY:
            return needs
        if not guest.watched:
            guest.batch_locks[0], guest.batch_locks[1] = cost_model.aging_locks(w.m, g)
            if w.watched:
                guest.watched = 1
                return WATCHED
        accesses = make_batch(w.m, w.baseline, w.queues, g, guest.watched != 0)
        guest.watched = 0
        writes, rmap_locks = cost_model.aging_locks(w.m, g)
        own_writes = writes - guest.batch_locks[0]
        guest.own_locks[0] += own_writes
        guest.own_locks[1] += rmap_locks - guest.batch_locks[1]
        thread = v.threads[free]
        populates = w.queues.guests[g].tick == guest.arrives
        thread.working, thread.began = not populates, time_account.own_time(thread)
        _accrue(w, g, thread, accesses, populates, own_writes)
        _work_off(v, g, free, level_ns)


@spliced
def _next_free(v: VCpus, guest: Record, level_ns: int) -> int:
    """The vCPU for the next batch: of those without a backlog, the one that has used least of this tick; or -1."""
    free = -1
    for number in range(guest.first, guest.first + guest.vcpus):
        thread = v.threads[number]
        if not thread.backlog_ns and thread.used < level_ns and (free < 0 or thread.used < v.threads[free].used):
            free = number
    return free


@spliced
def _accrue(w: World, g: int, thread: Record, accesses: float, all_new: bool, own_writes: int) -> None:
    """The cost of the batch that a vCPU has just made becomes its backlog. ``all_new``: each page was touched for the
    first time, so that its faults are those that there are without reclaim, too. ``own_writes``: times that it took its
    own VM's mmu_lock to reclaim; that of another VM it takes as one that ages this one does."""
    v, rules, guest, times = w.v, w.v.rules[0], w.v.guests[g], w.v.times[g]
    costs = w.cost_model.latest
    cost_model.read_costs(w.cost_model)
    guest.swapped_in += costs[cost_model.SWAPPED_IN]
    guest.restored += costs[cost_model.RESTORED]
    guest.file_requests += costs[cost_model.FILE_REQUESTS]
    guest.thrashing += costs[cost_model.THRASHING]
    if rules.free:
        return
    full_ns = accesses * rules.access_ns
    run_ns = int(np.rint(full_ns * (1 - rules.tlb_saving * guest.huge_share)))
    unreclaimed_ns = int(np.rint(full_ns * (1 - rules.tlb_saving * guest.whole_share)))
    times.unreclaimed_ns += unreclaimed_ns
    if w.queues.guests[g].baseline >= 0:
        of_baseline = w.baseline_cost_model.latest
        cost_model.read_costs(w.baseline_cost_model)
        times.unreclaimed_ns += of_baseline[cost_model.FAULT] + _read_files(v, guest, of_baseline, False)
    elif all_new:
        times.unreclaimed_ns += costs[cost_model.FAULT]
    lock_ns = costs[cost_model.READS] * guest.tdp_wait_ns + costs[cost_model.WRITES] * guest.shadow_wait_ns
    lock_ns += own_writes * guest.own_aging_wait_ns
    lock_ns += (costs[cost_model.AGING_WRITES] - own_writes) * guest.aging_wait_ns
    time_account.accrue(thread, _RUN, run_ns)
    time_account.accrue(thread, _FAULT, costs[cost_model.FAULT])
    time_account.accrue(thread, _SWAP_IN, _swap_in(v, costs))
    time_account.accrue(thread, _LOCK, int(np.rint(lock_ns * rules.scale)))
    time_account.accrue(thread, _RECLAIM, costs[cost_model.RECLAIM] + _wait_for_writes(v, guest, times, costs))
    time_account.accrue(thread, _FILE_READ, _read_files(v, guest, costs, True))


@spliced
def _swap_in(v: VCpus, costs: npt.NDArray[np.int64]) -> int:
    """How long a vCPU waited for pages from swap, ns: not for those read ahead, unless they came in one request."""
    scale, ahead = v.rules[0].scale, costs[cost_model.SWAP_AHEAD]
    waited_for = costs[cost_model.SWAPPED_IN] - ahead
    return swap_queue.read_pages(v.queue[0], waited_for * scale, ahead * v.queue[0].merges * scale)


@compiled
def _read_files(v: VCpus, guest: Record, costs: npt.NDArray[np.int64], shared: bool) -> int:
    """How long a vCPU waited for reads from its file, ns; ``shared``: others use the device, too.

    A reader goes on while readahead reads for it: of each such page it has the time of an access less to wait.
    """
    rules, queue = v.rules[0], v.file_queues[guest.file_queue]
    requests = costs[cost_model.FILE_REQUESTS] * rules.scale
    if not requests:
        return 0
    ahead, ahead_pages = costs[cost_model.AHEAD_REQUESTS] * rules.scale, costs[cost_model.AHEAD_PAGES] * rules.scale
    more = costs[cost_model.FILE_PAGES] * rules.scale - requests
    mean_ns = swap_queue.mean_read_ns(queue, requests, more)
    ns = swap_queue.read_pages(queue, requests, more) if shared else np.int64(np.rint(mean_ns))
    hidden_ns = min(ahead_pages * rules.access_ns, swap_queue.mean_read_ns(queue, ahead, ahead_pages - ahead))
    return np.int64(max(ns - np.rint(hidden_ns), 0.0))  # type: ignore[return-value]


@compiled
def _wait_for_writes(v: VCpus, guest: Record, times: Record, costs: npt.NDArray[np.int64]) -> int:
    """How long a reclaim waited for writes to end, ns."""
    of_files = costs[cost_model.FILE_WRITE_WAITS]
    ns = swap_queue.wait_for_writes(v.queue[0], (costs[cost_model.WRITE_WAITS] - of_files) * v.rules[0].scale)
    ns += swap_queue.wait_for_writes(v.file_queues[guest.file_queue], of_files * v.rules[0].scale)
    times.write_wait_ns += ns
    return ns


@compiled
def charge_kernel_thread(v: VCpus, model: CostModel, thread: Record, g: int, level_ns: int) -> tuple[int, int, int]:
    """Charges a kernel thread for a piece of work for a guest, which it works off as far as it has time.

    Returns what it takes, ns: its work, waiting for mmu_lock, and waiting for writes to end.
    """
    rules, guest = v.rules[0], v.guests[g]
    cost_model.read_costs(model)
    work_ns = model.latest[cost_model.FAULT] + model.latest[cost_model.RECLAIM]
    lock_ns = write_ns = 0
    if not rules.free:
        lock_ns = int(np.rint(model.latest[cost_model.AGING_WRITES] * guest.aging_wait_ns * rules.scale))
        write_ns = _wait_for_writes(v, guest, v.times[g], model.latest)
    time_account.accrue(thread, _RUN, work_ns)
    time_account.accrue(thread, _LOCK, lock_ns)
    time_account.accrue(thread, _SWAP_IN, write_ns)
    time_account.work_off(thread, level_ns)
    return work_ns, lock_ns, write_ns


@compiled
def _work_off(v: VCpus, g: int, number: int, level_ns: int) -> None:
    """A vCPU works off its backlog; if that ends its batch, the batch is counted and its latency recorded."""
    thread = v.threads[number]
    time_account.work_off(thread, level_ns)
    if thread.working and not thread.backlog_ns:
        v.latencies[g, bucket_of(time_account.own_time(thread) - thread.began)] += 1
        v.times[g].batches += 1
        thread.working = 0


@compiled
def count_runnable(v: VCpus, tick_ns: int) -> int:
    """Threads that would use more of this tick."""
    runnable = 0
    for g in range(len(v.guests)):
        guest = v.guests[g]
        for number in range(guest.first, guest.first + guest.vcpus):
            thread = v.threads[number]
            runnable += (guest.has_work or thread.backlog_ns) and thread.used < tick_ns
    for number in range(v.tasks.shape[1], len(v.threads)):
        thread = v.threads[number]
        runnable += (thread.working or thread.backlog_ns) and thread.used < tick_ns
    return runnable
