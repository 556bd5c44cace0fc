"""Guests that come and go, in one line: who got a place or was refused, and how full the fleet was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coldfleet.cluster.results.results import Results
from coldfleet.cluster.stats.statistics import short
from coldfleet.cluster.study.lives import room_of
from coldfleet.cluster.study.model import CellSpec
from coldfleet.cluster.study.placement import REFUSALS

COLUMNS = ("cell_id", "replicate", "again", "refused", "memory_pages", "vcpus", "start_s", "end_s")
"""What it takes of the table "lives"."""

_HOUR_S = 3600
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FleetSummary:
    """Means over runs. Every row of "lives" is one of a guest that is placed, or refused, or moved, or lost.

    ``placed``: guests that came, or were there, and got a place. ``refused``: that came and got none, by reason;
    ``refusals_hour``: the hour of the run, from 1, in which most of them came, None: there are none. ``moved``: that
    lost their host and got a place on another; ``lost``: and got none. ``memory_share``, ``vcpu_share``: the most that
    was promised at a time in any run, of what all hosts may promise; None: that isn't limited.
    """

    placed: float
    refused: Mapping[str, float]
    refusals_hour: int | None
    moved: float
    lost: float
    memory_share: float | None
    vcpu_share: float | None

    @classmethod
    def of(cls, lives: pa.Table, specs: Mapping[str, CellSpec]) -> FleetSummary | None:
        """That of the rows of "lives"; ``specs``: of their cells by id. None: there are no rows."""
        if not lives.num_rows:
            return None
        column = {name: lives[name].to_numpy(zero_copy_only=False) for name in COLUMNS}
        cells, cell = np.unique(column["cell_id"].astype(str), return_inverse=True)
        runs, run = np.unique(np.stack([cell, column["replicate"]]), axis=1, return_inverse=True)
        count, again, refused = runs.shape[1], column["again"] > 0, column["refused"].astype(str)
        housed = refused == ""
        of_new = {why: ~again & (refused == why) for why in REFUSALS}
        hours = np.maximum(np.ceil(column["start_s"][~again & ~housed] / _HOUR_S), 1).astype(np.int64)
        rooms = [room_of(specs[name]) for name in cells]
        most = (
            _share(run.reshape(-1), column, housed, amount, np.array(room, float)[runs[0]])
            for amount, room in (
                ("memory_pages", [room.memory_pages or np.inf for room in rooms]),
                ("vcpus", [room.vcpus for room in rooms]),
            )
        )
        return cls(
            (housed & ~again).sum() / count,
            {why: which.sum() / count for why, which in of_new.items() if which.any()},
            int(np.bincount(hours).argmax()) if len(hours) else None,
            (housed & again).sum() / count,
            (~housed & again).sum() / count,
            *most,
        )

    @property
    def text(self) -> str:
        """It in words."""
        told = [f"{short(self.placed)} got a place", f"{short(sum(self.refused.values()))} were refused"]
        if self.refused:
            why = ", ".join(f"{name} {short(many)}" for name, many in self.refused.items())
            told[1] += f" ({why}), most in hour {self.refusals_hour}"
        if self.moved or self.lost:
            told.append(f"{short(self.moved)} lost their host and found another, {short(self.lost)} found no other")
        full = [
            f"{100 * share:.3g} % of the {what}"
            for share, what in ((self.memory_share, "memory"), (self.vcpu_share, "vCPUs"))
            if share is not None
        ]
        if full:
            told.append(f"at most {' and '.join(full)} that may be promised were promised")
        return f"guests of a run, on average: {'; '.join(told)}"


def fleet_summary(results: Results) -> FleetSummary | None:
    """That of the runs that are done; None: guests don't come and go."""
    plan = results.plan
    if not plan.cell(0).spec.fleet.guest:
        return None
    lives = results.table("lives", list(COLUMNS))
    return FleetSummary.of(
        lives, {name: plan.cell(plan.numbers[name]).spec for name in lives["cell_id"].unique().to_pylist()}
    )


def _share(
    run: npt.NDArray[np.int64], column: Mapping[str, _Floats], housed: npt.NDArray[np.bool_], amount: str, room: _Floats
) -> float | None:
    """The most of an amount at a time in any run, over its ``room``; None: some run has no end of it."""
    if np.isinf(room).any():
        return None
    whose, start, end = run[housed], np.maximum(column["start_s"][housed], 0.0), column["end_s"][housed]
    changes = np.concatenate([column[amount][housed], -column[amount][housed]])
    whose = np.concatenate([whose, whose])
    order = np.lexsort((changes > 0, np.concatenate([start, end]), whose))  # at one moment guests leave first
    most = np.zeros(len(room))
    np.maximum.at(most, whose[order], np.cumsum(changes[order]))  # after each run it is 0 again
    return float((most / room).max())
