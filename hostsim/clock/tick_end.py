"""The beginning of time on a clock, and the end of each tick: what was done in it counts for the next.

The waits for mmu_lock and for devices, and the cost of a fault, are those at the rates of the tick before.
"""

from __future__ import annotations

import numpy as np

from coldfleet.hostsim.clock import cost_model, psi, time_account
from coldfleet.hostsim.clock.vcpu_state import IO, MEMORY, SOLVE, VCpus
from coldfleet.hostsim.costs.mmu_lock import FOUND, Locks, lock_waits
from coldfleet.hostsim.costs.scalability import contended_ns
from coldfleet.hostsim.counters.timing import Cause
from coldfleet.hostsim.engine.jit import compiled, inlined, popcount, spliced
from coldfleet.hostsim.engine.state import (
    PTRS_PER_PTE,
    SHADOW_MAPPED,
    SPLIT_SPTES,
    Machine,
    Record,
)
from coldfleet.hostsim.memory.ground_truth import count_memory
from coldfleet.hostsim.mm.swap_slots import POOL_UNIT
from coldfleet.hostsim.swap import queue as swap_queue
from coldfleet.hostsim.workload.batches import NONE_LEFT

MS_NS = 1_000_000
_FAULT, _SWAP_IN, _RECLAIM, _FILE_READ, _IDLE = (
    int(cause) for cause in (Cause.FAULT, Cause.SWAP_IN, Cause.RECLAIM, Cause.FILE_READ, Cause.IDLE)
)
_MORE_OF_HUGE = PTRS_PER_PTE - 1  # a huge page is written in one request


@compiled
def start(m: Machine, v: VCpus) -> None:
    """Time begins: what was done so far is left out."""
    for g in range(len(v.guests)):
        _count_locks(m, v, g)
        _add_swap_traffic(v.queue[0], m.events[g])
        if m.mms[g].huge_pages:
            first, tables = m.mms[g].first // PTRS_PER_PTE, m.mms[g].pages // PTRS_PER_PTE
            whole = 0
            for table in range(first, first + tables):
                whole += m.huge[table] & SPLIT_SPTES == 0
            v.guests[g].whole_share = v.guests[g].huge_share = whole * PTRS_PER_PTE / m.mms[g].pages
    _end_requests(v.queue[0])
    _end_file_queues(m, v)
    for queue in v.file_queues:
        queue.wait_ns = 0.0


@compiled
def end_tick(m: Machine, v: VCpus) -> None:
    """A tick has passed for the vCPUs."""
    rules = v.rules[0]
    tick_ns = rules.tick_ns
    v.progress[0].began_ns += tick_ns
    faulting_ns = 0
    vcpus = 0
    queue = v.queue[0]
    queue.requests = queue.pages = 0
    for g in range(len(v.guests)):
        guest, times, events = v.guests[g], v.times[g], m.events[g]
        online = m.mms[g].online
        vcpus += online * guest.vcpus
        for number in range(guest.first, guest.first + guest.vcpus):
            thread = v.threads[number]
            if online:
                time_account.end_tick(thread, tick_ns, guest.has_work or thread.backlog_ns > 0)
            faulting_ns += thread.spent[_FAULT] - v.seen[number, _FAULT]
            _note_task(v, guest, number)
        _add_swap_traffic(queue, events)
        _count_locks(m, v, g)
        aging_writes = guest.new_locks[0] + guest.new_own_locks[0]
        times.mmu_lock_hold_ns += int(np.rint(aging_writes * rules.aging_hold_ns * rules.scale))
        of_tlb = events.huge_page_ticks - events.split_page_ticks
        resident = count_memory(m, g)
        times.resident_page_ms += resident * tick_ns // MS_NS
        guest.huge_share = (events.huge_page_ticks - events.split_page_ticks - of_tlb) / max(resident, 1)
        swapped = 0 if m.mms[g].exited else events.pgsteal - events.pgsteal_file + events.damos_applied - events.pswpin
        in_pool = m.mms[g].pool_units / POOL_UNIT
        times.pool_page_ms += int(np.rint(in_pool)) * tick_ns // MS_NS
        times.reclaimed_page_ms += int(np.rint(swapped - in_pool)) * tick_ns // MS_NS
    for number in range(v.tasks.shape[1], len(v.threads)):
        thread = v.threads[number]
        time_account.end_tick(thread, tick_ns, thread.working or thread.backlog_ns > 0)
    _end_file_queues(m, v)
    _end_queue(queue, rules.scale, tick_ns)
    if not rules.free:
        others = faulting_ns / tick_ns * (1 - 1 / max(vcpus, 1))  # vCPUs that a fault meets in theirs, on average
        fault_ns = contended_ns(rules.fault_ns, rules.serial_ns, rules.coherency_ns, 1 + others)
        v.fault_ps[0] = int(np.rint(fault_ns * rules.scale * cost_model.PS))
    _add_pressure(v, tick_ns)


@spliced
def _note_task(v: VCpus, guest: Record, number: int) -> None:
    """What a vCPU did in the tick, as PSI sees it: it was stalled on memory or io, or it ran or waited for its CPU."""
    spent, seen = v.threads[number].spent, v.seen[number]
    of_working_set = guest.restored / guest.swapped_in if guest.swapped_in else 0.0
    thrashing = guest.thrashing / guest.file_requests if guest.file_requests else 0.0
    swap_in = spent[_SWAP_IN] - seen[_SWAP_IN]
    file_read = spent[_FILE_READ] - seen[_FILE_READ]
    reclaim = spent[_RECLAIM] - seen[_RECLAIM]
    swap_stall = int(np.rint(swap_in * of_working_set))
    io = file_read + (swap_in if v.rules[0].swap_io else 0)
    unproductive = io + reclaim + (0 if v.rules[0].swap_io else swap_stall)
    passed = 0
    for cause in range(len(seen)):
        if cause != _IDLE:
            passed += spent[cause] - seen[cause]
        seen[cause] = spent[cause]
    memory, of_io = v.tasks[MEMORY, number], v.tasks[IO, number]
    memory[0], memory[1], memory[2] = (
        reclaim + swap_stall + int(np.rint(file_read * thrashing)),
        passed - unproductive,
        passed,
    )
    of_io[0], of_io[1], of_io[2] = io, passed - io, passed


