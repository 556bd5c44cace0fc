"""The results directory of a sweep: opened, checked, continued and read.

study.json        the frozen study, its seed, and what wrote it
plan.parquet      every run of the sweep
parts/            <table>-<batch>.parquet, written by the workers
journal.jsonl     receipts: which run is done, and where its rows are
failures.parquet  the runs that failed, if any did; written again at the end of each sweep
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from coldfleet.cluster.results.journal import (
    BatchReceipt,
    DamagedLine,
    PartReceipt,
    RunReceipt,
    scan_journal,
)
from coldfleet.cluster.results.metrics import named_figures
from coldfleet.cluster.results.run_status import RunStatus
from coldfleet.cluster.results.schemas import SCHEMA_VERSION, SORT_KEYS, TABLES, run_parameters, schema
from coldfleet.cluster.results.storage import Storage, open_storage
from coldfleet.cluster.results.versions import engine_digest
from coldfleet.cluster.study.lives import may_have_hosts
from coldfleet.cluster.study.own_policy import check_installed
from coldfleet.cluster.study.plan import MAX_RUNS, Plan
from coldfleet.cluster.study.terminal import visible
from coldfleet.hostsim.spec.checks import check_argument, check_texts
from coldfleet.hostsim.spec.errors import UserError, nearest

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow.dataset as ds

FORMAT = "coldfleet results"
_HEAD = {"study": dict, "engine": str, "versions": dict, "created": str}  # what is read of study.json
_BEGUN = re.compile(r"parts|data|\.(study\.json|plan\.parquet)\.\d+\.tmp")  # left by a sweep that was cut off at once
_BEGUN_DATA = re.compile(r"\.?[0-9a-f]{64}\.(parquet|csv)(\.\d+\.tmp)?")  # the same, in data/


@dataclass(frozen=True)
class Results:
    """A results directory, read once: a snapshot of what was done when it was opened.

    ``plan``: the study. ``parts``: those files that a receipt names, there, whole, unchanged and needed.
    ``part_bytes``: their sizes by name. ``damage``: lines of the journal that can't be trusted, each as text; ``lost``:
    parts that receipts of missing runs name, and that are gone or changed, by name. What these spoke of isn't done, and
    the next sweep there does it again.

    Tables: "cells", a row for each run, sums over the fleet; "hosts" and "guests", a row for each of these; "epochs", a
    row for each tick of each host, if the study has ``output.epochs``. Every field of a schema has "unit" and
    "description" in its metadata (docs/columns.md).

        results = coldfleet.Results.open("results/quickstart")
        cells = results.table("cells", ["policy", "nested_ratio", "refaults"])
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
        damage = []
        unsound: list[tuple[BatchReceipt, list[PartReceipt]]] = []
        for batch in sound_receipts(self.plan, self.storage):
            if isinstance(batch, str):
                damage.append(batch)
            elif broken := [part for part in batch.parts if part not in checked and not self._is_whole(part)]:
                unsound.append((batch, broken))
            elif status.add(batch):
                parts.update(dict.fromkeys(batch.parts))
        wanted = (broken for batch, broken in unsound if not all(map(status.is_done, batch.runs)))
        lost = tuple(part.name for broken in wanted for part in broken)
        kept = {part.name: sizes[part.name] for part in parts if part.name in sizes}
        return replace(self, status=status, parts=tuple(parts), part_bytes=kept, damage=tuple(damage), lost=lost)

    def _is_whole(self, part: PartReceipt) -> bool:
        return self.storage.sha256(f"parts/{part.name}") == part.sha256

    @property
    def missing(self) -> list[int]:
        """The runs that are still to do, in order."""
        return self.status.missing

    @property
    def partial(self) -> str:
        """How many of the planned runs are in, if not all: in one line, with the files that are lost."""
        missing, failed = len(self.missing), len(self.failed)
        if not missing and not failed:
            return ""
        said = [f"{self.storage}: {self.status.done:,} of {len(self.plan):,} runs are in"]
        said += [f"{failed:,} failed"] if failed else []
        said += [f"{missing:,} are to do (coldfleet resume {self.storage})"] if missing else []
        more = f" and {len(self.lost) - 1} more" if len(self.lost) > 1 else ""
        said += [f"gone or changed: parts/{self.lost[0]}{more}"] if self.lost else []
        return ", ".join(said)

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
        import pyarrow.dataset as ds  # and pandas with it, if it is installed: a fifth of a second

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
            # a part is read once, and its metadata would take a megabyte if it were kept
            table = self._files(name).to_table(columns=wanted, filter=filter, cache_metadata=False)
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
        import pyarrow.dataset as ds

        return ds.dataset(self.table(name)) if self.status.repeats else self._files(name)

    def _files(self, name: str) -> ds.Dataset:
        import pyarrow.dataset as ds

        unused = self.status.unused_parts()
        named = [part.name for part in self.parts if part.table == name and part.name not in unused]
        files = [self.storage.path(f"parts/{part}") for part in named]
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


