"""Ticks and their time slices, as compiled code runs them: guests, and kernel threads beside them.

Guests run one after the other, each as far as it may in a slice. In the first slice of a tick, user space then does to
the guest what is due. Where kswapd has to keep up with the guests a tick is cut into time slices, so short that twice
the faults of the last tick can't use up the pages between the low watermark and the min one within a slice. What the
CPUs have left at the end of the last one is shared by the threads that want more.
"""

from __future__ import annotations

from coldfleet.hostsim.clock import time_account
from coldfleet.hostsim.clock.aging_thread import add_job, run_aging_thread
from coldfleet.hostsim.clock.tick_end import MS_NS, end_tick, set_lock_waits
from coldfleet.hostsim.clock.vcpu_state import (
    ACCESSES,
    AGING_THREAD,
    EXTRAS,
    EXTRAS_AFTER,
    EXTRAS_BEGIN,
    EXTRAS_END,
    GUESTS,
    KSWAPD,
    NOT_MADE,
    TICK_END,
    USER_SPACE,
    VISIT,
    WORK,
    WORKERS,
)
from coldfleet.hostsim.clock.vcpus import World, charge_kernel_thread, count_runnable, flush_stats, run_guest
from coldfleet.hostsim.engine.jit import compiled, spliced
from coldfleet.hostsim.mm.kswapd import NOBODY, balance_on_clock
from coldfleet.hostsim.workload.batches import NONE_LEFT

MAX_SLICES = 250  # in a tick: shorter ones cost more than they are worth
MARGIN = 2  # a tick may have so many times the faults of the last one


@compiled
def run_ticks(w: World, last_tick: int) -> int:
    """Goes on with this tick and with those up to ``last_tick``.

    Returns NONE_LEFT, or else what somebody needs before it is called again.
    """
    p = w.v.progress[0]
    while True:
        needs = _run_tick(w) if p.stage != TICK_END else NONE_LEFT
        if needs == NONE_LEFT:
            needs = set_lock_waits(w.m, w.v)
        if needs != NONE_LEFT or p.tick == last_tick:
            return needs
        begin_tick(w, p.tick + 1)


@compiled
def begin_tick(w: World, tick: int) -> None:
    """A tick begins, of as many slices as it has to have."""
    p, rules = w.v.progress[0], w.v.rules[0]
    w.m.node[0].tick = p.tick = tick
    p.slices = _count_slices(w) if rules.kswapd else 1
    aging_thread = w.v.threads[rules.aging_thread]
    others = rules.workers or rules.extras or aging_thread.working or aging_thread.backlog_ns > 0
    p.beside = others or p.share_ns < rules.tick_ns or w.u.due[tick] != 0
    p.stage, p.guest, p.turn = GUESTS, 0, EXTRAS_BEGIN
    p.slice = 0
    _begin_slice(w)


@spliced
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
def _begin_slice(w: World) -> bool:
    """The next slice of the tick begins, up to where all threads may work in it; False: there is none."""
    p, tick_ns = w.v.progress[0], w.v.rules[0].tick_ns
    p.slice += 1
    if p.slice <= p.slices:
        p.level_ns = p.share_ns * p.slice // p.slices
        return True
    if p.level_ns >= tick_ns:
        return False
    runnable = count_runnable(w.v, tick_ns)
    left_ns = p.capacity_ns
    for number in range(len(w.v.threads)):
        left_ns -= w.v.threads[number].used
    if not runnable or left_ns // runnable <= 0:  # a thread's last piece of work may have reached beyond its share
        return False
    p.level_ns = min(tick_ns, p.level_ns + left_ns // runnable)
    return True


@spliced
def _run_tick(w: World) -> int:
    """Goes on with the tick to its end."""
    p = w.v.progress[0]
    while True:
        if p.stage == GUESTS:
            needs = _run_guests(w)
            if needs != NONE_LEFT:
                return needs
            p.stage = AGING_THREAD
        if p.stage == AGING_THREAD and p.beside:
            if p.slice > 1:  # in the first slice it has worked beside the guests
                needs = run_aging_thread(w, p.level_ns)
                if needs != NONE_LEFT:
                    return needs
            if w.v.rules[0].workers:
                p.stage = WORKERS
                return WORK
        p.stage = GUESTS
        if not _begin_slice(w):
            p.stage = TICK_END
            end_tick(w.m, w.v)
            return NONE_LEFT


@spliced
def _run_guests(w: World) -> int:
    """All guests and kswapd work until the end of the slice."""
    p = w.v.progress[0]
    w.m.node[0].now_ms = (p.began_ns + p.level_ns) // MS_NS
    while p.guest < len(w.v.guests):
        if w.m.mms[p.guest].online:
            needs = _take_turn(w, p.guest, p.beside and p.slice == 1)
            if needs != NONE_LEFT:
                return needs
        p.guest += 1
    needs = run_kswapd(w, p.level_ns)
    if needs == NONE_LEFT:
        p.guest = 0
    return needs


@spliced
def _take_turn(w: World, g: int, beside: bool) -> int:
    """A guest works until the end of the slice, and kswapd beside it. ``beside``: with all that happens to the guest in
    a tick. A CPU switches to each guest in the first slice, which goes on with what it had left."""
    p, extras = w.v.progress[0], beside and w.v.guests[g].extras
    if p.turn == EXTRAS_BEGIN:
        if p.slice == 1 and w.v.guests[g].has_work:
            w.m.mms[g].used = 1
        p.turn = ACCESSES
        if extras:
            return EXTRAS
    if p.turn == ACCESSES:
        needs = run_guest(w, g, p.level_ns)
        if needs != NONE_LEFT:
            return needs
        if p.slice == 1:
            flush_stats(w.m)
        p.turn = KSWAPD
    if p.turn == KSWAPD:
        needs = run_kswapd(w, p.level_ns)
        if needs != NONE_LEFT:
            return needs
        if p.slice == 1 and not beside:
            flush_stats(w.m)
        p.turn = EXTRAS_AFTER
        if extras:
            return EXTRAS
    if p.turn == EXTRAS_AFTER:
        if beside:
            add_job(w, g)
        p.turn = USER_SPACE
    if p.turn == USER_SPACE:
        needs = run_aging_thread(w, p.level_ns) if beside else NONE_LEFT
        if needs != NONE_LEFT:
            return needs
        p.turn = EXTRAS_END
        if extras:
            return EXTRAS
    p.turn = EXTRAS_BEGIN
    return NONE_LEFT


@compiled
def run_kswapd(w: World, level_ns: int) -> int:
    """kswapd works until this point of the tick, if it is awake or somebody has woken it, or until it goes to sleep:
    then that time is gone. So beside the guests after the first one it can only be woken."""
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
