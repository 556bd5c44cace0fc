"""What a sweep will take, from some hosts of some of its cells, for some ticks: core-hours, memory and disk."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np

from coldfleet.cluster.execution.batching import TARGET_S, count_batches
from coldfleet.cluster.execution.work import simulate_hosts, warm_up
from coldfleet.cluster.execution.worker_memory import worker_bytes
from coldfleet.cluster.results.parts import Rows, parquet_bytes
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.stats.statistics import Mean, mean_interval
from coldfleet.cluster.study.fleet import host_work
from coldfleet.cluster.study.plan import Plan, Run

SAMPLE_S = 30.0  # of CPU time, about, for all that is run
_FEW_TICKS = 8  # in which a host fills its memory; after them a tick costs about what the next does
_RECEIPT_BYTES = 170  # a run's part of a line of the journal, measured
_BATCH_BYTES = 600  # the rest of the line, measured
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


@dataclass
class _Sampled:
    """What was seen of some hosts of one run, and what follows for all of them."""

    seconds: float = 0.0
    longest_s: float = 0.0
    work: float = 0.0
    hosts: int = 0
    rows: Rows = field(default_factory=lambda: {table: [] for table in TABLES})
    run_s: float = 0.0
    run_rows: dict[str, float] = field(default_factory=dict)


def estimate(plan: Plan, cells: int, workers: int = 1) -> Estimate:
    """Simulates hosts of replicate 0 of so many cells, chosen at random but always the same, and writes nothing.

    Cells are drawn one from each of as many equal stretches of the plan, so that all parts of the grid are seen. Of
    long runs only as many hosts and ticks are simulated as there is time for (:data:`SAMPLE_S`).
    """
    cells = min(cells, plan.cell_count)
    edges = np.linspace(0, plan.cell_count, cells + 1)
    rng = np.random.default_rng(plan.seed)
    chosen = edges[:-1] + rng.random(cells) * np.diff(edges)
    warm_up(plan)
    runs: list[_Sampled] = []
    rows: Rows = {table: [] for table in TABLES}
    for number in chosen.astype(int):
        run = plan.run(int(number))
        work = host_work(run)
        seen = _Sampled()
        for host in rng.permutation(len(work)):
            if seen.hosts and seen.seconds > SAMPLE_S / cells:
                break
            _look_at(run, int(host), seen, SAMPLE_S / cells)
            seen.work += work[host]
        share = sum(work) / seen.work
        seen.run_s = seen.seconds * share
        seen.run_rows = {table: len(new) * share for table, new in seen.rows.items()}
        seen.run_rows |= {"cells": 1.0, "hosts": float(len(work))}
        if seen.rows["epochs"]:
            seen.run_rows["epochs"] = float(len(work) * run.cell.spec.ticks)
        runs.append(seen)
        for table in TABLES:
            rows[table] += seen.rows[table]
    mean = mean_interval([seen.run_s for seen in runs])
    core_s = Mean(mean.mean * len(plan), None if mean.half_width is None else mean.half_width * len(plan))
    rows_of = {table: sum(seen.run_rows[table] for seen in runs) / cells for table in TABLES}
    disk_bytes = _disk_bytes(rows, rows_of, len(plan), mean.mean, workers)
    hosts, longest_s = sum(seen.hosts for seen in runs), max(seen.longest_s for seen in runs)
    return Estimate(cells, hosts, core_s, longest_s, disk_bytes, worker_bytes(plan))


def _look_at(run: Run, host: int, seen: _Sampled, patience_s: float) -> None:
    """Simulates a host: all of its ticks if there is time, or else some, and the others are taken to cost as much."""
    ticks = run.cell.spec.ticks
    some = min(ticks, _FEW_TICKS)
    seconds, new = _time(run, host, some)
    if some < ticks:
        more = min(ticks, 4 * some)
        whole_s, new = _time(run, host, more)
        tick_s = max(whole_s - seconds, 0.0) / (more - some)
        seconds = whole_s + tick_s * (ticks - more)
        if more < ticks and seconds <= patience_s:
            seconds, new = _time(run, host, ticks)
    seen.seconds += seconds
    seen.longest_s = max(seen.longest_s, seconds)
    seen.hosts += 1
    for table in TABLES:
        seen.rows[table] += new[table]


def _time(run: Run, host: int, ticks: int) -> tuple[float, Rows]:
    """CPU seconds of a host for so many ticks, and its rows."""
    cell = replace(run.cell, spec=run.cell.spec.model_copy(update={"ticks": ticks}))
    start = time.process_time()
    rows, _ = simulate_hosts(replace(run, cell=cell), slice(host, host + 1), audit=False)
    return time.process_time() - start, rows


def _disk_bytes(rows: Rows, rows_of: dict[str, float], runs: int, run_s: float, workers: int) -> int:
    """Of parts, receipts and plan: ``rows`` are some of each table, ``rows_of`` how many a run has."""
    cut = run_s > TARGET_S and rows_of["hosts"] > 1
    batches = runs * min(rows_of["hosts"], run_s / TARGET_S) if cut else count_batches(runs, run_s, workers)
    total = runs * (_RECEIPT_BYTES + _PLAN_ROW_BYTES) + batches * _BATCH_BYTES
    for table in filter(rows.get, TABLES):
        files = runs if cut and table == "cells" else batches
        one, all_of_them = (len(parquet_bytes(table, [some])) for some in (rows[table][:1], rows[table]))
        row = (all_of_them - one) / max(len(rows[table]) - 1, 1)
        total += files * (one - row) + runs * rows_of[table] * row
    return round(total)
