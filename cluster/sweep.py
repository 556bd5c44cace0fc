"""A sweep: makes or continues a results directory, and has an executor do what is missing in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.batching import Batches
from cluster.executor import Executor
from cluster.interrupt import INTERRUPTED, StoppedError, StopRequest
from cluster.journal import Journal
from cluster.plan import Plan
from cluster.progress import Reporter, Silent
from cluster.results import Results, create, find_results, tidy
from cluster.storage import Storage, open_storage

_SAY_AFTER_S = 12.0  # Ray alone takes up to ten


def sweep(
    plan: Plan,
    where: Storage | Path | str,
    executor: Executor,
    reporter: Reporter | None = None,
    *,
    retry_failed: bool = False,
    fail_fast: bool = False,
) -> Results:
    """Runs what is missing of a plan and returns the results.

    ``retry_failed``: runs that failed before are run again instead. ``fail_fast``: stops at the first run
    that fails. Raises :class:`cluster.interrupt.StoppedError` if it was interrupted or stopped, and
    :class:`hostsim.errors.UserError`, with nothing written, if the directory or the executor can't be used.
    """
    storage = where if isinstance(where, Storage) else open_storage(str(where))
    reporter = reporter or Silent()
    results = find_results(storage, plan)
    if results is not None and not _to_do(results, retry_failed):
        return results
    with StopRequest("interrupted before the first run; the same command begins again") as stop:
        try:
            left = _make_or_continue(plan, storage, executor, reporter, stop, retry_failed, fail_fast)
        except KeyboardInterrupt:
            raise StoppedError(stop.last_words) from None
        if not stop.requested:
            with Journal(storage) as journal:
                results = Results.open(storage, plan)
                tidy(results, journal)
    why = "interrupted" if stop.requested else "stopped at the first run that failed"
    if left:
        raise StoppedError(
            f"{why}, with {left} of {len(plan)} runs to do; go on with: coldfleet resume {storage}",
            INTERRUPTED if stop.requested else 1,
        )
    return Results.open(storage, plan) if results is None else results


def _make_or_continue(
    plan: Plan,
    storage: Storage,
    executor: Executor,
    reporter: Reporter,
    stop: StopRequest,
    retry_failed: bool,
    fail_fast: bool,
) -> int:
    """Does the work, and returns how many runs are left to do."""
    with executor:
        _start(executor, plan, reporter, stop)
        create(storage, plan)
        stop.last_words = f"interrupted; go on with: coldfleet resume {storage}"
        with Journal(storage) as journal:
            results = Results.open(storage, plan)
            tidy(results, journal)
            return _work(results, _to_do(results, retry_failed), journal, executor, reporter, stop, fail_fast)


def _to_do(results: Results, retry_failed: bool) -> list[int]:
    return sorted(results.ledger.failures) if retry_failed else results.missing


def _start(executor: Executor, plan: Plan, reporter: Reporter, stop: StopRequest) -> None:
    reporter.say(f"{len(plan)} runs = {plan.cell_count} cells x {plan.replicates} replicates")
    stop.urgent = True
    with _hint(reporter, "getting ready (the first run compiles the kernels, about a minute)"):
        executor.start(plan)
    stop.urgent = False
    reporter.say(f"on {executor.name}, {executor.slots} worker{'s' if executor.slots > 1 else ''}")


def _work(
    results: Results,
    indices: list[int],
    journal: Journal,
    executor: Executor,
    reporter: Reporter,
    stop: StopRequest,
    fail_fast: bool,
) -> int:
    """Has the runs done and their receipts written; returns how many of them are left."""
    batches = Batches(indices, executor.slots, first_number=results.ledger.batches)
    left = len(indices)
    reporter.begin(len(results.plan) - left, len(results.plan))
    receipts = executor.run(batches, results.storage, stop)
    try:
        for receipt in receipts:
            journal.append(receipt)
            batches.observe(receipt)
            failures = sum(run.status == "failed" for run in receipt.runs)
            left -= len(receipt.runs)
            reporter.advance(len(receipt.runs), failures)
            if failures and fail_fast:
                break
    finally:
        reporter.end()
    return left


@contextmanager
def _hint(reporter: Reporter, text: str) -> Iterator[None]:
    """Says the text if what is done inside takes long, so that nobody wonders."""
    timer = threading.Timer(_SAY_AFTER_S, reporter.say, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
