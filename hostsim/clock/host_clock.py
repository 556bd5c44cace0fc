"""A clock for a host: guests run on vCPUs, kernel threads age and reclaim beside them, and all share the CPUs.

The host's time moves in ticks. In each, a thread gets at most a tick of CPU time, and all threads together get what the
CPUs have: equal shares, and what one leaves goes to those that want more. Work that doesn't fit is done in the next
tick, so the thread falls behind; a thread with nothing to do is idle. If nothing costs time, a run is a replay.

Ticks are compiled (hostsim.clock.slices), with what guests, kswapd and the aging thread do in them. They come back here
for what is not: accesses are drawn, what is watched is done, and extras and the other kernel threads have their turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.clock.aging_thread import forget
from coldfleet.hostsim.clock.cost_model import new_cost_model, read_costs, turn_over
from coldfleet.hostsim.clock.kernel_threads import KernelThread, Worker
from coldfleet.hostsim.clock.latency import latency_gauges
from coldfleet.hostsim.clock.psi import Psi
from coldfleet.hostsim.clock.slices import begin_tick, run_ticks
from coldfleet.hostsim.clock.tick_end import start
from coldfleet.hostsim.clock.time_account import Thread
from coldfleet.hostsim.clock.user_space import AGE, AGE_SWAPPINESS, UserSpace, take_step_outside
from coldfleet.hostsim.clock.vcpu_state import ACCESSES, EXTRAS, EXTRAS_AFTER, SOLVE, STEP, VISIT, WORK, new_vcpus
from coldfleet.hostsim.clock.vcpus import World, charge_kernel_thread
from coldfleet.hostsim.costs.mmu_lock import aging_hold_ns, aging_page_ns, solutions, solve_missing
from coldfleet.hostsim.costs.scalability import serial_ns
from coldfleet.hostsim.counters.timing import CAUSES, KINDS, RESOURCES, WINDOWS, no_time
from coldfleet.hostsim.engine.state import ANON, FILE
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.spec.calibration import DEFAULT, Calibration
from coldfleet.hostsim.spec.host_spec import ClockSpec
from coldfleet.hostsim.swap.devices import SwapDevice
from coldfleet.hostsim.swap.queue import end_writes
from coldfleet.hostsim.workload.access_queues import AccessQueues
from coldfleet.hostsim.workload.batches import DRAW, NONE_LEFT, WATCHED
from coldfleet.hostsim.workload.guest_extras import GuestExtras


@dataclass
class _Writer:
    """A device with what it writes: pages of a kind (ANON, FILE) of some guests.

    ``read``: as HostClock._count_reads, up to the last tick. ``begun``: of a page that it had no time to finish.
    """

    queue: Any
    kind: int
    guests: Sequence[int]
    read: tuple[int, int] = (0, 0)
    begun: float = 0.0


class HostClock:
    """Runs the guests of a host from tick 1 on; to be made when they have populated their memory, which was free.

    ``user_space``: what it does to them. ``extras``: of each guest, None: it has none. ``vcpus``: of each guest, which
    comes in the tick ``arrives``. ``queue``: the swap device's (hostsim.swap.queue). ``file_queues``: one for each kind
    of device for files, and ``file_queue_of`` each guest which of them. ``scale``: pages that a page stands for.
    ``calibration``: the cost of work. ``workers``: further kernel threads (the access monitor, khugepaged), by the
    column of their CPU time.
    """

    def __init__(
        self,
        memory: HostMemory,
        queues: AccessQueues,
        user_space: UserSpace,
        extras: Sequence[GuestExtras | None],
        spec: ClockSpec,
        vcpus: Sequence[int],
        arrives: Sequence[int],
        device: SwapDevice,
        queue: npt.NDArray[np.void],
        file_queues: npt.NDArray[np.void],
        file_queue_of: Sequence[int],
        scale: float = 1.0,
        calibration: Calibration = DEFAULT,
        workers: Mapping[str, Worker] | None = None,
    ) -> None:
        self.memory, self.queues, self.user_space, self.extras = memory, queues, user_space, extras
        self.spec, self.scale, self.calibration = spec, scale, calibration
        model = partial(new_cost_model, scale=scale, calibration=calibration)
        self.cost_model = model(memory, write_cpu_ns=device.write_cpu_ns, free=spec.free)
        no_faults = spec.free or queues.baseline is None  # without reclaim: all is mapped in tick 0
        self.baseline_cost_model = model(queues.baseline or memory, write_cpu_ns=0.0, free=no_faults)
        serial = sum(serial_ns(calibration).values())
        has_kswapd = memory.has_watermarks and not spec.free
        limits = calibration.fault_ns, serial, calibration.coherency_ns
        workers, first = workers or {}, sum(vcpus)
        rules = (
            spec.tick_ns,
            spec.access_ns,
            spec.free,
            scale,
            aging_page_ns(calibration),
            aging_hold_ns(calibration),
            *limits,
            device.asynchronous,
            calibration.tlb_saving,
            first,
            first + 1 if has_kswapd else 0,
            len(workers),
            any(extras),
        )
        threads = 1 + has_kswapd + len(workers)
        guests, fault_ps = (list(vcpus), list(arrives)), self.cost_model.fault_ps
        solved = solutions(calibration)
        self.vcpus = new_vcpus(*guests, threads, spec.pcpus, rules, queue, file_queues, fault_ps, solved)
        self.vcpus.guests["file_queue"] = file_queue_of
        self.vcpus.guests["extras"] = [each is not None for each in extras]
        self._aging_thread, *records = self.vcpus.threads[first:]
        if has_kswapd:
            memory.let_kswapd_take_time()
        self._workers = workers
        self._threads = {
            name: KernelThread(Thread(record), len(vcpus))
            for name, record in zip(workers, records[has_kswapd:], strict=True)
        }
        self._progress = self.vcpus.progress[0]
        self._progress["faults"] = memory.machine.events["pgfault"].sum()
        self.psis, self.io_psis = (  # of the guests' memcgs, then of the host
            [Psi(record) for record in records] for records in self.vcpus.psis.T
        )
        self._walks: dict[int, Iterator[int]] = {}  # agings that are made in parts, of guests
        self._serve: dict[int, Callable[[int], None]] = {
            DRAW: queues.draw,
            WATCHED: queues.access,
            VISIT: self._visit,
            STEP: self._take_step,
            EXTRAS: self._run_extras,
            WORK: self._run_workers,
            SOLVE: self._solve,
        }
        everybody = range(len(vcpus))
        self._writers = [_Writer(queue[0], ANON, everybody)]
        for number, file_queue in enumerate(file_queues):
            users = [g for g in everybody if file_queue_of[g] == number]
            self._writers.append(_Writer(file_queue, FILE, users))
        for writer in self._writers:
            writer.read = self._count_reads(writer)
        self._online: list[int] = []  # the guests that are there
        self.turn_over()
        start(memory.machine, self.vcpus)

    def turn_over(self) -> None:
        """Guests have come or gone, which was done in no time; the others share the CPUs from now on."""
        guests, before = self.vcpus.guests, self._online
        online = self.memory.machine.mms["online"]
        self._online = np.flatnonzero(online).tolist()
        turn_over(self.cost_model, online.copy())
        self._progress["newcomers"] += sum(int(guests[g]["vcpus"]) for g in self._online if g not in before)
        for g in before:
            if g not in self._online:
                self._stop(g)
        there = 0
        for g in self._online:
            first, count = int(guests[g]["first"]), int(guests[g]["vcpus"])
            self.vcpus.cpus[first : first + count] = (there + np.arange(count)) % len(self.vcpus.pressure)
            there += count
        sharing = there + len(self.vcpus.threads) - len(self.vcpus.cpus)
        tick_ns = self.spec.tick_ns
        self._progress["capacity_ns"] = (self.spec.pcpus or sharing) * tick_ns
        self._progress["share_ns"] = min(tick_ns, int(self._progress["capacity_ns"]) // sharing)

    def _stop(self, g: int) -> None:
        """A guest's vCPUs do nothing more, and user space nothing more for it."""
        guest = self.vcpus.guests[g]
        threads = self.vcpus.threads[guest["first"] : guest["first"] + guest["vcpus"]]
        threads["backlog"] = threads["backlog_ns"] = threads["working"] = guest["has_work"] = 0
        forget(self.user_space, self._aging_thread, g)
        self._walks.pop(g, None)

    def run_ticks(self, tick: int, last: int) -> None:
        """Runs the ticks from this one to ``last``."""
        begin_tick(self._world(), tick)
        while (needs := run_ticks(self._world(), last)) != NONE_LEFT:
            self._serve[needs](int(self._progress["guest"]))

    def complete_io(self) -> None:
        """The writes of the tick that has passed end, as far as their devices have come."""
        if self.spec.free:
            self.memory.complete_io()
            return
        for writer in self._writers if self.memory.has_io else ():
            if not writer.queue["pages_per_s"]:
                self.memory.complete_io(None, writer.kind, writer.guests)
                continue
            requests, more = read = self._count_reads(writer)
            requests, more = requests - writer.read[0], more - writer.read[1]
            ended = end_writes(writer.queue, requests * self.scale, self.spec.tick_ns, more * self.scale) / self.scale
            writer.read = read
            ended += writer.begun
            writer.begun = ended % 1
            self.memory.complete_io(int(ended), writer.kind, writer.guests)

    def _count_reads(self, writer: _Writer) -> tuple[int, int]:
        """Requests that its guests have made to read, and their pages beyond the first of each."""
        events = self.memory.machine.events[list(writer.guests)]
        if writer.kind == ANON:
            merged = int(events["swap_ra"].sum() * writer.queue["merges"])
            return int(events["pswpin"].sum()) - merged, merged
        requests = int(events["file_read_requests"].sum())
        return requests, int(events["file_reads"].sum()) - requests

    def _visit(self, _g: int) -> None:
        """kswapd's next visit, under the eyes of who watches."""
        self._progress["visit"] = self.memory.balance_part()

    def _take_step(self, _g: int) -> None:
        """The aging thread's next step, a part of an aging if that is made in parts."""
        u, step = self.user_space, int(self._progress["step"])
        g, part_tables = int(u.line[u.waiting[0]]), int(u.rules[0]["part_tables"])
        first, end = self.memory.tables(g)
        if step != AGE or end - first <= part_tables:
            take_step_outside(self.memory, u, g, step)
            return
        job = u.jobs[g]
        if not job["walks"]:
            self._walks[g] = self.memory.age_in_parts(g, AGE_SWAPPINESS, bool(job["force_scan"]), part_tables)
        job["walks"] = next(self._walks[g], None) is not None

    def _run_extras(self, g: int) -> None:
        """What happens to a guest in a tick besides its accesses, and takes no time."""
        extras, tick, turn = self.extras[g], int(self._progress["tick"]), int(self._progress["turn"])
        assert extras is not None
        if turn == ACCESSES:
            extras.begin(tick)
        elif turn == EXTRAS_AFTER:
            extras.after_accesses(tick)
            read_costs(self.cost_model)
        else:
            extras.end(tick)

    def _run_workers(self, _g: int) -> None:
        """The access monitor and khugepaged work until the end of the time slice."""
        tick, level_ns = int(self._progress["tick"]), int(self._progress["level_ns"])
        for name, thread in self._threads.items():
            if self._progress["slice"] == 1 and tick % self._workers[name].every_ticks == 0 and not thread.busy:
                thread.begin(self._workers[name].begin())
            thread.run(level_ns, self._charge)

    def _charge(self, thread: Thread, g: int, level_ns: int) -> int:
        """As hostsim.clock.vcpus.charge_kernel_thread; returns the CPU time."""
        return int(charge_kernel_thread(self.vcpus, self.cost_model, thread.record, g, level_ns)[0])

    def _solve(self, _g: int) -> None:
        """A steady state of a lock that this process has not met yet, or has no more."""
        solve_missing(self.vcpus.solved, int(self._progress["missing"]), self.calibration)

    def _world(self) -> World:
        memory, queues = self.memory, self.queues
        baseline = (queues.baseline or memory).machine
        return World(
            memory.machine,
            baseline,
            queues.state,
            self.vcpus,
            self.user_space,
            self.cost_model,
            self.baseline_cost_model,
            memory.watched,
        )

    def finish(self, tick: int) -> list[dict[str, int]]:
        """The columns hostsim.counters.timing.TIMES of each guest."""
        found = []
        for g, (guest, times) in enumerate(zip(self.vcpus.guests, self.vcpus.times, strict=True)):
            own = {name: int(times[name]) for name in no_time()}
            spent = self.vcpus.threads["spent"][guest["first"] : guest["first"] + guest["vcpus"]].sum(axis=0)
            own.update({name: int(spent[cause]) for cause, (name, _) in CAUSES.items()})
            own["behind_ticks"] = tick - int(self.queues.state.guests[g]["tick"]) if self.memory.is_alive(g) else 0
            own.update({name: thread.spent_ns[g] for name, thread in self._threads.items()})
            found.append(own)
        return found


def gauges(memory: Psi, io: Psi, latencies: npt.NDArray[np.int64]) -> dict[str, float]:
    """The columns hostsim.counters.timing.GAUGES of a guest or a host, by its pressure of memory and of io."""
    found = latency_gauges(latencies)
    for name, psi in zip(RESOURCES.values(), (memory, io), strict=True):
        found |= {f"{name}_{kind}_avg{window}": psi.average(kind, window) for kind in KINDS for window in WINDOWS}
        found |= {f"{name}_{kind}_ns": float(psi.record["total_ns"][number]) for number, kind in enumerate(KINDS)}
    return found
