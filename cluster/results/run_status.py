"""What a journal says of each run of a plan, in a few bytes a run."""

from __future__ import annotations

import numpy as np

from coldfleet.cluster.results.journal import BatchReceipt, RunReceipt
from coldfleet.cluster.study.plan import Plan

_TO_DO, _FAILED, _DONE = range(3)


class RunStatus:
    """Which runs are done, which failed, which are to do. A run that was done once is done."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._status = np.zeros(len(plan), np.uint8)
        self.failures: dict[int, RunReceipt] = {}
        self.repeats = 0
        self.batches = 0
        self.wall_s = 0.0
        self.cpu_s = 0.0

    def add(self, batch: BatchReceipt) -> None:
        """Takes in a receipt whose parts are sound. Runs that aren't in the plan are left out."""
        self.batches += 1
        for receipt in batch.runs:
            index = self._plan.index_of(receipt.cell_id, receipt.replicate)
            if index < 0:
                continue
            self.wall_s += receipt.wall_s
            self.cpu_s += receipt.cpu_s
            if self._status[index] == _DONE:
                self.repeats += receipt.status == "done"
            elif receipt.status == "done":
                self._status[index] = _DONE
                self.failures.pop(index, None)
            else:
                self._status[index] = _FAILED
                self.failures[index] = receipt

    @property
    def missing(self) -> list[int]:
        """The runs of which no receipt speaks, in order."""
        return [int(index) for index in np.flatnonzero(self._status == _TO_DO)]

    @property
    def done(self) -> int:
        """How many runs are done."""
        return int((self._status == _DONE).sum())

    def is_done(self, receipt: RunReceipt) -> bool:
        """Whether the run of a receipt is done, by that receipt or another."""
        index = self._plan.index_of(receipt.cell_id, receipt.replicate)
        return index >= 0 and bool(self._status[index] == _DONE)
