"""What a capacity is worth, in hosts and DRAM, and which guest limits it."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coldfleet.cluster.answers.slo import Slo
from coldfleet.cluster.stats.metrics import SUMMARY, Metric
from coldfleet.cluster.study.fleet import build_hosts
from coldfleet.cluster.study.plan import Plan

OVERCOMMIT = "overcommit"
DENSITY = "fleet.guests_per_host"
_CAUSES = tuple(metric for metric in SUMMARY if metric.key in ("missed_young", "false_young"))
_STANDS_OUT = 1.2  # times the median guest: less is not called a reason


@dataclass(frozen=True)
class FleetSize:
    """A fleet whose guests fill ``hosts`` hosts of ``host_pages`` without overcommit, ``density`` guests on each."""

    hosts: float
    host_pages: float
    density: float

    @classmethod
    def of(cls, plan: Plan, hosts: int | None) -> FleetSize:
        """The study's fleet, or one of so many hosts that is like it."""
        spec = plan.cell(0).spec
        guests = [guest for host in build_hosts(plan.run(0)) for guest in host.guests]
        pages = sum(guest.memory_pages + (guest.page_cache.pages if guest.page_cache else 0) for guest in guests)
        classes = spec.fleet.host.values()
        count = sum(each.count for each in classes) or spec.fleet.hosts
        host_pages = sum(each.count * each.memory for each in classes) / count if classes else pages / count
        return cls(hosts or pages / host_pages, host_pages, len(guests) / count)

    def hosts_needed(self, path: str, load: float) -> int | None:
        """Hosts for all of the guests at a load; None if that isn't what the load is about."""
        if path == OVERCOMMIT:
            return math.ceil(round(self.hosts / load, 9))
        if path == DENSITY:
            return math.ceil(round(self.hosts * self.density / load, 9))
        return None

    def dram_pages(self, path: str, load: float) -> float:
        """Memory that the guests keep at a load."""
        return self.hosts * self.host_pages / (load if path == OVERCOMMIT else 1)


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
    worst = [max(slos, key=lambda slo: slo.excess(rows[slo.table])) for rows in runs]
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


def _reasons(guest: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> tuple[tuple[Metric, float], ...]:
    found = []
    for metric in _CAUSES:
        usual = statistics.median(metric.value(row) for row in others)
        if usual and (times := metric.value(guest) / usual) >= _STANDS_OUT:
            found.append((metric, times))
    return tuple(sorted(found, key=lambda each: -each[1]))
