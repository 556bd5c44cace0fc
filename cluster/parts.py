"""Parts: small Parquet files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.schemas import schema


def write_part(path: Path, table: str, rows: list[dict[str, Any]]) -> str:
    """Writes rows as a Parquet file and returns its sha256 (hex)."""
    data = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema(table)), data, compression="zstd")
    content = data.getvalue()
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def write_atomically(path: Path, content: bytes | pa.Buffer) -> None:
    """Writes beside the file, flushes to disk, then renames: readers and crashes see all of it or nothing."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes a rename in this directory survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """The hash of a file's bytes, "" if there is no such file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
