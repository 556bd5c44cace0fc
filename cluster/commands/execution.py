"""What commands have in common: options, where runs are simulated, and what is said at the end of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from coldfleet.cluster.results.results import Results
    from coldfleet.cluster.results.storage import Storage
    from coldfleet.cluster.study.plan import Plan
    from coldfleet.cluster.study.values import Scalar


class ExecutorName(StrEnum):
    """Where the runs are simulated."""

    AUTO = "auto"
    RAY = "ray"
    SERIAL = "serial"


Directory = Annotated[
    str, typer.Argument(help="The results: a directory, or a URI.", metavar="DIR", show_default=False)
]
ExecutorOption = Annotated[
    ExecutorName,
    typer.Option(
        "--executor",
        help="ray: in parallel; serial: in this process, without Ray; auto: ray, but serial for a sweep of seconds.",
    ),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Runs at a time.  [default: all CPUs]")]
Address = Annotated[str | None, typer.Option(help="Join the Ray cluster at HOST:PORT instead of starting a Ray here.")]
At = Annotated[list[str] | None, typer.Option(help="Set a key: KEY=VALUE. May be repeated.")]
CellAt = Annotated[list[str] | None, typer.Option("--at", help="Which cell: what it has, KEY=VALUE. May be repeated.")]
Metrics = Annotated[
    list[str] | None,
    typer.Option(help="A metric, a column, a sum, or a ratio: 'pgsteal / pgscan'. May be repeated."),
]
Runs = Annotated[
    str | None,
    typer.Option(
        "--out",
        help="Keep the runs in this directory or at this URI: to go on after an interruption, for the next question.",
        metavar="DIR",
    ),
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first run that fails.")]
Audit = Annotated[
    bool, typer.Option("--audit", help="Check the conservation laws of docs/laws.md in every run; slower.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]


def settings(at: Sequence[str] | None) -> dict[str, Scalar]:
    """What the options ``--at KEY=VALUE`` set; raises UserError."""
    from coldfleet.hostsim.spec.errors import UserError

    found: dict[str, Scalar] = {}
    for setting in at or ():
        key, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--at {setting}: write KEY=VALUE, such as nested_ratio=0.25")
        found[key.strip()] = text.strip()
    return found


def say_if_partial(results: Results) -> None:
    """A line on stderr if what is answered is not of all planned runs."""
    from coldfleet.cluster.execution.progress import say_on_stderr

    if results.partial:
        say_on_stderr(f"coldfleet: {results.partial}")


def run_and_report(
    plan: Plan,
    where: Results | Storage,
    executor: str,
    json: bool,
    *,
    workers: int | None = None,
    address: str | None = None,
    retry_failed: bool = False,
    fail_fast: bool = False,
    audit: bool = False,
) -> int:
    """Does what is missing, prints the summary, and returns the exit code. ``where``: the results, if there are any."""
    from coldfleet.cluster.execution.progress import make_reporter
    from coldfleet.cluster.execution.sweep import sweep

    reporter = make_reporter()
    results = sweep(
        plan,
        where,
        executor,
        reporter,
        workers=workers,
        address=address,
        retry_failed=retry_failed,
        fail_fast=fail_fast,
        audit=audit,
    )
    return _report(results, json)


def _report(results: Results, json: bool) -> int:
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.execution.progress import make_reporter
    from coldfleet.cluster.results.summary import as_json, as_table

    plan = results.plan
    if json:
        output.print_json(as_json(results))
    else:
        output.print_paragraph(plan.title or plan.name)
        output.print_rich(as_table(results))
        output.print_text(f"results: {results.storage}")
    reporter = make_reporter()
    for line in failure_lines(results):
        reporter.say(line)
    return 1 if results.failed else 0


def failure_lines(results: Results) -> list[str]:
    """The first failed runs, how many there are, and how to see and to repeat them."""
    failed = results.failed
    if not failed:
        return []
    lines = [f"failed: cell {run.cell_id} replicate {run.replicate}: {run.error}" for run in failed[:3]]
    see = f"coldfleet run {results.storage} --cell {failed[0].cell_id} --replicate {failed[0].replicate}"
    return [
        *lines,
        f"{len(failed)} of {len(results.plan)} runs failed; to see one: {see}",
        f"once the cause is fixed: coldfleet retry {results.storage} --failed",
    ]
