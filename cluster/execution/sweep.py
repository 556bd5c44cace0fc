"""A sweep: makes or continues a results directory, and has an executor do what is missing in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from coldfleet.cluster.execution.batching import Batches
from coldfleet.cluster.execution.compiling import compiling_is_said
from coldfleet.cluster.execution.estimate import is_short
from coldfleet.cluster.execution.executor import AUTO, Executor, SerialExecutor, make_executor
from coldfleet.cluster.execution.interrupt import StoppedError, StopRequest
from coldfleet.cluster.execution.merging import with_merged
from coldfleet.cluster.execution.progress import Reporter, make_reporter
from coldfleet.cluster.results.journal import BatchReceipt, Journal
from coldfleet.cluster.results.results import Results, find_results, open_results_of
from coldfleet.cluster.results.storage import Storage, open_storage
from coldfleet.cluster.results.writing import clean_up, create, write_plan
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import StudySource, read_study
from coldfleet.cluster.study.terminal import counted, telling
from coldfleet.hostsim.spec.errors import UserError

_SHORT = ": it is a few seconds of work (executor ray uses all cores)"
MAX_PASSES = 5  # of doing what is missing, and looking whether it is there


def sweep(
    study: StudySource,
    out: Results | Storage | Path | str | None = None,
    executor: Executor | str = "auto",
    progress: Reporter | bool = False,
    *,
    workers: int | None = None,
    address: str | None = None,
    retry_failed: bool = False,
    fail_fast: bool = False,
    audit: bool = False,
) -> Results:
    """Runs every cell x replicate of a study that isn't in its results yet, and returns the results.

    ``study``: a file, a mapping or a plan (:func:`read_study`). ``out``: the directory of the results, or a URI such as
    ``"s3://bucket/study"``; None: ``results/<name of the study>``; or results that are open already, which are then not
    read a second time. The same call goes on where an interrupted one stopped; where nothing is left to do, it reads
    the results. ``executor``: "ray", in parallel; "serial", in this process; "auto": "serial" for a few seconds of
    work, as Ray takes to start, unless there are ``workers`` or an ``address``. The tables are the same. ``workers``:
    processes, for "ray"; None: one for each CPU. ``address``: HOST:PORT of a Ray cluster to join. ``progress``:
    True shows it on stderr; something with the methods of :class:`coldfleet.Reporter` is told. ``retry_failed``: runs
    that failed before are run again instead. ``fail_fast``: stops at the first run that fails; otherwise a failure is a
    row of ``results.failures``. ``audit``: checks the laws of docs/laws.md in every run that is made; a run that breaks
    one fails. The tables are the same, and it takes longer.

    Raises UserError, with nothing written, if the study, the directory or the executor can't be used, and
    :class:`coldfleet.StoppedError` if it was interrupted, or stopped by ``fail_fast``.

        results = coldfleet.sweep("configs/quickstart.toml", executor="serial", progress=True)
        print(results.table("cells").num_rows, "runs")
    """
    is_free, reporter = executor == AUTO and workers is None and address is None, make_reporter(progress)
    chosen = make_executor(executor, workers, address)
    with telling(reporter.say):
        plan = read_study(study)
        found: Results | None
        if isinstance(out, Results):
            storage, found = out.storage, out
        else:
            storage = open_storage(Path("results") / plan.name if out is None else out)
            found = find_results(storage, plan)
        to_do = range(len(plan)) if found is None else _to_do(found, retry_failed)
        if found is not None and not found.damage and not to_do:
            if not storage.exists("plan.parquet"):
                write_plan(storage, plan)
            return found
        for data in plan.data.values():
            data.fetch()
        serial = is_free and is_short(plan, to_do)
        chosen = SerialExecutor() if serial else chosen
        with StopRequest() as stop, chosen:
            reporter.say(plan.size)
            get_ready(chosen, plan, reporter, stop, _SHORT if serial else "")
            create(storage, plan)
            stop.last_words = f"continue with: coldfleet resume {storage}"
            with Journal(storage) as journal:
                # another sweep may have been at work until we got the journal
                results = open_results_of(plan, storage) if found is None else found.reread()
                passes = Passes(plan, journal, chosen, reporter, stop, audit)
                return passes.run(results, partial(_to_do, retry_failed=retry_failed), fail_fast, once=retry_failed)


@dataclass
class Passes:
    """The work of a sweep, or of a round of a question, once it holds the journal.

    ``plan``: that of the executor; its numbers are those of the runs in batches. That of the results may be another.
    """

    plan: Plan
    journal: Journal
    executor: Executor
    reporter: Reporter
    stop: StopRequest
    audit: bool = False
    access_s: float = 0.0  # what an access took so far

    def run(
        self, results: Results, to_do: Callable[[Results], list[int]], fail_fast: bool, once: bool = False
    ) -> Results:
        """Has everything done that is to do, and looks whether it is there: if a part was lost meanwhile, once more.

        ``to_do``: the runs, by their numbers in ``plan``; ``once``: they are not asked for again.
        """
        for _ in range(MAX_PASSES):
            clean_up(results, self.journal)
            indices = to_do(results)
            if not indices:
                return results
            if left := self._work(results, indices, fail_fast):
                stop = self.stop
                why, code = (stop.why, stop.code) if stop.requested else ("stopped at a failed run", 1)
                raise StoppedError(f"{why} with {left} of {len(results.plan)} runs to do", stop.last_words, code)
            results = results.reread()
            if once:
                clean_up(results, self.journal)
                return results
        raise UserError(f"{results.storage}: parts are lost as fast as they are written: is the file system in order?")

    def _work(self, results: Results, indices: list[int], fail_fast: bool) -> int:
        """Has these runs done and their receipts written; returns how many of them are left if it was stopped."""
        plan, status, storage = results.plan, results.status, results.storage
        wanted = set(indices)
        begun = {self.plan.index_of(*plan.name_of(index)): shards for index, shards in status.sharded.items()}
        sharded = {index: shards for index, shards in begun.items() if index in wanted}
        batches = Batches(
            self.plan, indices, self.executor.slots, status.batches, self.access_s, audit=self.audit, sharded=sharded
        )
        tally = _Tally(plan)
        self.reporter.begin(len(plan) - len(indices), len(plan))
        try:
            receipts = self.executor.run(batches, storage, self.stop)
            for receipt in with_merged(receipts, self.plan, storage, sharded):
                self.journal.append(receipt)
                batches.observe(receipt)
                runs, failures = tally.take(receipt)
                self.reporter.advance(runs, failures)
                if failures and fail_fast:
                    return len(indices) - tally.ended
        except OSError as error:  # such as a full disk
            where, why = error.filename or storage, error.strerror or error
            raise UserError(f"{where}: {why}; once that is mended, {self.stop.last_words}") from None
        finally:
            self.access_s = batches.access_s
            self.reporter.end()
        # a run whose shard was lost before its row was made isn't left: it is found missing, and done again
        return len(indices) - tally.ended if self.stop.requested else 0


class _Tally:
    """Counts the runs that ended, each once, and how much of those that are cut was done."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ended = np.zeros(len(plan), bool)
        self._shares: dict[int, float] = {}

    @property
    def ended(self) -> int:
        """How many runs did."""
        return int(self._ended.sum())

    def take(self, receipt: BatchReceipt) -> tuple[float, int]:
        """Returns how many runs, or parts of them, this adds, and how many of them failed."""
        runs, failures = 0.0, 0
        for run in receipt.runs:
            index = self._plan.index_of(run.cell_id, run.replicate)
            if self._ended[index]:
                continue
            if receipt.shard is not None:
                share = (receipt.shard.end - receipt.shard.first) / receipt.shard.of
                self._shares[index] = self._shares.get(index, 0.0) + share
                runs += share
                continue
            self._ended[index] = True
            runs += 1 - self._shares.pop(index, 0.0)
            failures += run.status == "failed"
        return runs, failures


def _to_do(results: Results, retry_failed: bool) -> list[int]:
    return sorted(results.status.failures) if retry_failed else results.missing


def get_ready(executor: Executor, plan: Plan, reporter: Reporter, stop: StopRequest, why: str = "") -> None:
    """Starts an executor that was entered, and says who will do the work, and why. An interrupt ends it at once."""
    stop.urgent = True
    executor.say = reporter.say
    with compiling_is_said(reporter.say):
        executor.start(plan)
    stop.urgent = False
    reporter.say(f"on {executor.name}, {counted(executor.slots, 'worker')}{why}")
