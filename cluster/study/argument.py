"""The table ``[argument]`` of a study: a claim of the mail thread, and what confirms or refutes it.

A check measures a figure in some cells of the study and compares it with a bound. Nothing about the outcome is written
down: the verdict follows from the runs (cluster.answers.claims). ``bound_set`` is there so that a reader can tell
whether the bounds are older than the figures.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from coldfleet.cluster.stats.metrics import Metric, parse_metric
from coldfleet.cluster.study.model import walk_keys
from coldfleet.cluster.study.tables import Table, table_key
from coldfleet.cluster.study.values import Scalar
from coldfleet.hostsim.counters.counters import COUNTERS
from coldfleet.hostsim.spec.errors import UserError

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_BOUND = re.compile(r"(<=|>=|==|<|>)\s*(\d+(?:\.\d+)?(?:e-?\d+)?)")
COUNTER_UNITS = {counter.name: counter.unit for counter in COUNTERS}
"""What a check can measure: the counters."""


def _known_measure(text: str) -> str:
    parse_metric(text, COUNTER_UNITS)
    return text


def _known_bound(text: str) -> str:
    if not _BOUND.fullmatch(text.strip()):
        raise UserError(f"{text!r} is not a bound: write for example '>= 0.9'")
    return text


def _known_date(value: object) -> object:
    if type(value) is not date and value is not None:
        raise UserError(f"{str(value)!r} is not a date: write for example 2026-11-23, without quotes")
    return value


class Check(Table):
    """One thing that must hold if the claim is true."""

    says: str = table_key("what it shows, in words")
    measure: Annotated[str, AfterValidator(_known_measure)] = table_key(
        "a metric: a name, a counter, a sum of some ('a + b - c'), or one sum over another ('a / b + c')"
    )
    of: dict[str, Scalar] = table_key("the cells: values of keys in the grid; several cells are added up", default={})
    guest: int | None = table_key("only this guest of each host", default=None)
    over: dict[str, Scalar] | None = table_key("the figure is divided by that of these cells", default=None)
    bound: Annotated[str, AfterValidator(_known_bound)] = table_key("what the figure must be, such as '>= 0.9'")

    @property
    def metric(self) -> Metric:
        """What is measured."""
        return parse_metric(self.measure, COUNTER_UNITS)

    def holds(self, value: float) -> bool:
        """Whether a value is within the bound."""
        matched = _BOUND.fullmatch(self.bound.strip())
        assert matched is not None  # checked as the study was read
        return _COMPARE[matched[1]](value, float(matched[2]))


class Argument(Table):
    """A claim of the thread, and what decides it."""

    number: int = table_key("the C-number", ge=1, le=99)
    claim: str = table_key("the claim, as it was made")
    by: str = table_key("who made it, and where")
    bound_set: Annotated[date | None, BeforeValidator(_known_date)] = table_key(
        "the date of the last change to a bound, without quotes", default=None
    )
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
                if chosen and not any(fits(chosen, cell) for cell in known):
                    raise UserError(f"check {check.says!r}: the study has no cell with {chosen}")


def fits(chosen: Mapping[str, Scalar], parameters: Mapping[str, Scalar]) -> bool:
    """Whether a cell with these parameters is one of the chosen ones."""
    return all(parameters[path] == value for path, value in chosen.items())
