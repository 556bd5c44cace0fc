"""Makes the rows of a run that are of all its hosts together, once all of its shards are there: "cells", and over time
"lives" and "fleet"."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from coldfleet.cluster.execution.over_time import EPOCH_COLUMNS, rows_over_time
from coldfleet.cluster.execution.work import cell_row, write_batch
from coldfleet.cluster.results.journal import BatchReceipt, PartReceipt, RunReceipt
from coldfleet.cluster.results.run_status import ShardedRun
from coldfleet.cluster.results.schemas import schema
from coldfleet.cluster.results.storage import Storage
from coldfleet.cluster.study.plan import Plan
from coldfleet.hostsim.clock.latency import BUCKETS


def with_merged(
    receipts: Iterable[BatchReceipt], plan: Plan, storage: Storage, before: Mapping[int, ShardedRun]
) -> Iterator[BatchReceipt]:
    """The receipts as they come, and behind that of the last shard of a run the one of its row of cells.

    ``before``: what there was of runs that were cut. Of those that lack nothing else the row is made first.
    """
    sharded = {index: deepcopy(run) for index, run in before.items()}
    for index, run in sharded.items():
        run.merged = None  # one that lost hosts is made again: the row is the same, and its receipt ends the run
        if run.has_all_hosts:
            yield from _merge(plan, storage, index, run)
    for receipt in receipts:
        yield receipt
        if receipt.shard is not None:
            index = plan.index_of(receipt.runs[0].cell_id, receipt.runs[0].replicate)
            run = sharded.setdefault(index, ShardedRun())
            run.add(receipt)
            if run.has_all_hosts and run.merged is None:
                yield from _merge(plan, storage, index, run)


def _merge(plan: Plan, storage: Storage, index: int, sharded: ShardedRun) -> Iterator[BatchReceipt]:
    """Nothing if a part was lost or changed meanwhile: the sweep will find out, and do these hosts again."""
    run = plan.run(index)
    columns = {"hosts": None, **({"epochs": list(EPOCH_COLUMNS)} if run.cell.spec.fleet.over_time else {})}
    found: dict[str, pa.Table] = {}
    for table, names in columns.items():
        parts = [part for batch in sharded.receipts for part in batch.parts if part.table == table]
        tables = [_read(storage, part, names) for part in parts]
        whole = [each for each in tables if each is not None]
        if len(whole) < len(tables):
            return
        found[table] = pa.concat_tables(whole) if whole else schema(table).empty_table()
    hosts = found["hosts"]
    latencies = np.zeros(BUCKETS, np.int64)
    for shard in sharded.shards:
        for bucket, count in shard.latencies:
            latencies[bucket] += count
    rows = {"cells": [cell_row(run, lambda name: _column(hosts, name), latencies)]}
    rows |= rows_over_time(run, lambda name: found["epochs"][name].to_numpy())
    counts = {table: len(some) for table, some in rows.items()}
    done = RunReceipt(run.cell.cell_id, run.replicate, "merged", counts)
    number, _, _ = sharded.receipts[-1].batch.partition("-")
    sharded.merged = write_batch(storage, int(number), rows, [done])
    yield sharded.merged


def _read(storage: Storage, part: PartReceipt, columns: list[str] | None) -> pa.Table | None:
    """The rows of a part, all columns or some, if it is still the one that the receipt names."""
    try:
        content = storage.read(f"parts/{part.name}")
    except FileNotFoundError:
        return None
    if hashlib.sha256(content).hexdigest() != part.sha256:
        return None
    return pq.read_table(pa.BufferReader(content), columns=columns)


def _column(table: pa.Table, name: str) -> list[Any]:
    return list(table[name].to_pylist())
