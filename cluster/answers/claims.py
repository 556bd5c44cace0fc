"""Runs the studies that have an ``[argument]``, in several processes, and judges what comes out."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from enum import StrEnum
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from coldfleet.cluster.execution.work import simulate_run
from coldfleet.cluster.stats.statistics import Mean, mean_interval
from coldfleet.cluster.study.argument import Argument, Check, fits
from coldfleet.cluster.study.plan import Plan, Run, as_written
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


def run_arguments(arguables: list[Arguable], *, replicates: int | None, workers: int | None) -> Iterator[Argued]:
    """Runs them all at once; yields each in order, as soon as it is done. ``replicates``: at most so many of each.

    Raises UserError if a run fails.
    """
    count = workers or len(os.sched_getaffinity(0))
    plans = [one.plan if replicates is None else _shortened(one.plan, replicates) for one in arguables]
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        try:
            futures = [[pool.submit(_guest_rows, run) for run in plan.runs()] for plan in plans]
            for one, plan, some in zip(arguables, plans, futures, strict=True):
                rows = [row for future in some for row in _result(one, future)]
                cells = {(cell := plan.cell(n)).cell_id: as_written(cell.spec) for n in range(plan.cell_count)}
                yield Argued(one.study, one.argument, plan.replicates, judge(one.argument, rows, cells))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _shortened(plan: Plan, replicates: int) -> Plan:
    return replace(plan, replicates=min(replicates, plan.replicates))


def _guest_rows(run: Run) -> list[dict[str, Any]]:
    return simulate_run(run)["guests"]


def _result(one: Arguable, future: Future[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    try:
        return future.result()
    except BrokenProcessPool:
        raise UserError("a worker process was killed, perhaps because memory ran out: try --workers 1") from None
    except Exception as error:
        raise UserError(f"{one.study}: a run failed: {type(error).__name__}: {error}") from None
