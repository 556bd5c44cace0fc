"""The figures of a report: every run's, by the axes of the study, as arrays; and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coldfleet.cluster.results.metrics import columns
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import schema
from coldfleet.cluster.stats.metrics import SUMMARY, Metric
from coldfleet.cluster.stats.statistics import grouped_means
from coldfleet.cluster.study.model import column_of
from coldfleet.cluster.study.values import Scalar

Numbers = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

MOST_BINS = 40  # values of an axis that a picture shows one by one; more are put into equal bins
_BINS = 20
_DETAIL_UNITS: dict[str, tuple[float, tuple[str, ...], str]] = {
    "acquisitions": (1.0, (), "acquisitions"),
    "ns": (1e-9, (), "s"),
}  # of a column: scale, nothing below, and unit of the figure


@dataclass(frozen=True)
class Axis:
    """What varies: ``labels`` are its values, ``codes`` the number of each run's."""

    path: str
    labels: tuple[Scalar, ...]
    codes: Numbers

    @property
    def numeric(self) -> bool:
        """Whether it has numbers, so that curves can be drawn over it."""
        return len(self.labels) > 1 and not any(isinstance(label, str) for label in self.labels)

    def binned(self) -> Axis:
        """The same axis with few enough values to show: the middles of equal bins."""
        if not self.numeric or len(self.labels) <= MOST_BINS:
            return self
        values = np.array(self.labels, float)
        edges = np.linspace(values.min(), values.max(), _BINS + 1)
        bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, _BINS - 1)
        middles = tuple(float(f"{middle:.4g}") for middle in (edges[:-1] + edges[1:]) / 2)
        return Axis(self.path, middles, bins[self.codes])


@dataclass(frozen=True)
class GroupMean:
    """A mean over the runs at some values of the axes, half the width of its 95 % interval (None: one replicate)."""

    at: dict[str, Scalar]
    mean: float
    half_width: float | None


