"""What a picture teaches, in one sentence that is computed from the data.

A difference is stated only if its 95 % interval over the replicates, taken pairwise, leaves out 0. Where one replicate
leaves no interval, the sentence says so and claims nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from coldfleet.cluster.report.best_policy import BestPolicy, best_policy, winners
from coldfleet.cluster.report.epochs import Series
from coldfleet.cluster.report.figures import Axis, Figures, Values
from coldfleet.cluster.report.panels import Scaled
from coldfleet.cluster.stats.amounts import hour_text
from coldfleet.cluster.stats.metrics import Metric
from coldfleet.cluster.stats.statistics import mean_interval, signed_percent
from coldfleet.cluster.study.terminal import counted
from coldfleet.cluster.study.values import Scalar

_MOST_STRETCHES = 4  # of an axis with the same winners, that a sentence names one by one
_NO_INTERVAL = "There is one replicate, so no interval says whether the figures differ."


def headline(figures: Figures) -> Metric:
    """The first metric that isn't 0 everywhere: what the sentences are about."""
    return next((each for each in figures.metrics if figures.values[each.key].any()), figures.metrics[0])


def where_each_wins(figures: Figures, path: str) -> str:
    """Where along an axis which policy has the least of the headline metric, and what has the least where it ties."""
    metric, axis = headline(figures), figures.axes[path].binned()
    found = winners(figures, metric.key, [path])
    places = [(at[path], _members(answer) if answer.known else ()) for at, answer in found]
    if not any(members for _, members in places):
        return _NO_INTERVAL
    stretches = [(members, list(group)) for members, group in groupby(places, lambda place: place[1])]
    if len(stretches) > _MOST_STRETCHES:
        return how_often_each_wins(figures, [path])
    parts = []
    for members, group in stretches:
        if not members:
            continue
        first, last = axis.read(group[0][0]), axis.read(group[-1][0])
        where = first if first == last else f"{first} to {last}"
        parts.append(f"at {where} {_listed(members)}" + (" tie" if len(members) > 1 else ""))
    return f"{_begun(metric.title)} by {path}, the least: {'; '.join(parts)}.{_untold([answer for _, answer in found])}"


def how_often_each_wins(figures: Figures, paths: list[str]) -> str:
    """At how many settings of some axes each policy alone has the least of the headline metric."""
    metric = headline(figures)
    every = [answer for _, answer in winners(figures, metric.key, paths)]
    answers = [answer for answer in every if answer.known]
    if not answers:
        return _NO_INTERVAL
    alone = Counter(answer.best for answer in answers if not answer.ties)
    counts = [f"{name} at {count}" for name, count in alone.most_common()]
    ties = len(answers) - alone.total()
    if ties:
        counts.append(f"several tie at {ties}")
    where = f"the {counted(len(answers), 'setting')} of {' and '.join(paths)}"
    return f"{_begun(metric.title)}, the least at {where}: {', '.join(counts)}.{_untold(every)}"


def over_time(series: Series) -> str:
    """In which tick a figure is the highest under each policy, if beyond the intervals of the last."""
    peaks, steady = [], []
    for name in dict.fromkeys(row["policy"] for row in series.rows):
        rows = [row for row in series.rows if row["policy"] == name]
        top, last = _highest(rows), rows[-1]
        if top["low"] > last["high"]:
            peaks.append(f"{name} {top['said']} in tick {top['x']} and {last['said']} in the last")
        else:
            steady.append(f"{name} {last['said']} in the last tick, in none more beyond the intervals")
    return f"{_begun(series.title)}: {'; '.join(peaks + steady)}."


def busiest_hours(fleet: Sequence[Series]) -> str:
    """In which hour most guests live or are refused, and most is promised: of one policy, as all have the same."""
    told = []
    for each in fleet:
        if each.peak:
            top = _highest([row for row in each.rows if row["policy"] == each.rows[0]["policy"]])
            told.append(each.peak.format(when=hour_text(top["x"]), said=top["said"]))
    return f"{_begun('; '.join(told))}." if told else ""


