"""coldfleet sweep: every cell of a study, on Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coldfleet.cluster.commands.execution import (
    Address,
    Audit,
    ExecutorName,
    ExecutorOption,
    FailFast,
    Json,
    Workers,
)


def sweep(
    study: Annotated[Path, typer.Argument(help="The study file.", metavar="STUDY.toml")],
    out: Annotated[
        str | None, typer.Option(help="Directory or URI for the results.  [default: results/<name of the study>]")
    ] = None,
    executor: ExecutorOption = ExecutorName.AUTO,
    workers: Workers = None,
    address: Address = None,
    fail_fast: FailFast = False,
    audit: Audit = False,
    json: Json = False,
) -> int:
    """Run every cell of a study.

    Prints what each policy costs. The results are Parquet files in a directory. The same command goes on where an
    interrupted sweep stopped, and only prints the summary when there is nothing left to do.

    \b
    Examples:
      coldfleet sweep configs/quickstart.toml
      coldfleet sweep configs/fast_only.toml --out /data/fast_only --workers 16
      coldfleet sweep configs/fast_only.toml --out s3://bucket/fast_only --address head:6379
      coldfleet sweep configs/quickstart.toml --executor serial --json
      coldfleet sweep configs/quickstart.toml --out audited --audit
    """
    from coldfleet.cluster.commands.execution import run_and_report
    from coldfleet.cluster.execution.progress import make_reporter
    from coldfleet.cluster.results.results import find_results
    from coldfleet.cluster.results.storage import open_storage
    from coldfleet.cluster.study.reader import read_study
    from coldfleet.cluster.study.terminal import counted

    plan = read_study(study)
    storage = open_storage(f"results/{study.stem}" if out is None else out)
    found = find_results(storage, plan)
    if found is not None:
        done = len(plan) - len(found.missing)
        going_on = f"{storage}: continuing after {counted(done, 'run')}" if found.missing else f"{storage} is complete"
        make_reporter().say(going_on)
    return run_and_report(
        plan, found or storage, executor, json, workers=workers, address=address, fail_fast=fail_fast, audit=audit
    )
