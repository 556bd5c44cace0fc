"""coldfleet capacity: the largest load at which every SLO is met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coldfleet.cluster.commands.execution import Address, At, ExecutorName, ExecutorOption, Runs, Workers

if TYPE_CHECKING:
    from coldfleet.cluster.answers.capacity_answer import Bottleneck, CapacityAnswer, PolicyCapacity


def capacity(
    study: Annotated[Path, typer.Argument(help="The study file.", metavar="STUDY.toml")],
    slo: Annotated[
        list[str], typer.Option(help="What every guest has to get: METRIC<BOUND. May be repeated.", metavar="SLO")
    ],
    vary: Annotated[str, typer.Option(help="The load: a key of the study.", metavar="KEY")] = "overcommit",
    low: Annotated[float | None, typer.Option("--from", help="The lowest load.")] = None,
    high: Annotated[float | None, typer.Option("--to", help="The highest load.")] = None,
    step: Annotated[float | None, typer.Option(help="How finely the load, and its border, are graded.")] = None,
    hosts: Annotated[
        int | None,
        typer.Option(
            min=1, help="Reckon with a fleet that needs so many hosts without overcommit.  [default: the study's]"
        ),
    ] = None,
    headroom: Annotated[float, typer.Option(min=0, max=99, help="Percent of a host's memory to keep free.")] = 0.0,
    spare_hosts: Annotated[
        int,
        typer.Option(min=0, max=100_000, help="Hosts to keep empty, in case others fail; they count."),
    ] = 0,
    at: At = None,
    confidence: Annotated[float, typer.Option(min=50, max=99.99, help="Of each answer, in percent.")] = 95.0,
    budget: Annotated[
        str, typer.Option(help="A time, such as 5m, which the first loads of each policy may exceed, or runs.")
    ] = "10m",
    executor: ExecutorOption = ExecutorName.RAY,
    workers: Workers = None,
    address: Address = None,
    out: Runs = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Find the largest load that meets every SLO, for each policy.

    The worst guest has to meet it; with an ending such as _p95 or _mean that percentile, or the mean, of all guests.
    Prints the load and where its true border lies, the hosts that the fleet then needs and why not fewer, the DRAM
    that guests use and that is saved of what they are promised, and which guest stands in the way of more. A host of
    that size is then run, to see that it stays within its memory. Hosts have whole guests, so the hosts of two policies
    are a tie if they differ by one guest a host or less.

    Where guests come and go, a percentile is of guest-time, and the hosts are enough at every moment: placed in the
    order of time, with the study's outages and --spare-hosts of the fullest ones failing at the peak hour. It says when
    one host fewer isn't. All hosts are then run, or the fullest if --budget is too small for all.

    evict-only, whose aging sees nothing of KVM, is run, too, even with --at policy=NAME: to compare the answer with.

    \b
    Examples:
      coldfleet capacity configs/quickstart.toml --at nested_ratio=0.25 --slo 'promotion_rate<5%/tick'
      coldfleet capacity configs/quickstart.toml --at nested_ratio=1 --slo 'fault_rate<10%' --hosts 1000 --json
      coldfleet capacity configs/quickstart.toml --at nested_ratio=0 --slo 'refaults_p95<60000' --slo 'fault_rate<20%'
      coldfleet capacity configs/fleet_day.toml --at nested_ratio=0.25 --slo 'fault_rate_p99<20%' --spare-hosts 1
    """
    from coldfleet.cluster.answers.study_capacity import capacity as find
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.commands.execution import settings

    answer = find(
        study,
        slo,
        vary=vary,
        low=low,
        high=high,
        step=step,
        hosts=hosts,
        headroom=headroom,
        spare_hosts=spare_hosts,
        at=settings(at),
        confidence=confidence,
        budget=budget,
        executor=executor,
        workers=workers,
        address=address,
        out=out,
        progress=True,
    )
    if json:
        output.print_json(asdict(answer))
    else:
        _print(answer)
    return 0


def _print(answer: CapacityAnswer) -> None:
    """A table, and a sentence for each policy."""
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.stats.amounts import memory_text

    output.print_paragraph(answer.title or answer.study)
    output.print_paragraph(f"the largest {answer.vary} at which {' and '.join(answer.slos)}")
    output.print_text("")
    numbers = (answer.vary, "border", "hosts", "DRAM used", "DRAM saved")
    table = output.make_table("policy", *numbers, "limited by", numbers=numbers)
    for each in answer.policies:
        table.add_row(
            each.policy,
            "-" if each.capacity is None else "any" if each.alike else f"{each.capacity:g}",
            "-"
            if each.interval == (None, None) or each.alike
            else " to ".join("?" if e is None else f"{e:g}" for e in each.interval),
            "-" if each.hosts is None else str(each.hosts),
            "-" if each.capacity is None else memory_text(each.dram_used_pages),
            "-" if each.capacity is None else _saved(each),
            _limit(each.binding, answer.slos) if each.binding else "",
        )
    output.print_rich(table)
    output.print_text("")
    output.print_paragraph(f"{answer.recommendation}.")
    output.print_text("")
    for each in answer.policies:
        more = ": --to tries more" if each.always_met and not each.alike and not answer.placement_binds else ""
        output.print_paragraph(f"{each.policy}: {each.sentence}{more}")
    own = "" if answer.fleet_load is None else f", at its own {answer.vary} {answer.fleet_load:g},"
    hosts = f"{answer.fleet_hosts:,} host{'' if answer.fleet_hosts == 1 else 's'}"
    needs = f"without overcommit the study's fleet{own} needs {hosts}"
    spare = f", {answer.spare_hosts:,} of --spare-hosts included" if answer.spare_hosts else ""
    grades = f"borders with {answer.confidence:g} % confidence (--step grades them more finely)"
    output.print_paragraph(f"{grades}; {needs}{spare}")
    if answer.placement_binds:
        output.print_paragraph(answer.placement_binds)


def _limit(found: Bottleneck, slos: Sequence[str]) -> str:
    """Who stands in the way of more, and by which SLO, if there are several."""
    return found.who if slos == (found.slo,) else f"{found.slo}: {found.who}"


def _saved(found: PolicyCapacity) -> str:
    """DRAM, and its share of what is promised with the interval."""
    from coldfleet.cluster.stats.amounts import memory_text
    from coldfleet.cluster.stats.statistics import Mean, signed_percent

    low, high = found.dram_saved_share_interval
    share = signed_percent(Mean(100 * found.dram_saved_share, 50 * (high - low)))
    return f"{memory_text(found.dram_saved_pages)}, {share.removeprefix('+')}"
