"""coldfleet sweep: every cell of a study, on Ray."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cluster.executor import Executor
    from cluster.results import Results


class ExecutorName(StrEnum):
    """Where the runs are simulated."""

    RAY = "ray"
    SERIAL = "serial"


def sweep(
    study: Annotated[Path, typer.Argument(help="The study file.", metavar="STUDY.toml")],
    out: Annotated[
        Path | None, typer.Option(help="Directory for the results.  [default: results/<name of the study>]")
    ] = None,
    executor: Annotated[
        ExecutorName, typer.Option(help="ray: in parallel; serial: in this process, without Ray.")
    ] = ExecutorName.RAY,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time.  [default: all CPUs]")] = None,
    address: Annotated[
        str | None, typer.Option(help="Join the Ray cluster at HOST:PORT instead of starting a Ray here.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> int:
    """Run every cell of a study.

    Prints what each policy costs. The results are Parquet files in a directory. The same command goes on where an
    interrupted sweep stopped, and only prints the summary when there is nothing left to do.

    \b
    Examples:
      coldfleet sweep configs/quickstart.toml
      coldfleet sweep configs/fast_only.toml --out /data/fast_only --workers 16
      coldfleet sweep configs/fast_only.toml --out /shared/fast_only --address head:6379
      coldfleet sweep configs/quickstart.toml --executor serial --json
    """
    from cluster.progress import make_reporter
    from cluster.results import check_directory
    from cluster.study_file import read_study
    from cluster.sweep import sweep as run_sweep

    plan = read_study(study)
    directory = out or Path("results") / study.stem
    chosen = _executor(executor, workers, address)
    found = check_directory(directory, plan)
    reporter = make_reporter()
    if found is not None:
        done = len(plan) - len(found.missing)
        reporter.say(f"{directory} is complete" if not found.missing else f"{directory}: going on after {done} runs")
    results = run_sweep(plan, directory, chosen, reporter)
    return _report(results, study, json)


def _executor(name: ExecutorName, workers: int | None, address: str | None) -> Executor:
    from hostsim.errors import UserError

    if name is ExecutorName.RAY:
        from cluster.ray_executor import RayExecutor

        return RayExecutor(workers, address)
    if workers not in (None, 1) or address is not None:
        raise UserError("--executor serial runs in this process: --workers and --address are for --executor ray")
    from cluster.executor import SerialExecutor

    return SerialExecutor()


def _report(results: Results, study: Path, json: bool) -> int:
    from cluster import output
    from cluster.progress import make_reporter
    from cluster.summary import WIDTH, as_json, as_table

    reporter = make_reporter()
    if json:
        output.print_json(as_json(results))
    else:
        plan = results.plan
        output.print_text(plan.title or plan.name)
        output.print_rich(as_table(results), WIDTH)
        output.print_text(f"means over {plan.replicates} replicates, each the sum over the fleet, with 95 % intervals")
        output.print_text(f"results: {results.directory}")
    for receipt in results.failed[:3]:
        reporter.say(f"failed: cell {receipt.cell_id} replicate {receipt.replicate}: {receipt.error}")
    if results.failed:
        first = results.failed[0]
        again = f"coldfleet run {study} --cell {first.cell_id} --replicate {first.replicate}"
        reporter.say(f"{len(results.failed)} of {len(results.plan)} runs failed; to see one: {again}")
    if results.missing:
        reporter.say(f"stopped with {len(results.missing)} of {len(results.plan)} runs to do; the same command goes on")
        return 130
    return 1 if results.failed else 0