def sound_receipts(plan: Plan, storage: Storage) -> Iterator[BatchReceipt | str]:
    """The receipts of a journal that can be right, and for each of the others a text that says what is wrong."""
    hosts: dict[int, int] = {}  # of the runs that were cut
    for batch in scan_journal(storage):
        if isinstance(batch, DamagedLine):
            yield str(batch)
            continue
        indices = [plan.index_of(run.cell_id, run.replicate) for run in batch.runs]
        if min(indices) < 0:
            stranger = batch.runs[indices.index(-1)]
            yield f"batch {batch.batch}: run {stranger.cell_id} {stranger.replicate} is none of the plan"
            continue
        if (shard := batch.shard) is not None:
            index, run = indices[0], batch.runs[0]
            if index not in hosts and may_have_hosts(plan.run(index).cell.spec, shard.of):
                hosts[index] = shard.of
            if hosts.get(index) != shard.of:
                yield f"batch {batch.batch}: run {run.cell_id} {run.replicate} hasn't {shard.of} hosts"
                continue
        yield batch


def find_results(storage: Storage, plan: Plan) -> Results | None:
    """What a sweep of this plan finds there: None if it can begin. Writes nothing.

    Raises :class:`UserError` if the directory holds another study, other files, or half a sweep that another
    version of the simulator began.
    """
    return open_results_of(plan, storage) if _holds_results(storage) else None


def find_gathered(storage: Storage) -> Results | None:
    """What a question finds there: what others have gathered, not read yet; None: it can begin. Writes nothing.

    Raises :class:`UserError` if the directory holds a sweep, whose plan is that of its study; other files; or runs of
    another version of the simulator, or of a package.
    """
    if not _holds_results(storage):
        return None
    plan, engine = _read_head(storage, None)
    if plan.asked is None:
        raise UserError(f"{storage} holds a sweep, and a question's runs don't go with it: give another --out")
    results = Results(storage, plan, engine, RunStatus(plan), (), {})
    check_engine(results, always=True)
    return results


def _holds_results(storage: Storage) -> bool:
    """Whether there are results; False: it is empty. Raises :class:`UserError` for whatever else is there."""
    try:
        if storage.local is not None and storage.local.is_file():
            raise UserError(f"{storage} is a file, not a directory for results")
        if not storage.exists("study.json"):
            names = storage.sizes() if storage.local is None else [path.name for path in storage.local.glob("*")]
            ours = all(map(_BEGUN.fullmatch, names)) and all(map(_BEGUN_DATA.fullmatch, storage.sizes("data")))
            if not ours or storage.sizes("parts"):
                raise UserError(f"{storage} holds files that are not a sweep's: give another --out")
            return False
    except OSError as error:
        raise UserError(f"{storage} can't be a directory for results: {error.strerror}: give another --out") from None
    return True


def open_results_of(plan: Plan, storage: Storage) -> Results:
    """The results of this plan; raises :class:`UserError` for those of another, or of another simulator."""
    results = Results.open(storage, plan)
    if difference := plan.difference(results.plan):
        raise UserError(f"{storage} holds another study ({difference}): give another --out")
    check_engine(results)
    return results


def check_engine(results: Results, always: bool = False) -> None:
    """Raises :class:`UserError` if runs are missing that this simulator, or a package, would do differently.

    ``always``: even if none is missing, since there will be more.
    """
    if not results.missing and not always:
        return
    if results.engine != engine_digest():
        raise UserError(f"{results.storage} was begun by another version of the simulator: give another --out")
    names = {texts["name"] for texts in results.plan.packaged}
    check_installed({name: made for name, made in results.plan.own_policies.items() if name in names})


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
        plan = Plan.thaw(head["study"]).with_data_at(storage.address)
        plan = known if known is not None and known == plan else plan
        if plan is not known and (cell_ids := _stored_ids(storage, plan, head)):
            plan.adopt_ids(cell_ids)
        _ = plan.cell(0), plan.numbers
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


def plan_sha256(study: Mapping[str, Any], cell_ids: list[str]) -> str:
    """A hash of a study and of what came of it, by which plan.parquet is known to be the study's."""
    return hashlib.sha256(json.dumps(study).encode() + "".join(cell_ids).encode()).hexdigest()


def _stored_ids(storage: Storage, plan: Plan, head: Mapping[str, Any]) -> list[str]:
    """The ids of the plan's cells from plan.parquet, which has replicate 0 of all cells first; [] if it isn't right."""
    if plan.most_runs > MAX_RUNS:
        return []
    cells, ids = plan.cell_count, pa.chunked_array([], pa.string())
    with suppress(OSError, KeyError, TypeError, ValueError, pa.ArrowException, UserError):
        with storage.open("plan.parquet") as file:
            stored = pq.ParquetFile(file)
            for number in range(stored.num_row_groups if stored.metadata.num_rows == len(plan) else 0):
                if len(ids) < cells:
                    ids = pa.chunked_array([*ids.chunks, *stored.read_row_group(number, ["cell_id"])["cell_id"].chunks])
        found = ids[:cells].to_pylist()
        if plan_sha256(head["study"], found) == head["plan_sha256"]:
            return list(found)
    return []


def _without_repeats(table: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """A run is there twice if a lost part was made anew and then came back. Its rows are the same both times."""
    numbered = table.select(keys).append_column("row", pa.array(range(table.num_rows)))
    return table.take(numbered.group_by(list(keys)).aggregate([("row", "min")])["row_min"])
