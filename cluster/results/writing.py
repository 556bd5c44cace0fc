"""Writes a results directory: the study, its plan and its data, not parts and receipts. Deletes what a crash left."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from coldfleet.cluster.results.journal import PART_NAME, Journal
from coldfleet.cluster.results.parts import parquet_bytes
from coldfleet.cluster.results.results import FORMAT, Results, plan_sha256, sound_receipts
from coldfleet.cluster.results.schemas import SCHEMA_VERSION, run_parameters, schema
from coldfleet.cluster.results.storage import Storage
from coldfleet.cluster.results.versions import engine_digest, versions
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.terminal import announced

_LEFTOVER = re.compile(rf"\.{PART_NAME.pattern}\.\d+\.tmp")
_PLAN_CHUNK = 2_000  # rows of plan.parquet that are made at a time


def create(storage: Storage, plan: Plan) -> None:
    """Makes the directory of a new sweep, or completes one that was cut off as it was made."""
    storage.prepare()
    put_data(storage, plan)
    if not storage.exists("study.json"):
        write_study(storage, plan)
    if not storage.exists("plan.parquet"):
        write_plan(storage, plan)


def write_study(storage: Storage, plan: Plan) -> None:
    """Writes study.json, in place of one that there is, which began when that did."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    before = json.loads(storage.read("study.json")) if storage.exists("study.json") else {}
    head = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "study": plan.frozen(),
        "cells": plan.cell_count,
        "runs": len(plan),
        "plan_sha256": plan_sha256(plan.frozen(), plan.cell_ids),
        "engine": engine_digest(),
        "versions": versions(),
        "created": before.get("created", now),
    }
    storage.write("study.json", (json.dumps(head, indent=2) + "\n").encode())


def write_plan(storage: Storage, plan: Plan) -> None:
    """Writes plan.parquet, in place of one that there is."""
    storage.write("plan.parquet", parquet_bytes("plan", _plan_chunks(plan)))


def _plan_chunks(plan: Plan) -> Iterator[pa.Table]:
    """The rows of plan.parquet, some at a time, made column by column."""
    of_plan = schema("plan")
    runs = map(plan.run, announced(len(plan), "runs written to the plan"))
    while chunk := list(islice(runs, _PLAN_CHUNK)):
        rows = [run_parameters(run) for run in chunk]
        columns: dict[str, Sequence[Any]] = dict(zip(rows[0], zip(*map(dict.values, rows), strict=True), strict=True))
        columns["index"] = [run.index for run in chunk]
        columns["cell_id"] = [run.cell.cell_id for run in chunk]
        columns["replicate"] = [run.replicate for run in chunk]
        yield pa.table([pa.array(columns[field.name], field.type) for field in of_plan], of_plan)


def put_data(storage: Storage, plan: Plan) -> None:
    """Copies the data of a study into its results directory, where workers find it, unless it is there, unchanged."""
    for each in plan.data.values():
        storage.prepare("data")
        if storage.sha256(each.stored_name) != each.sha256:
            with pa.memory_map(each.fetch().path) as file:
                storage.write(each.stored_name, file.read_buffer())


def clean_up(results: Results, journal: Journal) -> None:
    """Deletes what a crash left in parts/ and in the journal, and writes failures.parquet. Only its holder may.

    On an object store no part is deleted, since another sweep may be at work there: `coldfleet compact` does that.
    """
    # at a URI nothing is locked: what belongs to no run may be the receipts of another question
    if results.damage and (results.storage.local is not None or results.plan.asked is None):
        journal.replace([each for each in sound_receipts(results.plan, results.storage) if not isinstance(each, str)])
    if results.storage.local is not None:
        named = {part.name for part in results.parts}
        for name in results.storage.sizes("parts"):
            if _LEFTOVER.fullmatch(name) or (PART_NAME.fullmatch(name) and name not in named):
                results.storage.delete(f"parts/{name}")
    if results.failed:
        data = pa.BufferOutputStream()
        pq.write_table(results.failures, data, compression="zstd")
        results.storage.write("failures.parquet", data.getvalue())
    else:
        results.storage.delete("failures.parquet")
