"""coldfleet plan: how large a sweep is, before anything runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from coldfleet.cluster.execution.estimate import Estimate
    from coldfleet.cluster.results.fleet_summary import FleetSummary
    from coldfleet.cluster.study.plan import Plan

_CORE = ((6000.0, 3600, "core-hours"), (100.0, 60, "core-minutes"), (0.0, 1, "core-seconds"))  # from so many seconds on


def plan(
    study: Annotated[Path, typer.Argument(help="The study file.", metavar="STUDY.toml")],
    sample: Annotated[int, typer.Option(min=0, help="Cells to run and time; 0: none.")] = 8,
    workers: Annotated[int | None, typer.Option(min=1, help="Workers to assume.  [default: all CPUs]")] = None,
    address: Annotated[
        str | None, typer.Option(help="Take CPUs and memory of the Ray cluster at HOST:PORT, not of this machine.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> int:
    """Show how large a sweep is and what it will cost.

    Counts cells and runs, checks every cell, and estimates core-hours, memory and disk from a few cells. After the
    check that takes some 20 s, once the simulator is compiled: of long runs it simulates some hosts and ticks, and of
    large cells fewer than it was asked for. Says if a worker needs more memory than any machine has.
    Where guests come and go, says who finds a place in the first run. Writes nothing.

    \b
    Examples:
      coldfleet plan configs/fast_only.toml
      coldfleet plan configs/fast_only.toml --sample 30 --workers 64
      coldfleet plan configs/fast_only.toml --address head:6379
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.execution.cluster_check import size_of
    from coldfleet.cluster.execution.estimate import estimate, is_short
    from coldfleet.cluster.execution.progress import make_reporter, say_on_stderr
    from coldfleet.cluster.execution.worker_memory import worker_bytes
    from coldfleet.cluster.study.doubts import doubts, notes
    from coldfleet.cluster.study.reader import read_study

    chosen = read_study(study)
    size = size_of(address)
    serial = workers is None and address is None and is_short(chosen, range(len(chosen)))  # as sweep decides
    cpus = 1 if serial else workers or size.cpus or 1
    if not json:
        for line in _counts(chosen):
            output.print_text(line)
        for line in doubts(chosen):
            output.print_paragraph(f"weak: {line}")
        for line in notes(chosen):
            output.print_paragraph(f"note: {line}")
    fleet = _fleet(chosen)
    if fleet and not json:
        output.print_paragraph(f"guests of the first run: {fleet.told}")
    if (needed := worker_bytes(chosen)) > size.memory_bytes:
        say_on_stderr(f"coldfleet: {_too_large(needed, size.memory_bytes, address)}")
    found = estimate(chosen, sample, cpus, make_reporter(what="cells")) if sample else None
    if json:
        output.print_json(_as_json(chosen, fleet, found, cpus, serial))
    elif found:
        output.print_paragraph("\n".join(_costs(found, cpus, serial)))
    return 0


def _too_large(needed: int, there: int, address: str | None) -> str:
    where = f"no node of the cluster at {address} has more than" if address else "this machine has"
    return (
        f"a worker needs up to {needed / 2**30:,.1f} GiB of memory, and {where} {there / 2**30:,.1f}: "
        "none would start: make hosts smaller, or sample them (host.sample)"
    )


def _fleet(plan: Plan) -> FleetSummary | None:
    """Who finds a place in the first run; None: guests don't come and go."""
    import pyarrow as pa

    from coldfleet.cluster.execution.over_time import lives_of
    from coldfleet.cluster.results.fleet_summary import FleetSummary

    run = plan.run(0)
    if not run.cell.spec.fleet.over_time:
        return None
    who = {"cell_id": run.cell.cell_id, "replicate": run.replicate}
    lives = pa.Table.from_pylist([{**who, **row} for row in lives_of(run)])
    return FleetSummary.of(lives, {run.cell.cell_id: run.cell.spec})


def _as_json(
    plan: Plan, fleet: FleetSummary | None, found: Estimate | None, workers: int, serial: bool
) -> dict[str, object]:
    from coldfleet.cluster.study.doubts import doubts, notes

    data: dict[str, object] = {
        "study": plan.name,
        "title": plan.title,
        "axes": {path: len(values) for path, values in plan.axes.items()},
        "bundles": [{"keys": list(bundle.paths), "rows": len(bundle.rows)} for bundle in plan.bundles],
        "combinations": plan.combination_count,
        "cells": plan.cell_count,
        "replicates": plan.replicates,
        "runs": len(plan),
        "weak": doubts(plan),
        "notes": notes(plan),
        "fleet": fleet and asdict(fleet),
    }
    if found is not None:
        mean, half = found.core_s
        data["estimate"] = {
            "sampled_cells": found.sampled,
            "core_hours": mean / 3600,
            "core_hours_ci95": None if half is None else half / 3600,
            "executor": "serial" if serial else "ray",
            "workers": workers,
            "wall_s": found.wall_s(workers, serial),
            "sampled_hosts": found.hosts,
            "longest_host_s": found.longest_s,
            "worker_bytes": found.worker_bytes,
            "disk_bytes": found.disk_bytes,
        }
    return data


def _counts(plan: Plan) -> list[str]:
    lines = [plan.title or plan.name]
    lines += [f"  {len(values):>8,}  {path}" for path, values in plan.axes.items()]
    lines += [f"  {len(bundle.rows):>8,}  {', '.join(bundle.paths)} together" for bundle in plan.bundles]
    if plan.where:
        lines.append(
            f"  {plan.cell_count:,} of {plan.combination_count:,} combinations meet {' and '.join(plan.where)}"
        )
    return [*lines, plan.size]


def _costs(found: Estimate, workers: int, serial: bool = False) -> list[str]:
    from coldfleet.cluster.stats.amounts import bytes_text, duration
    from coldfleet.cluster.stats.statistics import Mean
    from coldfleet.cluster.study.terminal import counted

    mean, half = found.core_s
    size, unit = next((size, unit) for least, size, unit in _CORE if mean >= least)
    cost = Mean(mean / size, None if half is None else half / size)
    sure = "one cell says nothing of others" if half is None else "95 % interval over these cells"
    spread = "" if half is None else f" ±{duration(half / workers)}"
    where = f"on {counted(workers, 'worker')}{', each' if workers > 1 else ''}"
    where = "without Ray, in one process" if serial else where
    return [
        f"{cost} {unit}, from {counted(found.hosts, 'host')} of {counted(found.sampled, 'cell')} ({sure}); "
        f"the longest host takes {duration(found.longest_s)}",
        f"{duration(found.wall_s(workers, serial))}{spread} {where} "
        f"with a core to itself and {bytes_text(found.worker_bytes)} of memory",
        f"{bytes_text(found.disk_bytes)} of disk for the results",
    ]
