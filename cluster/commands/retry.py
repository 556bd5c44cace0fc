"""coldfleet retry: runs that failed, once more."""

from __future__ import annotations

from typing import Annotated

import typer

from coldfleet.cluster.commands.execution import (
    Address,
    Directory,
    ExecutorName,
    ExecutorOption,
    FailFast,
    Json,
    Workers,
)


def retry(
    directory: Directory,
    failed: Annotated[bool, typer.Option("--failed", help="The runs that failed: so far the only choice.")],
    executor: ExecutorOption = ExecutorName.AUTO,
    workers: Workers = None,
    address: Address = None,
    fail_fast: FailFast = False,
    json: Json = False,
) -> int:
    """Run the failed runs of a sweep again.

    A run fails for ever if the study asks for something impossible, but not if a machine was too small for it or a
    disk was full. Runs that end well this time count as done; the others keep their new error.

    \b
    Examples:
      coldfleet retry results/quickstart --failed
    """
    from coldfleet.cluster.commands.execution import run_and_report
    from coldfleet.cluster.results.results import Results, check_engine
    from coldfleet.hostsim.spec.errors import UserError

    if not failed:
        raise UserError("retry needs --failed")
    results = Results.open(directory)
    check_engine(results)
    return run_and_report(
        results.plan, results, executor, json, workers=workers, address=address, retry_failed=True, fail_fast=fail_fast
    )
