"""What a report of 100,000 cells costs: ``python -m tests.benchmarks.bench_report [DIR]``, about five minutes.

The directory is made by the sweep's own writers (kept and used again if DIR is given). All rows but those of the first
cell are made up: the row of a small run, its counters scaled at random. The first cell is real, so that its host can be
simulated again. Prints JSON: seconds and megabytes of the report, and seconds until a browser shows it and filters it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from coldfleet.cluster.execution.work import simulate_run
from coldfleet.cluster.results.journal import BatchReceipt, Journal, PartReceipt, RunReceipt
from coldfleet.cluster.results.parts import Rows, write_part
from coldfleet.cluster.results.schemas import TABLES, run_parameters
from coldfleet.cluster.results.storage import open_storage
from coldfleet.cluster.results.writing import create
from coldfleet.cluster.study.plan import Plan
from coldfleet.hostsim.counters.counters import COUNTERS

REPLICATES = 2
_BATCH = 10_000
_BASE: dict[str, str | int | float] = {
    "fleet.hosts": 1, "fleet.guests_per_host": 4, "guest.memory": "4 MiB", "ticks": 10, "kernel": "6.12",
}  # fmt: skip
_AXES = {
    "policy": ("evict-only", "fast-only-v5", "six-steps", "locked-6.12", "lockless-6.15"),
    "nested_ratio": tuple(n / 20 for n in range(20)),
    "overcommit": tuple(1.5 + n / 50 for n in range(50)),
    "guest.workload.skew": tuple(0.5 + n / 20 for n in range(20)),
}


def make_results(directory: Path) -> Plan:
    """A sweep of 100,000 cells that is done."""
    plan = Plan("A large study", "", 1, REPLICATES, _BASE, _AXES, name="large")
    storage = open_storage(str(directory))
    create(storage, plan)
    random = np.random.default_rng(1)
    names = [counter.name for counter in COUNTERS]
    real = simulate_run(plan.run(0))
    tables = [table for table in TABLES if real[table]]
    with Journal(storage) as journal:
        for batch, start in enumerate(range(0, len(plan), _BATCH)):
            runs = [plan.run(index) for index in range(start, min(start + _BATCH, len(plan)))]
            scales = random.lognormal(0, 0.2, (len(runs), len(names)))
            rows: Rows = {table: [] for table in tables}
            for run, scale in zip(runs, scales, strict=True):
                own = {**run_parameters(run), "cell_id": run.cell.cell_id, "replicate": run.replicate}
                first = run.index == 0
                for table in tables:
                    rows[table] += real[table] if first else [_made_up(real[table][0], own, names, scale)]
            counts = dict.fromkeys(tables, 1)
            receipts = [RunReceipt(run.cell.cell_id, run.replicate, "done", counts, 1.0, 1.0) for run in runs]
            name = f"{batch:06d}-{batch:012x}"
            parts = []
            for table in tables:
                part = f"{table}-{name}.parquet"
                digest = write_part(storage, f"parts/{part}", table, rows[table])
                parts.append(PartReceipt(table, part, len(rows[table]), digest))
            journal.append(BatchReceipt(name, tuple(parts), tuple(receipts)))
    return plan


def _made_up(row: dict[str, Any], own: dict[str, Any], names: list[str], scale: Any) -> dict[str, Any]:
    counters = {name: int(row[name] * factor) for name, factor in zip(names, scale, strict=True)}
    return {**row, **own, **counters}


def measure(directory: Path, file: Path) -> dict[str, float]:
    """Writes the report in a process of its own, and opens it."""
    plan = Plan.thaw(json.loads((directory / "study.json").read_text())["study"])
    command = ["report", str(directory), "--out", str(file), "--observe", plan.cell(0).cell_id]
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "coldfleet", *command], check=True, stdout=subprocess.DEVNULL)
    found = {"report_s": time.perf_counter() - start, "report_mb": file.stat().st_size / 1e6}
    chromium = shutil.which("chromium")
    return found | _opened(file, chromium) if chromium else found


def _opened(file: Path, chromium: str) -> dict[str, float]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
        start = time.perf_counter()
        page.goto(file.as_uri())
        page.wait_for_selector("#rows tr")
        table_s = time.perf_counter() - start
        page.wait_for_selector("html[data-ready]")
        ready_s = time.perf_counter() - start
        start = time.perf_counter()
        page.locator("#filter").fill("six-steps nested_ratio>0.5")
        page.wait_for_function("document.getElementById('count').textContent.startsWith('9,000 of')")
        return {"table_s": table_s, "ready_s": ready_s, "filter_s": time.perf_counter() - start}


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(scratch) / "large"
        if not (directory / "journal.jsonl").exists():
            make_results(directory)
        print(json.dumps(measure(directory, Path(scratch) / "report.html"), indent=2))


if __name__ == "__main__":
    main()