@compiled
def _end_file_queues(m: Machine, v: VCpus) -> None:
    """The waits for the devices of files follow from what they did in this tick."""
    for queue in v.file_queues:
        queue.requests = queue.pages = 0
    for g in range(len(v.guests)):
        queue, events = v.file_queues[v.guests[g].file_queue], m.events[g]
        queue.requests += events.file_read_requests + events.file_writes
        queue.pages += events.file_reads + events.file_writes
    for queue in v.file_queues:
        _end_queue(queue, v.rules[0].scale, v.rules[0].tick_ns)


@inlined
def _add_swap_traffic(queue: Record, events: Record) -> None:
    """What a guest has had read from swap and written to it."""
    queue.pages += events.pswpin + events.pswpout
    queue.requests += events.pswpin + events.pswpout - events.swap_ra * queue.merges
    queue.requests -= events.thp_swpout * _MORE_OF_HUGE


@inlined
def _end_requests(queue: Record) -> tuple[int, int]:
    """The requests of this tick, and their pages after the first; they count as those up to the last tick now."""
    more = queue.pages - queue.requests
    requests = queue.requests - queue.traffic, more - queue.more
    queue.traffic, queue.more = queue.requests, more
    return requests


@inlined
def _end_queue(queue: Record, scale: float, tick_ns: int) -> None:
    requests, more = _end_requests(queue)
    swap_queue.end_tick(queue, requests * scale, tick_ns, more * scale)


@compiled
def _count_locks(m: Machine, v: VCpus, g: int) -> None:
    """Counts how often the VM's mmu_lock was taken, and notes whether its waits may have changed."""
    guest, events = v.guests[g], m.events[g]
    faults, locks = (events.tdp_faults, events.shadow_faults), cost_model.aging_locks(m, g)
    for i in range(2):
        guest.new_faults[i] = faults[i] - guest.faults[i]
        guest.faults[i] = faults[i]
        guest.new_own_locks[i] = guest.own_locks[i]
        guest.new_locks[i] = locks[i] - guest.locks[i] - guest.own_locks[i]
        guest.locks[i] = locks[i]
        guest.own_locks[i] = 0
    others = guest.vcpus > 1  # a lone vCPU does not wait for itself
    ages = guest.new_locks[0] > 0 or (others and guest.new_own_locks[0] > 0)
    met = ages or (guest.new_faults[1] > 0 and (others or guest.new_locks[1] > 0))
    waits = guest.tdp_wait_ns + guest.shadow_wait_ns + guest.aging_wait_ns + guest.own_aging_wait_ns
    guest.locks_changed = met or waits > 0


@spliced
def set_lock_waits(m: Machine, v: VCpus) -> int:
    """The waits for mmu_lock in the next tick follow from the rates of this one: NONE_LEFT, or else SOLVE."""
    rules = v.rules[0]
    for g in range(len(v.guests)):
        guest = v.guests[g]
        if not guest.locks_changed:
            continue
        faults, locks, own_locks = guest.new_faults, guest.new_locks, guest.new_own_locks
        rmaps = 0  # those that have an SPTE
        if faults[1] and (locks[1] or own_locks[1]):
            for word in range(m.mms[g].first // 64, (m.mms[g].first + m.mms[g].pages + 63) // 64):
                rmaps += popcount(m.bits[word, SHADOW_MAPPED])
        rates = Locks(
            guest.vcpus,
            rules.tick_ns,
            rules.aging_page_ns,
            faults[0] * rules.scale,
            faults[1] * rules.scale,
            locks[0] * rules.scale,
            locks[1] * rules.scale,
            own_locks[0] * rules.scale,
            own_locks[1] * rules.scale,
            rmaps * rules.scale,
        )
        waits = lock_waits(v.solved, rates)
        if waits.missing != FOUND:
            v.progress[0].missing = waits.missing
            return SOLVE
        guest.tdp_wait_ns, guest.shadow_wait_ns = waits.tdp_fault_ns, waits.shadow_fault_ns
        guest.aging_wait_ns, guest.own_aging_wait_ns = waits.aging_ns, waits.own_aging_ns
        guest.locks_changed = 0
    return NONE_LEFT


@spliced
def _add_pressure(v: VCpus, tick_ns: int) -> None:
    """To the host's PSI and to that of each guest's memcg."""
    host = len(v.guests)
    for resource in range(len(v.tasks)):
        all_tasks = v.tasks[resource]
        psi.pressure_of_cpus(v.pressure, all_tasks, v.cpus, tick_ns)
        psi.add_pressure(v.psis[host, resource], v.pressure, tick_ns)
        for g in range(host):
            guest = v.guests[g]
            end = guest.first + guest.vcpus
            cpus = v.cpus[guest.first : end]
            least, above = psi.span_of(cpus)
            pressure = v.pressure[least:above]  # on other CPUs it does nothing
            psi.pressure_of_cpus(pressure, all_tasks[guest.first : end], cpus, tick_ns)
            psi.add_pressure(v.psis[g, resource], pressure, tick_ns)
