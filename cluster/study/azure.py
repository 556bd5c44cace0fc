"""Fleets as Azure's: read from its public packing trace, or drawn from what is published of its VM sizes.

Source of the trace: https://github.com/Azure/AzurePublicDataset, AzureTracesForPacking2020.md, an SQLite file with
the tables ``vm`` (vmId, tenantId, vmTypeId, priority, starttime, endtime; times in days, endtime NULL: still alive)
and ``vmType`` (id, vmTypeId, machineId, core, memory, hdd, ssd, nic; as fractions of that machine). A priority of 0 is
high, 1 low; a VM of low priority may have been evicted, so its lifetime is what that data centre made of it. Of VMs
that are there as the trace begins, starttime is negative.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.input_file import open_input

MAX_SECONDS = 120  # that a trace may be read; Azure's takes some ten
DAY_S = 86_400
MAX_DAYS = 1e4  # a start may be that long before the trace begins
TABLE_PAGES = 512  # guests get whole page tables: 2 MiB
_COLUMNS = {
    "vm": {"vmId", "vmTypeId", "starttime", "endtime"},
    "vmType": {"vmTypeId", "machineId", "core", "memory"},
}


@dataclass(frozen=True)
class Size:
    """A size of VM: its share of a host's memory, its vCPUs, and how many there are or how likely it is."""

    name: str
    memory_share: float
    vcpus: int
    weight: float


_GIB = 1 / 112
"""The A series of 2015-2019 as shares of a host with 112 GiB, its largest VM (A9)."""

A_SERIES = (
    Size("a0", 0.75 * _GIB, 1, 0.70 / 3),
    Size("a1", 1.75 * _GIB, 1, 0.70 / 3),
    Size("a2", 3.5 * _GIB, 2, 0.70 / 3),
    Size("a5", 14 * _GIB, 2, 0.10),
    Size("a3", 7 * _GIB, 4, 0.20 / 4),
    Size("a4", 14 * _GIB, 8, 0.20 / 4),
    Size("a6", 28 * _GIB, 4, 0.20 / 4),
    Size("a7", 56 * _GIB, 8, 0.20 / 4),
)
"""What is published: almost 80 % of the VMs have one or two cores, and 70 % less than 4 GB of memory (Cortez et al.,
Resource Central, SOSP 2017, section 3). Sizes: Microsoft's list of the A series. Sizes between which these two figures
don't decide are taken as equally likely; that is ours, and a trace knows better."""


def read_trace(path: Path, at_day: float, machine: int, cpus: int) -> list[Size]:
    """The VMs that are alive at a time, by type, on machines of one kind with so many CPUs.

    ``weight`` is the number of VMs. Types that this machine can't run are left out. The file is only read.
    Raises :class:`UserError` if it isn't such a trace, or nothing is alive then.
    """
    rows = _ask(
        path,
        machine,
        "SELECT t.vmTypeId, t.memory, t.core, count(*) FROM vm v JOIN vmType t ON v.vmTypeId = t.vmTypeId "
        "WHERE t.machineId = ? AND v.starttime <= ? AND (v.endtime IS NULL OR v.endtime > ?) "
        "GROUP BY t.vmTypeId ORDER BY t.vmTypeId",
        (at_day, at_day),
    )
    if not rows:
        raise UserError(f"{path}: no VM that machine {machine} can run is alive on day {at_day:g}: days are 0 to 14")
    return [_size(path, cpus, *row) for row in rows]


@dataclass(frozen=True)
class Vm:
    """A VM of a trace. ``start_s``, ``end_s``: since the begin of the time that is read, s; None: it stays.

    ``name``: its vmId.
    """

    size: Size
    start_s: float
    end_s: float | None
    priority: int
    name: str


def read_vms(path: Path, from_day: float, days: float, machine: int, cpus: int) -> list[Vm]:
    """The VMs that are alive at some time within so many days, on machines of one kind, in the order of their starts.

    VMs that end as they start are left out, and a name is "" where vmId is NULL. Raises :class:`UserError` if it isn't
    such a trace, or there are none.
    """
    rows = _ask(
        path,
        machine,
        "SELECT t.vmTypeId, t.memory, t.core, v.starttime, v.endtime, v.priority, v.vmId "
        "FROM vm v JOIN vmType t ON v.vmTypeId = t.vmTypeId "
        "WHERE t.machineId = ? AND v.starttime < ? AND (v.endtime IS NULL OR v.endtime > max(?, v.starttime)) "
        "ORDER BY v.starttime, v.vmId",
        (from_day + days, from_day),
    )
    if not rows:
        until = from_day + days
        raise UserError(f"{path}: no VM that machine {machine} can run is alive on days {from_day:g} to {until:g}")
    return [
        Vm(
            _size(path, cpus, kind, memory, core, 1),
            (_number(path, "starttime", start) - from_day) * DAY_S,
            None if end is None else (_number(path, "endtime", end) - from_day) * DAY_S,
            _priority(path, priority),
            "" if name is None else f"{name!s:.100}",
        )
        for kind, memory, core, start, end, priority, name in rows
    ]


