"""Simulates runs and writes their rows: what every executor does with a batch, here or on another machine."""

from __future__ import annotations

import hashlib
import os
import resource
import socket
import time
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import numpy as np

from coldfleet.cluster.results.journal import BatchReceipt, PartReceipt, RunReceipt
from coldfleet.cluster.results.parts import Rows, write_part
from coldfleet.cluster.results.schemas import TABLES, run_parameters
from coldfleet.cluster.results.storage import Storage
from coldfleet.cluster.study.fleet import build_fleet, build_hosts
from coldfleet.cluster.study.plan import Plan, Run
from coldfleet.hostsim.clock.latency import BUCKETS, latency_gauges
from coldfleet.hostsim.counters.columns import of_sum
from coldfleet.hostsim.counters.counters import COUNTERS
from coldfleet.hostsim.counters.timing import GAUGES
from coldfleet.hostsim.spec.host_spec import HostResult, HostSpec, NestedSpec

_TINY_PAGES = 1024


@dataclass(frozen=True)
class Batch:
    """Runs, by their indices in the plan, that travel together and share their parts.

    ``attempt`` counts the workers that died of it.
    """

    number: int
    runs: tuple[int, ...]
    attempt: int = 0


def simulate_run(run: Run) -> Rows:
    """The rows of one run. They depend on the run only, bit for bit: no clock, no process, no order."""
    from coldfleet.hostsim.host import simulate_host  # compiled code, and slow to import

    rows: Rows = {table: [] for table in TABLES}
    who = {"cell_id": run.cell.cell_id, "replicate": run.replicate}
    parameters = run_parameters(run)
    latencies = np.zeros(BUCKETS, np.int64)
    for number, (host_class, spec) in enumerate(build_fleet(run)):
        result = simulate_host(spec, run.cell.policy, seed=run.cell.seed, replicate=run.replicate, host=number)
        for guest in result.guests:
            if guest.latencies:
                latencies += guest.latencies
        rows["guests"] += [{**parameters, **who, **row} for row in guest_rows(number, spec, result)]
        rows["hosts"].append({**parameters, **who, "host": number, "host_class": host_class, **_summed(result)})
        rows["epochs"] += [
            {
                **parameters,
                **who,
                "host": number,
                "tick": epoch.tick,
                "free_pages": epoch.free_pages,
                **epoch.counters,
                **epoch.gauges,
            }
            for epoch in result.epochs
        ]
    hosts = rows["hosts"]
    cell: dict[str, Any] = {**parameters, **who, "access_hash": _combined([row["access_hash"] for row in hosts])}
    for name in ("nested_guests", *(counter.name for counter in COUNTERS)):
        cell[name] = sum(row[name] for row in hosts)
    cell.update({gauge.name: sum(row[gauge.name] for row in hosts) / len(hosts) for gauge in GAUGES})
    cell.update(latency_gauges(latencies))
    cell.update(of_sum(hosts))
    rows["cells"].append(cell)
    return rows


def run_batch(plan: Plan, batch: Batch, storage: Storage) -> BatchReceipt:
    """Simulates the runs of a batch, writes one part a table, and returns the receipt.

    A run that fails becomes a receipt with its error; the others go on.
    """
    rows: Rows = {table: [] for table in TABLES}
    receipts: list[RunReceipt] = []
    for index in batch.runs:
        run = plan.run(index)
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            new = simulate_run(run)
        except Exception as error:  # whatever it is, it belongs to this run and must not stop the others
            receipts.append(failed(run, describe(error)))
            continue
        counts = {table: len(new[table]) for table in TABLES}
        spent = time.perf_counter() - wall, time.process_time() - cpu
        receipts.append(RunReceipt(run.cell.cell_id, run.replicate, "done", counts, *spent))
        for table in TABLES:
            rows[table] += new[table]
    name = f"{batch.number:06d}-{uuid4().hex[:12]}"
    parts = tuple(_write(storage, table, name, rows[table]) for table in TABLES if rows[table])
    rss_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return BatchReceipt(name, parts, tuple(receipts), f"{socket.gethostname()}:{os.getpid()}", rss_bytes)


def failed(run: Run, error: str) -> RunReceipt:
    """The receipt of a run that didn't end well."""
    return RunReceipt(run.cell.cell_id, run.replicate, "failed", error=error)


def describe(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def warm_up(plan: Plan) -> None:
    """Simulates tiny hosts, so that the kernels are compiled, or loaded, before the work starts."""
    from coldfleet.hostsim.host import simulate_host

    policy = plan.cell(0).policy
    for spec in warm_up_shapes(plan):
        simulate_host(spec, policy, seed=0, replicate=0, host=0)


def warm_up_shapes(plan: Plan) -> tuple[HostSpec, ...]:
    """Tiny hosts that run every kernel that the plan needs: each kind of workload and mode of reclaim, with L2."""
    host = build_hosts(plan.run(0))[0]
    if host.scenario:
        return tuple(_tiny(build_hosts(plan.run(number))[0]) for number in _scenes(plan))
    guest = replace(host.guests[0], memory_pages=_TINY_PAGES, limit_pages=_TINY_PAGES // 2, accesses_per_tick=2048)
    kinds, modes, kernels = (
        [str(value) for value in plan.values(path)] for path in ("guest.workload.kind", "reclaim.mode", "kernel")
    )
    return tuple(
        HostSpec(
            kernel,
            tuple(
                replace(guest, workload=replace(guest.workload, kind=kind), nested=nested)
                for kind in kinds
                for nested in (None, NestedSpec(stop_tick=2))
            ),
            ticks=3,
            mode=mode,
            memory_pages=len(kinds) * _TINY_PAGES if mode == "host" else 0,
            aging_every_ticks=1,
        )
        for kernel in kernels
        for mode in modes
    )


def _scenes(plan: Plan) -> list[int]:
    """One cell of each scenario and mode of reclaim."""
    found: dict[tuple[str, str], int] = {}
    for number in range(plan.cell_count):
        spec = plan.cell(number).spec
        found.setdefault((spec.scenario, spec.reclaim.mode), number)
    return list(found.values())


def _tiny(host: HostSpec) -> HostSpec:
    half = _TINY_PAGES // 2
    guests = [replace(guest, memory_pages=_TINY_PAGES, limit_pages=half) for guest in host.guests]
    return replace(host, guests=tuple(guests), ticks=2, parent_pages=half * len(guests) if host.parent_pages else 0)


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
            "memory_pages": guest_spec.memory_pages,
            "limit_pages": guest_spec.limit_pages,
            "access_hash": guest.access_hash,
            **guest.counters,
            **guest.gauges,
            **guest.ci95,
            "step_pages": list(guest.step_pages),
        }
        for number, (guest_spec, guest) in enumerate(zip(spec.guests, result.guests, strict=True))
    ]


def _summed(result: HostResult) -> dict[str, Any]:
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
