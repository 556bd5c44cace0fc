"""Runs that are asked for as an answer takes shape: a search decides by what came out what to run next.

One executor works for the whole search. What it writes goes to a folder that is deleted at the end. Whatever simulates
the same hosts is run only once: policies of two names that do the same, or nested ratios that come to as many guests.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, NamedTuple, Self

import pyarrow.parquet as pq

from coldfleet.cluster.execution.batching import Batches
from coldfleet.cluster.execution.executor import Executor
from coldfleet.cluster.execution.interrupt import StoppedError, StopRequest
from coldfleet.cluster.execution.merging import with_merged
from coldfleet.cluster.execution.progress import Reporter
from coldfleet.cluster.execution.sweep import get_ready
from coldfleet.cluster.results.journal import BatchReceipt
from coldfleet.cluster.results.parts import Rows
from coldfleet.cluster.results.results import put_data
from coldfleet.cluster.results.schemas import SORT_KEYS
from coldfleet.cluster.results.storage import open_storage
from coldfleet.cluster.study.fleet import build_hosts
from coldfleet.cluster.study.plan import Plan
from coldfleet.hostsim.spec.errors import UserError

MOST_REPLICATES = 1_000_000


class Trial(NamedTuple):
    """A run: the number of its cell in the plan, and the replicate."""

    cell: int
    replicate: int


class Trials:
    """The runs of a plan, each done when it is first asked for. To be entered; it then has ``plan`` and its executor.

    ``columns``: what is read of each table.
    """

    def __init__(
        self, plan: Plan, executor: Executor, reporter: Reporter, columns: Mapping[str, Iterable[str]]
    ) -> None:
        self.plan = replace(plan, replicates=MOST_REPLICATES)
        self.plan.adopt_ids(plan.cell_ids)  # which are the same, and with so many replicates too many to make anew
        self.runs = 0
        self._executor = executor
        self._reporter = reporter
        self._columns = {table: sorted({*SORT_KEYS[table], *names}) for table, names in columns.items()}
        self._rows: dict[Trial, Rows] = {}
        self._same: dict[object, Trial] = {}  # by all that decides what a run does
        self._stack = ExitStack()
        self._began = 0.0
        self._batches = 0
        self._access_s = 0.0

    def __enter__(self) -> Self:
        with self._stack as stack:
            self._stop = stack.enter_context(StopRequest())
            folder = stack.enter_context(TemporaryDirectory(prefix="coldfleet-"))
            self._storage = open_storage(str(Path(folder) / "runs"))
            self._storage.prepare()
            put_data(self._storage, self.plan)
            stack.enter_context(self._executor)
            get_ready(self._executor, self.plan, self._reporter, self._stop)
            self._stack = stack.pop_all()
        self._began = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def seconds(self) -> float:
        """Since the executor was ready."""
        return time.monotonic() - self._began

    def run(self, wanted: Iterable[Trial]) -> None:
        """Has these runs done; raises UserError if one fails, StoppedError if they are interrupted."""
        copies: dict[Trial, Trial] = {}
        new: dict[tuple[str, int], Trial] = {}
        indices = []
        for trial in dict.fromkeys(wanted):
            if trial in self._rows:
                continue
            index = trial.replicate * self.plan.cell_count + trial.cell
            run = self.plan.run(index)
            first = self._same.setdefault((*build_hosts(run), run.cell.policy.digest, trial.replicate), trial)
            if first != trial:
                copies[trial] = first
                continue
            new[run.cell.cell_id, trial.replicate] = trial
            indices.append(index)
        if indices:
            self._do(indices, new)
        for trial, first in copies.items():
            self._rows[trial] = self._rows[first]

    def rows(self, table: str, trial: Trial) -> list[dict[str, Any]]:
        """The rows of a run that was done, in their order."""
        return self._rows[trial][table]

    def _do(self, indices: list[int], new: Mapping[tuple[str, int], Trial]) -> None:
        batches = Batches(self.plan, indices, self._executor.slots, self._batches, self._access_s)
        self._reporter.begin(self.runs, self.runs + len(indices))
        try:
            receipts = self._executor.run(batches, self._storage, self._stop)
            for receipt in with_merged(receipts, self.plan, self._storage, {}):
                batches.observe(receipt)
                self._take(receipt, new)
        finally:
            self._reporter.end()
        if self._stop.requested:
            raise StoppedError(self._stop.why, code=self._stop.code)
        for name in self._storage.sizes("parts"):
            self._storage.delete(f"parts/{name}")
        for trial in new.values():
            for table, rows in self._rows[trial].items():  # shards come in any order
                rows.sort(key=itemgetter(*SORT_KEYS[table]))
        self._batches, self._access_s = batches.number, batches.access_s

    def _take(self, receipt: BatchReceipt, new: Mapping[tuple[str, int], Trial]) -> None:
        for run in receipt.runs:
            if run.status == "failed":
                raise UserError(f"a run failed: cell {run.cell_id} replicate {run.replicate}: {run.error}")
            self._rows.setdefault(new[run.cell_id, run.replicate], {table: [] for table in self._columns})
        for part in receipt.parts:
            if part.table in self._columns:
                name = f"parts/{part.name}"
                with self._storage.open(name) as file:
                    rows = pq.read_table(file, columns=self._columns[part.table]).to_pylist()
                for row in rows:
                    self._rows[new[row["cell_id"], row["replicate"]]][part.table].append(row)
        if receipt.shard is None:
            self.runs += len(receipt.runs)
            self._reporter.advance(len(receipt.runs), 0)
