"""Runs that are asked for as an answer takes shape: a search decides by what came out what to run next.

What is simulated goes to a results directory that grows with what is asked: one that is kept, so that a question that
was killed goes on there and the next one takes what is there, or one that is deleted at the end. Whatever simulates the
same hosts is run only once: policies of two names that do the same, or nested ratios that come to as many guests.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, NamedTuple, Self

import pyarrow.compute as pc

from coldfleet.cluster.execution.executor import Executor, make_executor
from coldfleet.cluster.execution.interrupt import StoppedError, StopRequest
from coldfleet.cluster.execution.progress import Reporter
from coldfleet.cluster.execution.sweep import Passes, get_ready
from coldfleet.cluster.results.growing import GrowingResults
from coldfleet.cluster.results.parts import Rows
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import SORT_KEYS
from coldfleet.cluster.results.storage import Storage, open_storage
from coldfleet.cluster.study.fleet import build_hosts
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.terminal import counted
from coldfleet.hostsim.spec.errors import UserError

MOST_REPLICATES = 1_000_000

Place = Storage | os.PathLike[str] | str | None
"""Where the runs of a question are kept; None: nowhere."""


def executor_for(out: Place, executor: Executor | str, workers: int | None, address: str | None) -> Executor:
    """The executor of a question, as :func:`make_executor` has it; raises UserError if its rows wouldn't come back."""
    if address is not None and out is None:
        raise UserError(f"address {address}: give --out too, where all machines of the cluster can write")
    return make_executor(executor, workers, address)


def thrift(reused: int, runs: int, out: Place) -> str:
    """How many of the runs that were asked for were there before, for people."""
    return f"reused {reused} of {counted(runs, 'run')}, kept in {out}"


class Trial(NamedTuple):
    """A run: the number of its cell in the plan, and the replicate."""

    cell: int
    replicate: int


class Trials:
    """The runs of a plan, each done when it is first asked for. To be entered; it then has ``plan``.

    The executor is started for the first run that isn't there. ``columns``: what is read of each table. ``out``: the
    results directory. ``runs``: that were asked for; ``reused``: those of them that were there before.
    """

    def __init__(
        self,
        plan: Plan,
        executor: Executor,
        reporter: Reporter,
        columns: Mapping[str, Iterable[str]],
        out: Place = None,
    ) -> None:
        self.plan = replace(plan, replicates=MOST_REPLICATES)
        self.plan.adopt_ids(plan.cell_ids)  # which are the same, and with so many replicates too many to make anew
        self.runs = self.reused = 0
        self._executor = executor
        self._reporter = reporter
        self._columns = {table: sorted({*SORT_KEYS[table], *names}) for table, names in columns.items()}
        self._out = out
        self._rows: dict[Trial, Rows] = {}  # of every run of the plan that is there
        self._asked: set[Trial] = set()
        self._read: set[str] = set()  # parts
        self._same: dict[object, Trial] = {}  # by all that decides what a run does
        self._stack = ExitStack()
        self._passes: Passes | None = None  # once there was something to do
        self._began: float | None = None  # when the executor was ready

    def __enter__(self) -> Self:
        with self._stack as stack:
            out = self._out
            if out is None:
                out = Path(stack.enter_context(TemporaryDirectory(prefix="coldfleet-"))) / "runs"
            growing = GrowingResults(open_storage(out), self.plan, kept=self._out is not None)
            self._stop = stack.enter_context(StopRequest())
            self._growing = stack.enter_context(growing)
            if self._growing.results is not None:
                self._take(self._growing.results)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def seconds(self) -> float:
        """Since the executor was ready."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    @property
    def rate(self) -> float | None:
        """Runs that were simulated here, a second; if none, those that were there, one by one. None: nothing was."""
        if simulated := self.runs - self.reused:
            return simulated / self.seconds
        status = self._growing.results.status if self._growing.results else None
        return status.done / status.wall_s if status and status.wall_s else None

    @property
    def kept(self) -> int:
        """Runs that are there and were not asked for yet."""
        return sum(trial not in self._asked for trial in self._rows)

    def say_thrift(self) -> None:
        """Says how many of the runs were there before, if they are kept."""
        if self._out is not None:
            self._reporter.say(thrift(self.reused, self.runs, self._out))

    def run(self, wanted: Iterable[Trial]) -> None:
        """Has these runs done; raises UserError if one fails, StoppedError if they are interrupted."""
        copies: dict[Trial, Trial] = {}
        new: dict[Trial, int] = {}
        for trial in dict.fromkeys(wanted):
            if trial in self._asked:
                continue
            index = trial.replicate * self.plan.cell_count + trial.cell
            run = self.plan.run(index)
            first = self._same.setdefault((*build_hosts(run), run.cell.policy.digest, trial.replicate), trial)
            if first != trial:
                copies[trial] = first
            else:
                new[trial] = index
        if new:
            there = new.keys() & self._rows.keys()
            if len(there) < len(new):
                self._do(list(new.values()))
            self.runs += len(new)
            self.reused += len(there)
        for trial, first in copies.items():
            self._rows[trial] = self._rows[first]
        self._asked.update(new, copies)

    def rows(self, table: str, trial: Trial) -> list[dict[str, Any]]:
        """The rows of a run that was done, in their order."""
        return self._rows[trial][table]

    def _do(self, indices: list[int]) -> None:
        names = {(self.plan.cell_ids[number], replicate) for replicate, number in map(self.plan.place, indices)}

        def to_do(found: Results) -> list[int]:
            for receipt in found.failed:
                if (receipt.cell_id, receipt.replicate) in names:
                    again = "" if self._out is None else f"; once that is mended: coldfleet retry {self._out} --failed"
                    raise UserError(
                        f"a run failed: cell {receipt.cell_id} replicate {receipt.replicate}: {receipt.error}{again}"
                    )
            missing = {self.plan.index_of(*found.plan.name_of(index)) for index in found.missing}
            return [index for index in indices if index in missing]

        self._get_ready()
        results = self._growing.ask(map(self.plan.run, indices))
        if self._passes is None:
            self._passes = Passes(self.plan, self._growing.journal, self._executor, self._reporter, self._stop)
        try:
            results = self._passes.run(results, to_do, fail_fast=True)
        except StoppedError:
            if not self._stop.requested:
                to_do(results.reread())  # says which failed
            raise StoppedError(self._stop.why, code=self._stop.code) from None
        self._growing.results = results
        self._take(results)

    def _get_ready(self) -> None:
        """Starts the executor, unless it was."""
        if self._began is None:
            self._stack.enter_context(self._executor)
            get_ready(self._executor, self.plan, self._reporter, self._stop)
            self._began = time.monotonic()

    def _take(self, results: Results) -> None:
        """Reads the rows that are new."""
        fresh = replace(results, parts=tuple(part for part in results.parts if part.name not in self._read))
        self._read |= {part.name for part in fresh.parts} - results.status.unused_parts()
        found: dict[Trial, Rows] = {}
        ours = pc.field("cell_id").isin(self.plan.cell_ids)
        for table, columns in self._columns.items():
            for row in fresh.table(table, columns, ours).to_pylist():
                trial = Trial(self.plan.numbers[row["cell_id"]], row["replicate"])
                found.setdefault(trial, {each: [] for each in self._columns})[table].append(row)
        self._rows.update(found)
