"""Finds the best setting of several keys of a study at once, under SLOs, without running the whole grid."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral

from coldfleet.cluster.answers.question import (
    Budget,
    check_clock,
    check_confidence,
    find_path,
    is_whole,
    range_of,
    read_value,
    set_keys,
    tick_seconds,
    vary,
)
from coldfleet.cluster.answers.race import Place, Racer, looks, race
from coldfleet.cluster.answers.slo import NO_KILLS, parse_slo
from coldfleet.cluster.execution.executor import Executor
from coldfleet.cluster.execution.progress import Reporter, make_reporter
from coldfleet.cluster.execution.trials import Place as Out
from coldfleet.cluster.execution.trials import Trial, Trials, executor_for
from coldfleet.cluster.results.metrics import find_metric
from coldfleet.cluster.stats.statistics import short, t_interval
from coldfleet.cluster.study.lives import all_lives
from coldfleet.cluster.study.plan import Plan, Run
from coldfleet.cluster.study.reader import StudySource, read_study
from coldfleet.cluster.study.terminal import counted, telling
from coldfleet.cluster.study.values import Scalar
from coldfleet.hostsim.spec.checks import check_argument, check_texts
from coldfleet.hostsim.spec.errors import UserError

_NUMBER = r"([0-9]{1,12}(?:\.[0-9]{1,12})?)"
_RANGE = re.compile(rf"{_NUMBER}\.\.{_NUMBER}(?:/{_NUMBER})?")
_STEPS = 9  # values of a range that has no step
_MOST_VALUES = 1000
_MOST_SETTINGS = 10_000


@dataclass(frozen=True)
class SearchedSetting:
    """A setting that raced.

    ``setting``: the value of every key that varies, by its dotted name, amounts in pages or ns. ``place``: "wins";
    "ties": it can't be told from the winner; "open": it isn't sure whether it meets the SLOs; "worse"; or
    "breaks": an SLO.
    ``mean``: of the metric over ``replicates``, with its ``interval`` (low, high). ``broken``: the SLO that it exceeds
    most, "" if it breaks none. ``refused``: how often a guest of a run got no place, or no other one after it lost its
    host, the mean over the replicates that all settings have; None: guests don't come and go.
    """

    setting: Mapping[str, Scalar]
    place: str
    mean: float
    interval: tuple[float, float]
    replicates: int
    broken: str
    refused: float | None = None


@dataclass(frozen=True)
class SearchAnswer:
    """What :func:`search` found, as plain data.

    ``study``, ``title``: the study's name and title. ``confidence``: of the answer, in percent. ``runs``: that it rests
    on; ``grid_runs``: that all settings would take with as many replicates as the winner may have. ``metric``,
    ``metric_title``, ``unit``: what decides; ``highest_wins``: else the lowest. ``slos``: as they were given.
    ``settings``: the winner first, then by place and figure. ``sentence``: the answer in words.
    """

    study: str
    title: str
    confidence: float
    runs: int
    grid_runs: int
    metric: str
    metric_title: str
    unit: str
    highest_wins: bool
    slos: tuple[str, ...]
    settings: tuple[SearchedSetting, ...]
    sentence: str


def search(
    study: StudySource,
    metric: str,
    *,
    over: Sequence[str] = (),
    highest: bool = False,
    slo: str | Sequence[str] = (),
    replicates: int = 20,
    at: Mapping[str, Scalar] | None = None,
    confidence: float = 95.0,
    budget: str | int = "30m",
    executor: Executor | str = "ray",
    workers: int | None = None,
    address: str | None = None,
    out: Out = None,
    progress: Reporter | bool = False,
) -> SearchAnswer:
    """Finds the setting with the least (``highest``: the most) of a ``metric`` that meets every SLO.

    The settings are those of the ``study``'s grid, with the values of ``over`` in place of its own: ``"KEY=a,b,c"``, or
    ``"KEY=LOW..HIGH"`` in nine steps, or ``"KEY=LOW..HIGH/STEP"``. ``slo``: what every guest has to get, as in
    :func:`capacity`. ``replicates``: of the settings that stay in to the end. ``at``, ``confidence``,
    ``budget``, ``executor``, ``workers``, ``address``, ``out`` and ``progress`` are those of :func:`compare`.

    Raises UserError for whatever doesn't fit the study, and for a run that fails; StoppedError.

        answer = coldfleet.search("configs/quickstart.toml", "reclaim_cpu_s", at={"nested_ratio": 0.25}, replicates=5)
        print(answer.sentence)
    """
    limits, chosen = Budget.parse(budget), find_metric(metric)
    check_confidence(confidence)
    check_argument("replicates", replicates, Integral, "a whole number")
    if replicates < 2:
        raise UserError(f"replicates {replicates}: a race takes at least 2")
    where = executor_for(out, executor, workers, address)
    reporter = make_reporter(progress)
    with telling(reporter.say):
        plan = set_keys(read_study(study), at or {})
    for text in check_texts("over", over):
        plan = vary(plan, *_values(text, plan))
    if not 2 <= plan.combination_count <= _MOST_SETTINGS or plan.cell_count < 2:
        raise UserError(
            f"the search has {counted(plan.combination_count, 'setting')}, and takes 2 to {_MOST_SETTINGS:,}: "
            "say with --over KEY=LOW..HIGH or KEY=a,b what varies"
        )
    slos = [parse_slo(text, tick_seconds(plan)) for text in check_texts("slo", slo)]
    check_clock(plan, (chosen, *(each.metric for each in slos)))
    given = tuple(each.text for each in slos)
    slos.append(NO_KILLS)
    cells = range(plan.cell_count)
    first = next(looks(replicates))[1] * len(cells)
    if limits.runs is not None and limits.runs < first:
        raise UserError(f"budget {budget}: the first look takes {first} runs: give more")
    columns: dict[str, set[str]] = {"cells": set(chosen.needs)}
    for each in slos:
        columns.setdefault(each.table, set()).update(each.metric.needs)
        if each.table == "guests":  # which count for as long as they live
            columns["guests"].add("lived_ticks")
    sign = -1 if highest else 1
    with Trials(plan, where, reporter, columns, out) as trials:

        def evaluate(wanted: Mapping[int, range]) -> dict[int, list[tuple[float, Sequence[float]]]]:
            trials.run(Trial(cell, r) for cell, some in wanted.items() for r in some)
            return {cell: [_figures(cell, r) for r in some] for cell, some in wanted.items()}

        def _figures(cell: int, replicate: int) -> tuple[float, Sequence[float]]:
            rows = {table: trials.rows(table, Trial(cell, replicate)) for table in columns}
            return sign * chosen.value(rows["cells"][0]), [each.excess(rows[each.table]) for each in slos]

        def left() -> int | None:
            return limits.runs_left(trials.runs, trials.seconds, trials.rate, trials.kept)

        racers = race(len(cells), replicates, evaluate, confidence=confidence, runs_left=left)
        runs = trials.runs
        trials.say_thrift()

    chances = len(cells) * len(list(looks(replicates)))  # the winner is chosen among all of them, after any look

    common = range(next(looks(replicates))[1])

    def told(racer: Racer, number: int) -> SearchedSetting:
        assert racer.place is not None
        ends = sorted(sign * end for end in t_interval(racer.values, 100 - (100 - confidence) / chances))
        worst = max(zip(map(sum, zip(*racer.excesses, strict=True)), slos, strict=True), key=lambda each: each[0])
        broken = worst[1].text if racer.place is Place.BREAKS else ""
        cell = plan.cell(number)
        setting = {path: cell.spec.value(path) for path in plan.varied}
        refused = (
            statistics.fmean(_refused(Run(-1, cell, replicate)) for replicate in common)
            if cell.spec.fleet.over_time
            else None
        )
        return SearchedSetting(
            setting, str(racer.place), sign * racer.mean, (ends[0], ends[1]), len(racer.values), broken, refused
        )

    places = {place: order for order, place in enumerate(Place)}
    order = sorted(cells, key=lambda number: (places[racers[number].place or Place.OPEN], racers[number].mean))
    found = tuple(told(racers[number], number) for number in order)
    return SearchAnswer(
        study=plan.name,
        title=plan.title,
        confidence=confidence,
        runs=runs,
        grid_runs=len(cells) * replicates,
        metric=chosen.key,
        metric_title=chosen.title,
        unit=chosen.unit,
        highest_wins=highest,
        slos=given,
        settings=found,
        sentence=_sentence(found, chosen.title, highest, confidence),
    )


def _refused(run: Run) -> int:
    """How often a guest of a run gets no place."""
    return sum(bool(each.life.refused) for each in all_lives(run))


def _values(text: str, plan: Plan) -> tuple[str, list[Scalar]]:
    """The key of ``KEY=...`` and its values; raises UserError."""
    name, equals, values = (part.strip() for part in text.partition("="))
    if not equals or not values:
        raise UserError(f"over {text}: write KEY=LOW..HIGH, KEY=LOW..HIGH/STEP or KEY=a,b,c")
    path = find_path(name, plan)
    if ".." not in values:
        return path, list(dict.fromkeys(read_value(path, each.strip()) for each in values.split(",")))
    if (matched := _RANGE.fullmatch(values)) is None:
        raise UserError(f"over {text}: {values} is not a range of numbers: write LOW..HIGH or LOW..HIGH/STEP")
    first, last = range_of(path, float(matched[1]), float(matched[2]), plan)
    step = float(matched[3]) if matched[3] else (last - first) / (_STEPS - 1)
    count = int(round((last - first) / step, 6)) + 1 if step else 0
    if not 2 <= count <= _MOST_VALUES:
        raise UserError(f"over {text}: the step must cut the range in 1 to {_MOST_VALUES - 1} parts")
    whole = is_whole(path)
    graded = (round(first + n * step) if whole else round(first + n * step, 9) for n in range(count))
    return path, list(dict.fromkeys(graded))


def _sentence(found: Sequence[SearchedSetting], title: str, highest: bool, confidence: float) -> str:
    places = [each.place for each in found]
    best = found[0]
    if best.place != Place.WINS:
        if Place.OPEN in places:
            return f"no setting surely meets every SLO; of {places.count(Place.OPEN)} it is open"
        return "out of reach: every setting breaks an SLO"
    who = _who(best)
    ends = " to ".join(map(short, best.interval))
    figure = f"{'most' if highest else 'least'} {title}: {short(best.mean)}, {ends} ({confidence:g} % confidence)"
    ties = places.count(Place.TIES)
    text = f"{who} has the {figure}"
    fewest = min(found, key=lambda each: each.refused or 0.0)
    if (best.refused or 0.0) > (fewest.refused or 0.0):
        text += (
            f"; but {short(best.refused or 0.0)} times in a run a guest gets no place there, with {_who(fewest)} "
            f"{short(fewest.refused or 0.0)} times: it has fewer guests to serve"
        )
    if ties:
        text += f"; {counted(ties, 'other setting')} can't be told from it"
    if still := places.count(Place.OPEN):
        text += f"; {counted(still, 'setting')} may meet the SLOs or not"
    out = [f"{count} {what}" for what in (Place.WORSE, Place.BREAKS) if (count := places.count(what))]
    return text + (f"; dropped: {', '.join(out)}" if out else "")


def _who(setting: SearchedSetting) -> str:
    return ", ".join(f"{path} = {value}" for path, value in setting.setting.items())
