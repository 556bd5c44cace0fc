"""Simulates runs and writes their rows: what every executor does with a batch, here or on another machine."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from cluster.fleet import build_hosts
from cluster.journal import BatchReceipt, PartReceipt, RunReceipt
from cluster.parts import write_part
from cluster.plan import Run
from cluster.schemas import TABLES, column_of
from hostsim.counters import COUNTERS
from hostsim.model import HostResult, HostSpec

Rows = dict[str, list[dict[str, Any]]]
"""For each table, its rows."""


@dataclass(frozen=True)
class Batch:
    """Runs that travel together and share their parts. ``attempt`` counts the workers that died of it."""

    number: int
    runs: tuple[Run, ...]
    attempt: int = 0


def simulate_run(run: Run) -> Rows:
    """The rows of one run. They depend on the run only, bit for bit: no clock, no process, no order."""
    from hostsim.host import simulate_host  # compiled code, and slow to import

    rows: Rows = {table: [] for table in TABLES}
    who = {"cell_id": run.cell.cell_id, "replicate": run.replicate}
    parameters = run_parameters(run)
    for number, spec in enumerate(build_hosts(run)):
        result = simulate_host(spec, run.cell.policy, seed=run.cell.seed, replicate=run.replicate, host=number)
        rows["guests"] += [{**parameters, **who, **row} for row in _guest_rows(number, spec, result)]
        rows["hosts"].append({**parameters, **who, "host": number, **_summed(result)})
    hosts = rows["hosts"]
    cell: dict[str, Any] = {**parameters, **who, "access_hash": _combined([row["access_hash"] for row in hosts])}
    for name in ("nested_guests", *(counter.name for counter in COUNTERS)):
        cell[name] = sum(row[name] for row in hosts)
    rows["cells"].append(cell)
    return rows


def run_parameters(run: Run) -> dict[str, Any]:
    """The parameter columns of a run."""
    values: dict[str, Any] = {column_of(path): value for path, value in run.cell.spec.parameters().items()}
    return {**values, "seed": run.cell.seed, "policy_digest": run.cell.policy.digest}


def run_batch(batch: Batch, directory: Path) -> BatchReceipt:
    """Simulates the runs of a batch, writes one part a table, and returns the receipt.

    A run that fails becomes a receipt with its error; the others go on.
    """
    rows: Rows = {table: [] for table in TABLES}
    receipts: list[RunReceipt] = []
    for run in batch.runs:
        start = time.perf_counter()
        try:
            new = simulate_run(run)
        except Exception as error:  # whatever it is, it belongs to this run and must not stop the others
            receipts.append(failed(run, describe(error), time.perf_counter() - start))
            continue
        counts = {table: len(new[table]) for table in TABLES}
        receipts.append(RunReceipt(run.cell.cell_id, run.replicate, "done", counts, time.perf_counter() - start))
        for table in TABLES:
            rows[table] += new[table]
    name = f"{batch.number:06d}-{uuid4().hex[:12]}"
    parts = tuple(_write(directory, table, name, rows[table]) for table in TABLES if rows[table])
    return BatchReceipt(name, parts, tuple(receipts))


def failed(run: Run, error: str, wall_s: float = 0.0) -> RunReceipt:
    """The receipt of a run that didn't end well."""
    return RunReceipt(run.cell.cell_id, run.replicate, "failed", {}, wall_s, error)


def describe(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def warm_up(specs: tuple[HostSpec, ...]) -> None:
    """Simulates tiny hosts, so that the kernels are compiled, or loaded, before the work starts."""
    from hostsim.host import simulate_host
    from policies import POLICIES

    for spec in specs:
        simulate_host(spec, next(iter(POLICIES.values())), seed=0, replicate=0, host=0)


def _write(directory: Path, table: str, name: str, rows: list[dict[str, Any]]) -> PartReceipt:
    part = f"{table}-{name}.parquet"
    return PartReceipt(table, part, len(rows), write_part(directory / "parts" / part, table, rows))


def _guest_rows(host: int, spec: HostSpec, result: HostResult) -> list[dict[str, Any]]:
    return [
        {
            "host": host,
            "guest": number,
            "nested": guest.nested,
            "memory_pages": guest_spec.memory_pages,
            "limit_pages": guest_spec.limit_pages,
            "access_hash": guest.access_hash,
            **guest.counters,
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
    }


def _combined(hashes: list[int]) -> int:
    text = b"".join(value.to_bytes(8, "little") for value in hashes)
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
