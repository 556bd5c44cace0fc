"""Compares two policies, or two values of any key, at every setting of a study, on identical accesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from coldfleet.cluster.answers.comparison import PILOT, Comparison, Precision
from coldfleet.cluster.answers.comparison import compare as find
from coldfleet.cluster.answers.question import (
    Budget,
    check_clock,
    check_confidence,
    example_at,
    find_path,
    read_setting,
    set_keys,
    settings_of,
    vary,
)
from coldfleet.cluster.execution.executor import Executor
from coldfleet.cluster.execution.progress import Reporter, make_reporter
from coldfleet.cluster.execution.trials import Place, Trial, Trials, executor_for
from coldfleet.cluster.results.metrics import find_metric
from coldfleet.cluster.stats.metrics import SUMMARY
from coldfleet.cluster.study.model import other_way, quantity_at
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import StudySource, read_study
from coldfleet.cluster.study.terminal import telling
from coldfleet.cluster.study.values import Scalar
from coldfleet.hostsim.spec.checks import check_texts
from coldfleet.hostsim.spec.errors import UserError

_TIMED_COSTS = ("slowdown",)
_COSTS = ("reclaim_cpu_s", *_TIMED_COSTS)
"""Metrics that say what a setting costs in time: CPU time of reclaim, and on a clock how much longer guests take."""


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of two policies, or two values of another key, at one setting of the study.

    ``setting``: the value of every other key that varies, by its dotted name; amounts in pages or ns. ``metric``,
    ``title``, ``unit``: its name, its name for people, and the unit of all figures here. ``a``, ``b``: the means of
    both over ``replicates`` runs each, sums over the fleet. ``difference``: the mean of b - a, with its ``interval`` by
    Student's t and a ``bootstrap`` one, which doesn't take it for normal; both (low, high).
    ``narrow_enough``: the interval is as narrow as was asked. ``sentence``: what a person can quote.
    """

    setting: Mapping[str, Scalar]
    metric: str
    title: str
    unit: str
    replicates: int
    a: float
    b: float
    difference: float
    interval: tuple[float, float]
    bootstrap: tuple[float, float]
    narrow_enough: bool
    sentence: str


@dataclass(frozen=True)
class ComparisonAnswer:
    """What :func:`compare` found, as plain data.

    ``study``, ``title``: the study's name and title. ``a``, ``b``: the policies, or ``"KEY=VALUE"``. ``confidence``: of
    every interval, in percent. ``runs``: that it rests on. ``headlines``: a sentence for each setting: what
    became of the first metric, and what that costs in time. ``comparisons``: one for each setting and metric, in the
    order of the study's grid.
    """

    study: str
    title: str
    a: str
    b: str
    confidence: float
    runs: int
    headlines: tuple[str, ...]
    comparisons: tuple[ComparedMetric, ...]


