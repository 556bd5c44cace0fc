"""What a sweep costs beside the simulation: ``python -m tests.benchmarks.bench_sweep``, about six minutes on two cores.

* efficiency: CPU time of the cells / (workers x wall time of the work), for cells of 1 s and of 50 ms;
* coordination: CPU time of the driver for each of 100,000 cells of about 2 ms;
* memory: how much more the driver needs at its peak for 100,000 cells than for 1,000.

Each sweep is a process of its own on a Ray of its own. Wall time is from the first batch to the last receipt.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from coldfleet.cluster.execution.progress import Silent
from coldfleet.cluster.execution.ray_executor import RayExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.execution.work import simulate_run, warm_up
from coldfleet.cluster.study.plan import Plan
from tests.benchmarks.machine import machine

WORKERS = 2
_BASE: dict[str, str | int | float] = {
    "policy": "lockless-6.15",
    "fleet.hosts": 1,
    "fleet.guests_per_host": 1,
    "guest.workload.kind": "uniform",
}
_SMALL = {**_BASE, "guest.memory": "2 MiB", "guest.accesses_per_tick": 1, "ticks": 1}
_REAL = {**_BASE, "guest.memory": "32 MiB", "guest.accesses_per_tick": 65536}


class Watch(Silent):
    """Notes when the work begins and ends."""

    def begin(self, done: int, total: int) -> None:
        self.started = time.perf_counter()

    def end(self) -> None:
        self.wall_s = time.perf_counter() - self.started


def plan_of(cells: int, base: dict[str, str | int | float]) -> Plan:
    """So many cells that differ in two axes."""
    rows = max(cells // 100, 1)
    axes = {
        "overcommit": tuple(1.5 + n / 10_000 for n in range(rows)),
        "guest.workload.write_share": tuple(n / 1000 for n in range(cells // rows)),
    }
    return Plan("", "", 1, 1, base, axes, name="benchmark")


def plan_of_seconds(cells: int, seconds: float) -> Plan:
    """So many cells, each of about that much work."""
    probe = plan_of(1, {**_REAL, "ticks": 20})
    warm_up(probe)
    start = time.process_time()
    simulate_run(probe.run(0))
    ticks = round(20 * seconds / (time.process_time() - start))
    return plan_of(cells, {**_REAL, "ticks": max(ticks, 1)})


def measure(plan: Plan) -> dict[str, float]:
    """Sweeps a plan in this process."""
    watch = Watch()
    with tempfile.TemporaryDirectory() as directory:
        start = time.process_time()
        results = sweep(plan, Path(directory) / "out", RayExecutor(WORKERS), watch)
        driver_s = time.process_time() - start
        assert results.status.done == len(plan)
        return {
            "cells": len(plan),
            "wall_s": watch.wall_s,
            "cell_s": results.status.cpu_s / len(plan),
            "efficiency": results.status.cpu_s / (WORKERS * watch.wall_s),
            "busy": results.status.wall_s / (WORKERS * watch.wall_s),
            "driver_ms_a_cell": 1e3 * driver_s / len(plan),
            "driver_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


CASES = {
    "60 cells of 1 s": lambda: plan_of_seconds(60, 1.0),
    "800 cells of 50 ms": lambda: plan_of_seconds(800, 0.05),
    "1,000 tiny cells": lambda: plan_of(1_000, _SMALL),
    "100,000 tiny cells": lambda: plan_of(100_000, _SMALL),
}


def main() -> None:
    """Runs every case, or in a process of its own the one that is named."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(CASES[sys.argv[1]]())))
        return
    print(machine())
    found = {}
    for name in CASES:
        command = [sys.executable, "-m", "tests.benchmarks.bench_sweep", name]
        found[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(name, *(f"{key} {value:.4g}" for key, value in found[name].items()), sep="\n  ", flush=True)
    growth = found["100,000 tiny cells"]["driver_mib"] - found["1,000 tiny cells"]["driver_mib"]
    print(f"the driver's peak grows by {growth:.0f} MiB from 1,000 to 100,000 cells")


if __name__ == "__main__":
    main()
