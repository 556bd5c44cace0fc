"""The results directory of a sweep: opened, checked, continued and read.

study.json        the frozen study, its seed, and what wrote it
plan.parquet      every run of the sweep
parts/            <table>-<batch>.parquet, written by the workers
journal.jsonl     receipts: which run is done, and where its rows are
failures.parquet  the runs that failed, if any did; written again at the end of each sweep
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds

from coldfleet.cluster.results.journal import (
    PART_NAME,
    BatchReceipt,
    DamagedLine,
    Journal,
    PartReceipt,
    RunReceipt,
    read_journal,
    scan_journal,
)
from coldfleet.cluster.results.metrics import named_figures
from coldfleet.cluster.results.parts import parquet_bytes
from coldfleet.cluster.results.run_status import RunStatus
from coldfleet.cluster.results.schemas import SCHEMA_VERSION, SORT_KEYS, TABLES, run_parameters, schema
from coldfleet.cluster.results.storage import Storage, open_storage
from coldfleet.cluster.results.versions import engine_digest, versions
from coldfleet.cluster.study.own_policy import check_installed
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.terminal import announced, visible
from coldfleet.hostsim.spec.checks import check_argument, check_texts
from coldfleet.hostsim.spec.errors import UserError, nearest

if TYPE_CHECKING:
    import pandas
    import polars

FORMAT = "coldfleet results"
_HEAD = {"study": dict, "engine": str, "versions": dict, "created": str}  # what is read of study.json
_BEGUN = re.compile(r"parts|\.(study\.json|plan\.parquet)\.\d+\.tmp")  # left by a sweep that was cut off at once
_LEFTOVER = re.compile(rf"\.{PART_NAME.pattern}\.\d+\.tmp")
_PLAN_CHUNK = 2_000  # rows of plan.parquet that are made at a time


@dataclass(frozen=True)
class Results:
    """A results directory, read once: a snapshot of what was done when it was opened.

    ``plan``: the study. ``parts``: those files that are named by a receipt, there, whole and unchanged.
    ``part_bytes``: their sizes by name. ``damage``: lines of the journal that can't be trusted, each as text; what they
    spoke of isn't done, and the next sweep there does it again. ``lost``: parts that a receipt names and that are
    missing or changed, by name; their runs aren't done either.

    Tables: "cells", a row for each run, sums over the fleet; "hosts" and "guests", a row for each of these; "epochs", a
    row for each tick of each host, if the study has ``output.epochs``. Every field of a schema has "unit" and
    "description" in its metadata (docs/columns.md).

        results = coldfleet.Results.open("results/quickstart")
        cells = results.table("cells", ["policy", "nested_ratio", "pgmajfault"])
        print(len(results.missing), "runs to do,", len(results.failed), "failed")
    """

    storage: Storage
    plan: Plan
    engine: str
    status: RunStatus
    parts: tuple[PartReceipt, ...]
    part_bytes: Mapping[str, int]
    damage: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @classmethod
    def open(cls, where: Storage | Path | str, known: Plan | None = None) -> Results:
        """Reads a directory that a sweep wrote, finished or not; raises :class:`UserError` if it isn't one.

        ``known``: the plan that is probably there; it takes a while to name the cells of a large one anew.
        """
        storage = open_storage(where)
        plan, engine = _read_head(storage, known)
        results = cls(storage, plan, engine, RunStatus(plan), (), {}).reread()
        if results.damage:
            more = f" and {len(results.damage) - 1} more" if len(results.damage) > 1 else ""
            said = f"coldfleet: {storage}: damaged receipt {results.damage[0]}{more}: it doesn't count; "
            print(visible(f"{said}`coldfleet resume {storage}` runs again what is missing"), file=sys.stderr)
        return results

    def reread(self) -> Results:
        """What is there now. The bytes of a part that was whole before are not read again, only its size is."""
        status = RunStatus(self.plan)
        sizes = self.storage.sizes("parts")
        checked = {part for part in self.parts if sizes.get(part.name, 0) == self.part_bytes.get(part.name)}
        parts: dict[PartReceipt, None] = {}
        damage, lost = [], []
        for batch in scan_journal(self.storage):
            if isinstance(batch, DamagedLine):
                damage.append(str(batch))
            elif stranger := _stranger(self.plan, batch):
                damage.append(f"batch {batch.batch}: run {stranger.cell_id} {stranger.replicate} is none of the plan")
            elif broken := [part.name for part in batch.parts if not (part in checked or self._is_whole(part))]:
                lost += broken
            else:
                status.add(batch)
                parts.update(dict.fromkeys(batch.parts))
        kept = {part.name: sizes[part.name] for part in parts if part.name in sizes}
        return replace(self, status=status, parts=tuple(parts), part_bytes=kept, damage=tuple(damage), lost=tuple(lost))

    def _is_whole(self, part: PartReceipt) -> bool:
        return self.storage.sha256(f"parts/{part.name}") == part.sha256

    @property
    def missing(self) -> list[int]:
        """The runs that are still to do, in order."""
        return self.status.missing

    @property
    def failed(self) -> list[RunReceipt]:
        """The receipts of runs that failed, in order."""
        return [self.status.failures[index] for index in sorted(self.status.failures)]

    def table(self, name: str, columns: list[str] | None = None, filter: ds.Expression | None = None) -> pa.Table:
        """One of the tables, sorted by cell, replicate, host, and guest or tick; each run is there once.

        ``columns``: only these, in this order; None: all of the files. Named figures (``coldfleet columns``) can be
        among them: ``results.table("guests", ["policy", "refaults"])``. ``filter``: an expression of pyarrow.compute
        that rows meet.
        Raises UserError for a table or column that there isn't.
        """
        known = schema(name).names if isinstance(name, str) and name in TABLES else None
        if known is None:
            check_argument("the table", name, str, "a text")
            raise UserError(f"unknown table {name!r}{nearest(name, TABLES)}")
        columns = None if columns is None else check_texts("columns", columns)
        check_argument("filter", filter, (ds.Expression, type(None)), "an expression of pyarrow.compute")
        figures = named_figures(name)
        if unknown := [column for column in columns or () if column not in known and column not in figures]:
            raise UserError(f"no column {unknown[0]!r} in {name}{nearest(unknown[0], [*known, *figures])}")
        asked = [figures[column] for column in columns or () if column in figures]
        wanted = None
        if columns is not None:
            plain = (column for column in columns if column not in figures)
            wanted = list(dict.fromkeys([*SORT_KEYS[name], *plain, *(need for each in asked for need in each.needs)]))
        try:
            table = self._files(name).to_table(columns=wanted, filter=filter)
        except pa.ArrowException as error:
            raise UserError(
                f"{self.storage}: a part of {name} can't be read ({str(error).splitlines()[0]}): "
                f"`coldfleet verify {self.storage}` says which"
            ) from None
        if name == "cells" and filter is None and table.num_rows != self.status.done + self.status.repeats:
            raise UserError(
                f"{self.storage}: {table.num_rows} rows of cells, where the receipts have "
                f"{self.status.done + self.status.repeats}: `coldfleet verify {self.storage}` says which part is wrong"
            )
        if self.status.repeats:
            table = _without_repeats(table, SORT_KEYS[name])
        table = table.sort_by([(key, "ascending") for key in SORT_KEYS[name]]).combine_chunks()
        for each in asked:
            field = pa.field(each.key, pa.float64(), metadata={"unit": each.unit, "description": each.formula})
            values = each.values({need: table[need].to_numpy() for need in each.needs})
            table = table.append_column(field, pa.array(values))
        return table if columns is None else table.select(columns)

    def to_polars(self, name: str, columns: list[str] | None = None) -> polars.DataFrame:
        """The same table for Polars; raises UserError if it isn't installed, too."""
        try:
            import polars
        except ImportError:
            raise UserError("this needs Polars: pip install 'coldfleet[frames]'") from None
        return polars.DataFrame(self.table(name, columns))

    def to_pandas(self, name: str, columns: list[str] | None = None) -> pandas.DataFrame:
        """The same table for pandas; raises UserError if it isn't installed, too."""
        try:
            import pandas  # noqa: F401 - pyarrow imports it
        except ImportError:
            raise UserError("this needs pandas: pip install 'coldfleet[frames]'") from None
        return self.table(name, columns).to_pandas()

    def dataset(self, name: str) -> ds.Dataset:
        """The rows of a table as a dataset, in any order; each run is there once."""
        return ds.dataset(self.table(name)) if self.status.repeats else self._files(name)

    def _files(self, name: str) -> ds.Dataset:
        files = [self.storage.path(f"parts/{part.name}") for part in self.parts if part.table == name]
        if not files:
            return ds.dataset(schema(name).empty_table())
        return ds.dataset(files, schema=schema(name), format="parquet", filesystem=self.storage.filesystem)

    @cached_property
    def failures(self) -> pa.Table:
        """The table "failures": each failed run with its error and all of its parameters."""
        rows = []
        for index, receipt in sorted(self.status.failures.items()):
            run = self.plan.run(index)
            who = {"cell_id": run.cell.cell_id, "replicate": run.replicate}
            rows.append({**run_parameters(run), **who, "error": receipt.error})
        return pa.Table.from_pylist(rows, schema("failures"))


