"""What can be asked of a run: figures with names and units, made of the tables' columns.

A metric is a sum of columns, or one sum over another, so it can be taken of a guest, of a host or of a whole fleet: the
columns are added up first. Every numeric column is a metric of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from coldfleet.cluster.results.schemas import SORT_KEYS, schema
from coldfleet.cluster.study.model import column_of, walk_keys
from coldfleet.hostsim.counters.timing import CAUSES, GAUGES, TIMES, Cause
from coldfleet.hostsim.spec.errors import UserError, nearest

_SITES = ("walk", "look_around", "evict")
_TIMED = frozenset(column.name for column in (*TIMES, *GAUGES))
_NOT_FIGURES = frozenset(("seed", "access_hash"))


@dataclass(frozen=True)
class Metric:
    """A sum of ``columns`` less that of ``less``, over a sum of the columns ``over`` if there are any, times a scale.

    ``key`` names it on the command line and in JSON, ``title`` in tables. ``unit``: of the figure. ``per_tick``: it is
    a rate, in units a tick.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    scale: float = 1.0
    over: tuple[str, ...] = ()
    unit: str = ""
    per_tick: bool = False
    less: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """All columns that it is made of."""
        return (*self.columns, *self.over, *self.less)

    @property
    def needs_clock(self) -> bool:
        """Whether it is 0 in studies without a clock."""
        return not _TIMED.isdisjoint(self.needs)

    def value(self, row: Mapping[str, Any]) -> float:
        """The figure of one row of a table; nothing over nothing is 0."""
        total = sum(row[name] for name in self.columns) - sum(row[name] for name in self.less)
        figure = self.scale * float(total)
        if not self.over:
            return figure
        below = float(sum(row[name] for name in self.over))
        return figure / below if below else 0.0


SUMMARY = (
    Metric("refaults", "refaults", ("pgmajfault",), unit="faults"),
    Metric("missed_young", "missed young", tuple(f"missed_young_{site}" for site in _SITES), unit="pages"),
    Metric("false_young", "false young", tuple(f"false_young_{site}" for site in _SITES), unit="pages"),
    Metric("notifier_calls", "notifier calls", tuple(f"notifier_calls_{site}" for site in _SITES), unit="calls"),
    Metric("mmu_lock_write", "mmu_lock writes", ("mmu_lock_write_acquisitions",), unit="acquisitions"),
    Metric("reclaim_cpu_s", "reclaim CPU s", ("reclaim_cpu_ns",), 1e-9, unit="s"),
)
"""The figures of every summary."""

_BUSY = tuple(name for cause, (name, _) in CAUSES.items() if cause != Cause.IDLE)

DERIVED = (
    Metric(
        "promotion_rate", "promotion rate", ("pgmajfault",), over=("resident_page_ticks",), unit="share", per_tick=True
    ),
    Metric("throughput", "throughput", ("unreclaimed_ns",), over=_BUSY, unit="share"),
    Metric("slowdown", "slowdown", _BUSY, over=("unreclaimed_ns",), unit="share", less=("unreclaimed_ns",)),
    Metric("aging_pass_ms", "aging pass ms", ("aging_pass_ns",), 1e-6, over=("aging_passes",), unit="ms"),
    Metric("fault_rate", "fault rate", ("pgmajfault",), over=("accesses",), unit="share"),
)
"""Ratios that have a name. promotion_rate: refaults over the pages in memory, the SLO of software-defined far memory
(Lagar-Cavilla et al., ASPLOS 2019, section 4.2), there 0.2 % a minute. fault_rate: refaults an access. The others need
a clock. throughput: the time that the same accesses take without reclaim, over the time that they took; slowdown: how
much longer they took, as a share. aging_pass_ms: mean length of an aging pass."""


@cache
def columns(table: str) -> dict[str, str]:
    """The columns of a table that are figures, each with its unit."""
    import pyarrow as pa

    parameters = {column_of(path) for path, _ in walk_keys()}
    return {
        field.name: field.metadata[b"unit"].decode()
        for field in schema(table)
        if (pa.types.is_integer(field.type) or pa.types.is_floating(field.type))
        and field.name not in _NOT_FIGURES.union(SORT_KEYS[table], parameters)
    }


def known_metrics(table: str) -> list[str]:
    """Every name that :func:`find_metric` takes, without sums and ratios."""
    return [*(metric.key for metric in (*SUMMARY, *DERIVED)), *columns(table)]


def find_metric(text: str, table: str = "cells") -> Metric:
    """A metric by its name, a column, a sum ``a + b``, or one over another: ``a + b / c``; raises UserError.

    ``table``: where its columns have to be.
    """
    for metric in (*SUMMARY, *DERIVED):
        if text == metric.key:
            return metric
    above, slash, below = text.partition("/")
    names, over = _summands(above, table, text), _summands(below, table, text) if slash else ()
    units = [columns(table)[name] for name in names]
    unit = units[0] if len(set(units)) == 1 and not over else ""
    return Metric(text, text.replace("_", " "), names, over=over, unit=unit)


def _summands(text: str, table: str, whole: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split("+"))
    for name in names:
        if name not in columns(table):
            what = f"unknown metric {name!r}" if name == whole.strip() else f"unknown column {name!r} in {whole!r}"
            raise UserError(f"{what}{nearest(name, known_metrics(table))}")
    return names
