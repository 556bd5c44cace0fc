"""Puts many small parts together into few large ones, and drops what no receipt needs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from coldfleet.cluster.results.journal import PART_NAME, BatchReceipt, Journal, PartReceipt, RunReceipt, read_journal
from coldfleet.cluster.results.results import Results, check_engine
from coldfleet.cluster.results.run_status import ShardedRun
from coldfleet.cluster.results.schemas import SORT_KEYS, TABLES, schema
from coldfleet.cluster.results.storage import Storage

TARGET_BYTES = 128 << 20  # of parts that become one: large enough for any reader, small enough for memory


def compact(storage: Storage) -> tuple[int, int]:
    """Merges the sound parts of a results directory; returns the number of parts before and after.

    Shards of runs that lack other shards stay as they are.

    New parts are written first, then the journal is put in place that names them, then the old parts go. So a crash
    leaves the old results or the new, and parts that the next call removes. Rows of a run that is there twice are
    kept once. Raises :class:`hostsim.spec.errors.UserError` if a sweep is writing there.
    """
    with Journal(storage) as journal:
        results = Results.open(storage)
        check_engine(results)
        before = [name for name in storage.sizes("parts") if PART_NAME.fullmatch(name)]
        receipts = [_merge(storage, number, group) for number, group in enumerate(_groups(results))]
        receipts += [batch for sharded in results.status.unfinished for batch in sharded.receipts]
        journal.replace(receipts)
        kept = {part.name for receipt in receipts for part in receipt.parts}
        for name in before:
            if name not in kept:
                storage.delete(f"parts/{name}")
    return len(before), len(kept)


def _groups(results: Results) -> Iterator[list[BatchReceipt]]:
    """Batches whose parts have about :data:`TARGET_BYTES` together, each run in one of them only."""
    sizes = results.storage.sizes("parts")
    group: list[BatchReceipt] = []
    total = 0
    for batch in (*_whole(results), *map(_joined, results.status.merged)):
        group.append(batch)
        total += sum(sizes[part.name] for part in batch.parts)
        if total >= TARGET_BYTES:
            yield group
            group, total = [], 0
    if group:
        yield group


def _joined(sharded: ShardedRun) -> BatchReceipt:
    """The receipts of all shards of a run as one of the run."""
    runs = [run for batch in sharded.receipts for run in batch.runs]
    rows = {table: sum(run.rows.get(table, 0) for run in runs) for table in TABLES}
    seconds = sum(run.wall_s for run in runs), sum(run.cpu_s for run in runs)
    whole = RunReceipt(runs[0].cell_id, runs[0].replicate, "done", rows, *seconds)
    return BatchReceipt("", tuple(part for batch in sharded.receipts for part in batch.parts), (whole,))


def _whole(results: Results) -> Iterator[BatchReceipt]:
    """The receipts of whole runs that count, each run in one of them only."""
    sound = {part.name for part in results.parts}
    taken: set[int] = set()
    for batch in read_journal(results.storage):
        if not all(part.name in sound for part in batch.parts):
            continue
        runs = []
        for run in batch.runs:
            index = results.plan.index_of(run.cell_id, run.replicate)
            failure = results.status.failures.get(index)
            current = failure == run if run.status == "failed" else run.status == "done" and index >= 0
            if current and index not in taken:
                taken.add(index)
                runs.append(run)
        if runs:
            yield replace(batch, runs=tuple(runs))


def _merge(storage: Storage, number: int, group: list[BatchReceipt]) -> BatchReceipt:
    name = f"{number:06d}-{uuid4().hex[:12]}"
    runs = tuple(run for batch in group for run in batch.runs)
    parts = tuple(part for table in TABLES if (part := _merge_table(storage, table, name, group)).rows)
    return BatchReceipt(name, parts, runs)


def _merge_table(storage: Storage, table: str, name: str, group: list[BatchReceipt]) -> PartReceipt:
    part = f"{table}-{name}.parquet"
    pieces = [piece for batch in group for piece in _pieces(storage, table, batch)]
    rows = sum(piece.num_rows for piece in pieces)
    if not rows:
        return PartReceipt(table, part, 0, "")
    merged = pa.concat_tables(pieces).sort_by([(key, "ascending") for key in SORT_KEYS[table]])
    data = pa.BufferOutputStream()
    pq.write_table(merged, data, compression="zstd")
    content = data.getvalue()
    storage.write(f"parts/{part}", content)
    return PartReceipt(table, part, rows, hashlib.sha256(content).hexdigest())


def _pieces(storage: Storage, table: str, batch: BatchReceipt) -> Iterator[pa.Table]:
    """The rows of a batch's runs."""
    runs = [f"{run.cell_id} {run.replicate}" for run in batch.runs if run.status == "done"]
    for part in batch.parts:
        if part.table == table:
            with storage.open(f"parts/{part.name}") as file:
                rows = pq.read_table(file, schema=schema(table))
            who = pc.binary_join_element_wise(rows["cell_id"], rows["replicate"].cast(pa.string()), " ")
            yield rows.filter(pc.is_in(who, pa.array(runs, pa.string())))
