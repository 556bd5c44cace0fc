"""Guests that come and go, in one line: how many got a place, were refused or moved, and how full the fleet was."""

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

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FleetSummary:
    """Means over runs. Every row of "lives" is one of a guest that is placed, or moved, or refused.

    ``placed``: guests that came, or were there, and got a place. ``moved``: that lost their host and got another.
    ``refused``: by reason, whether they came or had lost their host. ``memory_share``, ``vcpu_share``: the most that
    was promised at a time in any run, of what all hosts may promise; None: that isn't limited.
    """

    placed: float
    moved: float
    refused: Mapping[str, float]
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
        by_reason = {why: (refused == why).sum() / count for why in REFUSALS if (refused == why).any()}
        rooms = [room_of(specs[name]) for name in cells]
        most = (
            _share(run.reshape(-1), column, housed, amount, np.array(room, float)[runs[0]])
            for amount, room in (
                ("memory_pages", [room.memory_pages or np.inf for room in rooms]),
                ("vcpus", [room.vcpus for room in rooms]),
            )
        )
        return cls((housed & ~again).sum() / count, (housed & again).sum() / count, by_reason, *most)

    @property
    def text(self) -> str:
        """It in words."""
        why = ", ".join(f"{name} {short(many)}" for name, many in self.refused.items())
        full = [
            f"{100 * share:.3g} % of the {what}"
            for share, what in ((self.memory_share, "memory"), (self.vcpu_share, "vCPUs"))
            if share is not None
        ]
        most = f"; at the fullest {' and '.join(full)} that hosts may promise are promised" if full else ""
        return (
            f"guests of a run: {short(self.placed)} got a place, {short(sum(self.refused.values()))} were refused"
            f"{f' ({why})' if why else ''}, {short(self.moved)} moved to another host{most}"
        )


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
