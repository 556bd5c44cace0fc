"""Parts: small Parquet files of rows. Equal rows give equal bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from coldfleet.cluster.results.schemas import schema
from coldfleet.cluster.results.storage import Storage

Rows = dict[str, list[dict[str, Any]]]
"""For each table, its rows."""

_FEW = 100  # rows: compressed, their hundreds of columns take three times as long, and as much space


def parquet_bytes(table: str, chunks: Iterable[list[dict[str, Any]] | pa.Table]) -> pa.Buffer:
    """Rows as a Parquet file in memory, a row group for each chunk of them."""
    data = pa.BufferOutputStream()
    few = isinstance(chunks, list) and sum(map(len, chunks)) < _FEW
    how = {"compression": "none", "use_dictionary": False} if few else {"compression": "zstd"}
    with pq.ParquetWriter(data, schema(table), **how) as writer:
        for rows in chunks:
            writer.write_table(pa.Table.from_pylist(rows, schema(table)) if isinstance(rows, list) else rows)
    return data.getvalue()


def write_part(storage: Storage, name: str, table: str, rows: list[dict[str, Any]]) -> str:
    """Writes rows as a Parquet file and returns its sha256 (hex)."""
    content = parquet_bytes(table, [rows])
    storage.write(name, content)
    return hashlib.sha256(content).hexdigest()
