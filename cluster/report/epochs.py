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
from coldfleet.cluster.results.fleet_summary import HOUR_S, hour_of
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.stats.statistics import Mean, grouped_means
from coldfleet.cluster.study.placement import REFUSALS

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
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

_GIB = 1 / (1 << 18)
_STANDING_BY_HOUR = {
    "guests that live": ("guests", 1.0),
    "memory promised, of what may be (%)": ("memory_share", 100.0),
    "vCPUs promised, of what may be (%)": ("vcpu_share", 100.0),
    "free memory (GiB)": ("free_pages", _GIB),
}
"""Columns of the table "fleet" that are of the moment; drawn as the means of the rows in an hour."""
_MEAN_BY_HOUR = {
    "DRAM used (GiB)": ("dram_used_pages", _GIB),
}
"""Those that are means since the row before; drawn as the means of an hour."""
_COUNTED_BY_HOUR = {
    "refaults in an hour": ("refaults", 1.0),
    "memory pressure in an hour, some (s)": ("psi_some_ns", 1e-9),
}
"""Those that are counted since the row before; drawn as sums, of a row that crosses hours by its share in each."""
_ARRIVED = "guests that arrive in an hour and get a place"
_LOST = "guests that lose their host in an hour and find no other"
_REFUSED = {f"guests refused in an hour: {why}": why for why in REFUSALS}

