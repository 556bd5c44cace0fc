"""Simulates runs and writes their rows: what every executor does with a batch, here or on another machine."""

from __future__ import annotations

import hashlib
import os
import resource
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from coldfleet.cluster.execution.over_time import rows_over_time
from coldfleet.cluster.results.journal import BatchReceipt, PartReceipt, RunReceipt, Shard
from coldfleet.cluster.results.parts import Rows, write_part
from coldfleet.cluster.results.row_laws import check_rows
from coldfleet.cluster.results.schemas import TABLES, run_parameters
from coldfleet.cluster.results.storage import Storage
from coldfleet.cluster.study.fleet import build_fleet, unlike_hosts
from coldfleet.cluster.study.model import CellSpec, quantity_at
from coldfleet.cluster.study.plan import Plan, Run
from coldfleet.cluster.study.values import Scalar
from coldfleet.hostsim.clock.latency import BUCKETS, latency_gauges
from coldfleet.hostsim.counters.columns import no_ci95, of_sum
from coldfleet.hostsim.counters.counters import COUNTERS
from coldfleet.hostsim.counters.timing import GAUGES
from coldfleet.hostsim.spec.damon_spec import PageoutSpec
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import GuestSpec, HostResult, HostSpec, NestedSpec

_TINY_PAGES = 1024
_TINY_SAMPLE = 2
_TINY_TICK_NS = 10_000_000  # long enough for all accesses of a tiny guest
_ALL_OF_IT = PageoutSpec(min_age=0, max_nr_accesses=1, wmarks_low=0, wmarks_mid=1000, wmarks_high=1000)
_SAME_CODE = ("policy", "calibration")  # keys whose values are data to compiled code


@dataclass(frozen=True)
class Batch:
    """Runs, by their indices in the plan, that travel together and share their parts.

    ``attempt`` counts the workers that died of it. ``audit``: the laws are checked in each run. ``hosts``: only these
    of its one run, from the first to before the second, of as many as the third says.
    """

    number: int
    runs: tuple[int, ...]
    attempt: int = 0
    audit: bool = False
    hosts: tuple[int, int, int] | None = None


def simulate_run(run: Run, audit: bool = False) -> Rows:
    """The rows of one run. They depend on the run only, bit for bit: no clock, no process, no order.

    ``audit``: checks the laws of docs/laws.md on the way, and raises LawBrokenError; the rows are the same.
    """
    rows, _ = simulate_hosts(run, slice(None), audit)
    return rows


def simulate_hosts(run: Run, chosen: slice, audit: bool) -> tuple[Rows, npt.NDArray[np.int64]]:
    """The rows of some hosts of a run, that of cells made of these alone, and the histogram of their latencies.

    Those of "lives" and "fleet" take all hosts.
    """
    from coldfleet.hostsim.host import simulate_host  # compiled code, and slow to import

    simulate = partial(simulate_host, audit=True) if audit else simulate_host
    rows: Rows = {table: [] for table in TABLES}
    who = {"cell_id": run.cell.cell_id, "replicate": run.replicate}
    parameters = run_parameters(run)
    latencies = np.zeros(BUCKETS, np.int64)
    for number, (host_class, spec, policy) in enumerate(build_fleet(run, chosen), chosen.start or 0):
        result = simulate(spec, policy, seed=run.cell.seed, replicate=run.replicate, host=number)
        for guest in result.guests:
            if guest.latencies:
                latencies += guest.latencies
        rows["guests"] += [{**parameters, **who, **row} for row in guest_rows(number, spec, result)]
        own = {"host": number, "host_class": host_class, "kernel": spec.kernel}
        rows["hosts"].append({**parameters, **who, **own, **host_row(result)})
        rows["epochs"] += [
            {
                **parameters,
                **who,
                "host": number,
                "tick": epoch.tick,
                "free_pages": epoch.free_pages,
                "guests": epoch.guests,
                "guest_pages": epoch.guest_pages,
                **epoch.counters,
                **epoch.gauges,
            }
            for epoch in result.epochs
        ]
    rows["cells"].append(cell_row(run, lambda name: [row[name] for row in rows["hosts"]], latencies))
    if chosen == slice(None):
        rows.update(rows_over_time(run, lambda name: [row[name] for row in rows["epochs"]]))
    if audit:
        check_rows(rows)
    return rows, latencies


