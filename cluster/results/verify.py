"""Is a results directory what it says it is? Every file is read, and each problem is a line with its fix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from coldfleet.cluster.results.journal import PART_NAME, BatchReceipt, PartReceipt, read_journal
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.storage import Storage

_Runs = Counter[tuple[str, int]]


def verify(results: Results) -> Iterator[str]:
    """The problems of a results directory, one line each: nothing for a good one, finished or not."""
    storage = results.storage
    resume = f"`coldfleet resume {storage}` runs them again"
    yield from verify_plan(results)
    for name, data in results.plan.data.items():
        if storage.sha256(data.stored_name) != data.sha256:
            yield f"{data.stored_name}: missing or changed: `coldfleet sweep` with the study and {name} puts it back"
    for line in results.damage:
        yield f"{line}: nothing is taken from this receipt: {resume}, and drops its line"
    held = storage.sizes("parts")
    seen: _Runs = Counter()
    for batch in read_journal(storage):
        damage = [line for part in batch.parts for line in _verify_part(storage, part, held)]
        if not damage:
            seen.update((run.cell_id, run.replicate) for run in batch.runs if run.rows.get("cells"))
            damage = list(_verify_rows(storage, batch))
            yield from damage
        else:
            lost = sum(not results.status.is_done(run) for run in batch.runs)
            yield from (f"{line}: {lost} runs have no rows: {resume}" for line in damage if lost)
    for (cell_id, replicate), times in seen.items():
        if times > 1:
            yield (
                f"journal: cell {cell_id} replicate {replicate} is there {times} times: "
                f"`coldfleet compact {storage}` keeps one"
            )
    named = {part.name for part in results.parts}
    for name in held:
        if name not in named and PART_NAME.fullmatch(name):
            yield f"parts/{name}: no valid receipt names it, so it isn't used: `coldfleet compact {storage}` removes it"


def verify_plan(results: Results) -> Iterator[str]:
    """What is wrong with plan.parquet."""
    storage, plan = results.storage, results.plan
    why, fix = "it is another study's", f"delete it, then `coldfleet resume {storage}` writes it again"
    if plan.asked is not None:
        why, fix = "a question was cut off", f"the next question with --out {storage} writes it again"
    try:
        with storage.open("plan.parquet") as file:
            rows = 0
            for chunk in pq.ParquetFile(file).iter_batches(columns=["index", "cell_id", "replicate"]):
                for index, cell_id, replicate in zip(*(column.to_pylist() for column in chunk.columns), strict=True):
                    if index != rows or plan.index_of(cell_id, replicate) != index:
                        yield f"plan.parquet: row {rows} isn't a run of study.json: {why}: {fix}"
                        return
                    rows += 1
    except FileNotFoundError:
        yield f"plan.parquet: missing: `coldfleet resume {storage}` writes it again"
    except (pa.ArrowException, OSError) as error:
        yield f"plan.parquet: can't be read ({str(error).splitlines()[0]}): {fix}"
    else:
        if rows != len(plan):
            yield f"plan.parquet: has {rows} runs, study.json has {len(plan)}: {why}: {fix}"


def _verify_part(storage: Storage, part: PartReceipt, held: dict[str, int]) -> Iterator[str]:
    if part.name not in held:
        yield f"parts/{part.name}: missing"
    elif storage.sha256(f"parts/{part.name}") != part.sha256:
        yield f"parts/{part.name}: its bytes have changed since it was written"


def _verify_rows(storage: Storage, batch: BatchReceipt) -> Iterator[str]:
    """Whether the parts of a batch hold the rows that the receipts of its runs promise, each run's alone."""
    for part in batch.parts:
        promised: _Runs = Counter(
            {(run.cell_id, run.replicate): run.rows.get(part.table, 0) for run in batch.runs if run.status != "failed"}
        )
        try:
            with storage.open(f"parts/{part.name}") as file:
                table = pq.read_table(file, columns=["cell_id", "replicate"])
        except (pa.ArrowException, OSError) as error:
            why = str(error).splitlines()[0]
            yield (
                f"parts/{part.name}: is what its receipt says, but no table ({why}): delete it, then "
                f"`coldfleet resume {storage}` runs its cells again"
            )
            continue
        found: _Runs = Counter(zip(*(column.to_pylist() for column in table.columns), strict=True))
        if +found != +promised:
            cell_id, replicate = next(iter((found - promised) or (promised - found)))
            yield (
                f"parts/{part.name}: {found[cell_id, replicate]} rows of cell {cell_id} replicate {replicate}, where "
                f"its receipt has {promised[cell_id, replicate]}: delete the part, then "
                f"`coldfleet resume {storage}` runs its cells again"
            )
