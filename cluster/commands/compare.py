"""coldfleet compare: two policies on identical accesses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldfleet.cluster.commands.execution import ExecutorName, ExecutorOption, Workers

if TYPE_CHECKING:
    from coldfleet.cluster.answers.comparison import PolicyComparison
    from coldfleet.cluster.study.plan import Plan
    from coldfleet.cluster.study.values import Scalar

Setting = tuple[tuple[str, "Scalar"], ...]
_Answers = Mapping[Setting, "list[PolicyComparison]"]


def compare(
    a: Annotated[str, typer.Argument(help="A policy.", metavar="A")],
    b: Annotated[str, typer.Argument(help="The policy to hold against it.", metavar="B")],
    study: Annotated[Path, typer.Argument(help="The study file.", metavar="STUDY.toml")],
    metric: Annotated[
        list[str] | None,
        typer.Option(help="A metric, a column, a sum, or a ratio: 'pgsteal / pgscan'. May be repeated."),
    ] = None,
    at: Annotated[list[str] | None, typer.Option(help="Set a key: KEY=VALUE. May be repeated.")] = None,
    confidence: Annotated[float, typer.Option(min=50, max=99.99, help="Of the intervals, in percent.")] = 95.0,
    precision: Annotated[
        str, typer.Option(help="Half an interval: in percent of the larger figure, or in the metric's unit.")
    ] = "2%",
    budget: Annotated[str, typer.Option(help="A time, such as 5m, or a number of runs.")] = "5m",
    executor: ExecutorOption = ExecutorName.RAY,
    workers: Workers = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Compare two policies on identical accesses.

    Runs both until the intervals of their differences are as narrow as asked, or the budget is spent; for every
    setting of the study's grid. Prints a sentence to quote, and the figures.

    \b
    Examples:
      coldfleet compare evict-only lockless-6.15 configs/quickstart.toml --at nested_ratio=0.25
      coldfleet compare six-steps was-fast configs/quickstart.toml --metric refaults --precision 0.5%
      coldfleet compare locked-6.12 lockless-6.15 configs/quickstart.toml --metric 'pgsteal / pgscan' --json
    """
    from coldfleet.cluster.answers.comparison import PILOT, Precision
    from coldfleet.cluster.answers.comparison import compare as find
    from coldfleet.cluster.answers.question import Budget, check_clock, set_keys, settings_of, vary
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.commands.execution import make_executor
    from coldfleet.cluster.execution.progress import make_reporter
    from coldfleet.cluster.execution.trials import Trial, Trials
    from coldfleet.cluster.results.metrics import find_metric
    from coldfleet.cluster.stats.metrics import SUMMARY
    from coldfleet.cluster.study.reader import read_study
    from coldfleet.hostsim.spec.errors import UserError

    limits, narrow = Budget.parse(budget), Precision.parse(precision)
    metrics = [find_metric(text) for text in metric] if metric else list(SUMMARY)
    if a == b:
        raise UserError(f"{a} {b}: the same policy twice")
    plan = set_keys(vary(read_study(study), "policy", [a, b]), at or [])
    check_clock(plan, metrics)
    cells = {setting: (both[a], both[b]) for setting, both in settings_of(plan).items() if len(both) == 2}
    if not cells:
        raise UserError(f"{study}: its constraints leave no setting with both {a} and {b}")
    if limits.runs is not None and limits.runs < (pilot := 2 * PILOT * len(cells)):
        raise UserError(f"--budget {budget}: the pilot takes {pilot} runs: give more, or choose a setting by --at")
    pairs = list(cells.values())
    columns = {name for each in metrics for name in each.needs}
    with Trials(plan, make_executor(executor, workers, None), make_reporter(), {"cells": columns}) as trials:

        def draw(wanted: Mapping[int, range]) -> dict[int, list[list[tuple[float, float]]]]:
            trials.run(Trial(cell, r) for setting, some in wanted.items() for r in some for cell in pairs[setting])
            found = {}
            for setting, some in wanted.items():
                rows = [[trials.rows("cells", Trial(cell, r))[0] for cell in pairs[setting]] for r in some]
                found[setting] = [[(each.value(x), each.value(y)) for x, y in rows] for each in metrics]
            return found

        compared = find(
            (a, b),
            len(pairs),
            metrics,
            draw,
            confidence=confidence,
            precision=narrow,
            runs_left=lambda: limits.runs_left(trials.runs, trials.seconds),
        )
        runs = trials.runs
    answers = dict(zip(cells, compared, strict=True))
    if json:
        output.print_json(_as_json(plan, (a, b), confidence, runs, answers))
    else:
        _print(plan, answers)
    return 0


def _as_json(
    plan: Plan,
    policies: tuple[str, str],
    confidence: float,
    runs: int,
    answers: Mapping[Setting, list[PolicyComparison]],
) -> dict[str, Any]:
    from coldfleet.cluster.study.model import column_of

    return {
        "study": plan.name,
        "title": plan.title,
        "a": policies[0],
        "b": policies[1],
        "confidence": confidence,
        "runs": runs,
        "comparisons": [
            {
                **{column_of(path): value for path, value in setting},
                "metric": each.metric.key,
                "unit": each.metric.unit,
                "replicates": len(each.pairs),
                "a": each.means[0],
                "b": each.means[1],
                "difference": each.difference,
                "interval": list(each.interval),
                "bootstrap": list(each.bootstrap),
                "narrow_enough": each.narrow_enough,
                "sentence": each.sentence,
            }
            for setting, compared in answers.items()
            for each in compared
        ],
    }


def _print(plan: Plan, answers: _Answers) -> None:
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.results.summary import WIDTH, as_read
    from coldfleet.cluster.stats.statistics import short

    output.print_text(plan.title or plan.name)
    for setting, compared in answers.items():
        where = ", ".join(f"{path} = {as_read(path, value)}" for path, value in setting)
        first = compared[0]
        output.print_text("")
        output.print_paragraph(f"At {where}, {first.sentence}." if where else f"{first.sentence}.", WIDTH)
        output.print_text("")
        a, b = first.policies
        numbers = (a, b, "difference", "interval", "bootstrap", "replicates")
        table = output.make_table("", *numbers, numbers=numbers)
        for each in compared:
            low, high = each.interval
            table.add_row(
                each.metric.title,
                *map(short, each.means),
                short(each.difference),
                f"{short(low)} to {short(high)}",
                " to ".join(map(short, each.bootstrap)),
                f"{len(each.pairs)}{'' if each.narrow_enough else '*'}",
            )
        output.print_rich(table, WIDTH)
    wide = [each for compared in answers.values() for each in compared if not each.narrow_enough]
    if wide:
        output.print_text("* the budget was spent before the interval was as narrow as asked")
