"""A clock for a host: guests run on vCPUs, a kernel thread reclaims beside them, and all share the CPUs.

The host's time moves in ticks. In each, a thread gets at most a tick of CPU time, and all threads together get what the
CPUs have: equal shares, and what one leaves goes to those that want more. A vCPU makes a batch of accesses, owes what
they cost (hostsim.ledger), and makes the next batch when it has paid. Whose work doesn't fit does it in the next tick,
and so falls behind; who has nothing to do is idle. With prices of 0 everything fits, and a run is a replay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from hostsim.calibration import DEFAULT, Calibration
from hostsim.demand import Demand
from hostsim.guest_extras import Caller, GuestExtras
from hostsim.latency import latency_gauges
from hostsim.ledger import Cause
from hostsim.machine import HostMemory
from hostsim.mmu_lock import MmuLocks
from hostsim.model import ClockSpec
from hostsim.prices import Bill, Meter
from hostsim.psi import EXPS, KINDS, Psi, Share
from hostsim.swap_devices import SwapDevice, SwapQueue
from hostsim.threads import Job, Piece, VCpus, Worker
from hostsim.timing import CAUSES, no_time
from hostsim.zram import ZramPool

MS_NS = 1_000_000


@dataclass(frozen=True)
class Turn:
    """One guest's part of a tick: its accesses, and what user space does to it afterwards.

    ``extras``: what happens in a tick beside that; it takes nobody's time.
    """

    demand: Demand
    upkeep: Callable[[int, Psi | None], Job]
    extras: GuestExtras | None


class HostClock:
    """Runs the guests of a host from tick 1 on; :meth:`start` when they have populated their memory.

    ``vcpus``: of each guest. ``pool``: the swap device's, if it has one; ``random``: for its latencies.
    ``scale``: pages that a page stands for. ``calibration``: the price of work.
    """

    def __init__(
        self,
        memory: HostMemory,
        turns: Sequence[Turn],
        spec: ClockSpec,
        vcpus: Sequence[int],
        device: SwapDevice,
        pool: ZramPool | None,
        random: np.random.Generator,
        scale: float = 1.0,
        calibration: Calibration = DEFAULT,
    ) -> None:
        self.memory, self.turns, self.spec, self.scale = memory, turns, spec, scale
        self.guests = [VCpus(count) for count in vcpus]
        self.reclaimer = Worker()
        self.device, self.pool = device, pool
        self.queue = SwapQueue(device, random)
        price = partial(Meter, scale=scale, free=spec.free, calibration=calibration)
        self.meter = price(memory, write_cpu_ns=device.write_cpu_ns)
        self.twins = [price(turn.demand.twin, write_cpu_ns=0.0) if turn.demand.twin else None for turn in turns]
        self.times = [no_time() for _ in vcpus]
        self.psi = Psi()
        self.now_ns = 0
        self.locks = MmuLocks(memory, list(vcpus), scale, calibration)
        self._threads = [(g, thread) for g, guest in enumerate(self.guests) for thread in guest.threads]
        self._pass_began: dict[int, int] = {}
        self._traffic = self._swap_traffic()

    def start(self) -> None:
        """Time begins: what was done so far was free."""
        for meter in (self.meter, *self.twins):
            if meter:
                meter.read()
        self.locks.start()
        self._traffic = self._swap_traffic()

    def run_tick(self, tick: int) -> None:
        """The guests in their order, as far as equal shares of the CPUs reach; then whoever wants more of the rest."""
        tick_ns = self.spec.tick_ns
        capacity_ns = (self.spec.pcpus or len(self._threads) + 1) * tick_ns
        level_ns = min(tick_ns, capacity_ns // (len(self._threads) + 1))
        for g, turn in enumerate(self.turns):
            if turn.extras is not None:
                turn.extras.begin(tick)
            if self.guests[g].has_work:
                self.memory.switch_to(g)  # what it did not finish goes on now
            self._run_guest(g, tick, level_ns)
            if turn.extras is not None:
                turn.extras.after_accesses(tick)
                self.meter.read()
            self.reclaimer.add(g, turn.upkeep(tick, self.guests[g].psi))
            self._run_reclaimer(level_ns)
            if turn.extras is not None:
                turn.extras.end(tick)
        while hungry := self._count_hungry(tick_ns):
            used_ns = self.reclaimer.thread.used + sum(thread.used for _, thread in self._threads)
            more_ns = (capacity_ns - used_ns) // hungry
            if not more_ns:
                break
            level_ns = min(tick_ns, level_ns + more_ns)
            for g in range(len(self.turns)):
                self._run_guest(g, tick, level_ns)
            self._run_reclaimer(level_ns)
        self._end_tick(tick_ns)

    def run_caller(self, caller: Caller) -> None:
        """The caller beside MGLRU does its work of a tick, on a CPU of its own."""
        self.meter.read()
        for g in caller():
            self.times[g]["caller_cpu_ns"] += self.meter.read().reclaim_ns

    def _run_guest(self, g: int, tick: int, level_ns: int) -> None:
        """The guest's vCPUs work until each has used ``level_ns`` of this tick, or there is nothing left to do."""
        guest, demand = self.guests[g], self.turns[g].demand
        for number in range(len(guest.threads)):
            guest.pay(number, level_ns)
        while (free := guest.next_free(level_ns)) is not None:
            accesses = demand.take(tick)
            guest.has_work = accesses > 0
            if not accesses:
                break
            guest.began[free] = guest.threads[free].now_ns
            guest.threads[free].owe(self._price(g, accesses, self.meter.read()))
            guest.pay(free, level_ns)
            self.times[g]["batches"] += 1

    def _price(self, g: int, accesses: float, bill: Bill) -> list[int]:
        """What a batch costs its vCPU, ns by cause."""
        guest = self.guests[g]
        guest.swapped_in += bill.swapped_in
        guest.restored += bill.restored
        if self.spec.free:
            return [0] * Cause.STEAL
        run_ns = round(accesses * self.spec.access_ns)
        twin = self.twins[g]
        self.times[g]["unreclaimed_ns"] += run_ns + (twin.read().fault_ns if twin else 0)
        swap_ns = self.queue.read(bill.swapped_in * self.scale) if bill.swapped_in else 0
        waits = self.locks.waits[g]
        lock_ns = bill.reads * waits.tdp_fault_ns + bill.writes * waits.shadow_fault_ns
        lock_ns = (lock_ns + bill.aging_writes * waits.aging_ns) * self.scale
        return [run_ns, bill.fault_ns, swap_ns, round(lock_ns), bill.reclaim_ns]

    def _run_reclaimer(self, level_ns: int) -> None:
        """User space ages and reclaims until its thread has used ``level_ns`` of this tick, or all is done."""
        thread = self.reclaimer.thread
        thread.pay(level_ns)
        while thread.used < level_ns and not thread.in_debt:
            began_ns = self.now_ns + thread.used
            done = self.reclaimer.work()
            if done is None:
                break
            g, piece = done
            bill = self.meter.read()
            work_ns = bill.fault_ns + bill.reclaim_ns
            spec = self.spec
            lock_ns = 0 if spec.free else round(bill.aging_writes * self.locks.waits[g].aging_ns * self.scale)
            thread.owe([work_ns, 0, 0, lock_ns, 0])
            self.times[g]["reclaimer_lock_ns"] += lock_ns
            self.times[g]["reclaimer_cpu_ns"] += work_ns
            if piece is Piece.WALKED:
                self._pass_began.setdefault(g, began_ns)
            elif piece is Piece.AGED:
                self.times[g]["aging_passes"] += 1
                self.times[g]["aging_pass_ns"] += began_ns + work_ns + lock_ns - self._pass_began.pop(g, began_ns)
            thread.pay(level_ns)

    def _count_hungry(self, tick_ns: int) -> int:
        """Threads that would use more of this tick."""
        hungry = sum(self.guests[g].is_hungry(thread) and thread.used < tick_ns for g, thread in self._threads)
        return hungry + (self.reclaimer.hungry and self.reclaimer.thread.used < tick_ns)

    def _end_tick(self, tick_ns: int) -> None:
        for g, thread in self._threads:
            thread.end_tick(tick_ns, waits=self.guests[g].is_hungry(thread))
        self.reclaimer.thread.end_tick(tick_ns, waits=self.reclaimer.hungry)
        self.now_ns += tick_ns
        everybody = [guest.shares() for guest in self.guests]
        self.psi.add(self._by_cpu(everybody, 0), tick_ns)
        first = 0
        for guest, shares in zip(self.guests, everybody, strict=True):
            guest.psi.add(self._by_cpu([shares], first), tick_ns)
            first += len(shares)
        traffic = self._swap_traffic()
        self.queue.end_tick((traffic - self._traffic) * self.scale, tick_ns)
        self._traffic = traffic
        self.locks.end_tick(tick_ns)
        for times, writes in zip(self.times, self.locks.aging_writes, strict=True):
            times["mmu_lock_hold_ns"] += round(writes * self.locks.aging_hold_ns * self.scale)
        self._weigh_memory(tick_ns)

    def _by_cpu(self, groups: Sequence[Sequence[Share]], first: int) -> list[list[Share]]:
        """The vCPUs, numbered from ``first``, by the CPU that they run on: one of their own if there are enough."""
        shares = [share for group in groups for share in group]
        cpus: dict[int, list[Share]] = {}
        for number, share in enumerate(shares, first):
            cpus.setdefault(number % self.spec.pcpus if self.spec.pcpus else number, []).append(share)
        return list(cpus.values())

    def _swap_traffic(self) -> int:
        events = self.memory.machine.events
        return int(events["pswpin"].sum() + events["pswpout"].sum())

    def _weigh_memory(self, tick_ns: int) -> None:
        """What was in memory, and what was saved, during the tick that ends."""
        if self.pool:
            self.pool.update()
        for g, times in enumerate(self.times):
            events = self.memory.machine.events[g]
            resident = self.memory.in_memory(g)
            times["resident_page_ms"] += resident * tick_ns // MS_NS
            swapped = int(events["pgsteal"] - events["pgsteal_file"] - events["pswpin"])
            pool = self.pool.pages[g] if self.pool else 0.0
            times["pool_page_ms"] += round(pool) * tick_ns // MS_NS
            times["reclaimed_page_ms"] += round(swapped - pool) * tick_ns // MS_NS

    def finish(self, tick: int) -> list[dict[str, int]]:
        """The columns hostsim.timing.TIMES of each guest."""
        for guest, turn, times in zip(self.guests, self.turns, self.times, strict=True):
            for cause, (name, _) in CAUSES.items():
                times[name] = sum(thread.spent[cause] for thread in guest.threads)
            times["behind_ticks"] = tick - turn.demand.tick
        return self.times


def gauges(psi: Psi, latencies: npt.NDArray[np.int64]) -> dict[str, float]:
    """The columns hostsim.timing.GAUGES of a guest or a host."""
    return {
        **latency_gauges(latencies),
        **{f"psi_{kind}_avg{window}": psi.average(kind, window) for kind in KINDS for window in EXPS},
        **{f"psi_{kind}_ns": float(psi.total_ns[number]) for number, kind in enumerate(KINDS)},
    }
