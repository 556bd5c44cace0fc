"""Compares two policies at every setting of a study: runs them on identical accesses and says what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coldfleet.cluster.answers.comparison import PILOT, PolicyComparison, Precision
from coldfleet.cluster.answers.comparison import compare as find
from coldfleet.cluster.answers.question import Budget, check_clock, check_confidence, set_keys, settings_of, vary
from coldfleet.cluster.execution.executor import Executor, make_executor
from coldfleet.cluster.execution.progress import Reporter, make_reporter
from coldfleet.cluster.execution.trials import Trial, Trials
from coldfleet.cluster.results.metrics import find_metric
from coldfleet.cluster.stats.metrics import SUMMARY
from coldfleet.cluster.study.reader import StudySource, read_study
from coldfleet.cluster.study.terminal import telling
from coldfleet.cluster.study.values import Scalar
from coldfleet.hostsim.spec.checks import check_texts
from coldfleet.hostsim.spec.errors import UserError


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of two policies at one setting of the study.

    ``setting``: the value of every key that varies besides the policy, by its dotted name; amounts in pages or ns.
    ``metric``, ``title``, ``unit``: its name, its name for people, and the unit of all figures here. ``a``, ``b``: the
    means of both policies over ``replicates`` runs each, sums over the fleet. ``difference``: the mean of b - a, with
    its ``interval`` by Student's t and a ``bootstrap`` one, which doesn't take it for normal; both (low, high).
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

    ``study``, ``title``: the study's name and title. ``a``, ``b``: the policies. ``confidence``: of every interval, in
    percent. ``runs``: that were simulated for it. ``comparisons``: one for each setting and metric, in the order of the
    study's grid.
    """

    study: str
    title: str
    a: str
    b: str
    confidence: float
    runs: int
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
    progress: Reporter | bool = False,
) -> ComparisonAnswer:
    """Compares the policies ``a`` and ``b`` on identical accesses, for every setting of the study's grid.

    Both run until the intervals of their differences are as narrow as asked, or the budget is spent. Whatever policies
    the study has, these two are compared.

    ``study``: a file, a mapping or a plan. ``at``: keys to set to one value, ``{"nested_ratio": 0.25}``; the end of a
    key's name is enough. ``metric``: names of metrics, columns, sums or ratios, ``"pgsteal / pgscan"``; none: those of
    the summary. ``precision``: half an interval, in percent of the larger mean, ``"2%"``, or a number in the metric's
    unit. ``confidence``: in percent. ``budget``: a time, ``"5m"``, or a number of runs. ``executor``, ``workers``,
    ``progress``: as in :func:`sweep`.

    Raises UserError for whatever doesn't fit the study, and for a run that fails; StoppedError.

        answer = coldfleet.compare("configs/quickstart.toml", "evict-only", "lockless-6.15", at={"nested_ratio": 1})
        print(answer.comparisons[0].sentence)
    """
    limits, narrow = Budget.parse(budget), Precision.parse(str(precision))
    check_confidence(confidence)
    chosen = make_executor(executor, workers)
    metrics = [find_metric(name) for name in check_texts("metric", metric)] or list(SUMMARY)
    if a == b:
        raise UserError(f"{a} {b}: the same policy twice")
    reporter = make_reporter(progress)
    with telling(reporter.say):
        plan = set_keys(vary(read_study(study), "policy", [a, b]), at or {})
    check_clock(plan, metrics)
    cells = {setting: (both[a], both[b]) for setting, both in settings_of(plan).items() if len(both) == 2}
    if not cells:
        raise UserError(f"{plan.name}: its constraints leave no setting with both {a} and {b}")
    if limits.runs is not None and limits.runs < (pilot := 2 * PILOT * len(cells)):
        raise UserError(f"budget {budget}: the pilot takes {pilot} runs: give more, or choose one setting with at")
    pairs = list(cells.values())
    columns = {name for each in metrics for name in each.needs}
    with Trials(plan, chosen, reporter, {"cells": columns}) as trials:

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
    figures = [_figures(dict(where), each) for where, some in zip(cells, compared, strict=True) for each in some]
    return ComparisonAnswer(plan.name, plan.title, a, b, confidence, runs, tuple(figures))


def _figures(setting: Mapping[str, Scalar], found: PolicyComparison) -> ComparedMetric:
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