def _number(path: Path, column: str, value: object) -> float:
    """A number of table vm; raises :class:`UserError` for whatever else SQLite holds there."""
    if not isinstance(value, int | float) or not abs(value) <= MAX_DAYS:
        raise UserError(f"{path}: table vm: {column} is {value!r:.40}, not a number that can be")
    return float(value)


def _priority(path: Path, value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise UserError(f"{path}: table vm: priority is {value!r:.40}, not a whole number from 0 on")
    return value


def _ask(path: Path, machine: int, query: str, days: tuple[float, ...]) -> list[tuple[Any, ...]]:
    """The rows of a query for VMs that a machine can run; raises :class:`UserError` unless it is such a trace."""
    open_input(path).close()
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)) as trace:
            deadline = time.monotonic() + MAX_SECONDS
            trace.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
            kinds = dict(trace.execute("SELECT name, type FROM sqlite_master"))
            for table, wanted in _COLUMNS.items():
                if kinds.get(table, "table") != "table":
                    raise UserError(f"{path}: not a packing trace: {table} is a {kinds[table]}, not a table")
                found = {row[1] for row in trace.execute(f"PRAGMA table_info({table})")}
                if missing := sorted(wanted - found):
                    raise UserError(f"{path}: not a packing trace: table {table} has no column {missing[0]}")
            twice = "SELECT vmTypeId FROM vmType WHERE machineId = ? GROUP BY vmTypeId HAVING count(*) > 1"
            if doubled := trace.execute(twice, (machine,)).fetchone():
                raise UserError(f"{path}: table vmType has vmTypeId {doubled[0]!r:.40} twice for machine {machine}")
            start = trace.execute(
                "SELECT starttime FROM vm WHERE typeof(starttime) NOT IN ('integer', 'real')"
            ).fetchone()
            if start:  # which no comparison would find
                raise UserError(f"{path}: table vm: starttime is {start[0]!r:.40}, not a number")
            rows = trace.execute(query, (machine, *days)).fetchall()
            machines = [row[0] for row in trace.execute("SELECT DISTINCT machineId FROM vmType ORDER BY 1")]
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # its messages cite what is in the file
        raise UserError(f"{path}: not a packing trace in SQLite: {error}") from None
    if machine not in machines:
        known = ", ".join(f"{each!r:.40}" for each in machines[:20])
        raise UserError(f"{path}: has no machine {machine}: {f'one of {known}' if known else 'vmType is empty'}")
    return rows


def _size(path: Path, cpus: int, kind: object, memory: object, core: object, count: int) -> Size:
    """A type of VMs; raises :class:`UserError` unless its sizes are shares of a machine: SQLite holds anything."""
    if not isinstance(kind, int):
        raise UserError(f"{path}: table vmType has the vmTypeId {kind!r:.40}, not a whole number")
    for column, share in (("memory", memory), ("core", core)):
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise UserError(f"{path}: table vmType, vmTypeId {kind}: {column} is {share!r:.40}, not a share above 0")
    assert isinstance(memory, int | float)
    assert isinstance(core, int | float)
    return Size(f"type{kind}", memory, max(round(core * cpus), 1), count)


def draw(sizes: list[Size], guests: int, seed: int) -> dict[Size, int]:
    """So many guests, drawn by the sizes' weights; the sizes that occur, in their order."""
    weights = np.array([size.weight for size in sizes])
    drawn = np.random.default_rng(seed).choice(len(sizes), size=guests, p=weights / weights.sum())
    counts = Counter(int(number) for number in drawn)
    return {size: counts[number] for number, size in enumerate(sizes) if counts[number]}


def draw_vms(vms: list[Vm], guests: int, seed: int) -> list[Vm]:
    """So many of the VMs, each at most once, in the same order; all of them if there are fewer."""
    if guests >= len(vms):
        return vms
    chosen = np.random.default_rng(seed).choice(len(vms), size=guests, replace=False)
    return [vms[number] for number in np.sort(chosen).tolist()]


def guest_pages(size: Size, host_pages: int) -> int:
    """A guest's memory on a host of so many pages: whole page tables, at least one."""
    return max(round(size.memory_share * host_pages / TABLE_PAGES), 1) * TABLE_PAGES
