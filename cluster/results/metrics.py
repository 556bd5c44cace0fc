"""Which metrics can be taken of each result table."""

from __future__ import annotations

from functools import cache

from coldfleet.cluster.results.schemas import SORT_KEYS, schema
from coldfleet.cluster.stats.metrics import DERIVED, SUMMARY, Metric, parse_metric
from coldfleet.cluster.study.model import column_of, walk_keys
from coldfleet.hostsim.spec.checks import check_argument

_NOT_FIGURES = frozenset(("seed", "access_hash"))
_TICKS = "ticks"  # a parameter, but also what a rate is taken over


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


@cache
def named_figures(table: str) -> dict[str, Metric]:
    """The figures that have a name and can be taken of each row of a table, beside its columns."""
    names = schema(table).names
    known = (*SUMMARY, *DERIVED)
    return {metric.key: metric for metric in known if metric.key not in names and set(metric.needs) <= set(names)}


def find_metric(text: str, table: str = "cells") -> Metric:
    """A metric of a table, as :func:`cluster.stats.metrics.parse_metric` reads it; raises UserError."""
    check_argument("metric", text, str, "a text")
    known = columns(table)
    return parse_metric(text, {**known, _TICKS: _TICKS} if _TICKS in schema(table).names else known)
