"""A clock for a host: guests run on vCPUs, kernel threads age and reclaim beside them, and all share the CPUs.

The host's time moves in ticks. In each, a thread gets at most a tick of CPU time, and all threads together get what the
CPUs have: equal shares, and what one leaves goes to those that want more. Work that doesn't fit is done in the next
tick, so the thread falls behind; a thread with nothing to do is idle. If nothing costs time, a run is a replay.

What guests do is compiled (hostsim.clock.vcpus), and so is kswapd (hostsim.clock.slices). The other kernel threads
work here, in the ticks in which there is something to do. Guests run one after the other, each as far as it may in a
tick, or in a time slice of it where kswapd has to keep up with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.clock.aging_thread import AgingThread, Job, Piece
from coldfleet.hostsim.clock.cost_model import new_cost_model, read_costs, turn_over
from coldfleet.hostsim.clock.kernel_threads import KernelThread, Worker
from coldfleet.hostsim.clock.latency import latency_gauges
from coldfleet.hostsim.clock.psi import Psi
from coldfleet.hostsim.clock.slices import VISIT, begin_tick, run_kswapd, run_slice, run_slices, run_ticks
from coldfleet.hostsim.clock.tick_end import MS_NS, end_tick, start
from coldfleet.hostsim.clock.time_account import Thread
from coldfleet.hostsim.clock.vcpu_state import new_vcpus
from coldfleet.hostsim.clock.vcpus import World, charge_kernel_thread, count_runnable, run_guests
from coldfleet.hostsim.costs.mmu_lock import LockRates, aging_hold_ns
from coldfleet.hostsim.costs.scalability import serial_ns
from coldfleet.hostsim.counters.timing import CAUSES, KINDS, RESOURCES, WINDOWS, no_time
from coldfleet.hostsim.engine.state import ANON, FILE, SHADOW_MAPPED
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.spec.calibration import DEFAULT, Calibration
from coldfleet.hostsim.spec.host_spec import ClockSpec
from coldfleet.hostsim.swap.devices import SwapDevice
from coldfleet.hostsim.swap.queue import end_writes
from coldfleet.hostsim.workload.access_queues import AccessQueues
from coldfleet.hostsim.workload.batches import DRAW, NONE_LEFT
from coldfleet.hostsim.workload.guest_extras import GuestExtras


@dataclass(frozen=True)
class GuestTick:
    """What happens to one guest in a tick besides its accesses.

    ``user_space_reclaim``: what user space does to it afterwards. ``extras``: the rest, which takes no time.
    """

    user_space_reclaim: Callable[[int, Psi | None], Job]
    extras: GuestExtras | None


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

    ``is_due``: whether user space does something in a tick. ``vcpus``: of each guest, which comes in the tick
    ``arrives``. ``queue``: the swap device's (hostsim.swap.queue). ``file_queues``: one for each kind of device for
    files, and ``file_queue_of`` each guest which of them. ``scale``: pages that a page stands for. ``calibration``: the
    cost of work. ``workers``: further kernel threads (the access monitor, khugepaged), by the column of their CPU time.
    """

    def __init__(
        self,
        memory: HostMemory,
        queues: AccessQueues,
        guest_ticks: Sequence[GuestTick],
        is_due: Callable[[int], bool],
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
        self.memory, self.queues, self.guest_ticks, self.is_due = memory, queues, guest_ticks, is_due
        self.spec, self.scale, self.calibration = spec, scale, calibration
        model = partial(new_cost_model, scale=scale, calibration=calibration)
        self.cost_model = model(memory, write_cpu_ns=device.write_cpu_ns, free=spec.free)
        no_faults = spec.free or queues.baseline is None  # without reclaim: all is mapped in tick 0
        self.baseline_cost_model = model(queues.baseline or memory, write_cpu_ns=0.0, free=no_faults)
        serial = sum(serial_ns(calibration).values())
        has_kswapd = memory.has_watermarks and not spec.free
        limits = calibration.fault_ns, serial, calibration.coherency_ns
        rules = (
            spec.tick_ns,
            spec.access_ns,
            spec.free,
            scale,
            aging_hold_ns(calibration),
            *limits,
            device.asynchronous,
            calibration.tlb_saving,
            sum(vcpus) + 1 if has_kswapd else 0,
        )
        workers = workers or {}
        threads = 1 + has_kswapd + len(workers)
        guests, fault_ps = (list(vcpus), list(arrives)), self.cost_model.fault_ps
        self.vcpus = new_vcpus(*guests, threads, spec.pcpus, rules, queue, file_queues, fault_ps)
        self.vcpus.guests["file_queue"] = file_queue_of
        records = iter(self.vcpus.threads[sum(vcpus) :])
        self.aging_thread = AgingThread(Thread(next(records)))
        if has_kswapd:
            next(records)
            memory.let_kswapd_take_time()
        self._workers = workers
        self._threads = {name: KernelThread(Thread(next(records)), len(vcpus)) for name in workers}
        self._others: list[AgingThread | KernelThread] = [self.aging_thread, *self._threads.values()]
        self._progress = self.vcpus.progress[0]
        self._progress["faults"] = memory.machine.events["pgfault"].sum()
        self.psis, self.io_psis = (  # of the guests' memcgs, then of the host
            [Psi(record) for record in records] for records in self.vcpus.psis.T
        )
        self._has_extras = any(each.extras for each in guest_ticks)
        self._pass_began: dict[int, int] = {}
        everybody = range(len(vcpus))
        self._writers = [_Writer(queue[0], ANON, everybody)]
        for number, file_queue in enumerate(file_queues):
            users = [g for g in everybody if file_queue_of[g] == number]
            self._writers.append(_Writer(file_queue, FILE, users))
        for writer in self._writers:
            writer.read = self._count_reads(writer)
        self._due = 0  # a tick in which user space does something: none of those between now and then is one
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
        self._sharing = there + len(self.vcpus.threads) - len(self.vcpus.cpus)

    def _stop(self, g: int) -> None:
        """A guest's vCPUs do nothing more, and user space nothing more for it."""
        guest = self.vcpus.guests[g]
        threads = self.vcpus.threads[guest["first"] : guest["first"] + guest["vcpus"]]
        threads["backlog"] = threads["backlog_ns"] = threads["working"] = guest["has_work"] = 0
        self.aging_thread.forget(g)
        self._pass_began.pop(g, None)

    def run_ticks(self, tick: int, last: int) -> int:
        """Runs a tick, and those up to ``last`` in which only guests and kswapd work; returns the last one that it
        ran."""
        tick_ns = self.spec.tick_ns
        capacity_ns = (self.spec.pcpus or self._sharing) * tick_ns
        level_ns = min(tick_ns, capacity_ns // self._sharing)
        begin_tick(self._world(), tick)
        others = self._has_extras or self._threads or level_ns < tick_ns or self.aging_thread.runnable
        if others or self._next_due(tick, last) == tick:
            self._run_beside_others(level_ns, capacity_ns)
            end_tick(self.memory.machine, self.vcpus)
        else:
            self._run(run_ticks, min(last, self._due - 1))
        for g in self.vcpus.guests["locks_changed"].nonzero()[0].tolist():
            self._set_lock_waits(g)
        return int(self._progress["tick"])

    def _next_due(self, tick: int, last: int) -> int:
        """The next tick in which user space does something; one after ``last`` if it isn't among those up to it."""
        if self._due < tick:
            self._due = next((each for each in range(tick, last + 1) if self.is_due(each)), last + 1)
        return self._due

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

    def _run_beside_others(self, level_ns: int, capacity_ns: int) -> None:
        """The guests in their order, as far as equal shares of the CPUs reach; then whoever wants more of the rest."""
        tick_ns, p = self.spec.tick_ns, self._progress
        tick, slices = int(p["tick"]), int(p["slices"])
        self.memory.set_time((int(p["began_ns"]) + level_ns // slices) // MS_NS)
        for g in self._online:
            self._run_guest_tick(g, tick, level_ns // slices)
        for name, thread in self._threads.items():
            if tick % self._workers[name].every_ticks == 0 and not thread.busy:
                thread.begin(self._workers[name].begin())
            thread.run(level_ns // slices, self._charge)
        p["slice"], p["guest"] = 2, 0
        while (number := int(p["slice"])) <= slices:
            until = number if any(each.runnable for each in self._others) else slices
            self._run(run_slices, level_ns, until)
            self._run_others(level_ns * until // slices)
        while level_ns < tick_ns and (runnable := self._count_runnable(tick_ns)):
            more_ns = (capacity_ns - int(self.vcpus.threads["used"].sum())) // runnable
            if more_ns <= 0:  # a thread's last piece of work may have reached beyond its share
                break
            level_ns = min(tick_ns, level_ns + more_ns)
            self._run(run_slice, level_ns)
            self._run_others(level_ns)

    def _run_others(self, level_ns: int) -> None:
        """The aging thread and the workers work until this point of the tick."""
        self._run_aging_thread(level_ns)
        for thread in self._threads.values():
            thread.run(level_ns, self._charge)

    def _charge(self, thread: Thread, g: int, level_ns: int) -> int:
        """As hostsim.clock.vcpus.charge_kernel_thread; returns the CPU time."""
        return int(charge_kernel_thread(self.vcpus, self.cost_model, thread.record, g, level_ns)[0])

    def _run_guest_tick(self, g: int, tick: int, level_ns: int) -> None:
        """The first time slice of a guest's tick, with what is done to the guest in it."""
        own = self.guest_ticks[g]
        if own.extras is not None:
            own.extras.begin(tick)
        self._progress["guest"] = g
        self._run(run_guests, g + 1, level_ns)
        self._run(run_kswapd, level_ns)
        if own.extras is not None:
            own.extras.after_accesses(tick)
            read_costs(self.cost_model)
        self.aging_thread.add(g, own.user_space_reclaim(tick, self.psis[g]))
        self._run_aging_thread(level_ns)
        if own.extras is not None:
            own.extras.end(tick)

    def _run(self, work: Callable[..., int], *arguments: int) -> None:
        """Compiled work, with all that it needs meanwhile."""
        while (needs := work(self._world(), *arguments)) != NONE_LEFT:
            g = int(self._progress["guest"])
            if needs == DRAW:
                self.queues.draw(g)
            elif needs == VISIT:
                self._progress["visit"] = self.memory.balance_part()
            else:
                self.queues.access(g)

    def _world(self) -> World:
        memory, queues = self.memory, self.queues
        baseline = (queues.baseline or memory).machine
        return World(
            memory.machine,
            baseline,
            queues.state,
            self.vcpus,
            self.cost_model,
            self.baseline_cost_model,
            memory.watched,
        )

    def _run_aging_thread(self, level_ns: int) -> None:
        """User space ages and reclaims until its thread has used ``level_ns`` of this tick, or all is done."""
        thread = self.aging_thread.thread
        if thread.backlog_ns:
            thread.work_off(level_ns)
        while thread.used < level_ns and not thread.backlog_ns:
            began_ns = int(self._progress["began_ns"]) + thread.used
            done = self.aging_thread.work()
            if done is None:
                break
            g, piece = done
            times = self.vcpus.times[g]
            work_ns, lock_ns, write_ns = charge_kernel_thread(self.vcpus, self.cost_model, thread.record, g, level_ns)
            times["aging_thread_cpu_ns"] += work_ns
            times["aging_thread_lock_ns"] += lock_ns
            if piece is Piece.WALKED:
                self._pass_began.setdefault(g, began_ns)
            elif piece is Piece.AGED:
                took_ns = work_ns + lock_ns + write_ns
                times["aging_passes"] += 1
                times["aging_pass_ns"] += began_ns + took_ns - self._pass_began.pop(g, began_ns)

    def _count_runnable(self, tick_ns: int) -> int:
        """Threads that would use more of this tick."""
        runnable = int(count_runnable(self.vcpus, tick_ns))
        return runnable + sum(each.runnable and each.thread.used < tick_ns for each in self._others)

    def _set_lock_waits(self, g: int) -> None:
        """The rates of the tick that ends are those of the next."""
        guest = self.vcpus.guests[g]
        tdp, shadow, writes, rmap_locks = (float(count) * self.scale for count in guest["new_locks"])
        rmaps = 0.0  # those that have an SPTE
        if rmap_locks and shadow:
            words = self.memory.machine.bits[self.memory.words(g), SHADOW_MAPPED]
            rmaps = float(np.bitwise_count(words).sum()) * self.scale
        vcpus, tick_ns = int(guest["vcpus"]), self.spec.tick_ns
        rates = LockRates(vcpus, tick_ns, tdp, shadow, writes, rmap_locks, rmaps, self.calibration)
        guest["tdp_wait_ns"], guest["shadow_wait_ns"], guest["aging_wait_ns"] = rates.waits()

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
