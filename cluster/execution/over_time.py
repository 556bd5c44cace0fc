"""The rows of a whole fleet whose guests come and go: every life, and how the fleet stands after each tick."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.cluster.results.parts import Rows
from coldfleet.cluster.results.schemas import run_parameters
from coldfleet.cluster.study.fleet import pages_without_guests
from coldfleet.cluster.study.lives import all_hosts, all_lives, hosts_out, room_of
from coldfleet.cluster.study.placement import REFUSALS
from coldfleet.cluster.study.plan import Run

_SECOND_NS = 10**9
_DRAM = ("resident_page_ticks", "pool_page_ticks", "kernel_page_ticks")
_COUNTED = ("refaults", "pgmajfault", "psi_some_ns", "psi_full_ns")
EPOCH_COLUMNS = ("tick", "free_pages", *_DRAM, *_COUNTED)
"""What the table "fleet" takes of "epochs"."""

_Ints = npt.NDArray[np.int64]


def rows_over_time(run: Run, epochs: Callable[[str], Sequence[int]], most: int | None = None) -> Rows:
    """The rows of the tables "lives" and "fleet" of a run, or the first ones of each, if they are too many.

    ``epochs``: a column of the epochs of all its hosts.
    """
    if not run.cell.spec.fleet.over_time:
        return {}
    who = {**run_parameters(run), "cell_id": run.cell.cell_id, "replicate": run.replicate}
    has_epochs = run.cell.spec.output.epochs == "on"
    found = {"lives": lives_of(run), "fleet": _fleet(run, epochs) if has_epochs else ()}
    return {table: [{**who, **row} for row in islice(rows, most)] for table, rows in found.items()}


def lives_of(run: Run) -> Iterable[dict[str, Any]]:
    """The rows of "lives", without what they have in common."""
    where = {
        each.number: (host, guest)
        for host, placed in enumerate(all_hosts(run))
        for guest, each in enumerate(placed.lives)
    }
    until_ns = run.cell.spec.ticks * run.cell.spec.tick_ns
    for each in all_lives(run):
        life, request = each.life, each.request
        start_ns = life.start_ns or 0
        end_ns = until_ns if life.end_ns is None else min(life.end_ns, until_ns)
        host, guest = where.get(each.number, (-1, -1))
        yield {
            "life": each.number,
            "name": each.name,
            "own_name": request.own_name,
            "guest_class": request.name,
            "again": life.number,
            "priority": request.priority,
            "memory_pages": request.memory_pages,
            "vcpus": request.vcpus,
            "start_s": start_ns / _SECOND_NS,
            "end_s": end_ns / _SECOND_NS,
            "place": life.host,
            "host": host,
            "guest": guest,
            "ended": life.ended,
            "refused": life.refused,
        }


def _fleet(run: Run, epochs: Callable[[str], Sequence[int]]) -> Iterable[dict[str, Any]]:
    spec = run.cell.spec
    ticks = np.array(spec.output.rows(spec.ticks), np.int64)
    lives = all_lives(run)
    housed = [each for each in lives if not each.life.refused]
    begin = [max(each.arrives, 1) for each in housed]
    end = [max(each.leaves, 1) if each.leaves else spec.ticks + 1 for each in housed]

    def since(when: Sequence[int], amounts: Sequence[int] | int = 1) -> _Ints:
        """How much came up to each row, since the one before."""
        found = np.zeros(spec.ticks + 2, np.int64)
        np.add.at(found, np.asarray(when, np.int64), amounts)
        return np.diff(np.cumsum(found)[ticks], prepend=0)

    again = [each.life.number > 0 for each in housed]
    come = [each.arrives > 0 for each in housed]  # others are there when the run starts
    columns: dict[str, Any] = {
        "tick": ticks,
        "time_s": ticks * spec.tick_ns / _SECOND_NS,
        "guests": np.cumsum(since(begin) - since(end)),
        "arrived": since(begin, come),
        "departed": since(end),
        "moved": since(begin, again),
    }
    for why in REFUSALS:
        columns[f"refused_{why}"] = since([max(each.arrives, 1) for each in lives if each.life.refused == why])
    room = room_of(spec)
    for name, share, asked, most in (
        ("promised_pages", "memory_share", [each.request.memory_pages for each in housed], room.memory_pages),
        ("vcpus", "vcpu_share", [each.request.vcpus for each in housed], room.vcpus),
    ):
        columns[name] = np.cumsum(since(begin, asked) - since(end, asked))
        columns[share] = columns[name] / most if most else np.zeros(len(ticks))
    columns["hosts_out"] = hosts_out(spec, ticks * spec.tick_ns)
    row = np.searchsorted(ticks, np.asarray(epochs("tick"), np.int64))

    def after(name: str) -> _Ints:
        summed = np.zeros(len(ticks), np.int64)
        np.add.at(summed, row, np.asarray(epochs(name), np.int64))
        return summed

    columns["free_pages"] = after("free_pages") + pages_without_guests(run)
    columns["dram_used_pages"] = np.diff(sum(map(after, _DRAM)), prepend=0) // np.diff(ticks, prepend=0)
    columns |= {name: np.diff(after(name), prepend=0) for name in _COUNTED}
    values = {name: column.tolist() for name, column in columns.items()}
    for each in zip(*values.values(), strict=True):
        yield dict(zip(values, each, strict=True))