def cell_row(run: Run, column: Callable[[str], list[Any]], latencies: npt.NDArray[np.int64]) -> dict[str, Any]:
    """The row of a run in "cells", from the columns that its hosts have, in their order, and all of their latencies."""
    row = {**run_parameters(run), "cell_id": run.cell.cell_id, "replicate": run.replicate}
    row["access_hash"] = _combined(column("access_hash"))
    for name in ("nested_guests", *(counter.name for counter in COUNTERS)):
        row[name] = sum(column(name))
    for name in (gauge.name for gauge in GAUGES):
        values = column(name)
        row[name] = sum(values) / len(values)
    row.update(latency_gauges(latencies))
    intervals = {name: column(name) for name in no_ci95()}
    row.update(of_sum(dict(zip(intervals, each, strict=True)) for each in zip(*intervals.values(), strict=True)))
    return row


def run_batch(plan: Plan, batch: Batch, storage: Storage) -> BatchReceipt:
    """Simulates the runs of a batch, writes one part a table, and returns the receipt.

    A run that fails becomes a receipt with its error; the others go on.
    """
    rows: Rows = {table: [] for table in TABLES}
    receipts: list[RunReceipt] = []
    chosen = slice(None) if batch.hosts is None else slice(*batch.hosts[:2])
    shard = None
    for each in plan.data.values():
        each.fetch()  # what is wrong with data is wrong with all runs
    for index in batch.runs:
        run = plan.run(index)
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            new, latencies = simulate_hosts(run, chosen, batch.audit)
        except Exception as error:  # whatever it is, it belongs to this run and must not stop the others
            receipts.append(failed(run, describe(error)))
            continue
        if batch.hosts is not None:
            new["cells"].clear()
            shard = Shard(*batch.hosts, tuple((int(each), int(latencies[each])) for each in np.flatnonzero(latencies)))
        counts = {table: len(new[table]) for table in TABLES}
        spent = time.perf_counter() - wall, time.process_time() - cpu
        receipts.append(RunReceipt(run.cell.cell_id, run.replicate, "shard" if shard else "done", counts, *spent))
        for table in TABLES:
            rows[table] += new[table]
    return write_batch(storage, batch.number, rows, receipts, shard)


def write_batch(
    storage: Storage, number: int, rows: Rows, runs: Iterable[RunReceipt], shard: Shard | None = None
) -> BatchReceipt:
    """Writes a part for each table that has rows, and returns the receipt of all."""
    name = f"{number:06d}-{uuid4().hex[:12]}"
    parts = tuple(_write(storage, table, name, rows[table]) for table in TABLES if rows.get(table))
    rss_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return BatchReceipt(name, parts, tuple(runs), f"{socket.gethostname()}:{os.getpid()}", rss_bytes, shard)


def failed(run: Run, error: str) -> RunReceipt:
    """The receipt of a run that didn't end well."""
    return RunReceipt(run.cell.cell_id, run.replicate, "failed", error=error)


