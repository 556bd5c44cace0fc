"""The threads of a host's clock: a guest's vCPUs, and a kernel thread that works in pieces."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum, auto

from hostsim.latency import bucket_of, new_histogram
from hostsim.ledger import Cause, Thread
from hostsim.psi import Psi, Share


class Piece(Enum):
    """What a piece of user space's work on a guest was."""

    WALKED = auto()  # a part of an aging pass
    AGED = auto()  # the end of one
    RECLAIMED = auto()


Job = Iterator[Piece]


class VCpus:
    """The vCPUs of one guest."""

    def __init__(self, count: int) -> None:
        self.threads = [Thread() for _ in range(count)]
        self.began: list[int | None] = [None] * count  # when the batch that a vCPU is at began
        self.has_work = False  # accesses of its ticks so far are left
        self.latencies = new_histogram()
        self.psi = Psi()
        self.swapped_in = self.restored = 0  # pages: all, and those of the working set
        self._before = [[0] * len(Cause) for _ in range(count)]

    def is_hungry(self, thread: Thread) -> bool:
        """Whether a vCPU would use more time."""
        return self.has_work or thread.in_debt

    def next_free(self, level_ns: int) -> int | None:
        """The vCPU that makes the next batch: of those that owe nothing, the one that has used least of this tick."""
        free = [n for n, thread in enumerate(self.threads) if thread.used < level_ns and not thread.in_debt]
        return min(free, key=lambda n: self.threads[n].used) if free else None

    def pay(self, number: int, level_ns: int) -> None:
        """A vCPU pays; if that ends its batch, the latency is written down."""
        thread = self.threads[number]
        thread.pay(level_ns)
        began = self.began[number]
        if began is not None and not thread.in_debt:
            self.latencies[bucket_of(thread.now_ns - began)] += 1
            self.began[number] = None

    def shares(self) -> list[Share]:
        """What each vCPU did since the last call, as PSI sees it."""
        of_working_set = self.restored / self.swapped_in if self.swapped_in else 0.0
        found = []
        for before, thread in zip(self._before, self.threads, strict=True):
            passed = [now - then for now, then in zip(thread.spent, before, strict=True)]
            stalled = passed[Cause.RECLAIM] + round(passed[Cause.SWAP_IN] * of_working_set)
            found.append(Share(stalled, sum(passed) - passed[Cause.IDLE] - stalled))
            before[:] = thread.spent
        return found


class Worker:
    """A kernel thread with jobs; it stops between two pieces when its time is over."""

    def __init__(self) -> None:
        self.thread = Thread()
        self.jobs: deque[tuple[int, Job]] = deque()  # of each, the guest that it is for

    @property
    def hungry(self) -> bool:
        """Whether it would use more time."""
        return bool(self.jobs) or self.thread.in_debt

    def add(self, guest: int, job: Job) -> None:
        """Takes on a job, unless it still has one for this guest."""
        if all(other != guest for other, _ in self.jobs):
            self.jobs.append((guest, job))

    def work(self) -> tuple[int, Piece] | None:
        """Does the next piece of its first job, and says for which guest; None: all jobs are done."""
        while self.jobs:
            guest, job = self.jobs[0]
            piece = next(job, None)
            if piece is not None:
                return guest, piece
            self.jobs.popleft()
        return None
