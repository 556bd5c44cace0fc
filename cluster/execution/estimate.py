"""What a sweep will take, from a sample of its cells that are run and timed: core-hours, memory and disk."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from coldfleet.cluster.execution.batching import Batches
from coldfleet.cluster.execution.work import simulate_run, warm_up
from coldfleet.cluster.execution.worker_memory import worker_bytes
from coldfleet.cluster.results.parts import Rows, parquet_bytes
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.stats.statistics import Mean, mean_interval
from coldfleet.cluster.study.plan import Plan

_RECEIPT_BYTES = 170  # a run's part of a line of the journal, measured
_PLAN_ROW_BYTES = 14  # a run's part of plan.parquet: most of it the cell's id, measured


@dataclass(frozen=True)
class Estimate:
    """Figures for the whole plan. ``core_s``: CPU seconds, with a 95 % interval over the sampled cells.

    ``longest_s``: CPU seconds of the longest sampled run; no sweep can take less.
    """

    sampled: int
    core_s: Mean
    longest_s: float
    disk_bytes: int
    worker_bytes: int


def estimate(plan: Plan, cells: int) -> Estimate:
    """Runs replicate 0 of so many cells, chosen at random but always the same, and writes nothing.

    Cells are drawn one from each of as many equal stretches of the plan, so that all parts of the grid are seen.
    """
    cells = min(cells, plan.cell_count)
    edges = np.linspace(0, plan.cell_count, cells + 1)
    chosen = edges[:-1] + np.random.default_rng(plan.seed).random(cells) * np.diff(edges)
    warm_up(plan)
    rows: Rows = {table: [] for table in TABLES}
    seconds = []
    for number in chosen.astype(int):
        start = time.process_time()
        new = simulate_run(plan.run(int(number)))
        seconds.append(time.process_time() - start)
        for table in TABLES:
            rows[table] += new[table]
    mean = mean_interval(seconds)
    runs = len(plan)
    core_s = Mean(mean.mean * runs, None if mean.half_width is None else mean.half_width * runs)
    return Estimate(cells, core_s, max(seconds), _disk_bytes(rows, cells, runs, mean.mean), worker_bytes(plan))


def _disk_bytes(rows: Rows, cells: int, runs: int, run_s: float) -> int:
    """Each batch has a part for each table, with a head of its own, and its share of rows."""
    batches = sum(1 for _ in Batches(range(runs), slots=1, run_s=run_s))
    total = 1.0 * runs * (_RECEIPT_BYTES + _PLAN_ROW_BYTES)
    for table in filter(rows.get, TABLES):
        head = len(parquet_bytes(table, [[]]))
        total += batches * head + runs * (len(parquet_bytes(table, [rows[table]])) - head) / cells
    return round(total)
