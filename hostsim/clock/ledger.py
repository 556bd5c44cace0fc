"""Where a thread's time goes: every ns of it is written down under exactly one cause.

Work is owed as soon as it is done in memory, and paid as the thread gets time on a CPU: what doesn't fit in a tick is
paid in the next ones, and until then the thread does nothing else. Times are integers, ns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.counters.timing import WORK, Cause
from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.engine.state import Record

_WORK, _STEAL, _IDLE = len(WORK), int(Cause.STEAL), int(Cause.IDLE)

THREAD = np.dtype(
    [
        ("spent", np.int64, (len(Cause),)),  # ns by cause since the clock started: their sum is the thread's own time
        ("owed", np.int64, (len(WORK),)),  # ns of work by cause that is done in memory and not paid yet
        ("debt", np.int64),  # their sum
        ("used", np.int64),  # ns of work paid in this tick
        ("slept", np.int64),  # ns of it that a kernel thread slept through
        ("working", np.int64),  # a vCPU's batch of accesses is under way; a kernel thread has jobs
        ("began", np.int64),  # when, in the thread's own time, that batch began
    ],
    align=True,
)
"""One vCPU or kernel thread."""


@compiled
def owe(thread: Record, cause: int, ns: int) -> None:
    """Adds work."""
    thread.owed[cause] += ns
    thread.debt += ns


@compiled
def pay(thread: Record, granted_ns: int) -> None:
    """Pays what is owed, as far as ``granted_ns`` of this tick reach; what was used before counts."""
    for cause in range(_WORK):
        ns = min(thread.owed[cause], granted_ns - thread.used)
        if ns > 0:
            thread.owed[cause] -= ns
            thread.spent[cause] += ns
            thread.debt -= ns
            thread.used += ns


@compiled
def end_tick(thread: Record, tick_ns: int, waits: bool) -> None:
    """The rest of the tick was waiting for a CPU, or idle."""
    thread.spent[_IDLE] += thread.slept
    thread.spent[_STEAL if waits else _IDLE] += tick_ns - thread.used - thread.slept
    thread.used = thread.slept = 0


@compiled
def own_time(thread: Record) -> int:
    """The time that has passed for the thread, ns."""
    return thread.spent.sum()


class Thread:
    """A thread by its record: an element of THREAD, one of its own unless another is given."""

    __slots__ = ("record",)

    def __init__(self, record: Any = None) -> None:
        self.record = np.zeros(1, THREAD)[0] if record is None else record

    @property
    def spent(self) -> npt.NDArray[np.int64]:
        """ns by cause."""
        return self.record["spent"]

    @property
    def used(self) -> int:
        """ns of work paid in this tick."""
        return int(self.record["used"])

    @property
    def debt(self) -> int:
        """ns of work that is owed."""
        return int(self.record["debt"])

    def owe(self, work_ns: Sequence[int]) -> None:
        """Adds work, ns by cause; raises ValueError for a negative time."""
        for cause, ns in zip(WORK, work_ns, strict=True):
            if ns < 0:
                raise ValueError(f"{ns} ns of {Cause(cause).name}: time doesn't run backward")
            if ns:
                owe(self.record, int(cause), ns)

    def pay(self, granted_ns: int) -> None:
        """As :func:`pay`."""
        pay(self.record, granted_ns)

    def end_tick(self, tick_ns: int, *, waits: bool) -> None:
        """As :func:`end_tick`."""
        end_tick(self.record, tick_ns, waits)
