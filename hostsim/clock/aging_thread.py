"""The aging thread of a host's clock: it ages and reclaims for user space, step by step.

It has a line of jobs, at most one for each guest (hostsim.clock.user_space), and stops between two steps when its time
is over. An aging of many page tables is made in parts, which Python makes: each is long.
"""

from __future__ import annotations

from coldfleet.hostsim.clock import time_account
from coldfleet.hostsim.clock.user_space import (
    AGE,
    NOT_BEGUN,
    NOTHING,
    STATS,
    UserSpace,
    next_step,
    take_step,
)
from coldfleet.hostsim.clock.vcpu_state import MEMORY, NOT_MADE, STEP
from coldfleet.hostsim.clock.vcpus import World, charge_kernel_thread
from coldfleet.hostsim.engine.jit import compiled, spliced
from coldfleet.hostsim.engine.state import Record
from coldfleet.hostsim.mm.aging import tables_of
from coldfleet.hostsim.workload.batches import NONE_LEFT


@compiled
def add_job(w: World, g: int) -> None:
    """The thread takes on what is due for a guest in this tick, unless it still has a job for it."""
    u, v = w.u, w.v
    if u.jobs[g].due:
        return
    u.jobs[g].due = u.due[v.progress[0].tick] | STATS
    u.line[(u.waiting[0] + u.waiting[1]) % len(u.line)] = g
    u.waiting[1] += 1
    v.threads[v.rules[0].aging_thread].working = 1


def forget(u: UserSpace, thread: Record, g: int) -> None:
    """The thread gives up its job for a guest that has left."""
    job = u.jobs[g]
    job["due"] = job["step"] = job["walks"] = 0
    job["began_ns"] = NOT_BEGUN
    first, count = u.waiting.tolist()
    left = [other for other in (u.line[(first + place) % len(u.line)] for place in range(count)) if other != g]
    u.line[: len(left)] = left
    u.waiting[:] = 0, len(left)
    thread["working"] = bool(left)


@compiled
def run_aging_thread(w: World, level_ns: int) -> int:
    """It works until it has used ``level_ns`` of this tick, or all is done: NONE_LEFT, or else STEP."""
    p = w.v.progress[0]
    thread = w.v.threads[w.v.rules[0].aging_thread]
    time_account.work_off(thread, level_ns)
    while thread.used < level_ns and not thread.backlog_ns:
        step = p.step
        p.step = NOT_MADE
        if step == NOT_MADE:
            step = _work(w, thread)
            if p.step != NOT_MADE:
                return STEP
            if step == NOTHING:
                break
        _charge(w, thread, w.u.line[w.u.waiting[0]], step, level_ns)
    return NONE_LEFT


@spliced
def _work(w: World, thread: Record) -> int:
    """The next step of the first job is taken; NOTHING: all jobs are done. Leaves the step to Python where that makes
    it, or watches."""
    u = w.u
    while u.waiting[1]:
        g = u.line[u.waiting[0]]
        step = next_step(w.m, u, g, w.v.psis[g, MEMORY])
        if step == NOTHING:
            u.waiting[0] = (u.waiting[0] + 1) % len(u.line)
            u.waiting[1] -= 1
            continue
        first, end = tables_of(w.m, g)
        if w.watched or (step == AGE and 0 < u.rules[0].part_tables < end - first):
            w.v.progress[0].step = step
        else:
            take_step(w.m, u, g, step)
        return step
    thread.working = 0
    return NOTHING


@spliced
def _charge(w: World, thread: Record, g: int, step: int, level_ns: int) -> None:
    """What a step has cost; an aging pass lasts from its first part to its last."""
    times, job = w.v.times[g], w.u.jobs[g]
    began_ns = w.v.progress[0].began_ns + thread.used
    work_ns, lock_ns, write_ns = charge_kernel_thread(w.v, w.cost_model, thread, g, level_ns)
    times.aging_thread_cpu_ns += work_ns
    times.aging_thread_lock_ns += lock_ns
    if step != AGE:
        return
    if job.began_ns == NOT_BEGUN:
        job.began_ns = began_ns
    if not job.walks:
        times.aging_passes += 1
        times.aging_pass_ns += began_ns + work_ns + lock_ns + write_ns - job.began_ns
        job.began_ns = NOT_BEGUN
