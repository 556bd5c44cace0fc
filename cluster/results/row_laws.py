"""Laws of the rows of a run: guests make up hosts, hosts make up the cell, and shares are shares."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from coldfleet.cluster.results.parts import Rows
from coldfleet.cluster.stats.metrics import DERIVED
from coldfleet.hostsim.counters.counters import COUNTERS
from coldfleet.hostsim.counters.timing import GAUGES
from coldfleet.hostsim.spec.laws import Broken, hold

RowLaw = Callable[[Rows], Broken]
_SHARES = [metric for metric in DERIVED if metric.unit == "share" and not metric.needs_clock]


def _sums(rows: Rows) -> Broken:
    """Every counter of a host is the sum of its guests', and of the cell that of its hosts."""
    guests = {host: list(own) for host, own in groupby(rows["guests"], key=lambda row: row["host"])}
    for counter in COUNTERS:
        for host in rows["hosts"]:
            found = sum(row[counter.name] for row in guests[host["host"]])
            if found != host[counter.name]:
                yield f"{counter.name} of host {host['host']} is {host[counter.name]}, of its guests {found}"
        found, cell = sum(row[counter.name] for row in rows["hosts"]), rows["cells"][0][counter.name]
        if found != cell:
            yield f"{counter.name} of the cell is {cell}, of its hosts {found}"


def _numbers(rows: Rows) -> Broken:
    """There is one cell, every host has a row and as many guests as it says, and rows for the ticks asked for."""
    cells, hosts = len(rows["cells"]), rows["hosts"]
    first = hosts[0]["host"] if hosts else 0  # another than 0 if these are some hosts of a run
    if cells != 1 or [host["host"] for host in hosts] != list(range(first, first + len(hosts))):
        yield f"{cells} cells, hosts {[host['host'] for host in hosts]}"
    for host in hosts:
        own = [row for row in rows["guests"] if row["host"] == host["host"]]
        if [row["guest"] for row in own] != list(range(host["guests"])):
            yield f"host {host['host']} has {host['guests']} guests, and rows of {[row['guest'] for row in own]}"
        ticks = [row["tick"] for row in rows["epochs"] if row["host"] == host["host"]]
        every = host["output_every_ticks"]
        if ticks and ticks != [t for t in range(1, host["ticks"] + 1) if t % every == 0 or t == host["ticks"]]:
            yield f"host {host['host']} has {host['ticks']} ticks, and rows of {ticks}"


def _shares(rows: Rows) -> Broken:
    """Every metric that is a share, but for throughput and slowdown, lies between 0 and 1 in every row."""
    for table in ("guests", "hosts", "cells"):
        for row in rows[table]:
            for metric in _SHARES:
                if not 0 <= metric.value(row) <= 1:
                    who = ", ".join(f"{name} {row[name]}" for name in ("host", "guest") if name in row)
                    yield f"{metric.key} of {who or 'the cell'} is {metric.value(row)}: {metric.amounts(row)}"


def _means(rows: Rows) -> Broken:
    """A gauge of the cell, but for latencies, is the mean of its hosts'."""
    hosts = rows["hosts"]
    for name in (gauge.name for gauge in GAUGES if not gauge.name.startswith("latency")):
        mean = sum(row[name] for row in hosts) / len(hosts)
        if abs(rows["cells"][0][name] - mean) > 1e-9 * abs(mean):
            yield f"{name} of the cell is {rows['cells'][0][name]}, the mean of its hosts {mean}"


def _over_time(rows: Rows) -> Broken:
    """Each tick of a fleet has the guests of the tick before, and those that arrived, but not those that departed."""
    lives = [row for row in rows["lives"] if not row["refused"]]
    guests = sum(life["start_s"] <= 0 for life in lives)
    for row in rows["fleet"]:
        guests += row["arrived"] - row["departed"]
        time_s = row["time_s"]
        began = [life for life in lives if life["start_s"] <= time_s]
        alive = [life for life in began if life["end_s"] > time_s or life["ended"] == "end"]
        promised = sum(life["memory_pages"] for life in alive)
        if (row["guests"], row["promised_pages"]) != (guests, promised) or len(alive) != guests:
            yield (
                f"tick {row['tick']} has {row['guests']} guests with {row['promised_pages']} pages; arrivals less "
                f"departures are {guests}, and {len(alive)} lives with {promised} pages are there"
            )


ROW_LAWS: dict[str, RowLaw] = {
    "sums": _sums,
    "one row each": _numbers,
    "shares": _shares,
    "means": _means,
    "guests over time": _over_time,
}


def check_rows(rows: Rows) -> None:
    """Raises LawBrokenError unless all ROW_LAWS hold of the rows of a run."""
    hold(ROW_LAWS, "rows", rows)
