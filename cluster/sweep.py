"""A sweep: makes or continues a results directory, and has an executor do what is missing in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cluster.batching import Batches
from cluster.executor import Executor
from cluster.fleet import build_hosts
from cluster.interrupt import StopRequest
from cluster.journal import Journal
from cluster.plan import Plan
from cluster.progress import Reporter, Silent
from cluster.results import Results, check_directory, create, remove_orphans
from hostsim.model import HostSpec, NestedSpec

_TINY_PAGES = 1024
_SAY_AFTER_S = 12.0  # Ray alone takes up to ten


def sweep(plan: Plan, directory: Path, executor: Executor, reporter: Reporter | None = None) -> Results:
    """Runs what is missing of a plan and returns the results, which lack something only if it was interrupted.

    Raises :class:`hostsim.errors.UserError`, with nothing written, if the directory or the executor can't be used.
    """
    reporter = reporter or Silent()
    results = check_directory(directory, plan)
    if results is not None and not results.missing:
        return results
    with executor:
        reporter.say(f"{len(plan)} runs = {plan.cell_count} cells x {plan.replicates} replicates")
        with _hint(reporter, "getting ready (the first run compiles the kernels, about a minute)"):
            executor.start(warm_up_shapes(plan))
        reporter.say(f"on {executor.name}, {executor.slots} worker{'s' if executor.slots > 1 else ''}")
        create(directory, plan)
        with Journal(directory / "journal.jsonl") as journal:
            results = Results.open(directory)
            remove_orphans(results, journal)
            _work(results, journal, executor, reporter)
    return Results.open(directory)


def warm_up_shapes(plan: Plan) -> tuple[HostSpec, ...]:
    """Tiny hosts that run every kernel that the plan needs: each kind of workload and mode of reclaim, with L2."""
    host = build_hosts(plan.run(0))[0]
    if host.scene:
        return tuple(_tiny(build_hosts(plan.run(number))[0]) for number in _scenes(plan))
    guest = replace(host.guests[0], memory_pages=_TINY_PAGES, limit_pages=_TINY_PAGES // 2, accesses_per_tick=2048)
    kinds, modes, kernels = (
        [str(value) for value in plan.axes.get(path, (plan.base.get(path),))]
        for path in ("guest.workload.kind", "reclaim.mode", "kernel")
    )
    return tuple(
        HostSpec(
            kernel,
            tuple(
                replace(guest, workload=replace(guest.workload, kind=kind), nested=nested)
                for kind in kinds
                for nested in (None, NestedSpec(stop_tick=2))
            ),
            ticks=3,
            mode=mode,
            aging_every_ticks=1,
        )
        for kernel in kernels
        for mode in modes
    )


def _scenes(plan: Plan) -> list[int]:
    """One cell of each scene and mode of reclaim."""
    found: dict[tuple[str, str], int] = {}
    for number in range(plan.cell_count):
        spec = plan.cell(number).spec
        found.setdefault((spec.scene, spec.reclaim.mode), number)
    return list(found.values())


def _tiny(host: HostSpec) -> HostSpec:
    half = _TINY_PAGES // 2
    guests = [replace(guest, memory_pages=_TINY_PAGES, limit_pages=half) for guest in host.guests]
    return replace(host, guests=tuple(guests), ticks=2, parent_pages=half * len(guests) if host.parent_pages else 0)


def _work(results: Results, journal: Journal, executor: Executor, reporter: Reporter) -> None:
    missing = results.missing
    batches = Batches(results.plan, missing, executor.slots, first_number=len(results.batches))
    reporter.begin(len(results.plan) - len(missing), len(results.plan))
    try:
        with StopRequest() as stop:
            for receipt in executor.run(batches, results.directory, stop):
                journal.append(receipt)
                batches.observe(receipt)
                reporter.advance(len(receipt.runs), sum(run.status == "failed" for run in receipt.runs))
    finally:
        reporter.end()


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