def _stranger(plan: Plan, batch: BatchReceipt) -> RunReceipt | None:
    """A run that a receipt names and the plan doesn't."""
    return next((run for run in batch.runs if plan.index_of(run.cell_id, run.replicate) < 0), None)


def find_results(storage: Storage, plan: Plan) -> Results | None:
    """What a sweep of this plan finds there: None if it can begin. Writes nothing.

    Raises :class:`UserError` if the directory holds another study, other files, or half a sweep that another
    version of the simulator began.
    """
    try:
        if storage.local is not None and storage.local.is_file():
            raise UserError(f"{storage} is a file, not a directory for results")
        if not storage.exists("study.json"):
            names = storage.sizes() if storage.local is None else [path.name for path in storage.local.glob("*")]
            if not all(map(_BEGUN.fullmatch, names)) or storage.sizes("parts"):
                raise UserError(f"{storage} holds files that are not a sweep's: give another --out")
            return None
    except OSError as error:
        raise UserError(f"{storage} can't be a directory for results: {error.strerror}: give another --out") from None
    return open_results_of(plan, storage)


def open_results_of(plan: Plan, storage: Storage) -> Results:
    """The results of this plan; raises :class:`UserError` for those of another, or of another simulator."""
    results = Results.open(storage, plan)
    if difference := plan.difference(results.plan):
        raise UserError(f"{storage} holds another study ({difference}): give another --out")
    check_engine(results)
    return results


