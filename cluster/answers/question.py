"""A study as the start of a question: its keys by short names, set to one value, and varied as one likes."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real

from coldfleet.cluster.stats.metrics import Metric
from coldfleet.cluster.study.design import Bundle
from coldfleet.cluster.study.model import (
    CellSpec,
    Study,
    column_of,
    find_key,
    following_keys,
    other_way,
    quantity_at,
    scalar_type,
)
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.values import Scalar, parse_share
from coldfleet.hostsim.spec.checks import check_argument
from coldfleet.hostsim.spec.errors import UserError, nearest
from coldfleet.hostsim.spec.units import TIME

_SHOWN = 5  # values of a key in a message
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
SECOND_NS = 1e9
_USUAL = {"overcommit": (1.0, 4.0), "limit": (0.25, 1.0)}
_BUDGET = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([a-z]*)")


@dataclass(frozen=True)
class Budget:
    """What an answer may cost: seconds since the first run, or a number of runs. The other one is None."""

    seconds: float | None = None
    runs: int | None = None

    @classmethod
    def parse(cls, text: str | int) -> Budget:
        """ "5m", "90 s", "2 h", or a number of runs; raises UserError."""
        matched = _BUDGET.fullmatch(str(text).strip())
        if matched and matched[2] in _SECONDS:
            return cls(seconds=float(matched[1]) * _SECONDS[matched[2]])
        if matched and not matched[2] and matched[1].isdigit():
            return cls(runs=int(matched[1]))
        raise UserError(f"budget {str(text)[:80]}: write a time, such as 5m, or a number of runs, such as 600")

    def runs_left(self, runs: int, seconds: float, rate: float | None, kept: int) -> int | None:
        """How many runs are left after so many and so long, at so many runs a second; None: not known yet.

        ``kept``: runs that are there and were not asked for yet, which take no time.
        """
        if self.runs is not None:
            return max(self.runs - runs, 0)
        assert self.seconds is not None
        if rate is None:
            return None
        return int((self.seconds - seconds) * rate) + kept if seconds < self.seconds else 0

    def seconds_left(self, seconds: float) -> float:
        """How long a check may take after so long; a number of runs doesn't bound it."""
        return math.inf if self.seconds is None else max(self.seconds - seconds, 0.0)


def find_path(name: str, plan: Plan) -> str:
    """The dotted name of a key that is given by it, by its column, or by its end: "exposed_share", or
    "nested_exposed_share" -> "nested.exposed_share".

    Raises UserError if there is no such key, or several.
    """
    check_argument("the key", name, str, "a text")
    known = list(dict.fromkeys([*plan.all_keys, *following_keys()]))
    found = [path for path in known if name in (path, column_of(path), path.replace(".", "_"))] or [
        path for path in known if path.endswith(f".{name}")
    ]
    if not found and name in Study.model_fields.keys() - CellSpec.model_fields.keys():
        why = "replicates differ in it" if name == "seed" else "all cells have the same"
        raise UserError(f"{name} is a key of the whole study, {why}: choose a key of a cell, such as overcommit")
    if not found:
        tails = {path.rpartition(".")[2]: path for path in reversed(known)}
        raise UserError(f"unknown key {name!r}{nearest(name, [*known, *tails])}")
    if len(found) > 1:
        raise UserError(f"{name!r} is the end of {len(found)} keys: write {' or '.join(found)}")
    return found[0]


