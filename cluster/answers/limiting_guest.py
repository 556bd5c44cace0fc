"""Which SLO gives way first, which guest breaks it, and what that guest has more of than others."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coldfleet.cluster.answers.slo import NO_KILLS, Slo
from coldfleet.cluster.stats.metrics import SUMMARY, Metric

_CAUSES = tuple(metric for metric in SUMMARY if metric.key in ("missed_young", "false_young"))
_STANDS_OUT = 1.2  # times the median guest: less is not called a reason


@dataclass(frozen=True)
class Binding:
    """The SLO that is broken first, and the guest that breaks it.

    ``share``: of the replicates in which it is this SLO. ``nested_share``: of those in which the guest runs a nested
    VM. ``row``: that guest's row in the first of them. ``reasons``: what it has more of than the median guest.
    """

    slo: Slo
    value: float
    share: float
    nested_share: float
    row: Mapping[str, Any]
    reasons: tuple[tuple[Metric, float], ...]

    @property
    def guest(self) -> str:
        """Who it is, in words."""
        where = f"host {self.row['host']}"
        if "guest" not in self.row:
            return where
        nested = " (nested)" if self.row["nested"] else ""
        return f"{where} guest {self.row['guest']}{nested}"

    @property
    def reason(self) -> str:
        """What it has more of, in words."""
        found = [f"{times:.1f} times the {metric.title} of the median guest" for metric, times in self.reasons]
        return " and ".join(found)


def binding(slos: Sequence[Slo], runs: Sequence[Mapping[str, list[dict[str, Any]]]]) -> Binding:
    """What binds in these replicates; each is the rows of its tables."""
    worst = [_worst(slos, rows) for rows in runs]
    slo, times = Counter(worst).most_common(1)[0]
    chosen = [rows[slo.table] for rows, each in zip(runs, worst, strict=True) if each == slo]
    guests = [slo.binding(rows) for rows in chosen]
    return Binding(
        slo,
        statistics.fmean(slo.value(rows) for rows in chosen),
        times / len(runs),
        statistics.fmean(bool(guest.get("nested")) for guest in guests),
        guests[0],
        _reasons(guests[0], chosen[0]),
    )


def _worst(slos: Sequence[Slo], rows: Mapping[str, list[dict[str, Any]]]) -> Slo:
    """The SLO that is exceeded most; a guest that was killed comes before all."""
    if NO_KILLS in slos and NO_KILLS.excess(rows[NO_KILLS.table]) > 0:
        return NO_KILLS
    return max((slo for slo in slos if slo is not NO_KILLS), key=lambda slo: slo.excess(rows[slo.table]))


def _reasons(guest: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> tuple[tuple[Metric, float], ...]:
    found = []
    for metric in _CAUSES:
        usual = statistics.median(metric.value(row) for row in others)
        if usual and (times := metric.value(guest) / usual) >= _STANDS_OUT:
            found.append((metric, times))
    return tuple(sorted(found, key=lambda each: -each[1]))
