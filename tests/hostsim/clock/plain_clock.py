"""A clock whose ticks run in Python, with user space and the waits for locks in their plain form: what compiled ticks
are judged by. What a guest does in a time slice, and kswapd, is compiled in both."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.clock.cost_model import read_costs
from coldfleet.hostsim.clock.host_clock import HostClock
from coldfleet.hostsim.clock.kernel_threads import KernelThread
from coldfleet.hostsim.clock.slices import begin_tick, run_kswapd
from coldfleet.hostsim.clock.tick_end import MS_NS, end_tick
from coldfleet.hostsim.clock.time_account import Thread
from coldfleet.hostsim.clock.vcpu_state import MEMORY
from coldfleet.hostsim.clock.vcpus import charge_kernel_thread, flush_stats, run_guest
from coldfleet.hostsim.costs.mmu_lock import aging_page_ns, sharers
from coldfleet.hostsim.costs.rwlock import solve
from coldfleet.hostsim.engine.state import LOCKS, SHADOW_MAPPED
from coldfleet.hostsim.spec.calibration import Calibration
from coldfleet.hostsim.spec.host_spec import HostSpec
from coldfleet.hostsim.workload.batches import NONE_LEFT
from coldfleet.policies import Lock
from tests.reference import mmu_lock
from tests.reference.user_space import AgingThread, Piece, is_due, user_space_reclaim


def plain_clock_of(spec: HostSpec) -> type[HostClock]:
    """The class of clocks of a host."""

    class PlainClock(HostClock):
        def __init__(self, *arguments: Any) -> None:
            self.jobs = AgingThread()
            self.pass_began: dict[int, int] = {}
            self.asked: dict[int, tuple[int, int]] = {}
            super().__init__(*arguments)
            self.locks = self._aging_locks()  # up to the last tick
            self.own_locks = np.zeros_like(self.locks)  # in this one, by vCPUs of the guest itself
            self.thread = Thread(self._aging_thread)

        def _stop(self, g: int) -> None:
            super()._stop(g)
            self.jobs.jobs = type(self.jobs.jobs)(job for job in self.jobs.jobs if job[0] != g)
            self.thread.record["working"] = bool(self.jobs.jobs)
            self.pass_began.pop(g, None)

        def run_ticks(self, tick: int, last: int) -> None:
            for each in range(tick, last + 1):
                begin_tick(self._world(), each)
                self._run_tick(each)
                end_tick(self.memory.machine, self.vcpus)
                locks = self._aging_locks()
                others = locks - self.locks - self.own_locks
                for g in self.vcpus.guests["locks_changed"].nonzero()[0].tolist():
                    self._set_lock_waits(g, others[g], self.own_locks[g])
                self.locks, self.own_locks = locks, np.zeros_like(locks)

        def _aging_locks(self) -> npt.NDArray[np.int64]:
            """How often aging has taken the locks of each guest: mmu_lock for write, and those of rmaps."""
            counts: npt.NDArray[np.int64] = self.memory.machine.sites.sum(axis=1)
            return counts[:, [LOCKS + Lock.MMU_WRITE, LOCKS + Lock.RMAP]]

        def _run_tick(self, tick: int) -> None:
            """The guests in their order, as far as equal shares of the CPUs reach; then whoever wants more."""
            p, tick_ns = self._progress, self.spec.tick_ns
            level_ns, capacity_ns = int(p["share_ns"]), int(p["capacity_ns"])
            runnable = bool(self.jobs.jobs) or self.thread.backlog_ns > 0
            others = bool(self._threads) or any(self.extras)
            beside = others or level_ns < tick_ns or runnable or is_due(spec, tick)
            for number in range(1, int(p["slices"]) + 1):
                p["slice"] = number
                self._run_slice(tick, level_ns * number // int(p["slices"]), beside)
            while level_ns < tick_ns and (waiting := self._count_runnable(tick_ns)):
                more_ns = (capacity_ns - int(self.vcpus.threads["used"].sum())) // waiting
                if more_ns <= 0:
                    break
                level_ns = min(tick_ns, level_ns + more_ns)
                p["slice"] += 1
                self._run_slice(tick, level_ns, beside)

        def _run_slice(self, tick: int, level_ns: int, beside: bool) -> None:
            p = self._progress
            p["level_ns"] = level_ns
            self.memory.set_time((int(p["began_ns"]) + level_ns) // MS_NS)
            for g in range(len(self.vcpus.guests)):
                if self.memory.is_online(g):
                    self._run_guest(g, tick, level_ns, beside and p["slice"] == 1)
            self._run(run_kswapd, level_ns)
            if not beside:
                return
            if p["slice"] > 1:
                self._run_aging_thread(level_ns)
            if self._threads:
                self._run_workers(0)

        def _run_guest(self, g: int, tick: int, level_ns: int, with_user_space: bool) -> None:
            p, extras = self._progress, self.extras[g] if with_user_space else None
            p["guest"] = g
            if p["slice"] == 1 and self.vcpus.guests[g]["has_work"]:
                self.memory.switch_to(g)
            if extras is not None:
                extras.begin(tick)
            before = self._aging_locks()[g]
            self._run(run_guest, g, level_ns)
            self.own_locks[g] += self._aging_locks()[g] - before
            if p["slice"] == 1:
                flush_stats(self.memory.machine)
            self._run(run_kswapd, level_ns)
            if extras is not None:
                extras.after_accesses(tick)
                read_costs(self.cost_model)
            if with_user_space:
                self.jobs.add(g, user_space_reclaim(self.memory, spec, g, tick, lambda: self._some_since_last(g)))
                self.thread.record["working"] = True
                self._run_aging_thread(level_ns)
            elif p["slice"] == 1:
                flush_stats(self.memory.machine)
            if extras is not None:
                extras.end(tick)

        def _run(self, work: Callable[..., int], *arguments: int) -> None:
            while (needs := work(self._world(), *arguments)) != NONE_LEFT:
                self._serve[needs](int(self._progress["guest"]))

        def _some_since_last(self, g: int) -> float:
            psi = self.vcpus.psis[g, MEMORY]
            now, before = (int(psi["now_ns"]), int(psi["total_ns"][0])), self.asked.get(g, (0, 0))
            self.asked[g] = now
            return 100 * (now[1] - before[1]) / (now[0] - before[0]) if now[0] > before[0] else 0.0

        def _run_aging_thread(self, level_ns: int) -> None:
            """User space ages and reclaims until its thread has used ``level_ns`` of this tick, or all is done."""
            thread = self.thread
            thread.work_off(level_ns)
            while thread.used < level_ns and not thread.backlog_ns:
                began_ns = int(self._progress["began_ns"]) + thread.used
                done = self.jobs.work()
                thread.record["working"] = done is not None
                if done is None:
                    break
                g, piece = done
                times, costs = self.vcpus.times[g], (self.vcpus, self.cost_model, thread.record, g, level_ns)
                work_ns, lock_ns, write_ns = charge_kernel_thread(*costs)
                times["aging_thread_cpu_ns"] += work_ns
                times["aging_thread_lock_ns"] += lock_ns
                if piece is Piece.WALKED:
                    self.pass_began.setdefault(g, began_ns)
                elif piece is Piece.AGED:
                    times["aging_passes"] += 1
                    began = self.pass_began.pop(g, began_ns)
                    times["aging_pass_ns"] += began_ns + work_ns + lock_ns + write_ns - began

        def _count_runnable(self, tick_ns: int) -> int:
            def wants(record: Any, busy: bool) -> bool:
                return bool((busy or record["backlog_ns"]) and record["used"] < tick_ns)

            vcpus = [
                wants(self.vcpus.threads[number], bool(guest["has_work"]))
                for guest in self.vcpus.guests
                for number in range(guest["first"], guest["first"] + guest["vcpus"])
            ]
            workers: list[KernelThread] = list(self._threads.values())
            others = [wants(self.thread.record, bool(self.jobs.jobs))]
            others += [wants(each.thread.record, each.busy) for each in workers]
            if kswapd := int(self.vcpus.rules[0]["kswapd"]):
                others.append(wants(self.vcpus.threads[kswapd], bool(self.vcpus.threads[kswapd]["working"])))
            return sum(vcpus) + sum(others)

        def _set_lock_waits(self, g: int, locks: npt.NDArray[np.int64], own_locks: npt.NDArray[np.int64]) -> None:
            guest = self.vcpus.guests[g]
            tdp, shadow, writes, rmap_locks, own_writes, own_rmap_locks = (
                float(count) * self.scale for counts in (guest["new_faults"], locks, own_locks) for count in counts
            )
            words = self.memory.machine.bits[self.memory.words(g), SHADOW_MAPPED]
            waits = mmu_lock.waits(
                lambda *rates: _solve(*rates, self.calibration),
                vcpus=int(guest["vcpus"]),
                tick_ns=self.spec.tick_ns,
                aging_page_ns=aging_page_ns(self.calibration),
                tdp_faults=tdp,
                shadow_faults=shadow,
                aging_writes=writes,
                rmap_locks=rmap_locks,
                own_writes=own_writes,
                own_rmap_locks=own_rmap_locks,
                rmaps=float(np.bitwise_count(words).sum()) * self.scale,
            )
            for name, wait_ns in waits._asdict().items():
                guest[name.replace("_ns", "_wait_ns").replace("_fault", "")] = wait_ns

    return PlainClock


@cache
def _solve(vcpus: int, tdp_ns: float, shadow_ns: float, aging: bool, calibration: Calibration) -> mmu_lock.Waits:
    found = solve(*sharers(vcpus, tdp_ns, shadow_ns, aging, calibration))
    return mmu_lock.Waits(found.reader_wait_ns, found.writer_wait_ns, found.ager_wait_ns)
