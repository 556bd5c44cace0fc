"""What a large design found, without a line for each cell: how figures are spread over it, and what moves them.

A figure of a cell is its mean over the replicates that are done. Each cell counts once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coldfleet.cluster.results.results import Results
from coldfleet.cluster.stats.metrics import SUMMARY
from coldfleet.cluster.stats.statistics import grouped_means, short
from coldfleet.cluster.study.model import as_amount
from coldfleet.cluster.study.terminal import counted
from coldfleet.cluster.study.values import Scalar

if TYPE_CHECKING:
    from rich.table import Table

Values = npt.NDArray[np.float64]

SHARES = {"least": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "most": 1.0}
"""The quantiles that are shown: of n values in order, a share of the way from the first to the last."""

GROUPS = 8  # of equally many cells, into which the values of an axis with more are put


@dataclass(frozen=True)
class DesignSummary:
    """``cells``: of how many cells something is done.

    ``quantiles``: for each figure and policy one number for each of :data:`SHARES`. ``effects``: for each axis and
    figure the main effect, :func:`main_effect`; None: the figure is the same in all cells.
    """

    cells: int
    quantiles: Mapping[str, Mapping[str, tuple[float, ...]]]
    effects: Mapping[str, Mapping[str, float | None]]


def summarise_design(results: Results) -> DesignSummary:
    """The figures of every summary over all cells of which something is done."""
    plan = results.plan
    columns = sorted({name for metric in SUMMARY for name in metric.needs})
    table = results.table("cells", ["cell_id", *columns])
    numbers = np.array([plan.numbers[cell_id] for cell_id in table["cell_id"].to_pylist()], np.int64)
    present, place = np.unique(numbers, return_inverse=True)
    arrays = {name: table[name].to_numpy() for name in columns}
    means = {metric.key: grouped_means(place, metric.values(arrays), len(present))[0] for metric in SUMMARY}
    varying = [plan.varying(int(number)) for number in present]
    axes = {path: _numbers(path, [values[path] for values in varying]) for path in plan.varied}
    policies = [str(values.get("policy", plan.base.get("policy", ""))) for values in varying]
    of_policy = {name: np.array([policy == name for policy in policies]) for name in dict.fromkeys(policies)}
    return DesignSummary(
        len(present),
        {key: {name: quantiles(values[chosen]) for name, chosen in of_policy.items()} for key, values in means.items()},
        {
            path: {key: main_effect(axis, values) for key, values in means.items()}
            for path, axis in axes.items()
            if len(np.unique(axis)) > 1
        },
    )


def _numbers(path: str, values: Sequence[Scalar]) -> Values:
    """The values of an axis as numbers: amounts in pages or ns, and of names the place of each among all."""
    amounts = np.array([as_amount(path, value) for value in values])
    numbers = amounts if amounts.dtype.kind in "if" else np.unique(amounts, return_inverse=True)[1]
    return numbers.astype(float)


def quantiles(values: Values) -> tuple[float, ...]:
    """Of at least one value: those at each of :data:`SHARES`, linear between neighbours."""
    return tuple(np.quantile(values, list(SHARES.values())).tolist())


def main_effect(axis: Values, values: Values) -> float | None:
    """The share (0..1) of the variance of ``values`` between cells that an axis explains by itself; None: no variance.

    Cells are grouped by their value of the axis, or, if it has more than :data:`GROUPS`, into so many groups of equally
    many cells in its order; the share is the variance of the groups' means, each cell counting once, over that of all
    values: the correlation ratio (K. Pearson, 1905), an estimate of the first-order index of I. M. Sobol' (1993). In a
    full grid without interactions the axes' shares add up to 1; what is missing are interactions and replicates' noise.
    """
    total = float(((values - values.mean()) ** 2).sum())
    if total <= (1e-12 * abs(float(values.mean()))) ** 2 * len(values):
        return None
    group = _groups(axis)
    sizes = np.bincount(group)
    means = np.bincount(group, values) / np.maximum(sizes, 1)
    return float((sizes * (means - values.mean()) ** 2).sum() / total)


def _groups(axis: Values) -> npt.NDArray[np.int64]:
    distinct, group = np.unique(axis, return_inverse=True)
    if len(distinct) <= GROUPS:
        return group.astype(np.int64)
    edges = np.quantile(axis, np.arange(1, GROUPS) / GROUPS)
    return np.searchsorted(edges, axis, side="right").astype(np.int64)


def as_json(design: DesignSummary) -> dict[str, Any]:
    """The summary as plain data."""
    return {
        "cells": design.cells,
        "quantiles": {
            key: {policy: dict(zip(SHARES, numbers, strict=True)) for policy, numbers in of_policy.items()}
            for key, of_policy in design.quantiles.items()
        },
        "main_effects": design.effects,
    }


def quantile_rows(design: DesignSummary) -> list[tuple[str, ...]]:
    """Under the headings "figure", "policy" and :data:`SHARES`: a row for each figure and policy, as people read it."""
    return [
        (metric.title, policy, *(short(number, zeros=True) for number in numbers))
        for metric in SUMMARY
        for policy, numbers in design.quantiles[metric.key].items()
    ]


def effect_rows(design: DesignSummary) -> list[tuple[str, ...]]:
    """Under the headings "axis" and the figures: a row for each axis, that with the largest effect first."""
    rows = sorted(design.effects.items(), key=lambda each: -max((share or 0.0) for share in each[1].values()))
    return [
        (path, *("-" if (share := of[metric.key]) is None else f"{100 * share:.0f} %" for metric in SUMMARY))
        for path, of in rows
    ]


def captions(design: DesignSummary) -> tuple[str, str]:
    """What the two tables show."""
    return (
        f"over {counted(design.cells, 'cell')}, each the mean over its replicates of the sum over the fleet",
        "main effects: the share of the variance between cells that each axis explains by itself",
    )


def as_tables(design: DesignSummary) -> list[tuple[str, Table]]:
    """Both tables for a terminal, each with its caption."""
    from rich.table import Table

    spread, effects = (Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold") for _ in range(2))
    for title in ("figure", "policy", *SHARES):
        spread.add_column(title, justify="right" if title in SHARES else "left", no_wrap=True)
    last = ""
    for title, *rest in quantile_rows(design):
        if last and title != last:
            spread.add_section()
        spread.add_row("" if title == last else title, *rest)
        last = title
    effects.add_column("axis", no_wrap=True)
    for metric in SUMMARY:
        effects.add_column(metric.title, justify="right")
    for row in effect_rows(design):
        effects.add_row(*row)
    return list(zip(captions(design), (spread, effects), strict=True))
