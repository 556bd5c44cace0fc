"""The beginning of time on a clock, and the end of each tick: what was done in it counts for the next.

The waits for mmu_lock and for the swap device, and the cost of a fault, are those at the rates of the tick before.
"""

from __future__ import annotations

import numpy as np

from coldfleet.hostsim.clock import cost_model, psi, time_account
from coldfleet.hostsim.clock.vcpu_state import VCpus
from coldfleet.hostsim.costs.scalability import contended_ns
from coldfleet.hostsim.counters.timing import Cause
from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.engine.state import LOCKS, MONITOR, Machine, Record
from coldfleet.hostsim.memory.ground_truth import count_memory
from coldfleet.hostsim.mm.swap_slots import POOL_UNIT
from coldfleet.hostsim.swap import queue as swap_queue
from coldfleet.policies import Lock

MS_NS = 1_000_000
_FAULT, _SWAP_IN, _RECLAIM, _IDLE = int(Cause.FAULT), int(Cause.SWAP_IN), int(Cause.RECLAIM), int(Cause.IDLE)
_SITES, _MMU_WRITE, _RMAP = MONITOR + 1, LOCKS + int(Lock.MMU_WRITE), LOCKS + int(Lock.RMAP)


@compiled
def start(m: Machine, v: VCpus) -> None:
    """Time begins: what was done so far is left out."""
    for g in range(len(v.guests)):
        _count_locks(m, v, g)
        v.queue[0].traffic += m.events[g].pswpin + m.events[g].pswpout


@compiled
def end_tick(m: Machine, v: VCpus) -> None:
    """A tick has passed for the vCPUs."""
    rules = v.rules[0]
    tick_ns = rules.tick_ns
    traffic = faulting_ns = 0
    for g in range(len(v.guests)):
        guest, times, events = v.guests[g], v.times[g], m.events[g]
        for number in range(guest.first, guest.first + guest.vcpus):
            thread = v.threads[number]
            time_account.end_tick(thread, tick_ns, guest.has_work or thread.backlog_ns > 0)
            faulting_ns += thread.spent[_FAULT] - v.seen[number, _FAULT]
            _note_task(v, guest, number)
        traffic += events.pswpin + events.pswpout
        _count_locks(m, v, g)
        times.mmu_lock_hold_ns += int(np.rint(guest.new_locks[2] * rules.aging_hold_ns * rules.scale))
        times.resident_page_ms += count_memory(m, g) * tick_ns // MS_NS
        swapped = 0 if m.mms[g].exited else events.pgsteal - events.pgsteal_file + events.damos_applied - events.pswpin
        in_pool = m.mms[g].pool_units / POOL_UNIT
        times.pool_page_ms += int(np.rint(in_pool)) * tick_ns // MS_NS
        times.reclaimed_page_ms += int(np.rint(swapped - in_pool)) * tick_ns // MS_NS
    for number in range(len(v.tasks), len(v.threads)):
        thread = v.threads[number]
        time_account.end_tick(thread, tick_ns, thread.working or thread.backlog_ns > 0)
    queue = v.queue[0]
    swap_queue.end_tick(queue, (traffic - queue.traffic) * rules.scale, tick_ns)
    queue.traffic = traffic
    if not rules.free:
        others = faulting_ns / tick_ns * (1 - 1 / len(v.tasks))  # vCPUs that a fault meets in theirs, on average
        fault_ns = contended_ns(rules.fault_ns, rules.serial_ns, rules.coherency_ns, 1 + others)
        v.fault_ps[0] = int(np.rint(fault_ns * rules.scale * cost_model.PS))
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
    shadow, aging, spins = guest.new_locks[1], guest.new_locks[2], guest.new_locks[3]
    met = aging > 0 or (shadow > 0 and (guest.vcpus > 1 or spins > 0))  # a lone vCPU does not wait for itself
    guest.locks_changed = met or guest.tdp_wait_ns > 0 or guest.shadow_wait_ns > 0 or guest.aging_wait_ns > 0


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
