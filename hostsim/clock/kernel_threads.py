"""Threads of a host's clock that belong to no guest: kswapd, the access monitor, and khugepaged.

Each does one job at a time, in parts, shares the CPUs with the vCPUs, and leaves what it hasn't done to later ticks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from coldfleet.hostsim.clock.time_account import Thread

Charge = Callable[[Thread, int, int], int]
"""Charges a thread for what it has just done for a guest, up to a point of the tick; returns the CPU time, ns."""


class Worker(NamedTuple):
    """Work that a host does from time to time: ``begin`` begins a job, which yields the guest that each part was for,
    every ``every_ticks``, unless the last one is still at work."""

    begin: Callable[[], Iterator[int]]
    every_ticks: int


class KernelThread:
    """A thread whose job yields, after each part, the guest that it was for.

    ``spent_ns``: CPU time by guest.
    """

    def __init__(self, thread: Thread, guests: int) -> None:
        self.thread = thread
        self.spent_ns = [0] * guests
        self._job: Iterator[int] | None = None
        self._guest = 0  # that of the last part

    @property
    def busy(self) -> bool:
        """Whether it has a job."""
        return self._job is not None

    @property
    def runnable(self) -> bool:
        """Whether it would use more time."""
        return self.busy or self.thread.backlog_ns > 0

    def begin(self, job: Iterator[int]) -> None:
        """Takes on a job."""
        self._job = job
        self.thread.record["working"] = True

    def run(self, level_ns: int, charge: Charge) -> None:
        """Works until this point of the tick, or until its job is done: then it sleeps, and that time is gone."""
        granted_ns = level_ns - int(self.thread.record["slept"])
        if self.thread.backlog_ns:
            self.thread.work_off(granted_ns)
        while self._job is not None and self.thread.used < granted_ns and not self.thread.backlog_ns:
            guest = next(self._job, None)
            if guest is None:
                self._job = None
                self.thread.record["working"] = False
            else:
                self._guest = guest
            self.spent_ns[self._guest] += charge(self.thread, self._guest, granted_ns)
        if not self.runnable:
            self.thread.record["slept"] = level_ns - self.thread.used
