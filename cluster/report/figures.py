"""The figures of a report: every run's, by the axes of the study, as arrays; and what they come to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coldfleet.cluster.results.metrics import columns, find_metric
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import schema
from coldfleet.cluster.results.summary import as_read
from coldfleet.cluster.stats.metrics import OOM_KILLS, SUMMARY, Metric
from coldfleet.cluster.stats.statistics import grouped_means
from coldfleet.cluster.study.model import column_of, quantity_at
from coldfleet.cluster.study.values import Scalar
from coldfleet.hostsim.counters.timing import KINDS, RESOURCES

Numbers = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

MOST_BINS = 40  # values of an axis that a picture shows one by one; more are put into equal bins
_BINS = 20
_DETAIL_UNITS: dict[str, tuple[float, tuple[str, ...], str]] = {
    "acquisitions": (1.0, (), "acquisitions"),
    "ns": (1e-9, (), "s"),
}  # of a column: scale, nothing below, and unit of the figure
_ACRONYM = re.compile(r"\b(cpu|psi|rcu)\b")
PRESSURE = tuple(f"{name}_{kind}_ns" for name in RESOURCES.values() for kind in KINDS)
LATENCY = ("latency_p50_ns", "latency_p99_ns")
"""Details that a report shows apart from other times, since they aren't parts of a run's time."""
_WHERE_ANY = (OOM_KILLS, find_metric("slowdown"))  # figures that a report has only where they aren't 0 throughout


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

    def read(self, label: Scalar) -> str:
        """A value as people read it: amounts with their unit, of a bin the middle."""
        if quantity_at(self.path) is None:
            return f"{label:g}" if isinstance(label, float) else str(label)
        factor, unit = self.scale
        return f"{float(label) / factor:.4g} {unit}" if factor != 1 else as_read(self.path, label)

    @property
    def amount(self) -> str:
        """The unit of its numbers if they are amounts of memory or time: pages or ns."""
        quantity = quantity_at(self.path)
        return quantity.unit if quantity else ""

    @property
    def scale(self) -> tuple[float, str]:
        """What to divide its numbers by so that they read plainly, and the unit that they then have."""
        quantity = quantity_at(self.path)
        if quantity is None or not self.numeric:
            return 1.0, ""
        largest = max(map(float, self.labels))
        units = [(float(quantity.units[unit]), unit) for unit in quantity.printed]
        return max((each for each in units if each[0] <= largest), default=units[0])

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

    @cached_property
    def replicates_of_settings(self) -> tuple[int, int]:
        """The fewest and the most replicates that a setting has of those that are compared."""
        settings = self._groups(list(self.axes))[0][self.fair]
        counts = np.unique(settings, return_counts=True)[1]
        return (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)

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
    every = dict.fromkeys((*metrics, *_WHERE_ANY, *_details()))
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
        axes[path] = _in_order(path, labels, codes, plan.values(path))
    data = {name: table[name].to_numpy().astype(float) for name in needed}
    values = {metric.key: _figure(metric, data) for metric in every}
    shown = tuple(dict.fromkeys((*metrics, *(metric for metric in _WHERE_ANY if values[metric.key].any()))))
    return Figures(cells, table["replicate"].to_numpy().astype(np.int64), axes, shown, _details(), values)


def merged(sides: Mapping[str, Figures], settings: Mapping[str, Mapping[int, Sequence[Scalar | None]]],
           paths: Sequence[str]) -> Figures:  # fmt: skip
    """The figures of several results as those of one study, in which the results vary too.

    ``settings``: of each side, for each of its cells that is wanted, the values of ``paths``; cells are numbered on.
    """
    kept = {name: np.isin(figures.cells, list(settings[name])) for name, figures in sides.items()}
    columns: dict[str, list[Scalar]] = {path: [] for path in paths}
    for name, figures in sides.items():
        for cell in figures.cells[kept[name]].tolist():
            for path, value in zip(paths, settings[name][cell], strict=True):
                columns[path].append("not there" if value is None else value)
    columns["results"] = [name for name in sides for _ in range(int(kept[name].sum()))]
    axes = {}
    for path in dict.fromkeys(["policy", "nested_ratio", "results", *paths]):
        if path in columns:
            named = [label for each in sides.values() if path in each.axes for label in each.axes[path].labels]
            labels = list(dict.fromkeys(columns[path]))
            places = {label: number for number, label in enumerate(labels)}
            codes = np.array([places[value] for value in columns[path]], np.int64)
            axes[path] = _in_order(path, labels, codes, list(dict.fromkeys([*named, *labels])))
    first = next(iter(sides.values()))
    common = tuple(metric for metric in first.metrics if all(metric in each.metrics for each in sides.values()))
    offset, cells = 0, []
    for name, figures in sides.items():
        cells.append(figures.cells[kept[name]] + offset)
        offset += int(figures.cells.max(initial=-1)) + 1
    values = {
        metric.key: np.concatenate([figures.values[metric.key][kept[name]] for name, figures in sides.items()])
        for metric in (*common, *first.details)
    }
    replicates = np.concatenate([figures.replicates[kept[name]] for name, figures in sides.items()])
    return Figures(np.concatenate(cells), replicates, axes, common, first.details, values)


def _details() -> tuple[Metric, ...]:
    found = []
    for name, unit in columns("cells").items():
        if unit in _DETAIL_UNITS:
            words = name.removesuffix("_ns").replace("mmu_lock", "mmu-lock").replace("_", " ").replace("-", "_")
            title = _ACRONYM.sub(lambda each: each[0].upper(), words)
            found.append(Metric(name, title, (name,), *_DETAIL_UNITS[unit]))
    return tuple(found)


def _in_order(path: str, labels: list[Scalar], codes: Numbers, named: Sequence[Scalar]) -> Axis:
    """An axis with its values in order: numbers by size, others as the study names them."""
    words = any(isinstance(label, str) for label in labels)
    ordered = (
        sorted(labels, key=lambda label: named.index(label) if label in named else -1) if words else sorted(labels)
    )
    places = np.array([ordered.index(label) for label in labels], np.int64)
    return Axis(path, tuple(ordered), places[codes] if len(codes) else codes)


def _figure(metric: Metric, data: dict[str, Values]) -> Values:
    above, below = metric.amounts(data)
    figure: Values = np.divide(above, below, out=np.zeros(len(above)), where=below != 0)
    return figure
