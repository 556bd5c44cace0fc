"""Guests that come and go, in one line: who got a place or was refused, and how full the fleet was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coldfleet.cluster.results.results import Results
from coldfleet.cluster.stats.amounts import hour_text
from coldfleet.cluster.study.lives import hosts_out, room_of
from coldfleet.cluster.study.model import CellSpec
from coldfleet.cluster.study.placement import REFUSALS
from coldfleet.cluster.study.terminal import counted

COLUMNS = ("cell_id", "replicate", "again", "refused", "memory_pages", "vcpus", "start_s", "end_s")
"""What it takes of the table "lives"."""

HOUR_S = 3600
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FleetSummary:
    """Means over runs. Every row of "lives" is one of a guest that is placed, or refused, or moved, or lost.

    ``placed``: guests that came, or were there, and got a place. ``refused``: that came and got none, by reason;
    ``refusals_hour``: the hour of the run, from 1, in which most of them came, None: there are none. ``moved``: that
    lost their host and got a place on another; ``lost``: and got none, by reason. ``memory_share``, ``vcpu_share``: the
    most that was promised at a time in any run, of what all hosts may promise, those out of service included; None:
    that isn't limited. ``hosts_out``: the most hosts that are out of service at a time
    of the run.
    """

    placed: float
    refused: Mapping[str, float]
    refusals_hour: int | None
    moved: float
    lost: Mapping[str, float]
    memory_share: float | None
    vcpu_share: float | None
    hosts_out: int

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
        hours = hour_of(column["start_s"][~again & ~housed])
        rooms = [room_of(specs[name]) for name in cells]
        memory, vcpus = (
            _share(run.reshape(-1), column, housed, amount, np.array(room, float)[runs[0]])
            for amount, room in (
                ("memory_pages", [room.memory_pages or np.inf for room in rooms]),
                ("vcpus", [room.vcpus for room in rooms]),
            )
        )

        def by_reason(who: npt.NDArray[np.bool_]) -> dict[str, float]:
            return {why: (who & (refused == why)).sum() / count for why in REFUSALS if (who & (refused == why)).any()}

        outages = [
            (spec, each.at)
            for spec in map(specs.__getitem__, cells)
            for each in spec.fleet.outage.values()
            if each.at <= spec.ticks * spec.tick_ns
        ]
        return cls(
            (housed & ~again).sum() / count,
            by_reason(~again),
            int(np.bincount(hours).argmax()) if len(hours) else None,
            (housed & again).sum() / count,
            by_reason(again),
            memory,
            vcpus,
            max((int(hosts_out(spec, np.array([at]))[0]) for spec, at in outages), default=0),
        )

    @property
    def text(self) -> str:
        """It in words, with whom it is of."""
        return f"guests of a run, on average: {self.told}"

    @property
    def told(self) -> str:
        """It in words."""
        refused, lost = sum(self.refused.values()), sum(self.lost.values())
        told = [f"{_many(self.placed)} of {_many(self.placed + refused)} got a place"]
        if self.refused:
            when = f", most on {hour_text(self.refusals_hour)}" if self.refusals_hour else ""
            told.append(f"{_many(refused)} were refused ({_reasons(self.refused)}){when}")
        if self.moved or self.lost:
            found = f"{_many(self.moved)} of them found another" if lost else "found another"
            why = f" and {_many(lost)} did not ({_reasons(self.lost)})" if lost else ""
            told.append(f"{_many(self.moved + lost)} lost their host and {found}{why}")
        shares = ((self.memory_share, "of the memory"), (self.vcpu_share, "of the vCPUs"))
        full = [f"{100 * share:.3g} % {what}" for share, what in shares if share is not None]
        if full:
            told.append(f"promised at the peak: {' and '.join(full)} that all hosts may promise")
        if self.hosts_out:
            told.append(f"up to {counted(self.hosts_out, 'host')} out of service at a time")
        return "; ".join(told)


def hour_of(time_s: _Floats) -> npt.NDArray[np.int64]:
    """The hour of a run, from 1, up to whose end it is; 1 for what was before the start."""
    return np.maximum(np.ceil(time_s / HOUR_S), 1).astype(np.int64)


def _many(guests: float) -> str:
    """A mean number of guests."""
    return f"{guests:,.1f}".removesuffix(".0")


def _reasons(refused: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_many(guests)}" for name, guests in refused.items())


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
