"""coldfleet submit: a sweep, or a question, as a job of a Ray cluster."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from coldfleet.cluster.commands import ablate, argue, capacity, compare, map, search, sweep

ASKED: tuple[Callable[..., int], ...] = (
    sweep.sweep,
    compare.compare,
    capacity.capacity,
    map.map,
    search.search,
    argue.argue,
    ablate.ablate,
)
"""What a job can be: commands that take a study, --out and --address."""


class Manifest(StrEnum):
    """For whom a manifest is."""

    KUBERAY = "kuberay"
    SLURM = "slurm"


def submit(
    study: Annotated[Path, typer.Argument(help="The study file.", metavar="STUDY.toml")],
    out: Annotated[str, typer.Option(help="Where the results go: a URI, or an absolute path that all machines share.")],
    ask: Annotated[
        str,
        typer.Option(
            help="What to run on the study: compare, capacity, map, search, ablate or argue, with options.",
            metavar="COMMAND",
        ),
    ] = "sweep",
    address: Annotated[str, typer.Option(help="Ray's dashboard.")] = "http://127.0.0.1:8265",
    working_dir: Annotated[
        Path | None, typer.Option(help="Directory to send along, with the study in it.  [default: the study alone]")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time.  [default: all CPUs]")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Print what the job says, until it ends.")] = False,
    print_: Annotated[
        Manifest | None, typer.Option("--print", help="Print a KubeRay manifest or Slurm script; submit nothing.")
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="--print: machines to ask for.")] = 4,
    image: Annotated[
        str, typer.Option(help="--print kuberay: image with coldfleet.")
    ] = "registry.example.com/coldfleet:latest",
) -> int:
    """Run a sweep, or a question, as a job of a Ray cluster.

    The study is checked here and sent over Ray's dashboard; the job runs `coldfleet sweep` there, or what --ask says.
    Submitting it again is harmless: a job that runs is not doubled, and goes on where it was. `coldfleet job` tells
    how jobs are, what they say, and stops them.

    \b
    Examples:
      coldfleet submit configs/fast_only.toml --out s3://bucket/fast_only --follow
      coldfleet submit configs/quickstart.toml --out s3://bucket/asked --ask "compare evict-only lockless-6.15"
      coldfleet submit my/study.toml --out /shared/study --working-dir my --address http://head:8265
      coldfleet submit configs/fast_only.toml --out s3://bucket/fast_only --print kuberay > rayjob.yaml
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.execution import manifests

    _check_command(ask, study, out)
    if print_ is Manifest.KUBERAY:
        output.print_text(manifests.kuberay(study, out, nodes, workers, image, ask).rstrip("\n"))
        return 0
    if print_ is Manifest.SLURM:
        output.print_text(manifests.slurm(study, out, nodes, workers, ask).rstrip("\n"))
        return 0
    from coldfleet.cluster.commands.job import follow_job
    from coldfleet.cluster.execution.ray_jobs import Jobs

    jobs = Jobs(address)
    submission = jobs.submit(study, out, working_dir, workers, ask)
    output.print_text(f"{submission.job_id} {'is submitted' if submission.new else 'runs already'}")
    if follow:
        return follow_job(jobs, submission.job_id)
    output.print_text(f"to follow it: coldfleet job logs {submission.job_id} --follow --address {address}")
    return 0


def _check_command(ask: str, study: Path, out: str) -> None:
    """Raises UserError, or click's own error, if a job couldn't read its command line."""
    from coldfleet.hostsim.spec.errors import UserError, nearest

    try:
        name, *options = shlex.split(ask) or [""]
    except ValueError as error:
        raise UserError(f"--ask {ask}: {error}: quote it as in a shell") from None
    known = [command.__name__ for command in ASKED]
    if name not in known:
        raise UserError(f"--ask {ask}: a job can be {', '.join(known)}{nearest(name, known)}")
    app = typer.Typer()
    app.command()(ASKED[known.index(name)])
    words = [*options, str(study), "--out", out, "--address", "auto"]
    context = typer.main.get_command(app).make_context(name, words)
    if context.params.get("executor") == "serial":
        raise UserError(f"--ask {ask}: a job runs on Ray: add --executor ray")
