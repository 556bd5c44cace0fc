"""What a sweep will take, from some hosts of some of its cells, for some ticks: core-hours, memory and disk."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from coldfleet.cluster.execution.batching import IN_FLIGHT, TARGET_S, count_batches, looks_long
from coldfleet.cluster.execution.compiling import compiling_is_said
from coldfleet.cluster.execution.over_time import rows_over_time
from coldfleet.cluster.execution.progress import Reporter, Silent
from coldfleet.cluster.execution.work import simulate_hosts, warm_up
from coldfleet.cluster.execution.worker_memory import worker_bytes
from coldfleet.cluster.results.parts import Rows, parquet_bytes
from coldfleet.cluster.results.schemas import RUN_TABLES, TABLES
from coldfleet.cluster.stats.statistics import Mean, mean_interval
from coldfleet.cluster.study.fleet import host_work, run_work
from coldfleet.cluster.study.lives import all_lives
from coldfleet.cluster.study.plan import Plan, Run

SAMPLE_S = 20.0  # about, for all that is run
START_S = 10.0  # until Ray has workers and they have loaded the compiled simulator
FEW_S = 5.0  # of work that Ray isn't worth starting for
_RUN_S = 0.002  # of a run without accesses, about
_ACCESS_S = 1 / 20e6  # of one more access, about
_LOOKED_AT = 50  # runs
_LIKE_OTHERS = 10_000  # rows of a table, from which the size of the others follows
_LEAST_TICKS = 4  # of a host, if it has as many; in the first it fills its memory
_MORE = 3  # times as many ticks the next time
_RECEIPT_BYTES = 170  # a run's part of a line of the journal, measured
_BATCH_BYTES = 600  # the rest of the line, measured
_PLAN_BYTES = 57_000  # of study.json and of a plan.parquet without rows, measured
_PLAN_ROW_BYTES = 14  # a run's part of plan.parquet: most of it the cell's id, measured


@dataclass(frozen=True)
class Estimate:
    """Figures for the whole plan. ``core_s``: CPU seconds, with a 95 % interval over the sampled cells.

    ``hosts``: how many were simulated. ``longest_s``: CPU seconds of the longest of them; no sweep can take less.
    """

    sampled: int
    hosts: int
    core_s: Mean
    longest_s: float
    disk_bytes: int
    worker_bytes: int

    def wall_s(self, workers: int, serial: bool = False) -> float:
        """How long that many workers take, in seconds: no less than the longest host does.

        From the start of Ray, unless all is done in one process (``serial``).
        """
        return self.core_s.mean if serial else START_S + max(self.core_s.mean / workers, self.longest_s)


@dataclass
class _Sampled:
    """What was seen of some hosts of one run, and what follows for all of them."""

    longest_s: float = 0.0
    hosts: int = 0
    rows: Rows = field(default_factory=lambda: {table: [] for table in TABLES})
    run_s: float = 0.0
    run_rows: dict[str, float] = field(default_factory=dict)


def guess_s(plan: Plan, runs: Sequence[int]) -> float:
    """About how many seconds runs of a plan, by their numbers, take on one core. Nothing is simulated."""
    some = runs[:: max(1, len(runs) // _LOOKED_AT)]
    work = sum(run_work(plan.run(index)) for index in some) / max(len(some), 1)
    return len(runs) * (_RUN_S + work * _ACCESS_S)


def is_short(plan: Plan, runs: Sequence[int]) -> bool:
    """Whether these runs, by their numbers, are so little work that Ray isn't worth starting for it."""
    return guess_s(plan, runs) < FEW_S


def estimate(plan: Plan, cells: int, workers: int = 1, reporter: Reporter | None = None) -> Estimate:
    """Simulates hosts of replicate 0 of so many cells, chosen at random but always the same, and writes nothing.

    Cells are drawn one from each of as many equal stretches of the plan, so that all parts of the grid are seen. All
    of it takes about :data:`SAMPLE_S`, once everything is compiled: of long runs only as many cells, hosts and ticks
    are simulated as there is time for.
    """
    reporter = reporter or Silent()
    cells = min(cells, plan.cell_count)
    edges = np.linspace(0, plan.cell_count, cells + 1)
    rng = np.random.default_rng(plan.seed)
    chosen = (edges[:-1] + rng.random(cells) * np.diff(edges)).astype(int)
    with compiling_is_said(reporter.say):
        warm_up(plan)
    runs: list[_Sampled] = []
    deadline = time.monotonic() + SAMPLE_S
    reporter.begin(0, cells)
    for number in rng.permutation(chosen):  # so that those that there is time for are from all parts, too
        left_s = deadline - time.monotonic()
        if runs and left_s <= 0:
            break
        runs.append(_look_at(plan.run(int(number)), left_s / (cells - len(runs)), rng))
        reporter.advance(1, 0)
    reporter.end()
    mean = mean_interval([seen.run_s for seen in runs])
    core_s = Mean(mean.mean * len(plan), None if mean.half_width is None else mean.half_width * len(plan))
    rows = {table: [row for seen in runs for row in seen.rows[table]] for table in TABLES}
    rows_of = {table: sum(seen.run_rows[table] for seen in runs) / len(runs) for table in TABLES}
    disk_bytes = _disk_bytes(rows, rows_of, plan, mean.mean, workers)
    hosts, longest_s = sum(seen.hosts for seen in runs), max(seen.longest_s for seen in runs)
    return Estimate(len(runs), hosts, core_s, longest_s, disk_bytes, worker_bytes(plan))