@dataclass(frozen=True)
class Figures:
    """Every run that is done: ``cells`` numbers in the plan, ``replicates``, ``values`` of metrics by key.

    ``details``: every column that counts locks or time.
    """

    cells: Numbers
    replicates: Numbers
    axes: dict[str, Axis]
    metrics: tuple[Metric, ...]
    details: tuple[Metric, ...]
    values: dict[str, Values]

    @cached_property
    def fair(self) -> npt.NDArray[np.bool_]:
        """The runs whose setting and replicate was done under every policy: only these can be compared."""
        policy = self.axes["policy"]
        setting = self._groups([path for path in self.axes if path != "policy"])[0]
        key = setting * (int(self.replicates.max(initial=0)) + 1) + self.replicates
        _, place = np.unique(key, return_inverse=True)
        complete = np.bincount(place) == len(policy.labels)
        return complete[place] if complete.any() else np.ones(len(place), bool)

    def group_means(self, metric: str, by: Sequence[str]) -> list[GroupMean]:
        """The mean of a metric for each combination of values of some axes, over all that else varies.

        Its interval is that of the replicates: each is averaged over the settings first.
        """
        places, values = self._averaged(metric, by)
        _, labels = self._labels(by)
        means, halves = grouped_means(places // self._replicate_count, values, len(labels))
        found = []
        for number, at in enumerate(labels):
            half = float(halves[number])
            found.append(GroupMean(at, float(means[number]), half if half == half else None))
        return found

    def paired(self, metric: str, by: Sequence[str]) -> dict[tuple[Scalar, ...], dict[Scalar, Values]]:
        """For each combination of values of some axes and each policy, the replicates' means, in order."""
        places, values = self._averaged(metric, [*by, "policy"])
        _, labels = self._labels([*by, "policy"])
        found: dict[tuple[Scalar, ...], dict[Scalar, Values]] = {}
        numbers = places // self._replicate_count
        starts = np.searchsorted(numbers, np.arange(len(labels) + 1))
        for number, at in enumerate(labels):
            at_axes = tuple(at[path] for path in by)
            found.setdefault(at_axes, {})[at["policy"]] = values[starts[number] : starts[number + 1]]
        return found

    @property
    def _replicate_count(self) -> int:
        return int(self.replicates.max(initial=0)) + 1

    def _averaged(self, metric: str, by: Sequence[str]) -> tuple[Numbers, Values]:
        """For each group and replicate that there is, group x replicates + replicate, and the mean of its runs."""
        groups, _ = self._labels(by)
        places, inverse = np.unique((groups * self._replicate_count + self.replicates)[self.fair], return_inverse=True)
        means, _ = grouped_means(inverse, self.values[metric][self.fair], len(places))
        return places, means

    @cached_property
    def _binned(self) -> dict[str, Axis]:
        return {path: axis.binned() for path, axis in self.axes.items()}

    def _labels(self, by: Sequence[str]) -> tuple[Numbers, list[dict[str, Scalar]]]:
        """Each run's group, and the groups' values, in the order of the axes' values; only groups with fair runs."""
        groups, _ = self._groups(by)
        present, inverse = np.unique(groups[self.fair], return_inverse=True)
        numbers = np.full(len(groups), -1)
        numbers[self.fair] = inverse
        labels = []
        for group in present.tolist():
            at: dict[str, Scalar] = {}
            for path in reversed(by):
                axis = self._binned[path]
                group, code = divmod(group, len(axis.labels))
                at[path] = axis.labels[code]
            labels.append({path: at[path] for path in by})
        return numbers, labels

    def _groups(self, by: Sequence[str]) -> tuple[Numbers, int]:
        groups, count = np.zeros(len(self.cells), np.int64), 1
        for path in by:
            axis = self._binned[path]
            groups = groups * len(axis.labels) + axis.codes
            count *= len(axis.labels)
        return groups, count


def read_figures(results: Results, metrics: Sequence[Metric] = SUMMARY) -> Figures:
    """Reads the figures of all runs that are done, and the axes of the study: policy, nested ratio, what varies."""
    plan = results.plan
    paths = list(dict.fromkeys(["policy", "nested_ratio", *plan.varied]))
    stored = {path: column_of(path) for path in paths if column_of(path) in schema("cells").names}
    every = (*metrics, *_details())
    needed = dict.fromkeys(name for metric in every for name in metric.needs)
    table = results.table("cells", ["cell_id", "replicate", *dict.fromkeys([*stored.values(), *needed])])
    cells = pc.index_in(table["cell_id"], pa.array(plan.cell_ids)).to_numpy().astype(np.int64)
    axes = {}
    for path in paths:
        if path in stored:
            encoded = table[stored[path]].combine_chunks().dictionary_encode()
            labels, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)
        else:  # a key of a class of guests or hosts
            of_cell = [plan.cell(number).spec.value(path) for number in range(plan.cell_count)]
            labels = list(dict.fromkeys(of_cell))
            codes = np.array([labels.index(value) for value in of_cell])[cells]
        axes[path] = _in_order(path, labels, codes, [str(policy) for policy in plan.values("policy")])
    data = {name: table[name].to_numpy().astype(float) for name in needed}
    values = {metric.key: _figure(metric, data) for metric in every}
    return Figures(cells, table["replicate"].to_numpy().astype(np.int64), axes, tuple(metrics), _details(), values)


def _details() -> tuple[Metric, ...]:
    return tuple(
        Metric(name, name.removesuffix("_ns").replace("_", " "), (name,), *_DETAIL_UNITS[unit])
        for name, unit in columns("cells").items()
        if unit in _DETAIL_UNITS
    )


def _in_order(path: str, labels: list[Scalar], codes: Numbers, policies: list[str]) -> Axis:
    """An axis with its values in order: policies as the study names them, others by size."""
    if path == "policy":
        ordered = sorted(labels, key=lambda label: policies.index(str(label)) if str(label) in policies else -1)
    else:
        ordered = sorted(labels, key=lambda label: (isinstance(label, str), label))
    places = np.array([ordered.index(label) for label in labels], np.int64)
    return Axis(path, tuple(ordered), places[codes] if len(codes) else codes)


def _figure(metric: Metric, data: dict[str, Values]) -> Values:
    above, below = metric.amounts(data)
    figure: Values = np.divide(above, below, out=np.zeros(len(above)), where=below != 0)
    return figure
