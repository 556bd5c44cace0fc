"""How the hosts of each policy stood tick by tick, from the table "epochs", where a study has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coldfleet.cluster.report.figures import Figures
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.stats.statistics import Mean, grouped_means

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
}  # columns that run from the start of the run, each with its title and scale
_STANDING = {
    "free_pages": ("free pages", 1.0),
}  # columns that are of the moment


@dataclass(frozen=True)
class Series:
    """One figure over the ticks. ``rows``: policy, x (the tick), mean, low, high, and said, the mean in words."""

    title: str
    rows: list[dict[str, Any]]


def read_epochs(results: Results, figures: Figures) -> list[Series]:
    """The figures that aren't 0 throughout: sums over the hosts of a run, of pressure their means.

    They are means over the runs of each policy; intervals are those of the replicates. Empty: there is no such table.
    """
    dataset = results.dataset("epochs")
    if not dataset.count_rows():
        return []
    names = [*_COUNTED, *_STANDING]
    table = dataset.to_table(columns=["cell_id", "replicate", "tick", *names], cache_metadata=False)
    keys = ["cell_id", "replicate", "tick"]
    how = [(name, "mean" if name.startswith("psi") else "sum") for name in names]
    table = table.group_by(keys).aggregate(how).sort_by([(key, "ascending") for key in keys])
    cells = pc.index_in(table["cell_id"], pa.array(results.plan.cell_ids)).to_numpy().astype(np.int64)
    replicates, ticks = (table[name].to_numpy().astype(np.int64) for name in ("replicate", "tick"))
    many = int(figures.replicates.max(initial=0)) + 1
    code_of = np.full(results.plan.cell_count * many, -1)  # the policy of each run that can be compared
    code_of[(figures.cells * many + figures.replicates)[figures.fair]] = figures.axes["policy"].codes[figures.fair]
    policy = code_of[cells * many + replicates]
    found = []
    for (name, what), (title, scale) in zip(how, (*_COUNTED.values(), *_STANDING.values()), strict=True):
        values = table[f"{name}_{what}"].to_numpy().astype(float) * scale
        kept = policy >= 0
        if name in _COUNTED:  # tick 1 has tick 0 in it, in which all memory is touched for the first time
            values = np.diff(values, prepend=0.0)
            kept = kept & (ticks > 1)
        if not values[kept].any():
            continue
        places, inverse = np.unique(
            np.stack([policy[kept], ticks[kept], replicates[kept]]), axis=1, return_inverse=True
        )
        of_replicate, _ = grouped_means(inverse.ravel(), values[kept], places.shape[1])
        points, point = np.unique(places[:2], axis=1, return_inverse=True)
        means, halves = grouped_means(point.ravel(), of_replicate, points.shape[1])
        labels = figures.axes["policy"].labels
        found.append(Series(title, [
            {"policy": str(labels[code]), "x": tick, "mean": mean, "low": max(mean - half, 0.0), "high": mean + half,
             "said": str(Mean(mean, half if known else None))}
            for (code, tick), mean, half, known in zip(
                points.T.tolist(), means.tolist(), np.nan_to_num(halves).tolist(), (~np.isnan(halves)).tolist(),
                strict=True)
        ]))  # fmt: skip
    return found