def _look_at(run: Run, patience_s: float, rng: np.random.Generator) -> _Sampled:
    """Simulates some of a run's hosts, at least one, for so many seconds."""
    seen, work = _Sampled(), host_work(run)
    deadline = time.monotonic() + patience_s
    seconds = done = 0.0
    for host in rng.permutation(len(work)):
        left_s = deadline - time.monotonic()
        if seen.hosts and left_s <= 0:
            break
        host_s, new = _host_seconds(run, int(host), left_s)
        seconds += host_s
        done += work[host]
        seen.longest_s = max(seen.longest_s, host_s)
        seen.hosts += 1
        for table in TABLES:
            seen.rows[table] += new[table]
    share = sum(work) / done
    seen.run_s = seconds * share
    seen.run_rows = {table: len(new) * share for table, new in seen.rows.items()}
    seen.run_rows |= {"cells": 1.0, "hosts": float(len(work))}
    spec = run.cell.spec
    if seen.rows["epochs"]:
        seen.run_rows["epochs"] = float(len(work) * len(spec.output.rows(spec.ticks)))
    if spec.fleet.over_time:
        seen.rows |= rows_over_time(run, lambda name: [], _LIKE_OTHERS)
        seen.run_rows |= {"lives": len(all_lives(run)), "fleet": len(seen.rows["fleet"])}
    return seen


def _host_seconds(run: Run, host: int, patience_s: float) -> tuple[float, Rows]:
    """CPU seconds of a host, and rows of it: all of its ticks if there is time, else some, which the others are like.

    In the first ones it fills its memory, so the price of a tick is what some more of them cost. Where guests come and
    go, no part of the time is like the rest, and a shorter run has other hosts: then it is simulated to the end.
    """
    if run.cell.spec.fleet.over_time:
        return _time(run, host, run.cell.spec.ticks)
    ticks, some = run.cell.spec.ticks, 1
    before_s, rows = _time(run, host, some)
    spent_s = seconds = before_s
    while some < ticks:
        more = min(ticks, _MORE * some)
        if some >= _LEAST_TICKS and spent_s + more / some * before_s > patience_s:
            break
        more_s, rows = _time(run, host, more)
        spent_s += more_s
        seconds = more_s + max(more_s - before_s, 0.0) / (more - some) * (ticks - more)
        some, before_s = more, more_s
    return seconds, rows


def _time(run: Run, host: int, ticks: int) -> tuple[float, Rows]:
    """CPU seconds of a host for so many ticks, and its rows."""
    cell = replace(run.cell, spec=run.cell.spec.model_copy(update={"ticks": ticks}))
    start = time.process_time()
    rows, _ = simulate_hosts(replace(run, cell=cell), slice(host, host + 1), audit=False)
    return time.process_time() - start, rows


def _disk_bytes(rows: Rows, rows_of: dict[str, float], plan: Plan, run_s: float, workers: int) -> int:
    """Of parts, receipts and plan: ``rows`` are some of each table, ``rows_of`` how many a run has."""
    runs, hosts = len(plan), rows_of["hosts"]
    cut = run_s > TARGET_S and hosts > 1
    batches: float
    first = IN_FLIGHT * workers  # batches that are handed out before anything was measured
    if cut:
        batches = runs * math.ceil(hosts / max(1, int(TARGET_S * hosts / run_s)))
    elif hosts > 1 and looks_long(run_work(plan.run(0))):  # those are single hosts
        batches = min(first, runs * hosts) + count_batches(runs, run_s, workers)
    else:
        batches = min(first, runs) + count_batches(runs - first, run_s, workers)
    total: float = _PLAN_BYTES + runs * (_RECEIPT_BYTES + _PLAN_ROW_BYTES) + batches * _BATCH_BYTES
    for table in filter(rows.get, TABLES):
        files = runs if cut and table in RUN_TABLES else batches
        one, all_of_them = (len(parquet_bytes(table, [some])) for some in (rows[table][:1], rows[table]))
        row = (all_of_them - one) / max(len(rows[table]) - 1, 1)
        total += files * (one - row) + runs * rows_of[table] * row
    return round(total)
