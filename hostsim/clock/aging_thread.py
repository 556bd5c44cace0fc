"""The aging thread of a host's clock: it ages and reclaims for user space, in pieces."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum, auto

from coldfleet.hostsim.clock.time_account import Thread


class Piece(Enum):
    """What a piece of user space's work on a guest was."""

    WALKED = auto()  # a part of an aging pass
    AGED = auto()  # the end of one
    RECLAIMED = auto()


Job = Iterator[Piece]


class AgingThread:
    """A thread with a job for each guest; it stops between two pieces when its time is over."""

    def __init__(self, thread: Thread) -> None:
        self.thread = thread
        self.jobs: deque[tuple[int, Job]] = deque()  # of each, the guest that it is for

    @property
    def runnable(self) -> bool:
        """Whether it would use more time."""
        return bool(self.jobs) or self.thread.backlog_ns > 0

    def add(self, guest: int, job: Job) -> None:
        """Takes on a job, unless it still has one for this guest."""
        if all(other != guest for other, _ in self.jobs):
            self.jobs.append((guest, job))
            self.thread.record["working"] = True

    def forget(self, guest: int) -> None:
        """Gives up its job for a guest that has left."""
        self.jobs = deque(job for job in self.jobs if job[0] != guest)
        self.thread.record["working"] = bool(self.jobs)

    def work(self) -> tuple[int, Piece] | None:
        """Does the next piece of its first job, and says for which guest; None: all jobs are done."""
        while self.jobs:
            guest, job = self.jobs[0]
            piece = next(job, None)
            if piece is not None:
                return guest, piece
            self.jobs.popleft()
        self.thread.record["working"] = False
        return None
