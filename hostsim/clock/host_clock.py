"""A clock for a host: guests run on vCPUs, kernel threads age and reclaim beside them, and all share the CPUs.

The host's time moves in ticks. In each, a thread gets at most a tick of CPU time, and all threads together get what the
CPUs have: equal shares, and what one leaves goes to those that want more. Whose work doesn't fit does it in the next
tick, and so falls behind; who has nothing to do is idle. With prices of 0 everything fits, and a run is a replay.

What guests do is compiled (hostsim.clock.vcpus); kernel threads work here, in the ticks in which there is something to
do. Guests run one after the other, each as far as it may in a tick. Where kswapd has to keep up with them the tick is
cut into turns: in one of them, twice the faults of the last tick can't use up the pages between the low watermark and
the min one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.clock.kernel_threads import KernelThread
from coldfleet.hostsim.clock.latency import latency_gauges
from coldfleet.hostsim.clock.ledger import Thread
from coldfleet.hostsim.clock.prices import new_meter, read_meter
from coldfleet.hostsim.clock.psi import Psi
from coldfleet.hostsim.clock.tick_end import end_tick, start
from coldfleet.hostsim.clock.user_space_thread import Job, Piece, UserSpaceThread
from coldfleet.hostsim.clock.vcpu_state import new_vcpus
from coldfleet.hostsim.clock.vcpus import (
    BUT_THE_FIRST,
    EVERY_GUEST,
    NO_GUEST,
    World,
    charge_kernel_thread,
    count_hungry,
    run_guests,
    run_ticks,
)
from coldfleet.hostsim.costs.mmu_lock import LockRates, aging_hold_ns
from coldfleet.hostsim.costs.scalability import serial_ns
from coldfleet.hostsim.counters.timing import CAUSES, KINDS, WINDOWS, no_time
from coldfleet.hostsim.engine.state import SHADOW_MAPPED
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.monitors.monitor import AccessMonitor
from coldfleet.hostsim.spec.calibration import DEFAULT, Calibration
from coldfleet.hostsim.spec.host_spec import ClockSpec
from coldfleet.hostsim.swap.devices import SwapDevice
from coldfleet.hostsim.swap.queue import end_writes
from coldfleet.hostsim.swap.zram import Pool
from coldfleet.hostsim.workload.batches import DRAW, NONE_LEFT
from coldfleet.hostsim.workload.demand import Demand
from coldfleet.hostsim.workload.guest_extras import GuestExtras

MOST_TURNS = 250  # in a tick: shorter ones cost more than they tell
MARGIN = 2  # a tick may have so many times the faults of the last one


@dataclass(frozen=True)
class Turn:
    """What happens to one guest in a tick beside its accesses.

    ``upkeep``: what user space does to it afterwards. ``extras``: the rest; it takes nobody's time.
    """

    upkeep: Callable[[int, Psi | None], Job]
    extras: GuestExtras | None


class HostClock:
    """Runs the guests of a host from tick 1 on; to be made when they have populated their memory, which was free.

    ``is_due``: whether user space does something in a tick. ``vcpus``: of each guest. ``queue`` and ``pool``: the swap
    device's (hostsim.swap.queue, hostsim.swap.zram). ``scale``: pages that a page stands for. ``calibration``: the
    price of work. ``caller``: who else asks for Accessed bits, every ``caller_every_ticks``.
    """

    def __init__(
        self,
        memory: HostMemory,
        demand: Demand,
        turns: Sequence[Turn],
        is_due: Callable[[int], bool],
        spec: ClockSpec,
        vcpus: Sequence[int],
        device: SwapDevice,
        queue: npt.NDArray[np.void],
        pool: Pool,
        scale: float = 1.0,
        calibration: Calibration = DEFAULT,
        caller: AccessMonitor | None = None,
        caller_every_ticks: int = 1,
    ) -> None:
        self.memory, self.demand, self.turns, self.is_due = memory, demand, turns, is_due
        self.spec, self.scale, self.calibration = spec, scale, calibration
        price = partial(new_meter, scale=scale, free=spec.free, calibration=calibration)
        self.meter = price(memory, write_cpu_ns=device.write_cpu_ns)
        self.twin_meter = price(demand.twins or memory, write_cpu_ns=0.0)
        serial = sum(serial_ns(calibration).values())
        limits = calibration.fault_ns, serial, calibration.coherency_ns
        rules = (spec.tick_ns, spec.access_ns, spec.free, scale, aging_hold_ns(calibration), *limits)
        has_kswapd = memory.has_watermarks and not spec.free
        workers = 1 + has_kswapd + bool(caller)
        self.vcpus = new_vcpus(list(vcpus), workers, spec.pcpus, rules, queue, pool, self.meter.fault_ps)
        records = iter(self.vcpus.threads[sum(vcpus) :])
        self.reclaimer = UserSpaceThread(Thread(next(records)))
        self.kswapd = KernelThread(Thread(next(records)), len(vcpus)) if has_kswapd else None
        self.caller, self.caller_every_ticks = caller, caller_every_ticks
        self.caller_thread = KernelThread(Thread(next(records)), len(vcpus)) if caller else None
        self._kernel: list[UserSpaceThread | KernelThread] = [self.reclaimer]
        self._kernel += [each for each in (self.kswapd, self.caller_thread) if each]
        if self.kswapd:
            memory.let_kswapd_take_time()
        self._faults = -1  # of all guests, when the last tick began; -1: there was none
        self.psis = [Psi(record) for record in self.vcpus.psis]  # of the guests' memcgs, then of the host
        self.now_ns = 0
        self._has_extras = any(turn.extras for turn in turns)
        self._pass_began: dict[int, int] = {}
        self._read = self._pages_read()
        self._write_begun = 0.0  # of a page that the last tick had no time to finish
        self._due = 0  # a tick in which user space does something: none of those between now and then is one
        start(memory.machine, self.vcpus)

    def run_ticks(self, tick: int, last: int) -> int:
        """Runs a tick, and those up to ``last`` in which only guests work; returns the last one that it ran."""
        tick_ns, everybody = self.spec.tick_ns, len(self.vcpus.threads)
        capacity_ns = (self.spec.pcpus or everybody) * tick_ns
        level_ns = min(tick_ns, capacity_ns // everybody)
        in_turns = self._has_extras or self.kswapd or level_ns < tick_ns or self.reclaimer.hungry
        if in_turns or self._next_due(tick, last) == tick:
            self._run_in_turns(tick, level_ns, capacity_ns)
            end_tick(self.memory.machine, self.vcpus)
            done = tick
        else:
            done = self._run_guests_alone(tick, min(last, self._due - 1))
        self.now_ns += (done - tick + 1) * tick_ns
        for g in self.vcpus.guests["locks_changed"].nonzero()[0].tolist():
            self._set_lock_waits(g)
        return done

    def _next_due(self, tick: int, last: int) -> int:
        """The next tick in which user space does something; one after ``last`` if it isn't among those up to it."""
        if self._due < tick:
            self._due = next((each for each in range(tick, last + 1) if self.is_due(each)), last + 1)
        return self._due

    def complete_io(self) -> None:
        """The writes of the tick that has passed end, as far as the device has come."""
        queue = self.vcpus.queue[0]
        if self.spec.free or not queue["pages_per_s"]:
            self.memory.complete_io()
            return
        read = self._pages_read()
        ended = end_writes(queue, (read - self._read) * self.scale, self.spec.tick_ns) / self.scale
        self._read = read
        ended += self._write_begun
        self._write_begun = ended % 1
        self.memory.complete_io(int(ended))

    def _pages_read(self) -> int:
        return int(self.memory.machine.events["pswpin"].sum())

    def _run_in_turns(self, tick: int, level_ns: int, capacity_ns: int) -> None:
        """The guests in their order, as far as equal shares of the CPUs reach; then whoever wants more of the rest."""
        tick_ns = self.spec.tick_ns
        turns = self._count_turns() if self.kswapd else 1
        for g in range(len(self.turns)):
            self._run_turn(g, tick, level_ns // turns)
        if self.caller and self.caller_thread:
            if tick % self.caller_every_ticks == 0 and not self.caller_thread.busy:
                self.caller_thread.begin(self.caller())
            self.caller_thread.run(level_ns // turns, self._charge)
        for number in range(2, turns + 1):
            self._run_all(tick, level_ns * number // turns)
        while level_ns < tick_ns and (hungry := self._count_hungry(tick_ns)):
            more_ns = (capacity_ns - int(self.vcpus.threads["used"].sum())) // hungry
            if not more_ns:
                break
            level_ns = min(tick_ns, level_ns + more_ns)
            self._run_all(tick, level_ns)

    def _count_turns(self) -> int:
        """Into how many turns the tick is cut that begins: by the faults that it may have."""
        faults = int(self.memory.machine.events["pgfault"].sum())
        may_come = float(MARGIN * (faults - self._faults))
        if self._faults < 0:  # all vCPUs could do nothing else
            may_come = self.spec.tick_ns * len(self.vcpus.tasks) / self.calibration.fault_ns / self.scale
        self._faults = faults
        return 1 + int(min(may_come / self.memory.pages_above_min, MOST_TURNS - 1))

    def _run_all(self, tick: int, level_ns: int) -> None:
        """Everybody works until this point of the tick."""
        for g in range(len(self.turns)):
            self._run_guests(g, g + 1, tick, level_ns, NO_GUEST)
            self._run_kswapd(level_ns)
        self._run_reclaimer(level_ns)
        if self.caller_thread:
            self.caller_thread.run(level_ns, self._charge)

    def _run_kswapd(self, level_ns: int) -> None:
        """kswapd works until this point of the tick, if it is awake or somebody has woken it."""
        if not self.kswapd:
            return
        if not self.kswapd.busy and self.memory.kswapd_woken:
            self.kswapd.begin(self.memory.balance_in_parts())
        self.kswapd.run(level_ns, self._charge)

    def _charge(self, thread: Thread, g: int, level_ns: int) -> int:
        """As hostsim.clock.vcpus.charge_kernel_thread; returns the CPU time."""
        return int(charge_kernel_thread(self.vcpus, self.meter, thread.record, g, level_ns)[0])

    def _run_turn(self, g: int, tick: int, level_ns: int) -> None:
        """One guest, with what is done to it."""
        turn = self.turns[g]
        if turn.extras is not None:
            turn.extras.begin(tick)
        self._run_guests(g, g + 1, tick, level_ns, EVERY_GUEST)
        self._run_kswapd(level_ns)
        if turn.extras is not None:
            turn.extras.after_accesses(tick)
            read_meter(self.meter)
        self.reclaimer.add(g, turn.upkeep(tick, self.psis[g]))
        self._run_reclaimer(level_ns)
        if turn.extras is not None:
            turn.extras.end(tick)

    def _run_guests(self, first: int, last: int, tick: int, level_ns: int, turn: int) -> None:
        """As hostsim.clock.vcpus.run_guests, with all that it needs."""
        while True:
            first, needs = run_guests(self._world(), first, last, tick, level_ns, turn)
            if needs == NONE_LEFT:
                break
            self._give(first, needs)
            turn = min(turn, BUT_THE_FIRST)

    def _run_guests_alone(self, tick: int, last: int) -> int:
        """As hostsim.clock.vcpus.run_ticks, with all that it needs; returns the last tick."""
        first, turn = 0, EVERY_GUEST
        while True:
            tick, first, needs = run_ticks(self._world(), first, tick, last, turn)
            if needs == NONE_LEFT:
                return int(tick)
            self._give(first, needs)
            turn = BUT_THE_FIRST

    def _world(self) -> World:
        memory, demand = self.memory, self.demand
        twins = (demand.twins or memory).machine
        return World(memory.machine, twins, demand.state, self.vcpus, self.meter, self.twin_meter, memory.watched)

    def _give(self, g: int, needs: int) -> None:
        if needs == DRAW:
            self.demand.draw(g)
        else:
            self.demand.access(g)

    def _run_reclaimer(self, level_ns: int) -> None:
        """User space ages and reclaims until its thread has used ``level_ns`` of this tick, or all is done."""
        thread = self.reclaimer.thread
        if thread.debt:
            thread.pay(level_ns)
        while thread.used < level_ns and not thread.debt:
            began_ns = self.now_ns + thread.used
            done = self.reclaimer.work()
            if done is None:
                break
            g, piece = done
            times = self.vcpus.times[g]
            work_ns, lock_ns, write_ns = charge_kernel_thread(self.vcpus, self.meter, thread.record, g, level_ns)
            times["reclaimer_cpu_ns"] += work_ns
            times["reclaimer_lock_ns"] += lock_ns
            if piece is Piece.WALKED:
                self._pass_began.setdefault(g, began_ns)
            elif piece is Piece.AGED:
                took_ns = work_ns + lock_ns + write_ns
                times["aging_passes"] += 1
                times["aging_pass_ns"] += began_ns + took_ns - self._pass_began.pop(g, began_ns)

    def _count_hungry(self, tick_ns: int) -> int:
        """Threads that would use more of this tick."""
        hungry = int(count_hungry(self.vcpus, tick_ns))
        return hungry + sum(each.hungry and each.thread.used < tick_ns for each in self._kernel)

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
            own["behind_ticks"] = tick - int(self.demand.state.guests[g]["tick"])
            for name, thread in (("kswapd_cpu_ns", self.kswapd), ("caller_cpu_ns", self.caller_thread)):
                own[name] = thread.spent_ns[g] if thread else 0
            found.append(own)
        return found


def gauges(psi: Psi, latencies: npt.NDArray[np.int64]) -> dict[str, float]:
    """The columns hostsim.counters.timing.GAUGES of a guest or a host."""
    return {
        **latency_gauges(latencies),
        **{f"psi_{kind}_avg{window}": psi.average(kind, window) for kind in KINDS for window in WINDOWS},
        **{f"psi_{kind}_ns": float(psi.record["total_ns"][number]) for number, kind in enumerate(KINDS)},
    }
