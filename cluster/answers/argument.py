"""Arguments of the mail thread as experiments: ``[argument]`` in a study says what confirms or refutes a claim.

A check measures a figure in some cells of the study and compares it with a bound. Nothing about the outcome is written
down: the verdict follows from the runs.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator

from coldfleet.cluster.stats.statistics import Mean, mean_interval
from coldfleet.cluster.study.model import walk_keys
from coldfleet.cluster.study.tables import Table, table_key
from coldfleet.cluster.study.values import Scalar
from coldfleet.hostsim.counters.counters import COUNTERS
from coldfleet.hostsim.spec.errors import UserError

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_BOUND = re.compile(r"(<=|>=|==|<|>)\s*(\d+(?:\.\d+)?(?:e-?\d+)?)")
_NAMES = frozenset(counter.name for counter in COUNTERS)


class Verdict(StrEnum):
    """What the runs say of a claim or a check."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    OPEN = "open"


def _sum_of_counters(text: str) -> list[str]:
    names = [name.strip() for name in text.split("+")]
    for name in names:
        if name not in _NAMES:
            raise UserError(f"no counter {name!r}: docs/columns.md has them all")
    return names


def _known_measure(text: str) -> str:
    for part in text.split("/", 1):
        _sum_of_counters(part)
    return text


def _known_bound(text: str) -> str:
    if not _BOUND.fullmatch(text.strip()):
        raise UserError(f"{text!r} is not a bound: write for example '>= 0.9'")
    return text


class Check(Table):
    """One thing that must hold if the claim is true."""

    says: str = table_key("what it shows, in words")
    measure: Annotated[str, AfterValidator(_known_measure)] = table_key(
        "a counter, a sum of some ('a + b'), or one sum over another ('a / b + c')"
    )
    of: dict[str, Scalar] = table_key("the cells: values of keys in the grid; several cells are added up", default={})
    guest: int | None = table_key("only this guest of each host", default=None)
    over: dict[str, Scalar] | None = table_key("the figure is divided by that of these cells", default=None)
    bound: Annotated[str, AfterValidator(_known_bound)] = table_key("what the figure must be, such as '>= 0.9'")

    def holds(self, value: float) -> bool:
        """Whether a value is within the bound."""
        matched = _BOUND.fullmatch(self.bound.strip())
        assert matched is not None  # checked at the door
        return _COMPARE[matched[1]](value, float(matched[2]))


class Argument(Table):
    """A claim of the thread, and what decides it."""

    number: int = table_key("the C-number", ge=1, le=99)
    claim: str = table_key("the claim, as it was made")
    by: str = table_key("who made it, and where")
    decides: str = table_key("what is measured, and which outcome confirms or refutes it")
    checks: list[Check] = table_key("all must hold", min_length=1)

    def check_cells(self, cells: Iterable[Mapping[str, Scalar]]) -> None:
        """Raises UserError if a check is about cells that the study doesn't have."""
        known = list(cells)
        paths = [path for path, _ in walk_keys()]
        for check in self.checks:
            for chosen in (check.of, check.over):
                for path in chosen or {}:
                    if path not in paths:
                        raise UserError(f"check {check.says!r}: unknown key {path!r}")
                if chosen and not any(_fits(chosen, cell) for cell in known):
                    raise UserError(f"check {check.says!r}: the study has no cell with {chosen}")


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
    fitting = {cell_id for cell_id, parameters in cells.items() if _fits(chosen, parameters)}
    some = [row for row in rows if row["cell_id"] in fitting and check.guest in (None, row["guest"])]
    numbers = [float(sum(row[n] for row in some for n in _sum_of_counters(p))) for p in check.measure.split("/", 1)]
    return numbers[0] if len(numbers) == 1 else _ratio(*numbers)


def _fits(chosen: Mapping[str, Scalar], parameters: Mapping[str, Scalar]) -> bool:
    return all(parameters[path] == value for path, value in chosen.items())


def _ratio(a: float, b: float) -> float:
    if b:
        return a / b
    return math.inf if a else 0.0
