"""Draws a study's map: which of its policies wins where, as two of its keys vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from coldfleet.cluster.answers.policy_map import Entry, Point, PolicyMap, draw_map, side
from coldfleet.cluster.answers.question import (
    Budget,
    check_clock,
    check_confidence,
    find_path,
    is_whole,
    only_policies,
    range_of,
    set_keys,
    settings_of,
    vary,
    vary_together,
)
from coldfleet.cluster.execution.executor import Executor
from coldfleet.cluster.execution.progress import Reporter, make_reporter
from coldfleet.cluster.execution.trials import Place, Trial, Trials, executor_for
from coldfleet.cluster.results.metrics import find_metric
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import StudySource, read_study
from coldfleet.cluster.study.terminal import telling
from coldfleet.cluster.study.values import Scalar
from coldfleet.hostsim.spec.errors import UserError

MOST_DEPTH = 3

Range = tuple[float | None, float | None]
"""From where to where a key is varied; None: as is usual for it."""


@dataclass(frozen=True)
class MapPoint:
    """A point of the map. ``x``, ``y``: the values of both keys there.

    ``possible``: the study allows it. ``simulated``: it was run; else ``winners`` are those of the nearest point that
    was. Several winners tie. ``means``: the metric's mean of each policy that competed here, and ``replicates`` over
    how many runs; both are empty if it wasn't simulated.
    """

    x: float
    y: float
    possible: bool
    simulated: bool
    winners: tuple[str, ...]
    means: Mapping[str, float]
    replicates: Mapping[str, int]


@dataclass(frozen=True)
class MapRegion:
    """Policies that win, or tie, somewhere.

    ``winners``: their names. ``share``: of the possible points, where they do, 0..1.
    """

    winners: tuple[str, ...]
    share: float


@dataclass(frozen=True)
class MapAnswer:
    """What :func:`policy_map` found, as plain data.

    ``study``, ``title``: the study's name and title. ``confidence``: of each win over another policy, in percent.
    ``runs``: that it rests on. ``metric``, ``metric_title``, ``unit``: what decides, its name for people, the unit
    of all means; ``highest_wins``: else the lowest. ``x``, ``y``: the two keys. ``size``: points along either side.
    ``regions``: the largest first. ``points``: size * size of them, column by column from the left, each from the
    bottom up.
    """

    study: str
    title: str
    confidence: float
    runs: int
    metric: str
    metric_title: str
    unit: str
    highest_wins: bool
    x: str
    y: str
    size: int
    regions: tuple[MapRegion, ...]
    points: tuple[MapPoint, ...]

    @property
    def question(self) -> str:
        """What the map says, for a title."""
        return f"the policy with the {'most' if self.highest_wins else 'least'} {self.metric_title}"

    def point(self, column: int, row: int) -> MapPoint:
        """The point in a column, from the left, and a row, from the bottom; both from 0."""
        return self.points[column * self.size + row]


def policy_map(
    study: StudySource,
    x: str,
    y: str,
    *,
    x_range: Range = (None, None),
    y_range: Range = (None, None),
    metric: str = "refaults",
    highest: bool = False,
    depth: int = 2,
    at: Mapping[str, Scalar] | None = None,
    confidence: float = 95.0,
    budget: str | int = "4m",
    executor: Executor | str = "ray",
    workers: int | None = None,
    address: str | None = None,
    out: Place = None,
    progress: Reporter | bool = False,
) -> MapAnswer:
    """Finds which policy of a study wins where, as two keys vary.

    All policies compete on identical accesses, and the map becomes finer where the winner changes. Policies that can't
    be told apart tie.

    ``study``: a file, a mapping or a plan. ``x``, ``y``: two keys with numbers, from left to right and from bottom to
    top; ``x_range``, ``y_range``: (low, high), of which None is what is usual for the key. ``metric``: what decides, a
    metric, a column, a sum or a ratio; ``highest``: the highest figure wins, not the lowest. ``depth``: how often
    squares on a border are cut, 0 to 3: the map has 5, 9, 17 or 33 points along each side. ``at``: keys to set to one
    value. ``confidence``: of each win over another, in percent. ``budget``: when to stop refining: a time, ``"4m"``, or
    a number of runs. ``executor``, ``workers``, ``address``, ``progress``: as in :func:`sweep`. ``out``: where the runs
    are kept, as in :func:`compare`.

    Raises UserError for whatever doesn't fit the study, and for a run that fails; StoppedError.

        answer = coldfleet.policy_map("configs/quickstart.toml", "nested_ratio", "exposed_share", depth=1)
        print(answer.regions)
    """
    limits, chosen = Budget.parse(budget), find_metric(metric)
    check_confidence(confidence)
    if depth not in range(MOST_DEPTH + 1):
        raise UserError(f"depth {depth}: it should be 0 to {MOST_DEPTH}")
    where = executor_for(out, executor, workers, address)
    reporter = make_reporter(progress)
    with telling(reporter.say):
        plan = set_keys(read_study(study), at or {}, [x, y])
    check_clock(plan, [chosen])
    paths = find_path(x, plan), find_path(y, plan)
    if paths[0] == paths[1]:
        raise UserError(f"x {x}, y {y}: the same key twice")
    only_policies(plan, paths)
    if len(plan.values("policy")) < 2:
        raise UserError(f"{plan.name}: has one policy, and a map needs several: policy = [...] in [grid]")
    ticks = tuple(_ticks(path, ends, plan, side(depth)) for path, ends in zip(paths, (x_range, y_range), strict=True))
    plan = vary_together(plan, paths, _possible(plan, paths, list(product(*(dict.fromkeys(each) for each in ticks)))))
    cells = {tuple(value for _, value in setting): numbers for setting, numbers in settings_of(plan).items()}
    points = {Point(i, j): (a, b) for i, a in enumerate(ticks[0]) for j, b in enumerate(ticks[1])}
    possible = {
        point: {str(policy): number for policy, number in cells[values].items()}
        for point, values in points.items()
        if values in cells
    }
    sign = -1 if highest else 1
    with Trials(plan, where, reporter, {"cells": chosen.needs}, out) as trials:

        def evaluate(wanted: Mapping[Entry, range]) -> dict[Entry, Sequence[float]]:
            each = {entry: possible[entry.point][entry.policy] for entry in wanted}
            trials.run(Trial(each[entry], r) for entry, some in wanted.items() for r in some)
            return {
                entry: [sign * chosen.value(trials.rows("cells", Trial(each[entry], r))[0]) for r in some]
                for entry, some in wanted.items()
            }

        def left() -> int | None:
            return limits.runs_left(trials.runs, trials.seconds, trials.rate, trials.kept)

        found = draw_map(possible, depth, evaluate, confidence=confidence, runs_left=left)
        runs = trials.runs
        trials.say_thrift()
    total = sum(found.regions().values())
    return MapAnswer(
        study=plan.name,
        title=plan.title,
        confidence=confidence,
        runs=runs,
        metric=chosen.key,
        metric_title=chosen.title,
        unit=chosen.unit,
        highest_wins=highest,
        x=paths[0],
        y=paths[1],
        size=found.size,
        regions=tuple(MapRegion(winners, count / total) for winners, count in found.regions().items()),
        points=tuple(_answer(point, values, found, sign) for point, values in points.items()),
    )


def _ticks(path: str, ends: Range, plan: Plan, count: int) -> tuple[float, ...]:
    """The values along one side; raises UserError if there is no such range."""
    first, last = range_of(path, *ends, plan)
    values = (first + (last - first) * n / (count - 1) for n in range(count))
    return tuple(round(value) if is_whole(path) else round(value, 6) for value in values)


def _possible(plan: Plan, paths: tuple[str, str], rows: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """The rows that are good cells; raises UserError with what is wrong with the last one if none is."""
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


def _answer(point: Point, values: tuple[float, float], drawn: PolicyMap, sign: int) -> MapPoint:
    known = drawn.found.get(point)
    return MapPoint(
        *values,
        possible=point in drawn.possible,
        simulated=known is not None,
        winners=drawn.winners(point),
        means={policy: sign * mean for policy, mean in known.means.items()} if known else {},
        replicates={policy: len(runs) for policy, runs in known.values.items()} if known else {},
    )
