"""coldfleet status: how far a sweep is."""

from __future__ import annotations

from coldfleet.cluster.commands.execution import Directory, Json


def status(directory: Directory, json: Json = False) -> int:
    """Show how far a sweep is, and what to do next.

    Reads only, and may be used while the sweep runs. Exit code 0: nothing is wrong, even if runs are still to do
    ("missing" of --json says how many); 1: runs failed, or receipts or parts are damaged.

    \b
    Examples:
      coldfleet status results/quickstart
      coldfleet status s3://bucket/fast_only --json
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.commands.execution import failure_lines
    from coldfleet.cluster.results.results import Results
    from coldfleet.cluster.stats.amounts import bytes_text, duration
    from coldfleet.cluster.study.terminal import counted

    results = Results.open(directory)
    plan, status, missing = results.plan, results.status, len(results.missing)
    lost = results.lost if missing else []  # once their runs are made anew, nothing is lacking
    size = sum(results.storage.sizes("parts").values())
    if json:
        output.print_json(
            {
                "study": plan.name,
                "directory": str(results.storage),
                "cells": plan.cell_count,
                "runs": len(plan),
                "done": status.done,
                "missing": missing,
                "failed": results.failures.select(["cell_id", "replicate", "error"]).to_pylist(),
                "parts": len(results.parts),
                "damaged": [*results.damage, *lost],
                "bytes": size,
                "cpu_s": status.cpu_s,
            }
        )
    else:
        output.print_paragraph(f"{plan.title or plan.name}: {plan.size}")
        output.print_text(f"{counted(status.done, 'run')} done, {len(results.failed)} failed, {missing} to do")
        output.print_text(f"{len(results.parts)} parts, {bytes_text(size)}, {duration(status.cpu_s)} of CPU time")
        for line in failure_lines(results):
            output.print_text(line)
        if lost:
            parts = f"{counted(len(lost), 'part')} missing or changed"
            output.print_text(f"{parts}: coldfleet verify {results.storage} says which")
        if missing:
            output.print_text(f"continue with: coldfleet resume {results.storage}")
    return 1 if results.failed or results.damage or lost else 0