_PEAKS = {
    "guests that live": "most guests live on {when}: {said}",
    **{title: f"most are refused ({why}) on {{when}}: {{said}}" for title, why in _REFUSED.items()},
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
    """How the fleet stood by the hour of the run, where guests come and go; who came, and when, is of "lives".

    In an hour in which they have no row, figures that are of the moment have no point.
    """
    of_rows = {**_STANDING_BY_HOUR, **_MEAN_BY_HOUR, **_COUNTED_BY_HOUR}
    runs = _RunsOverTime.read(results, figures, "fleet", ["time_s", *(name for name, _ in of_rows.values())])
    if runs is None:
        return []
    hours = _Hours.of(runs)
    by_hour = {title: hours.of_moments(runs.columns[name] * by) for title, (name, by) in _STANDING_BY_HOUR.items()}
    by_hour |= hours.lives(results)
    for title, (name, by) in {**_MEAN_BY_HOUR, **_COUNTED_BY_HOUR}.items():
        by_hour[title] = hours.spread(runs.columns[name] * by, mean=title in _MEAN_BY_HOUR)
    found, compared = [], hours.grid.policy >= 0
    for title, values in by_hour.items():
        kept = compared & ~np.isnan(values)
        if values[kept].any():
            found.append(hours.grid.series(title, values, kept, hours.grid.ticks))
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
        return np.where(self.begins, totals, np.diff(totals, prepend=0))

    @property
    def begins(self) -> npt.NDArray[np.bool_]:
        """Which rows are the first of their run."""
        begins: npt.NDArray[np.bool_] = (np.diff(self.cells, prepend=-1) != 0) | (
            np.diff(self.replicates, prepend=-1) != 0
        )
        return begins

    def series(
        self,
        title: str,
        values: npt.NDArray[np.float64],
        kept: npt.NDArray[np.bool_],
        x: npt.NDArray[np.int64],
    ) -> Series:
        """The means of each policy at each x, with their intervals."""
        runs = np.stack([self.policy[kept], x[kept], self.replicates[kept]])
        places, inverse = np.unique(runs, axis=1, return_inverse=True)
        of_run, _ = grouped_means(inverse.ravel(), values[kept], places.shape[1])
        points, point = np.unique(places[:2], axis=1, return_inverse=True)
        means, halves = grouped_means(point.ravel(), of_run, points.shape[1])
        return Series(title, [
            {"policy": str(self.labels[code]), "x": at, "mean": mean, "low": max(mean - half, 0.0), "high": mean + half,
             "said": str(Mean(mean, half if known else None))}
            for (code, at), mean, half, known in zip(
                points.T.tolist(), means.tolist(), np.nan_to_num(halves).tolist(), (~np.isnan(halves)).tolist(),
                strict=True)
        ], _PEAKS.get(title, ""))  # fmt: skip


@dataclass(frozen=True)
class _Hours:
    """The hours of runs, one run after the other, and where the rows of "fleet" lie in them.

    ``grid``: with a row for each hour of each run, of which ``first`` is the run's first; its ticks are hours, from 1.
    ``runs``: the rows of "fleet", the first ``begin`` of which are of each run, and ``run`` says of which each is.
    """

    runs: _RunsOverTime
    grid: _RunsOverTime
    run: _Ints
    begin: _Ints
    first: _Ints

    @classmethod
    def of(cls, runs: _RunsOverTime) -> _Hours:
        """Those of runs that have rows in the table."""
        begin = np.flatnonzero(runs.begins)
        run = np.cumsum(runs.begins) - 1
        hours = hour_of(runs.columns["time_s"][np.append(begin[1:], len(run)) - 1])
        first = np.cumsum(hours) - hours
        of_run = np.repeat(begin, hours)
        number = np.arange(hours.sum()) - np.repeat(first, hours) + 1
        grid = _RunsOverTime(runs.policy[of_run], runs.replicates[of_run], number, runs.cells[of_run], {}, runs.labels)
        return cls(runs, grid, run, begin, first)

    def of_moments(self, values: _Floats) -> _Floats:
        """The mean of the rows in each hour; NaN: there are none."""
        place = self.first[self.run] + hour_of(self.runs.columns["time_s"]) - 1
        means, _ = grouped_means(place, values, len(self.grid.ticks))
        return means

    def spread(self, values: _Floats, mean: bool = False) -> _Floats:
        """What the rows say of the time since the row before, by the hours of it: sums, or means over the time."""
        end = self.runs.columns["time_s"]
        start = end - self.runs.since_row_before(end)
        begun = np.floor(start / HOUR_S).astype(np.int64)  # hours before the one in which it starts
        parts = hour_of(end) - begun
        row = np.repeat(np.arange(len(end)), parts)
        hour = begun[row] + np.arange(len(row)) - np.repeat(np.cumsum(parts) - parts, parts)
        lasts = np.minimum(end[row], (hour + 1) * HOUR_S) - np.maximum(start[row], hour * HOUR_S)
        place, many = self.first[self.run[row]] + hour, len(self.grid.ticks)
        if mean:
            return np.bincount(place, values[row] * lasts, many).astype(float) / np.bincount(place, lasts, many)
        return np.bincount(place, values[row] * lasts / (end - start)[row], many).astype(float)

    def lives(self, results: Results) -> dict[str, _Floats]:
        """How many guests of the table "lives" get a place in each hour, and how many are refused, or lost."""
        names = ["cell_id", "replicate", "again", "refused", "start_s"]
        table = results.dataset("lives").to_table(columns=names, cache_metadata=False)
        cells = pc.index_in(table["cell_id"], pa.array(results.plan.cell_ids)).to_numpy().astype(np.int64)
        replicates, again, start_s = (table[name].to_numpy() for name in ("replicate", "again", "start_s"))
        refused = table["refused"].to_numpy(zero_copy_only=False)
        many = int(max(replicates.max(initial=0), self.runs.replicates.max())) + 1
        run_of = np.full(len(results.plan.cell_ids) * many, -1)
        run_of[self.runs.cells[self.begin] * many + self.runs.replicates[self.begin]] = np.arange(len(self.begin))
        run = run_of[cells * many + replicates]
        place = self.first[run] + hour_of(start_s) - 1

        def count(which: npt.NDArray[np.bool_]) -> _Floats:
            return np.bincount(place[which & (run >= 0)], minlength=len(self.grid.ticks)).astype(float)

        come = again == 0
        found = {_ARRIVED: count(come & (refused == "") & (start_s > 0))}
        found |= {title: count(come & (refused == why)) for title, why in _REFUSED.items()}
        return found | {_LOST: count(~come & (refused != ""))}
