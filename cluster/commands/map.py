"""coldfleet map: which policy wins where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from coldfleet.cluster.commands.execution import ExecutorName, ExecutorOption, Workers

if TYPE_CHECKING:
    from coldfleet.cluster.answers.policy_map import Entry, Point, PolicyMap, Winners
    from coldfleet.cluster.stats.metrics import Metric
    from coldfleet.cluster.study.plan import Plan


def map(
    study: Annotated[Path, typer.Argument(help="The study file.", metavar="STUDY.toml")],
    x: Annotated[str, typer.Option(help="The key from left to right.", metavar="KEY")],
    y: Annotated[str, typer.Option(help="The key from bottom to top.", metavar="KEY")],
    x_range: Annotated[str, typer.Option(help="From where to where.", metavar="FROM:TO")] = ":",
    y_range: Annotated[str, typer.Option(help="From where to where.", metavar="FROM:TO")] = ":",
    metric: Annotated[str, typer.Option(help="What decides: a metric, a column, a sum, or a ratio.")] = "refaults",
    highest: Annotated[bool, typer.Option("--highest", help="The highest figure wins, not the lowest.")] = False,
    depth: Annotated[int, typer.Option(min=0, max=3, help="How often squares on a border are cut.")] = 2,
    at: Annotated[list[str] | None, typer.Option(help="Set a key: KEY=VALUE. May be repeated.")] = None,
    confidence: Annotated[float, typer.Option(min=50, max=99.99, help="Of each win over another, in percent.")] = 95.0,
    budget: Annotated[str, typer.Option(help="When to stop refining: a time, such as 4m, or a number of runs.")] = "4m",
    out: Annotated[Path | None, typer.Option(help="Draw it to this file too: .png or .svg.")] = None,
    executor: ExecutorOption = ExecutorName.RAY,
    workers: Workers = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Draw a map of which policy wins where.

    Two keys of the study vary, all policies of the study compete on identical accesses, and the map becomes finer
    where the winner changes. Policies that can't be told apart tie, and the map says so.

    \b
    Examples:
      coldfleet map configs/quickstart.toml --x nested_ratio --y exposed_share
      coldfleet map configs/quickstart.toml --x nested_ratio --y overcommit --y-range 1.1:2 --metric reclaim_cpu_s
      coldfleet map configs/quickstart.toml --x nested_ratio --y skew --y-range 0.5:1.3 --out map.svg --json
    """
    from coldfleet.cluster.answers.policy_map import draw_map, side
    from coldfleet.cluster.answers.question import (
        Budget,
        check_clock,
        find_path,
        only_policies,
        set_keys,
        settings_of,
        vary_together,
    )
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.commands.execution import make_executor
    from coldfleet.cluster.execution.progress import make_reporter
    from coldfleet.cluster.execution.trials import Trial, Trials
    from coldfleet.cluster.report.map_picture import check_picture, draw_picture
    from coldfleet.cluster.results.metrics import find_metric
    from coldfleet.cluster.study.reader import read_study
    from coldfleet.hostsim.spec.errors import UserError

    limits, chosen = Budget.parse(budget), find_metric(metric)
    if out is not None:
        check_picture(out)
    plan = set_keys(read_study(study), at or [])
    check_clock(plan, [chosen])
    paths = find_path(x, plan), find_path(y, plan)
    if paths[0] == paths[1]:
        raise UserError(f"--x {x} --y {y}: the same key twice")
    only_policies(plan, paths)
    if len(plan.values("policy")) < 2:
        raise UserError(f"{study}: has one policy, and a map needs several: policy = [...] in [grid]")
    ticks = tuple(_ticks(path, text, plan, side(depth)) for path, text in zip(paths, (x_range, y_range), strict=True))
    plan = vary_together(plan, paths, _possible(plan, paths, list(product(*(dict.fromkeys(each) for each in ticks)))))
    cells = {tuple(value for _, value in where): numbers for where, numbers in settings_of(plan).items()}
    possible = {point: cells[values] for point, values in _points(ticks).items() if values in cells}
    with Trials(plan, make_executor(executor, workers, None), make_reporter(), {"cells": chosen.needs}) as trials:

        def evaluate(wanted: Mapping[Entry, range]) -> dict[Entry, Sequence[float]]:
            each = {entry: possible[entry.point][entry.policy] for entry in wanted}
            trials.run(Trial(each[entry], r) for entry, some in wanted.items() for r in some)
            sign = -1 if highest else 1
            return {
                entry: [sign * chosen.value(trials.rows("cells", Trial(each[entry], r))[0]) for r in some]
                for entry, some in wanted.items()
            }

        def left() -> int | None:
            return limits.runs_left(trials.runs, trials.seconds)

        found = draw_map(possible, depth, evaluate, confidence=confidence, runs_left=left)
        spent = trials.runs
    drawn = DrawnMap(found, chosen, highest, paths, ticks)
    if out is not None:
        draw_picture(out, drawn.squares(), paths, f"{plan.title or plan.name}: {drawn.question}")
    if json:
        output.print_json({"study": plan.name, "confidence": confidence, "runs": spent, **drawn.as_json()})
    else:
        output.print_text(f"{plan.title or plan.name}\n{drawn.question}, with {confidence:g} % confidence\n")
        for line in drawn.lines():
            output.print_text(line)
    return 0


