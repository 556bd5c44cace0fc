"""Ticks and their time slices, as compiled code runs them: guests, and kswapd beside them.

Where kswapd has to keep up with the guests a tick is cut into time slices, so short that twice the faults of the last
tick can't use up the pages between the low watermark and the min one within a slice.
"""

from __future__ import annotations

from coldfleet.hostsim.clock import time_account
from coldfleet.hostsim.clock.tick_end import MS_NS, end_tick
from coldfleet.hostsim.clock.vcpu_state import NOT_MADE
from coldfleet.hostsim.clock.vcpus import World, charge_kernel_thread, flush_stats, run_guests
from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.mm.kswapd import NOBODY, balance_on_clock
from coldfleet.hostsim.workload.batches import NONE_LEFT, WATCHED

VISIT = WATCHED + 1
"""What kswapd needs: that Python makes its next visit, because the memory is watched."""

MAX_SLICES = 250  # in a tick: shorter ones cost more than they are worth
MARGIN = 2  # a tick may have so many times the faults of the last one


@compiled
def run_ticks(w: World, last_tick: int) -> int:
    """Goes on with this tick and with those up to ``last_tick``, in which only guests and kswapd work, with a CPU for
    each thread. Stops earlier if the waits for a lock may change.

    Returns NONE_LEFT, or else what somebody needs before it is called again.
    """
    p = w.v.progress[0]
    while True:
        needs = run_slices(w, w.v.rules[0].tick_ns, p.slices)
        if needs != NONE_LEFT:
            return needs
        end_tick(w.m, w.v)
        changed = 0
        for guest in w.v.guests:
            changed += guest.locks_changed
        if p.tick == last_tick or changed:
            return NONE_LEFT
        begin_tick(w, p.tick + 1)


@compiled
def begin_tick(w: World, tick: int) -> None:
    """A tick begins, of as many slices as it has to have."""
    p = w.v.progress[0]
    w.m.node[0].tick = p.tick = tick
    p.guest = 0
    p.slice = 1
    p.slices = _count_slices(w) if w.v.rules[0].kswapd else 1


@compiled
def _count_slices(w: World) -> int:
    """Into how many time slices the tick that begins is cut: by the faults that it may have.

    Newcomers may do nothing but fault.
    """
    p, rules, node = w.v.progress[0], w.v.rules[0], w.m.node[0]
    faults = 0
    for g in range(len(w.m.events)):
        faults += w.m.events[g].pgfault
    may_come = rules.tick_ns * p.newcomers / rules.fault_ns / rules.scale + MARGIN * (faults - p.faults)
    p.faults, p.newcomers = faults, 0
    pages = max(node.low_pages - node.min_pages, 1)  # can be allocated while kswapd wakes up
    return 1 + int(min(may_come / pages, MAX_SLICES - 1.0))


@compiled
def run_slices(w: World, level_ns: int, last: int) -> int:
    """Goes on with the tick until the end of the slice ``last``; all of its slices reach up to ``level_ns``."""
    p = w.v.progress[0]
    while p.slice <= last:
        needs = run_slice(w, level_ns * p.slice // p.slices)
        if needs != NONE_LEFT:
            return needs
        p.slice += 1
    return NONE_LEFT


@compiled
def run_slice(w: World, level_ns: int) -> int:
    """All guests and kswapd work until this point of the tick.

    kswapd has no time left up to it when it has run beside the first guest: the others can only wake it.
    """
    p = w.v.progress[0]
    w.m.node[0].now_ms = (p.began_ns + level_ns) // MS_NS
    guests = len(w.v.guests)
    second = 1
    while second < guests and not w.m.mms[second - 1].online:
        second += 1
    if p.guest < second:
        needs = run_guests(w, second, level_ns)
        if needs != NONE_LEFT:
            return needs
    if p.guest == second and not p.resumed:
        needs = run_kswapd(w, level_ns)
        if needs != NONE_LEFT:
            return needs
        if p.slice == 1:
            flush_stats(w.m)
    needs = run_guests(w, guests, level_ns)
    if needs == NONE_LEFT:
        needs = run_kswapd(w, level_ns)
    if needs == NONE_LEFT:
        p.guest = 0
    return needs


@compiled
def run_kswapd(w: World, level_ns: int) -> int:
    """kswapd works until this point of the tick, if it is awake or somebody has woken it, or until it goes to sleep:
    then that time is gone."""
    v, p, number = w.v, w.v.progress[0], w.v.rules[0].kswapd
    if not number:
        return NONE_LEFT
    thread = v.threads[number]
    if w.m.node[0].kswapd_woken:
        thread.working = 1
    granted_ns = level_ns - thread.slept
    time_account.work_off(thread, granted_ns)
    while thread.working and thread.used < granted_ns and not thread.backlog_ns:
        visited = p.visit
        p.visit = NOT_MADE
        if visited == NOT_MADE:
            if w.watched:
                return VISIT
            visited = balance_on_clock(w.m)
        thread.working = visited != NOBODY
        if visited != NOBODY:
            thread.guest = visited  # whose time the end of the work is, too
        work_ns, _, _ = charge_kernel_thread(v, w.cost_model, thread, thread.guest, granted_ns)
        v.times[thread.guest].kswapd_cpu_ns += work_ns
    if not thread.working and not thread.backlog_ns:
        thread.slept = level_ns - thread.used
    return NONE_LEFT
