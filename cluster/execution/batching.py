"""What travels together: whole runs if they are short, some hosts of one if it is long.

Enough that a batch is worth the trip, little enough that all workers end together and that a lost one costs seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from coldfleet.cluster.execution.work import Batch
from coldfleet.cluster.results.journal import BatchReceipt
from coldfleet.cluster.results.run_status import ShardedRun
from coldfleet.cluster.study.fleet import decides_work, host_work, run_work, varies_over_time
from coldfleet.cluster.study.lives import most_hosts
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.values import Scalar

TARGET_S = 5.0  # of work in a batch: lost if its worker dies, and the interval of the progress bar
LEAST_S = 0.5  # of work in a shard: less isn't worth its files
MAX_RUNS = 500
IN_FLIGHT = 2  # batches at each worker of Ray: one that runs and one that waits, so that it never waits for us
_SHARES = 3  # for each slot: no batch is more than such a share of what is left
_FIRST_S = 0.1  # runs that take longer, at the speed below, are cut even before anything was measured
_FAST_S = 1 / 50e6  # seconds for an access: no host was simulated faster
_MEMORY = 0.8  # weight of what was measured before, when a new time arrives


def count_batches(runs: int, run_s: float, slots: int = 1) -> int:
    """How many batches equal runs that take so many seconds make."""
    count, left = 0, runs
    while left > 0:
        left -= max(1, min(MAX_RUNS, left // (_SHARES * slots), int(TARGET_S / max(run_s, 1e-9))))
        count += 1
    return count


def looks_long(work: float) -> bool:
    """Whether a run of so many accesses is cut before anything was measured."""
    return work * _FAST_S > _FIRST_S


class _Size(NamedTuple):
    """The work of a run, and the most hosts that it can have."""

    work: float
    hosts: int


class Batches(Iterator[Batch]):
    """Cuts work into batches as they are asked for, by the time that an access has taken so far.

    ``indices``: of the runs in the plan; of those in ``sharded`` only the missing hosts. ``access_s``: what an access
    took before, in seconds; 0: not known, and it starts with single runs, or hosts. ``audit``: of the batches.
    """

    def __init__(
        self,
        plan: Plan,
        indices: Sequence[int],
        slots: int,
        first_number: int = 0,
        access_s: float = 0.0,
        audit: bool = False,
        sharded: Mapping[int, ShardedRun] | None = None,
    ) -> None:
        self._plan = plan
        self._indices = indices
        self._shares = _SHARES * max(slots, 1)
        self._next = 0
        self.number = first_number
        self.access_s = access_s
        self._audit = audit
        self._sharded = sharded or {}
        self._deciding = [path for path in plan.varied if decides_work(path)]
        self._over_time = varies_over_time(plan)
        self._sizes: dict[tuple[Scalar, ...], _Size] = {}
        self._cut = -1  # the run that is being cut, the work of each of its hosts, and those that are left of them
        self._work: list[float] = []
        self._hosts: deque[range] = deque()

    def __next__(self) -> Batch:
        while not self._hosts:
            if self._next == len(self._indices):
                raise StopIteration
            index = self._indices[self._next]
            if not self._is_long(index):
                return self._short_runs()
            self._next += 1
            self._cut, self._work = index, host_work(self._plan.run(index))
            self._hosts += self._sharded.get(index, ShardedRun()).missing(len(self._work))
        return self._shard()

    def _short_runs(self) -> Batch:
        most = min(MAX_RUNS, (len(self._indices) - self._next) // self._shares) if self.access_s else 1
        chosen: list[int] = []
        work = 0.0
        while not chosen or len(chosen) < most:
            index = self._indices[self._next]
            work += self._size(index).work
            if chosen and (work * self.access_s > TARGET_S * (1 + 1e-9) or self._is_long(index)):
                break
            chosen.append(index)
            self._next += 1
        return self._batch(tuple(chosen), None)

    def _shard(self) -> Batch:
        """Some of the hosts that are left of the run that is cut, at least one."""
        left = sum(sum(self._work[hosts.start : hosts.stop]) for hosts in self._hosts)
        left += (len(self._indices) - self._next) * sum(self._work)
        seconds = min(TARGET_S, max(LEAST_S, left * self.access_s / self._shares))
        hosts = self._hosts.popleft()
        end, work = hosts.start + 1, self._work[hosts.start]
        while self.access_s and end < hosts.stop and (work + self._work[end]) * self.access_s <= seconds:
            work += self._work[end]
            end += 1
        if end < hosts.stop:
            self._hosts.appendleft(range(end, hosts.stop))
        return self._batch((self._cut,), (hosts.start, end, len(self._work)))

    def _batch(self, runs: tuple[int, ...], hosts: tuple[int, int, int] | None) -> Batch:
        self.number += 1
        return Batch(self.number - 1, runs, audit=self._audit, hosts=hosts)

    def _is_long(self, index: int) -> bool:
        """Whether a run is cut."""
        work, hosts = self._size(index)
        long = work * self.access_s > TARGET_S if self.access_s else looks_long(work)
        return index in self._sharded or (long and hosts > 1)

    def _size(self, index: int) -> _Size:
        replicate, number = self._plan.place(index)
        varying = self._plan.varying(number) if self._deciding else {}
        key: tuple[Scalar, ...] = tuple(varying[path] for path in self._deciding)
        if self._over_time:  # every replicate has other guests
            key = replicate, number
        if key not in self._sizes:
            run = self._plan.run(index)
            self._sizes[key] = _Size(run_work(run), most_hosts(run.cell.spec))
        return self._sizes[key]

    def observe(self, receipt: BatchReceipt) -> None:
        """Learns how long an access takes. Of a run that failed, nothing more is handed out."""
        seconds = work = 0.0
        for run in receipt.runs:
            index = self._plan.index_of(run.cell_id, run.replicate)
            if run.status == "failed" and index == self._cut:
                self._hosts.clear()
            elif run.status in ("done", "shard"):
                seconds += run.wall_s
                shard = receipt.shard
                work += self._size(index).work * ((shard.end - shard.first) / shard.of if shard else 1)
        if work:
            memory = _MEMORY ** len(receipt.runs) if self.access_s else 0
            self.access_s = memory * self.access_s + (1 - memory) * seconds / work