def _highest(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return max(rows, key=lambda row: float(row["mean"]))


def busiest_tick(by_tick: Mapping[str, Sequence[int]]) -> str:
    """What share of a host's refaults, or of what else there is, came in its busiest tick."""
    what = "refaults" if "refaults" in by_tick else next(iter(by_tick), "")
    if not what:
        return "Nothing was evicted on this host."
    counts = by_tick[what]
    tick = max(range(len(counts)), key=lambda number: counts[number])
    return f"Of the {sum(counts):,} {what}, {100 * counts[tick] / sum(counts):.3g} % came in tick {tick}, the busiest."


def busiest_guest(by_guest: Mapping[str, Sequence[int]]) -> str:
    """Which guest had the most refaults, and which the fewest."""
    sums = {name: sum(counts) for name, counts in by_guest.items()}
    few, many = min(sums, key=lambda name: sums[name]), max(sums, key=lambda name: sums[name])
    others = f", {few} {sums[few]:,} times" if len(sums) > 1 else ", and no other guest did"
    return f"{many} refaulted {sums[many]:,} times{others}."


def wrongly_old(ages: Mapping[int, Sequence[int]]) -> str:
    """How much of the oldest generation, which eviction takes next, had been touched a moment ago."""
    if not ages:
        return "No page is on a list."
    oldest = ages[max(ages)]
    share = 100 * sum(oldest[:2]) / max(sum(oldest), 1)
    return f"Of the oldest generation, which eviction takes next, {share:.3g} % were touched in the last two ticks."


def by_axis(figures: Figures, path: str) -> str:
    """How the headline metric changes along an axis of numbers, or differs between categories."""
    if figures.replicates.max(initial=0) == 0:
        return _NO_INTERVAL
    axis = figures.axes[path].binned()
    return _change(figures, axis) if axis.numeric else _categories(figures, axis)


def least(figures: Figures, metric: Metric) -> str:
    """Which policies have the least of a metric, and by how much less than the one with the most."""
    of_policy, scaled = figures.paired(metric.key, ())[()], Scaled.of(figures, metric)
    answer = best_policy(of_policy)
    worst = list(answer.means)[-1]
    if len(of_policy) == 1:
        return f"{_begun(scaled.name)} under {worst}: {scaled.read(*answer.means[worst])}."
    if answer.means[worst].half_width is None:
        return _NO_INTERVAL
    if _all_equal(of_policy):
        return f"{_begun(scaled.name)}: the same under every policy in each replicate."
    if worst in answer.ties:
        return f"{_begun(scaled.name)}: the intervals don't tell {worst} from {answer.best}."
    members = _members(answer)
    have = "have" if len(members) > 1 else "has"
    more = _more(of_policy[answer.best], of_policy[worst], scaled)
    few = scaled.read(*answer.means[answer.best])
    return f"{_begun(scaled.name)}: {_listed(members)} {have} the least, {few}; {worst} {more} more."


def _begun(text: str) -> str:
    """A text at the start of a sentence."""
    return text[:1].upper() + text[1:]


def _members(answer: BestPolicy) -> tuple[str, ...]:
    return (answer.best, *answer.ties)


def _untold(answers: Sequence[BestPolicy]) -> str:
    """The sentence on settings of which one replicate tells nothing."""
    count = sum(not answer.known for answer in answers)
    return (
        f" {counted(count, 'setting')} with one replicate {'tells' if count == 1 else 'tell'} nothing." if count else ""
    )


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _more(few: Values, many: Values, scaled: Scaled) -> str:
    """How much more, of the same replicates: as a share, or as such if the few are none."""
    if len(few) != len(many):
        return "has"
    if few.all():
        return f"has {signed_percent(mean_interval((100 * (many / few - 1)).tolist())).lstrip('+')}"
    return f"has {scaled.read(*mean_interval((many - few).tolist()))}"


def _change(figures: Figures, axis: Axis) -> str:
    metric = headline(figures)
    ends = list(figures.paired(metric.key, [axis.path]).items())
    (first, before), (last, after) = ends[0], ends[-1]
    where = f"From {axis.path} {axis.read(first[0])} to {axis.read(last[0])}, {metric.title}"
    changes = {
        str(name): 100 * (after[name] / values - 1)
        for name, values in before.items()
        if name in after and len(after[name]) == len(values) and values.all()
    }
    if not changes:
        return f"{where} can't be compared: they are 0, or don't have the same replicates."
    ordered = sorted(changes, key=lambda name: float(changes[name].mean()))
    low, high = ordered[0], ordered[-1]
    apart = changes[high] - changes[low]
    if len(changes) > 1 and _differs(apart):
        shown = [f"{signed_percent(mean_interval(changes[name].tolist()))} under {name}" for name in (low, high)]
        return f"{where} change by {shown[0]} and {shown[1]}" + (
            ", the others in between." if len(changes) > 2 else "."
        )
    together = np.mean(list(changes.values()), axis=0)
    if not _differs(together):
        return f"{where} don't change by more than the interval: {signed_percent(mean_interval(together.tolist()))}."
    over = ", under every policy alike as far as the intervals tell" if len(changes) > 1 else ""
    return f"{where} change by {signed_percent(mean_interval(together.tolist()))}{over}."


def _categories(figures: Figures, axis: Axis) -> str:
    metric = headline(figures)
    of_label: dict[Scalar, Values] = {
        axis.read(at[0]): np.mean(list(of_policy.values()), axis=0)
        for at, of_policy in figures.paired(metric.key, [axis.path]).items()
        if len({len(values) for values in of_policy.values()}) == 1
    }
    sizes = {len(values) for values in of_label.values()}
    if sizes == {1}:
        return _NO_INTERVAL
    if len(sizes) != 1:
        why = f"The values of {axis.path} don't have the same replicates"
        if axis.path == "results" and 1 in sizes:
            why = "One of the results has one replicate"
        return f"{why}, so nothing is said of {metric.title} by {axis.path}."
    if _all_equal(of_label):
        return f"{_begun(metric.title)} by {axis.path}: the same in each replicate, as means over all else."
    answer = best_policy(of_label)
    worst = list(answer.means)[-1]
    if worst in answer.ties:
        return f"The intervals don't tell the values of {axis.path} apart by {metric.title}, as means over all else."
    scaled = Scaled.of(figures, metric)
    few = f"the least with {_listed(_members(answer))}, {scaled.read(*answer.means[answer.best])}"
    more = _more(of_label[answer.best], of_label[worst], scaled)
    return f"{_begun(metric.title)} by {axis.path}: {few}; {worst} {more} more."


def _all_equal(of_label: Mapping[Scalar, Values]) -> bool:
    """Whether all have the same values, replicate by replicate."""
    first, *others = of_label.values()
    return all(np.array_equal(first, each) for each in others)


def _differs(values: Values) -> bool:
    mean, half = mean_interval(values.tolist())
    return half is not None and abs(mean) > half
