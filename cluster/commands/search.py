"""coldfleet search: the best setting of several keys at once."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldfleet.cluster.commands.execution import Address, At, ExecutorName, ExecutorOption, Runs, Workers

if TYPE_CHECKING:
    from coldfleet.cluster.answers.study_search import SearchAnswer

_SHOWN = 20  # settings in the table


def search(
    study: Annotated[Path, typer.Argument(help="The study file.", metavar="STUDY.toml")],
    metric: Annotated[str, typer.Option(help="What decides: a metric, a column, a sum, or a ratio.")],
    over: Annotated[
        list[str] | None,
        typer.Option(
            help="A key and its values: KEY=a,b,c, KEY=LOW..HIGH or KEY=LOW..HIGH/STEP. May be repeated.  "
            "[default: the study's grid]",
            metavar="KEY=VALUES",
            show_default=False,
        ),
    ] = None,
    highest: Annotated[bool, typer.Option("--highest", help="The highest figure wins, not the lowest.")] = False,
    slo: Annotated[
        list[str] | None,
        typer.Option(help="What every guest has to get: METRIC<BOUND. May be repeated.", metavar="SLO"),
    ] = None,
    replicates: Annotated[int, typer.Option(min=2, help="Of the settings that stay in to the end.")] = 20,
    at: At = None,
    confidence: Annotated[float, typer.Option(min=50, max=99.99, help="Of the answer, in percent.")] = 95.0,
    budget: Annotated[str, typer.Option(help="A time, such as 30m, or a number of runs.")] = "30m",
    executor: ExecutorOption = ExecutorName.RAY,
    workers: Workers = None,
    address: Address = None,
    out: Runs = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Find the best setting of several keys at once, under SLOs.

    All settings race on identical accesses. Those that surely break an SLO, or are surely worse than the best, are
    dropped after few replicates; the others get more. Prints the winner, those that can't be told from it, and how
    many of the grid's runs that took.

    \b
    Examples:
      coldfleet search configs/quickstart.toml --metric reclaim_cpu_s --at nested_ratio=0.25
      coldfleet search configs/quickstart.toml --metric dram_pages --over overcommit=1.5..2/0.1 --slo 'fault_rate<15%'
    """
    from coldfleet.cluster.answers.study_search import search as find
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.commands.execution import settings

    answer = find(
        study,
        metric,
        over=over or (),
        highest=highest,
        slo=slo or (),
        replicates=replicates,
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
        output.print_json(_as_json(answer))
    else:
        _print(answer)
    return 0


def _as_json(answer: SearchAnswer) -> dict[str, Any]:
    from coldfleet.cluster.study.model import column_of

    data = asdict(answer)
    for each in data["settings"]:
        each["setting"] = {column_of(path): value for path, value in each["setting"].items()}
    return data


def _print(answer: SearchAnswer) -> None:
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.results.summary import as_read
    from coldfleet.cluster.stats.statistics import Mean

    output.print_paragraph(answer.title or answer.study)
    slos = f" at which {' and '.join(answer.slos)}" if answer.slos else ""
    best = "most" if answer.highest_wins else "least"
    output.print_paragraph(f"the setting with the {best} {answer.metric_title}{slos}")
    output.print_text("")
    numbers = (answer.metric_title, "replicates")
    table = output.make_table(*answer.settings[0].setting, *numbers, "", numbers=numbers)
    for each in answer.settings[:_SHOWN]:
        values = [as_read(path, value) for path, value in each.setting.items()]
        place = f"breaks {each.broken}" if each.broken else each.place
        mean = Mean(each.mean, (each.interval[1] - each.interval[0]) / 2)
        table.add_row(*values, mean.in_column, str(each.replicates), place)
    output.print_rich(table)
    if (more := len(answer.settings) - _SHOWN) > 0:
        output.print_text(f"and {more} more: --json has all")
    output.print_text("")
    output.print_paragraph(f"{answer.sentence}. {answer.runs:,} runs, where the whole grid takes {answer.grid_runs:,}")