def range_of(path: str, low: float | None, high: float | None, plan: Plan, one: bool = False) -> tuple[float, float]:
    """From where to where a key is varied: as asked, else as is usual, else as the study does; ``one``: may be equal.

    Raises UserError if the key has no numbers, or nothing says where they end.
    """
    values = plan.values(path)
    if any(isinstance(value, str) for value in values) or quantity_at(path):
        raise UserError(
            f"{path} has no range of numbers: choose a key with numbers, such as overcommit or nested_ratio"
        )
    usual = (0.0, 1.0) if path.endswith(("share", "ratio")) else _USUAL.get(path)
    if usual is None and len(values) > 1:
        usual = min(map(float, values)), max(map(float, values))
    if usual is None and (low is None or high is None):
        raise UserError(f"{path}: give its range, from where to where")
    first = usual[0] if low is None and usual else float(low or 0)
    last = usual[1] if high is None and usual else float(high or 0)
    if not (math.isfinite(first) and math.isfinite(last)):
        raise UserError(f"{path} from {first:g} to {last:g}: give a number for each")
    if first > last or (first == last and not one):
        raise UserError(f"{path} from {first:g} to {last:g} is not a range: the first must be smaller")
    return first, last


def is_whole(path: str) -> bool:
    """Whether a key has whole numbers."""
    key = find_key(path)
    return key is not None and scalar_type(key) is int


def read_value(path: str, text: str) -> Scalar:
    """A value that was given as text, as a study file would have it; raises UserError."""
    key = find_key(path)
    assert key is not None  # it was found among the plan's keys
    if quantity := quantity_at(path):
        quantity.parse(text)
        return text
    try:
        return parse_share(text) if text.endswith("%") else scalar_type(key)(text)
    except ValueError:
        kind = "a whole number" if scalar_type(key) is int else "a number"
        raise UserError(f"{path} = {text!r} is not {kind}") from None


def read_setting(text: str, plan: Plan) -> tuple[str, Scalar]:
    """What is set to what: ``KEY=VALUE``, or the name of a policy alone; amounts in pages or ns. Raises UserError."""
    check_argument("what is compared", text, str, "a policy or KEY=VALUE")
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        return "policy", name
    path = find_path(name, plan)
    quantity = quantity_at(path)
    return path, quantity.parse(value) if quantity else read_value(path, value)


def find_sibling(plan: Plan, number: int, setting: str) -> tuple[int, str]:
    """The cell that differs from this one in the setting alone, and the key that it sets; raises UserError."""
    path, value = read_setting(setting, plan)
    spec = plan.cell(number).spec
    if path not in plan.varied:
        varied = f"it varies {', '.join(plan.varied)}" if plan.varied else "it varies nothing"
        raise UserError(f"{setting}: the study has one {path} only: {varied}")
    if spec.value(path) == value:
        raise UserError(f"{setting}: that is the cell's own {path}")
    wanted = {varied: spec.value(varied) for varied in plan.varied} | {path: value}
    found: list[str] = []
    for other in range(plan.cell_count):
        values = {varied: plan.cell(other).spec.value(varied) for varied in wanted}
        if values == wanted:
            return other, path
        if {**values, path: value} == wanted and other != number:
            found.append(str(values[path]))
    raise UserError(f"{setting}: no cell has that {path} and else the same values{nearest(str(value), found)}")


def set_keys(plan: Plan, at: Mapping[str, Scalar], varied: Iterable[str] = ()) -> Plan:
    """The study with keys set to one value each, by name or its end, a number maybe as text.

    Raises UserError, also for a key that the question varies: ``varied``, each by name or its end.
    """
    check_argument("at", at, Mapping, 'a mapping, such as {"nested_ratio": 1}')
    ways = {way for path in (find_path(each, plan) for each in varied) for way in (path, other_way(path))}
    for name, value in at.items():
        path = find_path(name, plan)
        if path in ways:
            raise UserError(f"at {name}={value}: that is what varies here: leave it out, or vary another key")
        plan = vary(plan, path, [read_value(path, value) if isinstance(value, str) else value])
        plan.cell(0)  # complains if that can't be
    return plan