def _ticks(path: str, text: str, plan: Plan, count: int) -> tuple[float, ...]:
    """The values along one side; raises UserError if there is no such range."""
    from coldfleet.cluster.answers.question import is_whole, range_of
    from coldfleet.hostsim.spec.errors import UserError

    try:
        low, high = (float(end) if end.strip() else None for end in text.split(":"))
    except ValueError:
        raise UserError(f"{text!r} is no range: write FROM:TO, such as 0.1:0.9") from None
    first, last = range_of(path, low, high, plan)
    values = (first + (last - first) * n / (count - 1) for n in range(count))
    return tuple(round(value) if is_whole(path) else round(value, 6) for value in values)


def _points(ticks: Sequence[Sequence[float]]) -> dict[Point, tuple[float, ...]]:
    from coldfleet.cluster.answers.policy_map import Point

    return {Point(i, j): (a, b) for i, a in enumerate(ticks[0]) for j, b in enumerate(ticks[1])}


def _possible(plan: Plan, paths: tuple[str, str], rows: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """The rows that are good cells; raises UserError with what is wrong with the last one if none is."""
    from coldfleet.cluster.answers.question import vary
    from coldfleet.hostsim.spec.errors import UserError

    good, why = [], None
    for row in rows:
        one = plan
        for path, value in zip(paths, row, strict=True):
            one = vary(one, path, [value])
        try:
            one.cell(0)
        except UserError as error:
            why = error
        else:
            good.append(row)
    if not good and why is not None:
        raise why
    return good


class DrawnMap(NamedTuple):
    """A map, for people and for programs."""

    found: PolicyMap
    metric: Metric
    highest: bool
    paths: tuple[str, str]
    ticks: tuple[tuple[float, ...], ...]

    @property
    def question(self) -> str:
        """What the map says."""
        return f"the policy with the {'most' if self.highest else 'least'} {self.metric.title}"

    def lines(self) -> list[str]:
        """The map in characters: capitals where it was simulated, small letters where the nearest capital decides."""
        letters = self._letters()
        width = max(len(f"{value:.3g}") for value in self.ticks[1])
        lines = [self.paths[1]]
        for row in reversed(range(self.found.size)):
            label = f"{self.ticks[1][row]:.3g}" if row % 2 == 0 else ""
            marks = (self._mark(column, row, letters) for column in range(self.found.size))
            lines.append(f"{label:>{width}} | {' '.join(marks)}".rstrip())
        lines.append(f"{'':{width}} +{'-' * (2 * self.found.size)}")
        scale = ""
        for column in range(0, self.found.size, 4):
            scale = f"{scale:<{2 * column}}{self.ticks[0][column]:.3g}"
        lines += [f"{'':{width}}   {scale}  {self.paths[0]}", ""]
        total = sum(self.found.regions().values())
        for winners, count in self.found.regions().items():
            tie = " (tie)" if len(winners) > 1 else ""
            lines.append(f"{letters[winners]}  {count / total:4.0%}  {' = '.join(winners)}{tie}")
        return lines

    def squares(self) -> list[dict[str, Any]]:
        """Every point that can be with who wins there, for a picture."""
        return [
            {
                "x": a,
                "y": b,
                "winners": " = ".join(self.found.winners(point)),
                "simulated": point in self.found.found,
            }
            for point, (a, b) in _points(self.ticks).items()
            if point in self.found.possible
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        sign = -1 if self.highest else 1
        total = sum(self.found.regions().values())
        points = []
        for point, (a, b) in _points(self.ticks).items():
            known = self.found.found.get(point)
            points.append(
                {
                    "x": a,
                    "y": b,
                    "possible": point in self.found.possible,
                    "simulated": known is not None,
                    "winners": list(self.found.winners(point)),
                    "means": {policy: sign * mean for policy, mean in known.means.items()} if known else {},
                    "replicates": {policy: len(values) for policy, values in known.values.items()} if known else {},
                }
            )
        regions = [{"winners": list(each), "share": count / total} for each, count in self.found.regions().items()]
        return {
            "metric": self.metric.key,
            "unit": self.metric.unit,
            "highest_wins": self.highest,
            "x": self.paths[0],
            "y": self.paths[1],
            "regions": regions,
            "points": points,
        }

    def _letters(self) -> dict[Winners, str]:
        regions = self.found.regions()
        return dict(zip(regions, ascii_uppercase.ljust(len(regions), "#"), strict=False))

    def _mark(self, column: int, row: int, letters: Mapping[Winners, str]) -> str:
        from coldfleet.cluster.answers.policy_map import Point

        point = Point(column, row)
        winners = self.found.winners(point)
        mark = letters.get(winners, ".")
        return mark if point in self.found.found else mark.lower()