def check_engine(results: Results) -> None:
    """Raises :class:`UserError` if runs are missing that this simulator, or a package, would do differently."""
    if not results.missing:
        return
    if results.engine != engine_digest():
        raise UserError(f"{results.storage} was begun by another version of the simulator: give another --out")
    names = {texts["name"] for texts in results.plan.packaged}
    check_installed({name: made for name, made in results.plan.own_policies.items() if name in names})


def create(storage: Storage, plan: Plan) -> None:
    """Makes the directory of a new sweep, or completes one that was cut off as it was made."""
    storage.prepare()
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
    if not storage.exists("study.json"):
        storage.write("study.json", (json.dumps(head, indent=2) + "\n").encode())
    if not storage.exists("plan.parquet"):
        storage.write("plan.parquet", parquet_bytes("plan", _plan_rows(plan)))


def clean_up(results: Results, journal: Journal) -> None:
    """Deletes what a crash left in parts/ and in the journal, and writes failures.parquet. Only its holder may.

    On an object store no part is deleted, since another sweep may be at work there: `coldfleet compact` does that.
    """
    if results.damage:
        journal.replace([each for each in read_journal(results.storage) if not _stranger(results.plan, each)])
    if results.storage.local is not None:
        named = {part.name for part in results.parts}
        for name in results.storage.sizes("parts"):
            if _LEFTOVER.fullmatch(name) or (PART_NAME.fullmatch(name) and name not in named):
                results.storage.delete(f"parts/{name}")
    if results.failed:
        data = pa.BufferOutputStream()
        pa.parquet.write_table(results.failures, data, compression="zstd")
        results.storage.write("failures.parquet", data.getvalue())
    else:
        results.storage.delete("failures.parquet")


def _read_head(storage: Storage, known: Plan | None) -> tuple[Plan, str]:
    try:
        text = storage.read("study.json")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{storage}: there are no results of a sweep in it (no study.json)") from None
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{storage}/study.json can't be read: {error.strerror or error}") from None
    try:
        head = json.loads(text)
    except json.JSONDecodeError as error:
        why = "it ends too early" if error.pos >= len(text.rstrip()) else f"no JSON at column {error.colno}"
        raise UserError(_damaged(storage, why, error.lineno)) from None
    except (ValueError, RecursionError):  # not UTF-8, numbers of thousands of digits, thousands of brackets
        raise UserError(_damaged(storage, "no JSON that a sweep writes")) from None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise UserError(_damaged(storage, f'its "format" is not "{FORMAT}"'))
    if head.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{storage} has tables of version {head.get('schema_version')!r:.40}; this coldfleet reads "
            f"{SCHEMA_VERSION}: run the study again into a new directory, or use the version that made them"
        )
    for name, kind in _HEAD.items():
        if not isinstance(head.get(name), kind):
            raise UserError(_damaged(storage, f"{name} is {head.get(name)!r:.40}, which no sweep writes"))
    try:
        plan = Plan.thaw(head["study"])
        plan = known if known is not None and known == plan else plan
        _ = plan.numbers
        return plan, str(head["engine"])
    except ValueError as error:
        raise UserError(_damaged(storage, f"study: {error}")) from None
    except (KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        raise UserError(_damaged(storage, "no sweep writes such a study")) from None


def _damaged(storage: Storage, why: str, line: int = 0) -> str:
    at = f":{line}" if line else ""
    return (
        f"{storage}/study.json{at} is damaged: {why:.200}: put back a copy of the file, "
        "or run the study again into a new directory"
    )


def _without_repeats(table: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """A run is there twice if a lost part was made anew and then came back. Its rows are the same both times."""
    numbered = table.select(keys).append_column("row", pa.array(range(table.num_rows)))
    return table.take(numbered.group_by(list(keys)).aggregate([("row", "min")])["row_min"])


def _plan_rows(plan: Plan) -> Iterator[list[dict[str, Any]]]:
    runs = map(plan.run, announced(len(plan), "runs written to the plan"))
    while chunk := list(islice(runs, _PLAN_CHUNK)):
        yield [
            {"index": run.index, "cell_id": run.cell.cell_id, "replicate": run.replicate, **run_parameters(run)}
            for run in chunk
        ]