def vary(plan: Plan, path: str, values: Sequence[Scalar]) -> Plan:
    """The study with these values of a key; it then varies last, or not at all if there is only one.

    Raises UserError if the key varies together with others, which have no values for these.
    """
    ways = {path, other_way(path)}
    if together := [bundle for bundle in plan.bundles if ways & {*bundle.paths} and len(bundle.paths) > 1]:
        others = ", ".join(other for other in together[0].paths if other != path)
        raise UserError(f"{path} varies together with {others} in this study: use a study where it has its own values")
    base = {key: value for key, value in plan.base.items() if key not in ways}
    axes = {key: each for key, each in plan.axes.items() if key not in ways}
    bundles = tuple(bundle for bundle in plan.bundles if not ways & {*bundle.paths})
    if len(values) == 1:
        base[path] = values[0]
    else:
        axes[path] = tuple(values)
    return replace(plan, base=base, axes=axes, bundles=bundles)


def vary_together(plan: Plan, paths: tuple[str, ...], rows: Sequence[tuple[Scalar, ...]]) -> Plan:
    """The study at some points: these keys have the values of a row each."""
    for place, path in enumerate(paths):
        plan = vary(plan, path, [rows[0][place]])
    base = {key: value for key, value in plan.base.items() if key not in paths}
    return replace(plan, base=base, bundles=(*plan.bundles, Bundle(paths, tuple(rows))))


def only_policies(plan: Plan, wanted: Collection[str]) -> None:
    """Raises UserError if the study varies anything else than policies and the keys that are ``wanted``."""
    if several := _several(plan, wanted):
        shown = "; ".join(f"{path} ({_some(plan.values(path))})" for path in several)
        raise UserError(f"the study varies {shown}: choose one value of each, such as {example_at(plan, wanted)}")


def example_at(plan: Plan, wanted: Collection[str] = ()) -> str:
    """Options that choose one value of every key that varies, but policies and those ``wanted``, to paste."""
    options = (["--at", f"{path}={_shown(plan.values(path)[0])}"] for path in _several(plan, wanted))
    return " ".join(map(shlex.join, options))


def _several(plan: Plan, wanted: Collection[str]) -> list[str]:
    """The keys that vary, but policies and those wanted, or another way to say one of those."""
    return [path for path in plan.varied if path not in ("policy", *wanted) and other_way(path) not in wanted]


def _shown(value: Scalar) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _some(values: Sequence[Scalar]) -> str:
    shown = ", ".join(map(_shown, values[:_SHOWN]))
    return f"{shown}, ..." if len(values) > _SHOWN else shown


def check_confidence(confidence: float) -> None:
    """Raises UserError unless it is a percentage that an interval can have."""
    check_argument("confidence", confidence, Real, "a number")
    if not 50 <= confidence < 100:
        raise UserError(f"confidence {confidence:g}: it should be a percentage from 50 to 99.99")


def tick_seconds(plan: Plan) -> float | None:
    """The length of a tick; None if the study has no clock, or ticks of several lengths."""
    if plan.values("clock.mode") != ("timed",) or len(lengths := plan.values("clock.tick")) > 1:
        return None
    return TIME.parse(lengths[0]) / SECOND_NS  # type: ignore[arg-type]


def check_clock(plan: Plan, metrics: Iterable[Metric]) -> None:
    """Raises UserError if a metric takes a clock and the study, or a part of it, has none."""
    for metric in metrics:
        if metric.needs_clock and plan.values("clock.mode") != ("timed",):
            raise UserError(f"{metric.key} is measured by a clock: add --at clock.mode=timed")


def settings_of(plan: Plan, path: str = "policy") -> dict[tuple[tuple[str, Scalar], ...], dict[Scalar, int]]:
    """The cells of a plan: by what varies besides one key, for each value of that the number of its cell."""
    found: dict[tuple[tuple[str, Scalar], ...], dict[Scalar, int]] = {}
    others = [other for other in plan.varied if other != path]
    for number in range(plan.cell_count):
        spec = plan.cell(number).spec
        found.setdefault(tuple((other, spec.value(other)) for other in others), {})[spec.value(path)] = number
    return found
