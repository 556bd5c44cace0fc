"""Parquet files of other tools with a row for each access; the columns have the names that a csv would have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from coldfleet.hostsim.spec.errors import UserError, nearest
from coldfleet.hostsim.trace.formats.text import NAMES, UNITS_NS, named
from coldfleet.hostsim.trace.source import Source
from coldfleet.hostsim.trace.table import KERNEL_START, MOST_PAGE, PAGE_SHIFT, USER_END, Accesses

_ROWS = 1 << 19
_READS = ("r", "read", "load", "get", "0", "false")
_WRITES = ("w", "write", "store", "set", "put", "1", "true")


def read_parquet(source: Source, columns: Mapping[str, str], unit: str) -> Iterator[Accesses]:
    """The rows as accesses, in their order."""
    try:
        with pq.ParquetFile(source.path) as file:
            found = _columns(source, file.schema_arrow.names, columns)
            total = max(file.metadata.num_rows, 1)
            groups = range(file.num_row_groups)  # one at a time: iter_batches holds on to those that it has read
            options = {"columns": list(found.values()), "use_threads": False}
            for batch in chain.from_iterable(file.iter_batches(_ROWS, [group], **options) for group in groups):
                source.tell(source.size * batch.num_rows // total)
                table = {what: batch.column(batch.schema.get_field_index(name)) for what, name in found.items()}
                yield _accesses(source, table, unit)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{source.path}: damaged, or a column of another type: {error}") from None


def has_objects(source: Source, columns: Mapping[str, str]) -> bool:
    """Whether its pages are blocks or objects."""
    try:
        with pq.ParquetFile(source.path) as file:
            return "obj_id" in _columns(source, file.schema_arrow.names, columns)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{source.path}: not Parquet, damaged or cut: {error}") from None


def _columns(source: Source, names: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    """What a column is -> its name."""
    found: dict[str, str] = {}
    for name in names if not columns else ():
        if (what := named(name)) and what not in found:
            found[what] = name
    for what, name in columns.items():
        if what not in NAMES:
            raise UserError(f"--column {what}={name}: there is no {what!r}{nearest(what, NAMES)}")
        if name not in names:
            raise UserError(f"--column {what}={name}: {source.path} has no such column{nearest(name, names)}")
        found[what] = name
    pages = [what for what in ("page", "address", "obj_id") if what in found]
    if not pages:
        raise UserError(f"{source.path}: no column of pages (page, address or obj_id): name one with --column")
    return {what: name for what, name in found.items() if what not in pages[1:]}


def _accesses(source: Source, table: Mapping[str, pa.Array], unit: str) -> Accesses:
    pages = _whole(source, table, next(what for what in ("page", "address", "obj_id") if what in table), pa.uint64())
    if "address" in table:
        if ((pages >= USER_END) & (pages < KERNEL_START)).any():
            raise UserError(f"{source.path}: an address has more than 57 bits")
        pages = pages >> np.uint64(PAGE_SHIFT)
    elif "page" in table and (pages >= MOST_PAGE).any():
        raise UserError(f"{source.path}: a page number has more than 52 bits: is it an address?")
    return Accesses(
        page=pages,
        time=_time(source, table["time"], unit) if "time" in table else None,
        write=_write(source, table["rw"]) if "rw" in table else None,
        process=_whole(source, table, "process", pa.int64()) if "process" in table else None,
    )


def _whole(source: Source, table: Mapping[str, pa.Array], what: str, kind: pa.DataType) -> np.ndarray:
    column = table[what]
    if not pa.types.is_integer(column.type) or column.null_count:
        raise UserError(
            f"{source.path}: the column of {what} is {column.type}, or has gaps: it should be whole numbers"
        )
    values = column.to_numpy()
    if len(values) and values.min() < 0:
        raise UserError(f"{source.path}: a {what} is negative: they are counted from 0")
    return column.cast(kind).to_numpy()


def _time(source: Source, column: pa.Array, unit: str) -> np.ndarray:
    if pa.types.is_timestamp(column.type):
        column, unit = column.cast(pa.timestamp("ns")).cast(pa.int64()), "ns"
    if column.null_count or not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise UserError(f"{source.path}: the column of times is {column.type}, or has gaps: it should be numbers")
    values = column.to_numpy()
    if len(values) and not (values.min() >= 0 and values.max() <= 9.2e18 / UNITS_NS[unit]):
        raise UserError(f"{source.path}: a time is negative, or later than 2^63 ns: is --time-unit right?")
    if values.dtype.kind == "f":
        return np.rint(values.astype(np.float64) * UNITS_NS[unit]).astype(np.int64)
    return values.astype(np.int64) * UNITS_NS[unit]


def _write(source: Source, column: pa.Array) -> np.ndarray:
    texts = pc.utf8_lower(column.cast(pa.string())).dictionary_encode()
    codes = []
    for text in texts.dictionary.to_pylist():
        if text not in _READS + _WRITES:
            raise UserError(f"{source.path}: {text!r:.40} is neither a read nor a write: {', '.join(_READS + _WRITES)}")
        codes.append(int(text in _WRITES))
    return np.array([*codes, -1], np.int8)[texts.indices.fill_null(len(codes)).to_numpy()]
