"""What a journal says of each run of a plan, in a few bytes a run."""

from __future__ import annotations

import numpy as np

from coldfleet.cluster.results.journal import BatchReceipt, RunReceipt, Shard
from coldfleet.cluster.study.plan import Plan

_TO_DO, _FAILED, _DONE, _MERGED = range(4)


class ShardedRun:
    """What there is of a run that was cut: shards that don't overlap, and the receipt of its row of cells."""

    def __init__(self) -> None:
        self._shards: list[tuple[Shard, BatchReceipt]] = []
        self.merged: BatchReceipt | None = None

    def add(self, batch: BatchReceipt) -> bool:
        """Takes a shard or a row of cells in; returns whether it was needed: none of its hosts were there."""
        shard = batch.shard
        if shard is None:
            needed, self.merged = self.merged is None, self.merged or batch
            return needed
        if any(shard.first < other.end and other.first < shard.end for other, _ in self._shards):
            return False
        self._shards.append((shard, batch))
        self._shards.sort(key=lambda each: each[0].first)
        return True

    @property
    def shards(self) -> list[Shard]:
        """The shards in the order of their hosts."""
        return [shard for shard, _ in self._shards]

    @property
    def receipts(self) -> list[BatchReceipt]:
        """All receipts that count, in the order of the hosts."""
        return [*(batch for _, batch in self._shards), *([self.merged] if self.merged else [])]

    def missing(self, of: int) -> list[range]:
        """The hosts, of so many, that no shard has."""
        edges = [0, *(edge for shard in self.shards for edge in (shard.first, shard.end)), of]
        return [range(*pair) for pair in zip(edges[::2], edges[1::2], strict=True) if pair[0] < pair[1]]

    @property
    def has_all_hosts(self) -> bool:
        """Whether nothing but its row of cells may be missing."""
        return bool(self._shards) and sum(each.end - each.first for each in self.shards) == self.shards[0].of


class RunStatus:
    """Which runs are done, which failed, which are to do. A run that was done once is done.

    ``sharded``: runs of which there are shards, by their numbers.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._status = np.zeros(len(plan), np.uint8)
        self.failures: dict[int, RunReceipt] = {}
        self.sharded: dict[int, ShardedRun] = {}
        self.repeats = 0
        self.batches = 0
        self.wall_s = 0.0
        self.cpu_s = 0.0

    def add(self, batch: BatchReceipt) -> bool:
        """Takes in a receipt whose parts are sound; returns whether they are needed. Runs must be of the plan."""
        self.batches += 1
        needed = False
        for receipt in batch.runs:
            self.wall_s += receipt.wall_s
            self.cpu_s += receipt.cpu_s
            needed |= self._add_run(batch, receipt)
        return needed

    def _add_run(self, batch: BatchReceipt, receipt: RunReceipt) -> bool:
        index = self._plan.index_of(receipt.cell_id, receipt.replicate)
        before = self._status[index]
        if receipt.status == "failed":
            if before not in (_DONE, _MERGED):
                self._status[index] = _FAILED
                self.failures[index] = receipt
            return False
        if receipt.status == "done":
            self.repeats += int(before == _DONE)
            self._status[index] = _DONE
            self.failures.pop(index, None)
            return True
        sharded = self.sharded.setdefault(index, ShardedRun())
        needed = sharded.add(batch)
        if before != _DONE and sharded.has_all_hosts and sharded.merged:
            self._status[index] = _MERGED
            self.failures.pop(index, None)
        return needed

    @property
    def missing(self) -> list[int]:
        """The runs that aren't done and didn't fail, in order."""
        return [int(index) for index in np.flatnonzero(self._status == _TO_DO)]

    @property
    def done(self) -> int:
        """How many runs are done."""
        return int(np.isin(self._status, (_DONE, _MERGED)).sum())

    def is_done(self, receipt: RunReceipt) -> bool:
        """Whether the run of a receipt is done, by that receipt or another."""
        index = self._plan.index_of(receipt.cell_id, receipt.replicate)
        return index >= 0 and bool(self._status[index] in (_DONE, _MERGED))

    @property
    def merged(self) -> list[ShardedRun]:
        """The runs that are done by their shards."""
        return [sharded for index, sharded in self.sharded.items() if self._status[index] == _MERGED]

    @property
    def unfinished(self) -> list[ShardedRun]:
        """Shards of runs that aren't done."""
        return [sharded for index, sharded in self.sharded.items() if self._status[index] in (_TO_DO, _FAILED)]

    def unused_parts(self) -> set[str]:
        """The parts of shards that don't make up a run: of one that isn't done yet, or was also done as a whole."""
        unused = [sharded for index, sharded in self.sharded.items() if self._status[index] != _MERGED]
        return {part.name for sharded in unused for batch in sharded.receipts for part in batch.parts}
