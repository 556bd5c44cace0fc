"""How the hosts of each policy stood tick by tick, and the fleet by the hour, where a study has tables of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coldfleet.cluster.report.figures import Figures
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.stats.statistics import Mean, grouped_means
from coldfleet.cluster.study.placement import REFUSALS

_COUNTED = {
    "refaults": ("refaults in a tick", 1.0),
    "pgsteal": ("pages evicted in a tick", 1.0),
    "reclaim_cpu_ns": ("reclaim CPU in a tick (ms)", 1e-6),
    "huge_page_ticks": ("memory in huge pages (pages)", 1.0),
    "bloat_page_ticks": ("untouched beside touched in huge pages (pages)", 1.0),
    "oom_kills": ("OOM kills in a tick", 1.0),
    "psi_some_ns": ("memory pressure in a tick, some (ms)", 1e-6),
    "psi_full_ns": ("memory pressure in a tick, full (ms)", 1e-6),
    "psi_io_some_ns": ("io pressure in a tick, some (ms)", 1e-6),
}  # columns that run from the start of the run, each with its title and scale; drawn as changes, for each tick
_STANDING = {
    "free_pages": ("free pages", 1.0),
}  # columns that are of the moment

_HOUR_S = 3600
_GIB = 1 / (1 << 18)
_HOURLY: dict[str, tuple[str, float, bool]] = {
    "guests that live": ("guests", 1.0, False),
    "guests that arrive in an hour": ("arrived", 1.0, True),
    **{f"guests refused in an hour: {why}": (f"refused_{why}", 1.0, True) for why in REFUSALS},
    "memory promised, of what may be (%)": ("memory_share", 100.0, False),
    "vCPUs promised, of what may be (%)": ("vcpu_share", 100.0, False),
    "DRAM used (GiB)": ("dram_used_pages", _GIB, False),
    "free memory (GiB)": ("free_pages", _GIB, False),
    "refaults in an hour": ("refaults", 1.0, True),
    "memory pressure in an hour, some (s)": ("psi_some_ns", 1e-9, True),
}
"""What is drawn of the table "fleet": a column, a scale, and whether it is counted."""

_PEAKS = {
    "guests that live": "most guests live on {when}: {said}",
    **{
        f"guests refused in an hour: {why}": f"most find no place ({why}), with those that lost their host, on "
        "{when}: {said}"
        for why in REFUSALS
    },
    "memory promised, of what may be (%)": "most memory is promised on {when}: {said} % of what may be",
}
"""What is said of the hour in which a figure is the highest."""


@dataclass(frozen=True)
class Series:
    """One figure over the ticks, or hours. ``rows``: policy, x, mean, low, high, and said, the mean in words.

    ``peak``: what to say of the row with the highest mean; "": nothing.
    """

    title: str
    rows: list[dict[str, Any]]
    peak: str = ""


def read_epochs(results: Results, figures: Figures) -> list[Series]:
    """The figures that aren't 0 throughout: sums over the hosts of a run, of pressure their means.

    They are means over the runs of each policy; intervals are those of the replicates. What is counted is so since the
    row before, for each tick in between; the first row has the start, tick 0, too. Empty: there is no such table.
    """
    names = [*_COUNTED, *_STANDING]
    how = [(name, "mean" if name.startswith("psi") else "sum") for name in names]
    runs = _RunsOverTime.read(results, figures, "epochs", names, how)
    if runs is None:
        return []
    found, kept = [], runs.policy >= 0
    for name, (title, scale) in (*_COUNTED.items(), *_STANDING.items()):
        values = runs.columns[name] * scale
        if name in _COUNTED:
            values = runs.since_row_before(values) / runs.since_row_before(runs.ticks)
        if values[kept].any():
            found.append(runs.series(title, values, kept, runs.ticks))
    return found


def read_fleet(results: Results, figures: Figures) -> list[Series]:
    """How the fleet stood by the hour of the run, where guests come and go: sums of what is counted, else means."""
    names = [name for name, _, _ in _HOURLY.values()]
    runs = _RunsOverTime.read(results, figures, "fleet", ["time_s", *names])
    if runs is None:
        return []
    hours = np.ceil(runs.columns["time_s"] / _HOUR_S).astype(np.int64)
    found, kept = [], runs.policy >= 0
    for title, (name, scale, counted) in _HOURLY.items():
        values = runs.columns[name] * scale
        if values[kept].any():
            found.append(runs.series(title, values, kept, hours, total=counted))
    return found


@dataclass(frozen=True)
class _RunsOverTime:
    """Columns of a table that has a row for each tick of a run, in that order.

    ``policy``: the number of each row's, -1 for runs that can't be compared. ``labels``: the policies by number.
    """

    policy: npt.NDArray[np.int64]
    replicates: npt.NDArray[np.int64]
    ticks: npt.NDArray[np.int64]
    cells: npt.NDArray[np.int64]
    columns: Mapping[str, npt.NDArray[np.float64]]
    labels: Sequence[object]

    @classmethod
    def read(
        cls, results: Results, figures: Figures, name: str, names: list[str], how: Sequence[tuple[str, str]] = ()
    ) -> _RunsOverTime | None:
        """Some columns of a table, or what ``how`` makes of the hosts' rows of a tick; None: it has no rows."""
        dataset = results.dataset(name)
        if not dataset.count_rows():
            return None
        keys = ["cell_id", "replicate", "tick"]
        table = dataset.to_table(columns=[*keys, *names], cache_metadata=False)
        if how:
            table = table.group_by(keys).aggregate(list(how))
            table = table.rename_columns([*keys, *names])
        table = table.sort_by([(key, "ascending") for key in keys])
        cells = pc.index_in(table["cell_id"], pa.array(results.plan.cell_ids)).to_numpy().astype(np.int64)
        replicates, ticks = (table[key].to_numpy().astype(np.int64) for key in keys[1:])
        many = int(figures.replicates.max(initial=0)) + 1
        code_of = np.full(results.plan.cell_count * many, -1)  # the policy of each run that can be compared
        code_of[(figures.cells * many + figures.replicates)[figures.fair]] = figures.axes["policy"].codes[figures.fair]
        columns = {each: table[each].to_numpy().astype(float) for each in names}
        policy = code_of[cells * many + replicates]
        return cls(policy, replicates, ticks, cells, columns, figures.axes["policy"].labels)

    def since_row_before(self, totals: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The change of each row, of totals from the start of its run: a run's first row has all that came up to it."""
        begins = np.diff(self.cells, prepend=-1).astype(bool) | np.diff(self.replicates, prepend=-1).astype(bool)
        return np.where(begins, totals, np.diff(totals, prepend=0))

    def series(
        self,
        title: str,
        values: npt.NDArray[np.float64],
        kept: npt.NDArray[np.bool_],
        x: npt.NDArray[np.int64],
        total: bool = False,
    ) -> Series:
        """The means of each policy at each x, with their intervals. ``total``: of the sums of a run's rows there."""
        runs = np.stack([self.policy[kept], x[kept], self.replicates[kept], self.cells[kept]])
        places, inverse = np.unique(runs if total else runs[:3], axis=1, return_inverse=True)
        of_run, _ = grouped_means(inverse.ravel(), values[kept], places.shape[1])
        if total:
            of_run = of_run * np.bincount(inverse.ravel())
            places, inverse = np.unique(places[:3], axis=1, return_inverse=True)
            of_run, _ = grouped_means(inverse.ravel(), of_run, places.shape[1])
        points, point = np.unique(places[:2], axis=1, return_inverse=True)
        means, halves = grouped_means(point.ravel(), of_run, points.shape[1])
        return Series(title, [
            {"policy": str(self.labels[code]), "x": at, "mean": mean, "low": max(mean - half, 0.0), "high": mean + half,
             "said": str(Mean(mean, half if known else None))}
            for (code, at), mean, half, known in zip(
                points.T.tolist(), means.tolist(), np.nan_to_num(halves).tolist(), (~np.isnan(halves)).tolist(),
                strict=True)
        ], _PEAKS.get(title, ""))  # fmt: skip
