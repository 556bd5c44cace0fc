"""Where a thread's time goes: every ns of it is accounted to exactly one cause.

What a thread does in memory is done at once, and its cost accrues as a backlog. The thread works the backlog off as it
gets time on a CPU. What doesn't fit in a tick is left for the next ones, and until then the thread does nothing else.
Times are integers, ns.
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
        ("backlog", np.int64, (len(WORK),)),  # ns by cause that have accrued and are not worked off yet
        ("backlog_ns", np.int64),  # their sum
        ("used", np.int64),  # ns worked off in this tick
        ("slept", np.int64),  # ns of it that a kernel thread slept through
        ("working", np.int64),  # a vCPU's batch of accesses is under way; a kernel thread has jobs
        ("began", np.int64),  # when, in the thread's own time, that batch began
        ("guest", np.int64),  # whom kswapd's last visit was to
    ],
    align=True,
)
"""One vCPU or kernel thread."""


@compiled
def accrue(thread: Record, cause: int, ns: int) -> None:
    """Adds to the backlog."""
    thread.backlog[cause] += ns
    thread.backlog_ns += ns


@compiled
def work_off(thread: Record, granted_ns: int) -> None:
    """Works the backlog off as far as ``granted_ns`` of this tick reach, including what was used of them before."""
    for cause in range(_WORK):
        ns = min(thread.backlog[cause], granted_ns - thread.used)
        if ns > 0:
            thread.backlog[cause] -= ns
            thread.spent[cause] += ns
            thread.backlog_ns -= ns
            thread.used += ns


@compiled
def end_tick(thread: Record, tick_ns: int, waits: bool) -> None:
    """Accounts the rest of the tick: the thread waited for a CPU, or was idle."""
    thread.spent[_IDLE] += thread.slept
    thread.spent[_STEAL if waits else _IDLE] += tick_ns - thread.used - thread.slept
    thread.used = thread.slept = 0


@compiled
def own_time(thread: Record) -> int:
    """The time that has passed for the thread, ns."""
    return thread.spent.sum()


class Thread:
    """A thread by its record: an element of THREAD, a new one unless another is given."""

    __slots__ = ("record",)

    def __init__(self, record: Any = None) -> None:
        self.record = np.zeros(1, THREAD)[0] if record is None else record

    @property
    def spent(self) -> npt.NDArray[np.int64]:
        """ns by cause."""
        return self.record["spent"]

    @property
    def used(self) -> int:
        """ns worked off in this tick."""
        return int(self.record["used"])

    @property
    def backlog_ns(self) -> int:
        """ns that have accrued and are not worked off yet."""
        return int(self.record["backlog_ns"])

    def accrue(self, work_ns: Sequence[int]) -> None:
        """Adds to the backlog, ns by cause; raises ValueError for a negative time."""
        for cause, ns in zip(WORK, work_ns, strict=True):
            if ns < 0:
                raise ValueError(f"{ns} ns of {Cause(cause).name}: time doesn't run backward")
            if ns:
                accrue(self.record, int(cause), ns)

    def work_off(self, granted_ns: int) -> None:
        """As :func:`work_off`."""
        work_off(self.record, granted_ns)

    def end_tick(self, tick_ns: int, *, waits: bool) -> None:
        """As :func:`end_tick`."""
        end_tick(self.record, tick_ns, waits)
