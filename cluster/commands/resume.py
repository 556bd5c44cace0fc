"""coldfleet resume: the rest of a sweep, from its results directory alone."""

from __future__ import annotations

from coldfleet.cluster.commands.execution import (
    Address,
    Directory,
    ExecutorName,
    ExecutorOption,
    FailFast,
    Json,
    Workers,
)


def resume(
    directory: Directory,
    executor: ExecutorOption = ExecutorName.AUTO,
    workers: Workers = None,
    address: Address = None,
    fail_fast: FailFast = False,
    json: Json = False,
) -> int:
    """Go on with a sweep that was interrupted, crashed, or lost files.

    The study is in the directory, so its file isn't needed. Runs whose rows are there, whole and unchanged, are not
    repeated; runs that failed are neither: `coldfleet retry` is for those.

    \b
    Examples:
      coldfleet resume results/quickstart
      coldfleet resume s3://bucket/fast_only --address head:6379
    """
    from coldfleet.cluster.commands.execution import run_and_report
    from coldfleet.cluster.results.results import Results, check_engine

    results = Results.open(directory)
    check_engine(results)
    return run_and_report(results.plan, results, executor, json, workers=workers, address=address, fail_fast=fail_fast)
