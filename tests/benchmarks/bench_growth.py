"""How costs grow: ``python -m tests.benchmarks.bench_growth``, a minute on one core; ``--quick``: some seconds.

A Markdown table: CPU time for a unit of work, by pages, guests, hosts, policies and cells, the driver's memory by
cells, and, by workers, the share of their time in which they work. That is a simulation: the batches are those of a
sweep, runs take 50 ms to 1 s, and the driver takes for each run what was measured on a sweep of 100,000.
"""

from __future__ import annotations

import argparse
import heapq
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from coldfleet.cluster.execution.batching import IN_FLIGHT, Batches
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.execution.work import simulate_run, warm_up
from coldfleet.cluster.results.journal import BatchReceipt, RunReceipt
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.policies import POLICIES
from tests.benchmarks.bench_sweep import _SMALL, plan_of
from tests.benchmarks.machine import machine

DRIVER_RUN_S = 0.0003  # CPU time of the driver for a run: 31.7 s for 100,000, measured on 2026-11-29
ROUNDS = 3
SPREAD = (0.05, 0.2, 0.4, 1.0)  # seconds that runs take


class Point(NamedTuple):
    """A size, and what a unit of it costs there."""

    size: int
    cost: float


def study(*, pages: int = 4096, guests: int = 1, hosts: int = 1, policies: int = 1) -> Plan:
    """Guests of so many pages that touch each about four times, in 70 % of the memory."""
    guest = {"memory": f"{pages} pages", "accesses_per_page": 1}
    fleet = {"hosts": hosts, "guests_per_host": guests}
    names = list(POLICIES)[-policies:]
    base = {"ticks": 4, "replicates": 1, "overcommit": 1.4, "fleet": fleet, "guest": guest}
    return read_study({**base, "grid": {"policy": names}})


def cpu_s(plan: Plan) -> float:
    """CPU seconds of all runs of a plan, the least of some rounds."""
    warm_up(plan)
    found = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        for run in plan.runs():
            simulate_run(run)
        found.append(time.process_time() - begun)
    return min(found)


def by_size(sizes: Iterable[int], make: Callable[[int], Plan], units: int) -> Iterator[Point]:
    """Microseconds for each unit of work; ``units``: how many a size of one has."""
    for size in sizes:
        yield Point(size, 1e6 * cpu_s(make(size)) / (size * units))


def cells(sizes: Iterable[int]) -> Iterator[tuple[Point, Point]]:
    """Of sweeps of so many cells in which nothing happens: milliseconds a cell, and MiB at the peak."""
    code = "import sys; from tests.benchmarks.bench_growth import sweep_cells; sweep_cells(int(sys.argv[1]))"
    for size in sizes:
        words = [sys.executable, "-c", code, str(size)]
        said = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
        yield Point(size, 1e3 * float(said[-2]) / size), Point(size, float(said[-1]))


def sweep_cells(count: int) -> None:
    """In a process of its own: prints the CPU seconds of a sweep, and its peak in MiB."""
    with tempfile.TemporaryDirectory() as directory:
        plan = plan_of(count, _SMALL)
        warm_up(plan)
        begun = time.process_time()
        sweep(plan, Path(directory) / "out", SerialExecutor())
        print(time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def busy(workers: int) -> float:
    """The share of their time, in percent, that so many workers work on a sweep of 100 runs for each."""
    plan = plan_of(100 * workers, _SMALL)
    batches = Batches(plan, range(100 * workers), workers)
    worked = driver_free = end = 0.0
    number = 0
    back: list[tuple[float, int, int, BatchReceipt]] = []  # when, a number, whose, what
    free = [0.0] * workers

    def hand_out(worker: int, now: float) -> None:
        nonlocal worked, number
        batch = next(batches, None)
        if batch is None:
            return
        took = [SPREAD[run % len(SPREAD)] for run in batch.runs]
        names = [plan.name_of(run) for run in batch.runs]
        runs = tuple(RunReceipt(*name, "done", {"cells": 1}, each) for name, each in zip(names, took, strict=True))
        free[worker] = max(free[worker], now) + sum(took)
        worked += sum(took)
        number += 1
        heapq.heappush(back, (free[worker], number, worker, BatchReceipt(str(number), (), runs)))

    for _ in range(IN_FLIGHT):
        for worker in range(workers):
            hand_out(worker, 0.0)
    while back:
        now, _, worker, receipt = heapq.heappop(back)
        end = now
        driver_free = max(driver_free, now) + DRIVER_RUN_S * len(receipt.runs)
        batches.observe(receipt)
        hand_out(worker, driver_free)
    return 100 * worked / (workers * max(end, driver_free))


def rows(quick: bool) -> Iterator[tuple[str, list[Point]]]:
    """What grows, in which unit, and its curve."""
    few = slice(0, 2) if quick else slice(None)
    touches = 5  # of a page: when it is filled, and in four ticks
    pages = by_size([1 << 14, 1 << 16, 1 << 18, 1 << 20][few], lambda size: study(pages=size), touches)
    yield "pages of a guest: µs an access", list(pages)
    guests = by_size([1, 8, 64, 256][few], lambda size: study(guests=size), 4096 * touches)
    yield "guests of a host: µs an access", list(guests)
    hosts = by_size([1, 8, 64, 256][few], lambda size: study(hosts=size), 4096 * touches)
    yield "hosts of a run: µs an access", list(hosts)
    policies = by_size([1, 4, len(POLICIES)][few], lambda size: study(policies=size), 4096 * touches)
    yield "policies: µs an access", list(policies)
    if quick:
        return
    times, peaks = zip(*cells([100, 1000, 10_000]), strict=True)
    yield "cells of a sweep: ms a cell", list(times)
    yield "cells of a sweep: MiB at the peak", list(peaks)
    yield "workers, simulated: % at work", [Point(size, busy(size)) for size in (1, 2, 16, 128, 1000)]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two sizes each, and what takes seconds only")
    options = parser.parse_args()
    print(machine())
    print("\n| what grows, and its cost | by size |\n| --- | --- |")
    for what, curve in rows(options.quick):
        print(f"| {what} | {', '.join(f'{size:,}: {cost:.3g}' for size, cost in curve)} |", flush=True)


if __name__ == "__main__":
    main()
