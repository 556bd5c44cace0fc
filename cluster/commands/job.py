"""coldfleet job: how the jobs of a Ray cluster are, what they say, and how to stop them."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from coldfleet.cluster.execution.ray_jobs import Jobs


class JobAction(StrEnum):
    """What to do with a job."""

    STATUS = "status"
    LOGS = "logs"
    STOP = "stop"


def job(
    action: Annotated[JobAction, typer.Argument(help="status, logs or stop.", metavar="status|logs|stop")],
    job_id: Annotated[str | None, typer.Argument(help="The job.  [default: all of them, for status]")] = None,
    address: Annotated[str, typer.Option(help="Ray's dashboard.")] = "http://127.0.0.1:8265",
    follow: Annotated[bool, typer.Option("--follow", help="logs: until the job ends.")] = False,
    json: Annotated[bool, typer.Option("--json", help="status: print JSON.")] = False,
) -> int:
    """Show, follow or stop jobs that `coldfleet submit` has sent.

    Exit code of status and logs --follow: 0: the job runs or ended well; 1: it failed or was stopped.

    \b
    Examples:
      coldfleet job status
      coldfleet job status --json
      coldfleet job logs coldfleet-fast_only-1a2b3c4d-1 --follow
      coldfleet job stop coldfleet-fast_only-1a2b3c4d-1
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.execution.ray_jobs import Jobs
    from coldfleet.hostsim.spec.errors import UserError

    jobs = Jobs(address)
    if json and action is not JobAction.STATUS:
        raise UserError("--json goes with job status")
    if job_id is None:
        if action is not JobAction.STATUS:
            raise UserError(f"job {action}: which one? coldfleet job status lists them")
        states = list(jobs.states())
        if json:
            output.print_json([{"job": name, "state": state} for name, state in states])
            return 0
        for name, state in states:
            output.print_text(f"{name}  {state}")
        return 0
    if action is JobAction.LOGS and follow:
        return follow_job(jobs, job_id)
    if action is JobAction.LOGS:
        output.print_text(jobs.logs(job_id).rstrip("\n"))
    elif action is JobAction.STOP:
        done = "is stopping" if jobs.stop(job_id) else "has ended already"
        output.print_text(f"{job_id} {done}")
    else:
        state = jobs.state(job_id)
        if json:
            output.print_json({"job": job_id, "state": state})
        else:
            output.print_text(f"{job_id}  {state}")
        return 1 if state in ("FAILED", "STOPPED") else 0
    return 0


def follow_job(jobs: Jobs, job_id: str) -> int:
    """Prints what a job says until it ends; returns 0 if it ended well, otherwise 1."""
    from coldfleet.cluster.commands import output

    for text in jobs.follow(job_id):
        output.print_text(text.rstrip("\n"))
    state = jobs.state(job_id)
    output.print_text(f"{job_id}  {state}")
    return 0 if state == "SUCCEEDED" else 1
