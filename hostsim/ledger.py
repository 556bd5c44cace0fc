"""Where a thread's time goes: every ns of it is written down under exactly one cause.

Work is owed as soon as it is done in memory, and paid as the thread gets time on a CPU: what doesn't fit in a tick is
paid in the next ones, and until then the thread does nothing else. Times are integers, ns.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class Cause(IntEnum):
    """What a vCPU, or a kernel thread, does with a ns. The first five are work, which is owed and paid."""

    RUN = 0  # its own instructions and accesses; a kernel thread's work
    FAULT = 1  # faults of the primary MMU, the TDP MMU and the shadow MMU, and those that track accesses
    SWAP_IN = 2  # waiting for the swap device
    LOCK = 3  # waiting for mmu_lock
    RECLAIM = 4  # direct reclaim
    STEAL = 5  # it could run, but there was no CPU (the guest's steal time)
    IDLE = 6  # nothing to do


WORK = range(Cause.STEAL)


class Thread:
    """One vCPU or kernel thread.

    ``spent``: ns by cause since the clock started; their sum is the time that has passed for the thread.
    ``owed``: ns of work by cause that is done in memory and not paid yet. ``used``: ns of work paid in this tick.
    """

    __slots__ = ("owed", "spent", "used")

    def __init__(self) -> None:
        self.spent = [0] * len(Cause)
        self.owed = [0] * len(WORK)
        self.used = 0

    @property
    def now_ns(self) -> int:
        """The thread's own time."""
        return sum(self.spent)

    @property
    def in_debt(self) -> bool:
        """Whether work is owed."""
        return any(self.owed)

    def owe(self, work_ns: Sequence[int]) -> None:
        """Adds work, ns by cause; raises ValueError for a negative time."""
        for cause, ns in zip(WORK, work_ns, strict=True):
            if ns < 0:
                raise ValueError(f"{ns} ns of {Cause(cause).name}: time doesn't run backward")
            self.owed[cause] += ns

    def pay(self, granted_ns: int) -> None:
        """Pays what is owed, as far as ``granted_ns`` of this tick reach; what was used before counts."""
        for cause in WORK:
            ns = min(self.owed[cause], granted_ns - self.used)
            if ns > 0:
                self.owed[cause] -= ns
                self.spent[cause] += ns
                self.used += ns

    def end_tick(self, tick_ns: int, *, waits: bool) -> None:
        """The rest of the tick was waiting for a CPU, or idle."""
        self.spent[Cause.STEAL if waits else Cause.IDLE] += tick_ns - self.used
        self.used = 0
