"""Runs the studies that have an ``[argument]``, and judges what comes out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from coldfleet.cluster.execution.executor import Executor
from coldfleet.cluster.execution.progress import Reporter
from coldfleet.cluster.execution.trials import Place, Trial, Trials
from coldfleet.cluster.stats.statistics import Mean, mean_interval
from coldfleet.cluster.study.argument import Argument, Check, fits
from coldfleet.cluster.study.gathering import Gathered
from coldfleet.cluster.study.plan import Plan, as_written
from coldfleet.cluster.study.reader import read_study
from coldfleet.cluster.study.values import Scalar
from coldfleet.hostsim.spec.errors import UserError


class Verdict(StrEnum):
    """What the runs say of a claim or a check."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    OPEN = "open"


@dataclass(frozen=True)
class Outcome:
    """A check's figure: its mean over the replicates with its interval, and what follows."""

    check: Check
    mean: Mean
    verdict: Verdict

    @property
    def figure(self) -> str:
        """The mean with its interval; something over nothing is more than any number."""
        return str(self.mean) if math.isfinite(self.mean.mean) else "∞"


def judge(
    argument: Argument, rows: Sequence[Mapping[str, Any]], cells: Mapping[str, Mapping[str, Scalar]]
) -> list[Outcome]:
    """The outcomes of all checks.

    ``rows``: the guests' rows of all runs. ``cells``: the parameters of each cell, as the study writes them.
    """
    replicates = sorted({row["replicate"] for row in rows})
    outcomes = []
    for check in argument.checks:
        values = [_figure(check, [row for row in rows if row["replicate"] == r], cells) for r in replicates]
        outcomes.append(Outcome(check, *_conclude(check, values)))
    return outcomes


def verdict(outcomes: Iterable[Outcome]) -> Verdict:
    """Refuted if a check is, confirmed if all are, else open."""
    found = {outcome.verdict for outcome in outcomes}
    if Verdict.REFUTED in found:
        return Verdict.REFUTED
    return Verdict.CONFIRMED if found == {Verdict.CONFIRMED} else Verdict.OPEN


def _conclude(check: Check, values: list[float]) -> tuple[Mean, Verdict]:
    """A check is decided if its whole interval lies on one side of the bound."""
    mean = mean_interval(values) if all(map(math.isfinite, values)) else Mean(math.inf, None)
    half = mean.half_width or 0.0
    ends = {check.holds(mean.mean - half), check.holds(mean.mean + half)}
    if len(ends) > 1:
        return mean, Verdict.OPEN
    return mean, Verdict.CONFIRMED if ends == {True} else Verdict.REFUTED


def _figure(check: Check, rows: Sequence[Mapping[str, Any]], cells: Mapping[str, Mapping[str, Scalar]]) -> float:
    value = _measure(check, check.of, rows, cells)
    if check.over is None:
        return value
    return _ratio(value, _measure(check, check.over, rows, cells))


def _measure(
    check: Check,
    chosen: Mapping[str, Scalar],
    rows: Sequence[Mapping[str, Any]],
    cells: Mapping[str, Mapping[str, Scalar]],
) -> float:
    fitting = {cell_id for cell_id, parameters in cells.items() if fits(chosen, parameters)}
    some = [row for row in rows if row["cell_id"] in fitting and check.guest in (None, row["guest"])]
    metric = check.metric
    return _ratio(*metric.amounts({name: sum(row[name] for row in some) for name in metric.needs}))


def _ratio(a: float, b: float) -> float:
    if b:
        return a / b
    return math.inf if a else 0.0


@dataclass(frozen=True)
class Argued:
    """A claim that was argued: what was measured, and what it says."""

    study: Path
    argument: Argument
    replicates: int
    outcomes: list[Outcome]

    @property
    def verdict(self) -> Verdict:
        """What the runs say of the claim."""
        return verdict(self.outcomes)


def tally(argued: Iterable[Argued]) -> str:
    """How many claims came out how: "24 confirmed, 3 refuted, 0 open"."""
    counts = Counter(one.verdict for one in argued)
    return ", ".join(f"{counts[each]} {each}" for each in Verdict)


@dataclass(frozen=True)
class Arguable:
    """A study with a claim."""

    study: Path
    plan: Plan
    argument: Argument


def shipped() -> Path:
    """The folder of the claims that come along."""
    from coldfleet import configs

    return Path(next(iter(configs.__path__))) / "arguments"


def find_arguments(names: Sequence[str]) -> list[Arguable]:
    """The claims of these numbers ("C7") or files; all that come along if there are no names. Raises UserError."""
    ours = {f"C{int(path.stem[1:])}": path for path in sorted(shipped().glob("c*.toml"))}
    found = []
    for name in names or list(ours):
        path = ours.get(name.upper()) or Path(name)
        if path.suffix != ".toml":
            raise UserError(f"no claim {name!r}: there are {', '.join(ours)}, or name a study file")
        plan = read_study(path)
        if plan.argument is None:
            raise UserError(f"{path}: this study makes no claim: it has no [argument]")
        found.append(Arguable(path, plan, plan.argument))
    return found


def run_arguments(
    arguables: list[Arguable],
    *,
    replicates: int | None,
    executor: Executor,
    reporter: Reporter,
    out: Place = None,
) -> Iterator[Argued]:
    """Runs them one after the other, with one executor; yields each as soon as it is done.

    ``replicates``: at most so many of each. ``out``: where the runs are kept. Raises UserError if a run fails, and for
    studies whose runs can't be in one plan: with two policies of one name, or with other classes of guests.
    """
    gathered = Gathered(arguables[0].plan)
    for one in arguables:
        try:
            gathered.adopt(one.plan)
            gathered.add(map(one.plan.run, range(one.plan.cell_count)))
        except UserError as error:
            raise UserError(f"{one.study}: {error}: argue this claim alone") from None
    columns = {name for one in arguables for check in one.argument.checks for name in check.metric.needs}
    plan = replace(gathered.plan(), asked=None)
    with Trials(plan, executor, reporter, {"guests": ["guest", *columns]}, out) as trials:
        for one in arguables:
            cells = [one.plan.cell(number) for number in range(one.plan.cell_count)]
            count = min(replicates or one.plan.replicates, one.plan.replicates)
            wanted = [Trial(plan.numbers[cell.cell_id], replicate) for replicate in range(count) for cell in cells]
            trials.run(wanted)
            rows = [row for trial in wanted for row in trials.rows("guests", trial)]
            written = {cell.cell_id: as_written(cell.spec) for cell in cells}
            yield Argued(one.study, one.argument, count, judge(one.argument, rows, written))
        trials.say_thrift()
