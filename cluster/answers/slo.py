"""What a fleet's operator promises: ``promotion_rate<0.2%/min``, ``slowdown_p99 < 5%``.

An SLO bounds a metric of every guest. The worst guest has to keep it, or, with an ending such as ``_p99`` or ``_mean``,
that percentile or the mean of all guests. Guests count by the time for which they live: ``_p99`` is what holds for 99 %
of all guest-time. Whatever is promised, no guest may be killed (NO_KILLS).
"""

from __future__ import annotations

import math
import re
import statistics
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from coldfleet.cluster.results.metrics import columns, find_metric
from coldfleet.cluster.stats.metrics import OOM_KILLS, Metric
from coldfleet.hostsim.spec.errors import UserError

_SLO = re.compile(r"(?P<what>[^<>=]+)(?P<sign><=?|>=?)\s*(?P<number>[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?)(?P<unit>.*)")
_ENDING = re.compile(r"(?P<metric>.+)_(?:p(?P<percent>\d{1,2}(?:\.\d+)?)|(?P<mean>mean))")
_NANOSECONDS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9}
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Slo:
    """A bound on a metric of guests, or of hosts (``table``).

    ``percent``: of the guests' time whose guests keep it; 100: the worst does; None: their mean. ``unit``: that of the
    text, and ``scale`` how much it is in the metric's own.
    """

    text: str
    metric: Metric
    table: str
    percent: float | None
    upper: bool
    bound: float
    unit: str
    scale: float

    def value(self, rows: Sequence[Mapping[str, Any]]) -> float:
        """The figure that is held against the bound."""
        values, weights = [self.metric.value(row) for row in rows], [_lived(row) for row in rows]
        if self.percent is None:
            return statistics.fmean(values, weights if any(weights) else None)
        return values[self._place(values, weights)]

    def excess(self, rows: Sequence[Mapping[str, Any]]) -> float:
        """How far the figure is beyond the bound, in units of the bound; negative if the SLO is met."""
        beyond = self.value(rows) - self.bound if self.upper else self.bound - self.value(rows)
        return beyond / (abs(self.bound) or 1.0)

    def judged(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """Whether it is met, in words."""
        is_met = "met" if self.excess(rows) <= 0 else "broken"
        return f"{self.text} is {is_met}, with {self.show(self.value(rows))}"

    def binding(self, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """The row of the guest that decides: for a mean the worst."""
        return rows[self._place([self.metric.value(row) for row in rows], [_lived(row) for row in rows])]

    def show(self, value: float) -> str:
        """A figure in the SLO's unit."""
        return f"{value / self.scale:.3g}{self.unit}"

    def _place(self, values: Sequence[float], weights: Sequence[int]) -> int:
        """Where the value is at or under which ``percent`` of the values are, from the good side (nearest rank)."""
        order = sorted(range(len(values)), key=lambda place: values[place] if self.upper else -values[place])
        if self.percent is None or self.percent == 100:
            return order[-1]
        most = max(*weights, 1)
        shares = list(accumulate(weights[place] / most for place in order))  # whole numbers where all live as long
        return order[min(bisect_left(shares, self.percent / 100 * shares[-1]), len(order) - 1)]


def _lived(row: Mapping[str, Any]) -> int:
    """For how many ticks a guest lived; hosts count alike."""
    return int(row.get("lived_ticks", 1))


NO_KILLS = Slo("oom_kills<=0", OOM_KILLS, "guests", 100.0, True, 0.0, "", 1.0)
"""No guest is killed by the OOM killer: part of every promise."""


def parse_slo(text: str, tick_s: float | None = None) -> Slo:
    """An SLO that is given as text; raises UserError with the nearest names. ``tick_s``: length of a tick, if any."""
    matched = _SLO.fullmatch(text)
    if matched is None or not math.isfinite(float(matched["number"])):
        raise UserError(f"slo {text!r:.200}: write METRIC<BOUND, such as 'fault_rate<2%' or 'refaults_p99<500'")
    what, unit = matched["what"].strip(), matched["unit"].strip()
    metric, table, percent = _find(what)
    scale = _scale(text, metric, unit, tick_s)
    upper, bound = matched["sign"].startswith("<"), float(matched["number"]) * scale
    return Slo(text.strip(), metric, table, percent, upper, bound, unit, scale)


def _find(name: str) -> tuple[Metric, str, float | None]:
    """The metric, its table, and the percent of guests. A column whose own name ends in _p99 is meant before all."""
    ending = None if any(name in columns(table) for table in ("guests", "hosts")) else _ENDING.fullmatch(name)
    if ending is not None:
        name = ending["metric"]
    try:
        metric, table = find_metric(name, "guests"), "guests"
    except UserError as unknown:
        try:
            metric, table = find_metric(name, "hosts"), "hosts"
        except UserError:
            raise UserError(f"slo: {unknown}") from None
    if ending is None:
        return metric, table, 100.0
    return metric, table, None if ending["mean"] else float(ending["percent"])


def _scale(text: str, metric: Metric, unit: str, tick_s: float | None) -> float:
    """How much the unit is in the metric's own; raises UserError if it is none of its units."""
    amount, slash, per = (part.strip() for part in unit.partition("/"))
    amounts = _NANOSECONDS if metric.unit == "ns" else {"": 1.0, metric.unit: 1.0}
    if metric.unit in ("share", ""):
        amounts = {**amounts, "%": 0.01}
    if amount not in amounts or metric.per_tick != bool(slash) or (slash and per not in ("tick", *_SECONDS)):
        raise UserError(f"slo {text!r}: {metric.key} is {_is_in(metric)}")
    if per not in _SECONDS:
        return amounts[amount]
    if tick_s is None:
        raise UserError(f"slo {text!r}: no clock says how long a tick is: write /tick, or add --at clock.mode=timed")
    return amounts[amount] * tick_s / _SECONDS[per]


def _is_in(metric: Metric) -> str:
    amount = {"share": "a share, such as 0.2%", "ns": "a time, such as 5ms", "": "a number"}.get(
        metric.unit, f"a number of {metric.unit}"
    )
    return f"{amount}/min or {amount.split()[-1]}/tick" if metric.per_tick else amount
