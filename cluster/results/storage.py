"""Where results are kept: a local directory, or a folder on any file system that pyarrow opens by URI.

``s3://bucket/study``, ``gs://...``, ``hdfs://...`` and ``file://...`` all work; what a URI may say after ``?`` is
described in pyarrow's documentation of its file systems. Files appear whole or not at all, under their final name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from coldfleet.hostsim.spec.errors import UserError

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Storage:
    """A folder: ``uri`` names it to people and to workers, ``root`` is its path on ``filesystem``."""

    uri: str
    filesystem: Any
    root: str

    @property
    def local(self) -> Path | None:
        """The folder as a path, None if it isn't on a local file system."""
        return Path(self.root) if isinstance(self.filesystem, fs.LocalFileSystem) else None

    def path(self, name: str) -> str:
        """The path of a file on ``filesystem``."""
        return f"{self.root}/{name}"

    def __str__(self) -> str:
        return self.uri

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return bool(self.filesystem.get_file_info(self.path(name)).type == fs.FileType.File)

    def read(self, name: str) -> bytes:
        """A whole file; raises FileNotFoundError."""
        with self.filesystem.open_input_stream(self.path(name), compression=None) as stream:
            return bytes(stream.read())

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a file with their ends, one at a time."""
        with self.filesystem.open_input_stream(self.path(name), compression=None) as stream:
            rest = b""
            while chunk := stream.read(_CHUNK):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from (line + b"\n" for line in whole)
            if rest:
                yield rest

    def sha256(self, name: str) -> str:
        """The hash of a file's bytes (hex), "" if there is no such file."""
        try:
            with self.filesystem.open_input_stream(self.path(name), compression=None) as stream:
                digest = hashlib.sha256()
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
                return digest.hexdigest()
        except FileNotFoundError:
            return ""

    def sizes(self, folder: str = "") -> dict[str, int]:
        """The files of a folder, sorted by name, and their sizes in bytes; nothing if there is no such folder."""
        selector = fs.FileSelector(f"{self.root}/{folder}".rstrip("/"), allow_not_found=True)
        found = self.filesystem.get_file_info(selector)
        return dict(sorted((info.base_name, info.size) for info in found if info.type == fs.FileType.File))

    def prepare(self) -> None:
        """Makes the folder and its parts/; an object store needs none."""
        if self.local is not None:
            (self.local / "parts").mkdir(parents=True, exist_ok=True)

    def write(self, name: str, content: bytes | pa.Buffer) -> None:
        """Writes a file: readers and crashes see all of it or nothing."""
        if self.local is not None:
            _write_and_rename(self.local / name, content)
            return
        with self.filesystem.open_output_stream(self.path(name), compression=None) as stream:
            stream.write(content)  # an object appears when its upload is complete

    def delete(self, name: str) -> None:
        """Removes a file that may be gone already."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path(name))


def open_storage(where: str) -> Storage:
    """The storage at a path or URI, which need not exist yet; raises :class:`UserError` if no such place can be."""
    if "://" not in where:
        return Storage(where, fs.LocalFileSystem(), str(Path(where).absolute()))
    return _open_uri(where)


@lru_cache(maxsize=8)
def _open_uri(where: str) -> Storage:
    try:
        filesystem, root = fs.FileSystem.from_uri(where)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{where}: {_one_line(error)}") from None
    if not root.strip("/"):
        raise UserError(f"{where}: names no folder: write for example s3://bucket/results/study")
    return Storage(where.rstrip("/"), filesystem, root.rstrip("/"))


def _write_and_rename(path: Path, content: bytes | pa.Buffer) -> None:
    """Writes beside the file, flushes to disk, then renames, and makes the rename survive a power cut."""
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
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
