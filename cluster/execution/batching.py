"""How many runs travel together: enough that a batch is worth the trip, few enough that all workers end together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from coldfleet.cluster.execution.work import Batch
from coldfleet.cluster.results.journal import BatchReceipt

TARGET_S = 5.0  # of work in a batch: lost if its worker dies, and the interval of the progress bar
MAX_RUNS = 500
_MEMORY = 0.8  # weight of what was measured before, when a new time arrives


class Batches(Iterator[Batch]):
    """Cuts runs into batches as they are asked for, by the run times measured so far.

    ``run_s``: what a run took before; 0: not known, and it starts with single runs. ``audit``: of the batches.
    """

    def __init__(
        self, indices: Sequence[int], slots: int, first_number: int = 0, run_s: float = 0.0, audit: bool = False
    ) -> None:
        self._indices = indices
        self._shares = 3 * max(slots, 1)  # no batch is more than this part of what is left
        self._next = 0
        self._number = first_number
        self.run_s = run_s
        self._audit = audit

    def __next__(self) -> Batch:
        left = len(self._indices) - self._next
        if left == 0:
            raise StopIteration
        worth = int(TARGET_S / self.run_s) if self.run_s > 0 else 1
        size = max(1, min(worth, MAX_RUNS, left // self._shares))
        chosen = self._indices[self._next : self._next + size]
        self._next += size
        self._number += 1
        return Batch(self._number - 1, tuple(chosen), audit=self._audit)

    def observe(self, receipt: BatchReceipt) -> None:
        """Learns how long runs take."""
        for run in receipt.runs:
            self.run_s = _MEMORY * self.run_s + (1 - _MEMORY) * run.wall_s if self.run_s else run.wall_s
