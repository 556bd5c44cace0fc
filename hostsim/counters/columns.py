"""What the columns of the results are made from: counters, and the 95 % intervals that a sampled host has of some."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Counter(NamedTuple):
    """One column; a counter is an int64 that is summed over guests and hosts."""

    name: str
    unit: str
    description: str


HEADLINE = (
    "pgfault",
    "pgmajfault",
    "refaults",
    "tdp_faults",
    "shadow_faults",
    "pswpin",
    "pswpout",
    "pgscan",
    "pgsteal",
    "resident_page_ticks",
    "walk_ptes",
    "young_walk",
    "young_evict",
    "missed_young_walk",
    "missed_young_evict",
    "notifier_calls_walk",
    "notifier_calls_evict",
    "mmu_lock_write_acquisitions",
    "reclaim_cpu_ns",
    "fault_cpu_ns",
)
"""Counters that have an interval."""


def ci_column(name: str) -> str:
    """The column of a counter's interval."""
    return f"{name}_ci95"


def no_ci95() -> dict[str, float]:
    """The intervals of a host that is simulated in full: it has no sampling error."""
    return {ci_column(name): 0.0 for name in HEADLINE}


def of_sum(intervals: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The intervals of sums over independent samples."""
    rows = list(intervals)
    return {name: math.sqrt(sum(row[name] ** 2 for row in rows)) for name in no_ci95()}
