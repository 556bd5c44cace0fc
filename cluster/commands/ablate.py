"""coldfleet ablate: which features of a kernel carry a difference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldfleet.cluster.commands.execution import Address, CellAt, ExecutorName, ExecutorOption, Json, Runs, Workers

if TYPE_CHECKING:
    from coldfleet.cluster.answers.ablation import Ablation
    from coldfleet.cluster.answers.hybrid_runs import GuestMetric, HybridRuns
    from coldfleet.cluster.stats.statistics import Mean
    from coldfleet.cluster.study.plan import Plan
    from coldfleet.cluster.study.values import Scalar
    from coldfleet.hostsim.engine.kernels import Kernel


def ablate(
    study: Annotated[Path, typer.Argument(help="The study file.", metavar="STUDY.toml")],
    old: Annotated[str, typer.Option("--from", help="The kernel to start from.", metavar="KERNEL")],
    new: Annotated[str, typer.Option("--to", help="The kernel to end at.", metavar="KERNEL")],
    metric: Annotated[
        str,
        typer.Option(help="What to explain: a metric, a counter, a sum, or a ratio: 'pgsteal / pgscan'."),
    ] = "residency",
    guest: Annotated[
        int | None, typer.Option(min=0, help="Of which guest of a host.  [default: 0 of a scenario, else all]")
    ] = None,
    cell: Annotated[str, typer.Option(help="Which cell, if the study has a grid: the beginning of its id.")] = "",
    at: CellAt = None,
    executor: ExecutorOption = ExecutorName.SERIAL,
    workers: Workers = None,
    address: Address = None,
    out: Runs = None,
    json: Json = False,
) -> int:
    """Find the kernel features that carry a difference between two kernels.

    Runs the study on hybrids: each feature that differs is switched over alone, from both ends, then groups of them,
    until a group is found that turns the one kernel's figure into the other's, both ways.

    \b
    Examples:
      coldfleet ablate configs/findings/guest-beside-process.toml --from 6.12 --to 6.18
      coldfleet ablate configs/findings/blind-aging.toml --from 6.12 --to 6.1 --metric pgscan
      coldfleet ablate configs/quickstart.toml --cell 872b28 --from 6.1 --to 6.12 --metric pgmajfault --executor ray
    """
    from functools import partial

    from coldfleet.cluster.answers.ablation import ablate as explain
    from coldfleet.cluster.answers.hybrid_runs import GuestMetric, HybridRuns
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.commands.execution import settings
    from coldfleet.cluster.execution.progress import make_reporter
    from coldfleet.cluster.execution.trials import executor_for, thrift
    from coldfleet.cluster.study.lives import most_guests
    from coldfleet.cluster.study.reader import read_study
    from coldfleet.hostsim.engine.hybrids import get_kernel
    from coldfleet.hostsim.spec.errors import UserError

    plan = read_study(study)
    number = _cell_number(plan, cell, settings(at))
    spec = plan.cell(number).spec
    if guest is not None and guest >= (most := most_guests(plan.run(number))):
        raise UserError(f"--guest {guest}: a host has the guests 0 to {most - 1}")
    chosen = GuestMetric.parse(metric, 0 if guest is None and spec.scenario else guest)
    kernels = get_kernel(old), get_kernel(new)
    if kernels[0] == kernels[1]:
        raise UserError(f"--from {old} --to {new}: the same kernel twice")
    make = partial(executor_for, out, executor, workers, address)
    make()  # complains now, before anything runs
    reporter = make_reporter()
    runs = HybridRuns((plan, number), kernels, chosen, make, reporter, out)
    found = explain(runs.features, runs, runs.differ)
    if out is not None:
        reporter.say(thrift(runs.reused, runs.runs, out))
    if json:
        output.print_json(_as_json(plan, kernels, chosen, runs, found))
    else:
        _print(plan, kernels, chosen, runs, found)
    return 0


def _cell_number(plan: Plan, beginning: str, at: Mapping[str, Scalar]) -> int:
    """The chosen cell. Which kernel it has doesn't matter, since both ends are given."""
    from coldfleet.cluster.answers.cell_choice import find_cell
    from coldfleet.hostsim.spec.errors import UserError

    varied = [path for path in plan.varied if path != "kernel" and len(plan.values(path)) > 1]
    if varied and not beginning and not at:
        example = f"such as --cell {plan.cell_ids[0]}, or by --at KEY=VALUE"
        raise UserError(f"the study varies {', '.join(varied)}: choose one cell, {example}")
    if "kernel" in plan.varied and not beginning:
        at = {"kernel": plan.values("kernel")[0], **at}
    return find_cell(plan, beginning, at)