def compare(
    study: StudySource,
    a: str,
    b: str,
    *,
    at: Mapping[str, Scalar] | None = None,
    metric: str | Sequence[str] = (),
    precision: str | float = "2%",
    confidence: float = 95.0,
    budget: str | int = "5m",
    executor: Executor | str = "ray",
    workers: int | None = None,
    address: str | None = None,
    out: Place = None,
    progress: Reporter | bool = False,
) -> ComparisonAnswer:
    """Compares ``a`` and ``b`` on identical accesses, for every setting of the study's grid.

    They are two policies, or two values of any other key, as ``"KEY=VALUE"``: ``"reclaim.lru=classic"``. Both run until
    the intervals of their differences are as narrow as asked, or the budget is spent. Whatever values of that key the
    study has, these two are compared.

    ``study``: a file, a mapping or a plan. ``at``: keys to set to one value, ``{"nested_ratio": 0.25}``; the end of a
    key's name is enough. ``metric``: names of metrics, columns, sums or ratios, ``"pgsteal / pgscan"``; none: those of
    the summary, and on a clock the slowdown. ``precision``: half an interval, in percent of the larger mean, ``"2%"``,
    or a number in the metric's unit. ``confidence``: in percent. ``budget``: a time, ``"5m"``, or a number of runs.
    ``executor``, ``workers``, ``address``, ``progress``: as in :func:`sweep`. ``out``: a directory or URI for the runs,
    which are results like those of a sweep; the same call goes on there after an interruption, and other questions take
    the runs that they share with this one. None: they are not kept.

    Raises UserError for whatever doesn't fit the study, and for a run that fails; StoppedError.

        answer = coldfleet.compare("configs/quickstart.toml", "evict-only", "lockless-6.15", at={"nested_ratio": 1})
        print(answer.comparisons[0].sentence)
    """
    limits, narrow = Budget.parse(budget), Precision.parse(str(precision))
    check_confidence(confidence)
    chosen = executor_for(out, executor, workers, address)
    metrics = list(dict.fromkeys(find_metric(name) for name in check_texts("metric", metric)))
    reporter = make_reporter(progress)
    with telling(reporter.say):
        plan, path, ends = _with_both(read_study(study), a, b, at or {})
    timed = plan.values("clock.mode") == ("timed",)
    metrics = metrics or [*SUMMARY, *(find_metric(name) for name in _TIMED_COSTS if timed)]
    check_clock(plan, metrics)
    settings = settings_of(plan, path)
    cells = {setting: (both[ends[0]], both[ends[1]]) for setting, both in settings.items() if len(both) == 2}
    if not cells:
        raise UserError(f"{plan.name}: its constraints leave no setting with both {a} and {b}")
    if limits.runs is not None and limits.runs < (pilot := 2 * PILOT * len(cells)):
        one = f", or choose one setting, such as {options}" if (options := example_at(plan, [path])) else ""
        raise UserError(f"budget {budget}: the pilot takes {pilot} runs: give more{one}")
    pairs = list(cells.values())
    columns = {"access_hash", *(name for each in metrics for name in each.needs)}
    others: set[int] = set()  # settings in which accesses differ
    with Trials(plan, chosen, reporter, {"cells": columns}, out) as trials:

        def draw(wanted: Mapping[int, range]) -> dict[int, list[list[tuple[float, float]]]]:
            trials.run(Trial(cell, r) for setting, some in wanted.items() for r in some for cell in pairs[setting])
            found = {}
            for setting, some in wanted.items():
                rows = [[trials.rows("cells", Trial(cell, r))[0] for cell in pairs[setting]] for r in some]
                if any(x["access_hash"] != y["access_hash"] for x, y in rows):
                    others.add(setting)
                found[setting] = [[(each.value(x), each.value(y)) for x, y in rows] for each in metrics]
            return found

        compared = find(
            (a, b),
            len(pairs),
            metrics,
            draw,
            confidence=confidence,
            precision=narrow,
            runs_left=lambda: limits.runs_left(trials.runs, trials.seconds, trials.rate, trials.kept) or 0,
        )
        runs = trials.runs
        trials.say_thrift()
    compared = [
        [replace(each, same_accesses=number not in others) for each in some] for number, some in enumerate(compared)
    ]
    figures = [_figures(dict(where), each) for where, some in zip(cells, compared, strict=True) for each in some]
    headlines = tuple(map(headline, compared))
    return ComparisonAnswer(plan.name, plan.title, a, b, confidence, runs, headlines, tuple(figures))


def _with_both(plan: Plan, a: str, b: str, at: Mapping[str, Scalar]) -> tuple[Plan, str, tuple[Scalar, Scalar]]:
    """The study with both settings, the key that they set, and its two values as cells have them."""
    fixed = set_keys(plan, at)
    (path, first), (other, second) = read_setting(a, plan), read_setting(b, plan)
    if path != other:
        raise UserError(f"{a} {b}: two policies, or two values of one key, such as {path}={first} and {path}=...")
    if first == second:
        raise UserError(f"{a} {b}: the same {path} twice")
    if any(find_path(name, plan) in (path, other_way(path)) for name in at):
        raise UserError(f"--at {path}: {path} is what is compared")
    quantity = quantity_at(path)
    written = [quantity.format(int(end)) if quantity else end for end in (first, second)]
    return vary(fixed, path, written), path, (first, second)


def headline(compared: Sequence[Comparison]) -> str:
    """What became of the first metric, and then of each cost in time: who wins on the one may lose on the other."""
    first, *others = compared
    costs = [each for each in others if each.metric.key in _COSTS]
    text = first.sentence
    if not first.sign:
        return text + "".join(f", but {each.names[1]} {each.change}" for each in costs if each.sign)
    for word, sign in (("and", first.sign), ("but", -first.sign)):
        text += "".join(f", {word} {each.change}" for each in costs if each.sign == sign)
    if unsure := [each.metric.title for each in costs if not each.sign]:
        text += f"; by {' and '.join(unsure)} they can't be told apart"
    return text


def _figures(setting: Mapping[str, Scalar], found: Comparison) -> ComparedMetric:
    return ComparedMetric(
        setting=setting,
        metric=found.metric.key,
        title=found.metric.title,
        unit=found.metric.unit,
        replicates=len(found.pairs),
        a=found.means[0],
        b=found.means[1],
        difference=found.difference,
        interval=found.interval,
        bootstrap=found.bootstrap,
        narrow_enough=found.narrow_enough,
        sentence=found.sentence,
    )
