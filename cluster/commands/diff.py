"""coldfleet diff: two results directories, cell by cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldfleet.cluster.commands.execution import Metrics

if TYPE_CHECKING:
    from coldfleet.cluster.answers.results_diff import Difference, ResultsDiff


def diff(
    a: Annotated[str, typer.Argument(help="Results: a directory, or a URI.", metavar="A")],
    b: Annotated[str, typer.Argument(help="Those to compare with them.", metavar="B")],
    metric: Metrics = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Compare two results directories.

    Cells are matched by what varies in either study; replicates with the same accesses are subtracted one by one.
    Prints what differs in the studies, which cells only one has, and by how much the figures differ.

    \b
    Examples:
      coldfleet diff results/before results/after
      coldfleet diff results/before results/after --metric refaults --metric 'pgsteal / pgscan' --json
    """
    from coldfleet.cluster.answers.results_diff import diff_results
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.commands.execution import say_if_partial
    from coldfleet.cluster.results.metrics import find_metric
    from coldfleet.cluster.results.results import Results
    from coldfleet.cluster.stats.metrics import SUMMARY

    metrics = list(dict.fromkeys(find_metric(name) for name in metric or ())) or list(SUMMARY)
    one, other = Results.open(a), Results.open(b)
    say_if_partial(one)
    say_if_partial(other)
    found = diff_results(one, other, metrics)
    if json:
        output.print_json(_as_json(found))
    else:
        _print(found, len(metrics))
    return 0


def _as_json(found: ResultsDiff) -> dict[str, Any]:
    def plain(each: Difference) -> dict[str, Any]:
        return {
            "setting": dict(each.setting),
            "metric": each.metric.key,
            "unit": each.metric.unit,
            **{
                side: {"mean": mean.mean, "ci95": mean.half_width}
                for side, mean in (("a", each.a), ("b", each.b), ("difference", each.difference))
            },
            "paired": each.paired,
            "equal": each.equal,
            "certain": each.certain,
        }

    return {
        "a": found.a,
        "b": found.b,
        "keys": [each._asdict() for each in found.keys],
        "only_a": [dict(setting) for setting in found.only_a],
        "only_b": [dict(setting) for setting in found.only_b],
        "overall": list(map(plain, found.overall)),
        "by_policy": list(map(plain, found.by_policy)),
        "cells": list(map(plain, found.differences)),
    }


def _print(found: ResultsDiff, metrics: int) -> None:
    from coldfleet.cluster.answers.results_diff import as_cell, told, value_as_read
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.results.summary import MOST_CELLS

    for line in told(found):
        output.print_paragraph(line)
    if all(each.equal for each in found.differences):
        return
    output.print_text("")
    shown = [path for path in found.paths if len({each.setting[path] for each in found.differences}) > 1]
    titles = [each.metric.title for each in found.differences[:metrics]]
    table = output.make_table(*(path.split(".")[-1] for path in shown), *titles, numbers=titles)
    rows = [found.differences[at : at + metrics] for at in range(0, len(found.differences), metrics)]
    for row in rows[:MOST_CELLS]:
        table.add_row(*(value_as_read(path, row[0].setting[path]) for path in shown), *map(as_cell, row))
    output.print_rich(table)
    if len(rows) > MOST_CELLS:
        output.print_text(f"and {len(rows) - MOST_CELLS:,} more cells: --json has them all")
    output.print_paragraph(
        "B less A in percent of A, with 95 % intervals; (in brackets): the interval contains 0; ?: one replicate"
    )