def _as_json(
    plan: Plan, kernels: tuple[Kernel, Kernel], metric: GuestMetric, runs: HybridRuns, found: Ablation
) -> dict[str, Any]:
    old, new = kernels
    ends = runs.ends
    return {
        "study": plan.name,
        "title": plan.title,
        "from": old.name,
        "to": new.name,
        "metric": metric.metric.key,
        "guest": metric.guest,
        "replicates": plan.replicates,
        "runs": len(runs.values),
        "old": {"mean": found.old, "ci95": runs.mean(ends[0]).half_width},
        "new": {"mean": found.new, "ci95": runs.mean(ends[1]).half_width},
        "shift": {"mean": found.shift, "ci95": runs.shift(*ends).half_width},
        "differ": runs.differ(),
        "named": [effect.name for effect in found.named],
        "carried": found.carried,
        "carried_share": found.part(found.carried),
        "taken_back": found.taken_back,
        "taken_back_share": found.part(found.taken_back),
        "interaction": found.carried - found.carried_alone,
        "interaction_share": found.part(found.carried - found.carried_alone),
        "interaction_back": found.taken_back - found.taken_back_alone,
        "interaction_back_share": found.part(found.taken_back - found.taken_back_alone),
        "features": [
            {
                "feature": effect.name,
                "from": getattr(old, effect.name),
                "to": getattr(new, effect.name),
                "on": effect.on,
                "on_share": found.part(effect.on),
                "off": effect.off,
                "off_share": found.part(effect.off),
                "named": effect.named,
                "carries": effect.share,
                "carries_share": found.part(effect.share),
            }
            for effect in found.effects
        ],
    }


def _print(plan: Plan, kernels: tuple[Kernel, Kernel], metric: GuestMetric, runs: HybridRuns, found: Ablation) -> None:
    from rich.table import Table

    from coldfleet.cluster.answers.ablation import HELPS
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.stats.statistics import percent
    from coldfleet.cluster.study.terminal import counted
    from coldfleet.hostsim.engine.hybrids import feature_meanings

    old, new = kernels
    whose = "" if metric.guest is None else f" of guest {metric.guest} of each host"
    ends = [_figure(mean) for mean in (runs.mean(runs.ends[0]), runs.mean(runs.ends[1]), runs.shift(*runs.ends))]
    output.print_paragraph(plan.title or plan.name)
    output.print_paragraph(
        f"{metric.metric.key}{whose}: {ends[0]} on {old.name}, {ends[1]} on {new.name}, a shift of {ends[2]}"
    )
    if not runs.differ():
        over = counted(plan.replicates, "replicate")
        why = f": the interval of the shift over {over}, {ends[2]}, contains 0" if found.shift else ""
        output.print_paragraph(f"There is nothing to explain. The two kernels don't differ{why}.")
        return
    output.print_text("")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("feature", old.name, new.name):
        table.add_column(title)
    for title in (f"alone, in {old.name}", f"alone, out of {new.name}", "carries"):
        table.add_column(title, justify="right")
    silent = []
    for effect in [*found.named, *(effect for effect in found.effects if not effect.named)]:
        if not effect.named and max(abs(found.part(effect.on)), abs(found.part(effect.off))) < HELPS:
            silent.append(effect.name)
            continue
        values = (_shown(getattr(kernel, effect.name)) for kernel in kernels)
        carries = percent(found.part(effect.share), signed=True) if effect.named else ""
        table.add_row(
            effect.name,
            *values,
            percent(found.part(effect.on), signed=True),
            percent(found.part(effect.off), signed=True),
            carries,
        )
    output.print_rich(table)
    output.print_text("")
    if not found.named:
        output.print_paragraph("no group of features explains it")
    else:
        names = ", ".join(effect.name for effect in found.named)
        carried, taken = found.part(found.carried), found.part(found.taken_back)
        alone, back_alone = found.part(found.carried_alone), found.part(found.taken_back_alone)
        text = (
            f"Switched over together in {old.name}: {percent(carried)} of the shift is carried by {names}; switched "
            f"back together in {new.name}, {percent(taken)} of it goes away. The effects of each alone add up to "
            f"{percent(alone)} and {percent(back_alone)}: the rest is interaction."
        )
        output.print_paragraph(text)
        output.print_text("")
        meanings = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        for effect in found.named:
            meanings.add_row(effect.name, feature_meanings().get(effect.name, ""))
        output.print_rich(meanings)
    if silent:
        output.print_text("")
        output.print_paragraph(f"Below {HELPS:.0%} at both ends: {', '.join(silent)}")


def _figure(mean: Mean) -> str:
    """As exact as a recording's figure, which it may be held against."""
    interval = "" if mean.half_width is None else f" ±{mean.half_width:,.2g}"
    return f"{mean.mean:,.6g}{interval}"


def _shown(value: bool | int | str) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
