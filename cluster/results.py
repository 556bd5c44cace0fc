"""The results directory of a sweep: opened, checked, continued and read.

study.json      the frozen study, its seed, and what wrote it
plan.parquet    every run of the sweep
parts/          <table>-<batch>.parquet, written by the workers
journal.jsonl   receipts: which run is done, and where its rows are
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from cluster.journal import BatchReceipt, Journal, RunReceipt, read_journal
from cluster.parts import sha256_of, write_atomically, write_part
from cluster.plan import Plan
from cluster.schemas import SCHEMA_VERSION, SORT_KEYS, TABLES, schema
from cluster.versions import engine_digest, versions
from cluster.work import run_parameters
from hostsim.errors import UserError

FORMAT = "coldfleet results"
_PART_NAME = re.compile(rf"\.?({'|'.join(TABLES)})-\d+-[0-9a-f]+\.parquet(\.\d+\.tmp)?")


@dataclass(frozen=True)
class Results:
    """A results directory, read once: a snapshot of what was done when it was opened.

    ``batches``: the receipts whose parts are there, whole and unchanged.
    """

    directory: Path
    plan: Plan
    engine: str
    batches: tuple[BatchReceipt, ...]

    @classmethod
    def open(cls, directory: Path | str) -> Results:
        """Reads a directory that a sweep wrote, finished or not; raises :class:`UserError` if it isn't one."""
        directory = Path(directory)
        try:
            head = json.loads((directory / "study.json").read_text())
        except FileNotFoundError:
            raise UserError(f"{directory}: there are no results of a sweep in it (no study.json)") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{directory}/study.json can't be read: {error}") from None
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise UserError(f"{directory}/study.json is not the head of a sweep's results")
        if head.get("schema_version") != SCHEMA_VERSION:
            raise UserError(
                f"{directory} has tables of version {head.get('schema_version')}; this coldfleet reads {SCHEMA_VERSION}"
            )
        try:
            plan = Plan.thaw(head["study"])
            engine = str(head["engine"])
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{directory}/study.json is damaged: {error!r}") from None
        return cls(directory, plan, engine, tuple(_sound_batches(directory)))

    @cached_property
    def receipts(self) -> dict[int, RunReceipt]:
        """For each run that came to an end, by its index in the plan, its receipt."""
        ended: dict[int, RunReceipt] = {}
        for batch in self.batches:
            for receipt in batch.runs:
                ended.setdefault(self.plan.index_of(receipt.cell_id, receipt.replicate), receipt)
        ended.pop(-1, None)
        return ended

    @property
    def missing(self) -> list[int]:
        """The runs that are still to do, in order."""
        done = self.receipts
        return [index for index in range(len(self.plan)) if index not in done]

    @property
    def failed(self) -> list[RunReceipt]:
        """The receipts of runs that failed, in order."""
        return [self.receipts[i] for i in sorted(self.receipts) if self.receipts[i].status == "failed"]

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """One of "cells", "hosts", "guests", sorted by cell, replicate, host and guest; each run is there once."""
        files = [self.directory / "parts" / p.name for b in self.batches for p in b.parts if p.table == name]
        if not files:
            table = schema(name).empty_table()
        else:
            wanted = None if columns is None else list(dict.fromkeys([*SORT_KEYS[name], *columns]))
            table = ds.dataset(files, schema=schema(name), format="parquet").to_table(columns=wanted)
        if table.num_rows != sum(receipt.rows.get(name, 0) for receipt in self.receipts.values()):
            table = _without_repeats(table, SORT_KEYS[name])
        table = table.sort_by([(key, "ascending") for key in SORT_KEYS[name]]).combine_chunks()
        return table if columns is None else table.select(columns)


def check_directory(directory: Path, plan: Plan) -> Results | None:
    """What a sweep of this plan finds there: None if it can begin. Writes nothing.

    Raises :class:`UserError` if the directory holds another study, other files, or half a sweep that another
    version of the simulator began.
    """
    if not directory.exists():
        return None
    if not directory.is_dir():
        raise UserError(f"{directory} is a file, not a directory for results")
    if not (directory / "study.json").exists():
        if any(directory.iterdir()):
            raise UserError(f"{directory} holds files that are not a sweep's: give another --out")
        return None
    results = Results.open(directory)
    if difference := plan.difference(results.plan):
        raise UserError(f"{directory} holds another study ({difference}): give another --out")
    if results.missing and results.engine != engine_digest():
        raise UserError(f"{directory} was begun by another version of the simulator: give another --out")
    return results


def create(directory: Path, plan: Plan) -> None:
    """Makes the directory of a new sweep, or completes one that was cut off as it was made."""
    (directory / "parts").mkdir(parents=True, exist_ok=True)
    head = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "study": plan.frozen(),
        "cells": plan.cell_count,
        "runs": len(plan),
        "engine": engine_digest(),
        "versions": versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if not (directory / "study.json").exists():
        write_atomically(directory / "study.json", (json.dumps(head, indent=2) + "\n").encode())
    if not (directory / "plan.parquet").exists():
        write_part(directory / "plan.parquet", "plan", [_plan_row(plan, index) for index in range(len(plan))])


def remove_orphans(results: Results, _journal: Journal) -> int:
    """Deletes parts that no receipt names: a crash left them. Only the holder of the journal may."""
    named = {part.name for batch in results.batches for part in batch.parts}
    ours = [path for path in (results.directory / "parts").iterdir() if _PART_NAME.fullmatch(path.name)]
    orphans = [path for path in ours if path.name not in named]
    for path in orphans:
        path.unlink(missing_ok=True)
    return len(orphans)


def _without_repeats(table: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """A run is there twice if a lost part was made anew and then came back. Its rows are the same both times."""
    numbered = table.select(keys).append_column("row", pa.array(range(table.num_rows)))
    return table.take(numbered.group_by(list(keys)).aggregate([("row", "min")])["row_min"])


def _sound_batches(directory: Path) -> Iterator[BatchReceipt]:
    for batch in read_journal(directory / "journal.jsonl"):
        if all(sha256_of(directory / "parts" / part.name) == part.sha256 for part in batch.parts):
            yield batch


def _plan_row(plan: Plan, index: int) -> dict[str, Any]:
    run = plan.run(index)
    return {"index": index, "cell_id": run.cell.cell_id, "replicate": run.replicate, **run_parameters(run)}
