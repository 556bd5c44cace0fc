"""coldfleet compare: two policies, or two values of any other key, on identical accesses."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldfleet.cluster.commands.execution import Address, At, ExecutorName, ExecutorOption, Metrics, Runs, Workers

if TYPE_CHECKING:
    from coldfleet.cluster.answers.study_comparison import ComparisonAnswer


def compare(
    a: Annotated[str, typer.Argument(help="A policy, or KEY=VALUE.", metavar="A")],
    b: Annotated[str, typer.Argument(help="What to compare it with.", metavar="B")],
    study: Annotated[Path, typer.Argument(help="The study file.", metavar="STUDY.toml")],
    metric: Metrics = None,
    at: At = None,
    confidence: Annotated[float, typer.Option(min=50, max=99.99, help="Of the intervals, in percent.")] = 95.0,
    precision: Annotated[
        str, typer.Option(help="Half width of the intervals: in percent of the larger figure, or in the metric's unit.")
    ] = "2%",
    budget: Annotated[str, typer.Option(help="A time, such as 5m, or a number of runs.")] = "5m",
    executor: ExecutorOption = ExecutorName.RAY,
    workers: Workers = None,
    address: Address = None,
    out: Runs = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Compare two policies, or two values of any other key, on identical accesses.

    Runs both until the intervals of their differences are as narrow as asked, or the budget is spent; for every
    setting of the study's grid. Prints a sentence to quote, and the figures. A key is named by its column or its end.

    \b
    Examples:
      coldfleet compare evict-only lockless-6.15 configs/quickstart.toml --at nested_ratio=0.25
      coldfleet compare reclaim_lru=classic reclaim_lru=mglru configs/page_cache.toml --at kernel=6.12
      coldfleet compare kernel=6.12 kernel=6.18 configs/quickstart.toml --at nested_ratio=1 --at policy=was-fast
      coldfleet compare six-steps was-fast configs/quickstart.toml --metric refaults --precision 0.5%
      coldfleet compare locked-6.12 lockless-6.15 configs/quickstart.toml --metric 'pgsteal / pgscan' --json
    """
    from coldfleet.cluster.answers.study_comparison import compare as find
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.commands.execution import settings

    answer = find(
        study,
        a,
        b,
        at=settings(at),
        metric=metric or (),
        precision=precision,
        confidence=confidence,
        budget=budget,
        executor=executor,
        workers=workers,
        address=address,
        out=out,
        progress=True,
    )
    if json:
        output.print_json(_as_json(answer))
    else:
        _print(answer)
    return 0


def _as_json(answer: ComparisonAnswer) -> dict[str, Any]:
    from coldfleet.cluster.study.model import column_of

    data = asdict(answer)
    for each in data["comparisons"]:
        each.update({column_of(path): value for path, value in each.pop("setting").items()})
    return data


def _print(answer: ComparisonAnswer) -> None:
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.results.summary import as_read
    from coldfleet.cluster.stats.statistics import short

    output.print_paragraph(answer.title or answer.study)
    groups = groupby(answer.comparisons, lambda each: each.setting)
    for headline, (_, group) in zip(answer.headlines, groups, strict=True):
        compared = list(group)
        first = compared[0]
        where = ", ".join(f"{path} = {as_read(path, value)}" for path, value in first.setting.items())
        output.print_text("")
        output.print_paragraph(f"At {where}, {headline}." if where else f"{headline}.")
        output.print_text("")
        numbers = (answer.a, answer.b, "difference", "interval", "bootstrap", "replicates")
        table = output.make_table("", *numbers, numbers=numbers)
        for each in compared:
            low, high = each.interval
            table.add_row(
                each.title,
                short(each.a, zeros=True),
                short(each.b, zeros=True),
                short(each.difference, zeros=True),
                f"{short(low)} to {short(high)}",
                " to ".join(map(short, each.bootstrap)),
                f"{each.replicates}{'' if each.narrow_enough else '*'}",
            )
        output.print_rich(table)
    if not all(each.narrow_enough for each in answer.comparisons):
        output.print_paragraph("* the budget was spent before the interval was as narrow as asked")