def describe(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def warm_up(plan: Plan) -> None:
    """Simulates tiny hosts, so that all code that the plan needs is compiled, or loaded, before the work starts."""
    from coldfleet.hostsim.host import simulate_host

    policy = plan.cell(0).policy
    for spec in warm_up_shapes(plan):
        simulate_host(spec, policy, seed=0, replicate=0, host=0)


def warm_up_shapes(plan: Plan) -> tuple[HostSpec, ...]:
    """Tiny hosts that do every kind of work that the plan has: one for each combination of names and of what is 0.

    They need no data.
    """
    plan = plan.without_files()
    few = replace(
        plan,
        axes={path: sum(_kinds((path,), ((value,) for value in values)), ()) for path, values in plan.axes.items()},
        bundles=tuple(replace(bundle, rows=_kinds(bundle.paths, bundle.rows)) for bundle in plan.bundles),
        where=(),
        seeds=(),
        asked=None,
    )
    shapes: dict[HostSpec, None] = {}
    first = plan.run(0)  # of the others, constraints may have left nothing
    for run, hosts in ((first, unlike_hosts(first)), *_possible_runs(few)):
        shapes.update((tiny, None) for host in hosts for tiny in _tiny(host, run.cell.spec))
    return tuple(shapes)


def _possible_runs(plan: Plan) -> Iterator[tuple[Run, list[HostSpec]]]:
    """A run of each combination that can be, with its hosts; without their constraints, plans have others too."""
    for number in range(plan.cell_count):
        with suppress(UserError):
            run = plan.run(number)
            yield run, unlike_hosts(run)


def _kinds(paths: tuple[str, ...], rows: Iterable[tuple[Scalar, ...]]) -> tuple[tuple[Scalar, ...], ...]:
    """The first row of each kind. Each name is a kind of its own; amounts are of two kinds: 0, and all others."""
    found: dict[object, tuple[Scalar, ...]] = {}
    for row in rows:
        found.setdefault(tuple(_kind(path, value) for path, value in zip(paths, row, strict=True)), row)
    return tuple(found.values())


def _kind(path: str, value: Scalar) -> object:
    if path in _SAME_CODE:
        return None
    if quantity := quantity_at(path):
        return quantity.parse(value) > 0  # type: ignore[arg-type]
    return value if isinstance(value, str) else value > 0


def _tiny(host: HostSpec, spec: CellSpec) -> Iterator[HostSpec]:
    """Hosts that do the same kinds of work in a few ticks: one guest of each kind, with and without a nested VM.

    In some ticks nothing happens beside the guests, and if CPUs are counted, there are enough of them in one host only.
    """
    from coldfleet.hostsim.sampling import PARTS

    pages = _TINY_PAGES * (PARTS * _TINY_SAMPLE if host.sample > 1 else 1)
    ratios = [spec.nested_ratio, *(each.nested_ratio for each in spec.fleet.guest.values())]
    ways: tuple[NestedSpec | None, ...] = (None, NestedSpec(stop_tick=2)) if any(ratios) else (None,)
    kept: dict[GuestSpec, None] = {}
    for number, guest in enumerate(host.guests):
        cache = replace(guest.page_cache, pages=pages // 2) if guest.page_cache else None
        limit = (pages + (cache.pages if cache else 0)) // 2
        load = replace(guest.workload, l2_process=-1, load_ticks=2)
        small = replace(guest, name="", memory_pages=pages, limit_pages=limit, accesses_per_tick=2048, workload=load)
        small = replace(small, arrives=min(guest.arrives, 2), leaves=4 if guest.leaves else 0)
        small = replace(small, page_cache=cache, min_pages=0, low_pages=0, high_pages=0)
        if host.scenario:  # whose guests take turns
            small = replace(small, name=str(number))
        kept.update((replace(small, nested=way), None) for way in ((guest.nested,) if host.scenario else ways))
    guests = tuple(kept)
    half_of_all = sum(guest.limit_pages for guest in guests)
    tiny = replace(
        host,
        guests=guests,
        ticks=5,
        parent_pages=half_of_all if host.parent_pages else 0,
        memory_pages=half_of_all if host.memory_pages else 0,
        hugetlb_pages=0,
        aging_every_ticks=2 if host.aging_every_ticks else 0,
        period_ticks=2,
        flush_every_ticks=2,
        monitor_every_ticks=2,
        damon=replace(host.damon, samples_per_aggregation=1, pageout=_ALL_OF_IT if host.damon.pageout else None),
        sample=_TINY_SAMPLE if host.sample > 1 else 1,
    )
    if host.clock is None:
        yield tiny
        return
    for pcpus in (0, 1) if host.clock.pcpus else (0,):
        yield replace(tiny, clock=replace(host.clock, tick_ns=_TINY_TICK_NS, pcpus=pcpus))


def _write(storage: Storage, table: str, name: str, rows: list[dict[str, Any]]) -> PartReceipt:
    part = f"{table}-{name}.parquet"
    return PartReceipt(table, part, len(rows), write_part(storage, f"parts/{part}", table, rows))


def guest_rows(host: int, spec: HostSpec, result: HostResult) -> list[dict[str, Any]]:
    """The rows of a host's guests, without the columns that all rows of the run share."""
    return [
        {
            "host": host,
            "guest": number,
            "name": guest.name,
            "nested": guest.nested,
            "arrives": guest_spec.arrives,
            "leaves": guest_spec.leaves,
            "lived_ticks": guest_spec.life(spec.ticks).stop - max(guest_spec.arrives, 1),
            "memory_pages": guest_spec.memory_pages,
            "limit_pages": guest_spec.limit_pages,
            "oom_tick": guest.oom_tick,
            "oom_reason": guest.oom_reason,
            "access_hash": guest.access_hash,
            **guest.counters,
            **guest.gauges,
            **guest.ci95,
            "step_pages": list(guest.step_pages),
        }
        for number, (guest_spec, guest) in enumerate(zip(spec.guests, result.guests, strict=True))
    ]


def host_row(result: HostResult) -> dict[str, Any]:
    """The row of a host, without the columns that all rows of the run share, and without who it is."""
    return {
        "guests": len(result.guests),
        "nested_guests": sum(guest.nested for guest in result.guests),
        "access_hash": _combined([guest.access_hash for guest in result.guests]),
        **result.totals(),
        **result.gauges,
        **result.ci95,
    }


def _combined(hashes: list[int]) -> int:
    text = b"".join(value.to_bytes(8, "little") for value in hashes)
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
