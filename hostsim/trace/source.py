"""A trace's file as bytes, unpacked on the way: gzip, zstd, xz, bzip2 and zlib are known by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.input_file import open_input

BLOCK_BYTES = 4 << 20
HEAD_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 20
_ZSTD = (b"\x28\xb5\x2f\xfd", *(bytes((low, 0x2A, 0x4D, 0x18)) for low in range(0x50, 0x60)))
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)


class Source:
    """A file that is read once, from front to back, and closed at the end of a ``with``.

    ``told`` is called with the bytes of the file that were read since the last call. ``pipe``: is read instead of the
    file; what comes out of it isn't packed.
    """

    def __init__(
        self, path: Path, told: Callable[[int], None] = lambda count: None, pipe: BinaryIO | None = None
    ) -> None:
        self.path = path
        self._told, self._position = told, 0
        self._head: bytes | None = None
        self._stream: Any
        if pipe is not None:
            self._raw, self._stream = pipe, pipe
            return
        self._raw = open_input(path)
        self.size = os.fstat(self._raw.fileno()).st_size
        """Bytes of the file, as they are packed."""
        start = self._raw.read(6)
        self._raw.seek(0)
        self._stream = self._unpacked(start)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    def _unpacked(self, start: bytes) -> Any:
        if start[:2] == b"\x1f\x8b":
            return gzip.GzipFile(fileobj=self._raw)
        if start[:4] in _ZSTD:
            return pa.CompressedInputStream(pa.PythonFile(self._raw, mode="r"), "zstd")
        if start[:3] == b"BZh":
            return bz2.BZ2File(self._raw)
        if start == b"\xfd7zXZ\0":
            return lzma.LZMAFile(self._raw)
        return _ZlibFile(self._raw) if start[:2] in _ZLIB else self._raw

    def _read(self, size: int) -> bytes:
        """So many bytes, fewer only at the end."""
        parts: list[bytes] = []
        try:
            while size and (part := self._stream.read(size)):
                parts.append(part)
                size -= len(part)
        except _ERRORS as error:
            raise UserError(f"{self.path}: can't be unpacked, damaged or cut: {error}") from None
        block = b"".join(parts) if len(parts) != 1 else parts[0]
        if not self._raw.closed:
            position = self._raw.tell() if self._raw.seekable() else self._position + len(block)
            self._told(position - self._position)
            self._position = position
        return block

    def tell(self, count: int) -> None:
        """Says that so many more bytes were read, by one who reads the file by its path."""
        self._told(count)

    def head(self) -> bytes:
        """The first bytes, unpacked; they are read again later."""
        if self._head is None:
            self._head = self._read(HEAD_BYTES)
        return self._head

    def blocks(self) -> Iterator[bytes]:
        """All bytes, some megabytes at a time."""
        first = self.head()
        block = first + self._read(BLOCK_BYTES - len(first)) if len(first) == HEAD_BYTES else first
        while block:
            yield block
            block = self._read(BLOCK_BYTES)

    def records(self, size: int) -> Iterator[bytes]:
        """All bytes, in blocks of whole records of ``size`` bytes; raises :class:`UserError` if the last is cut."""
        rest = b""
        for block in self.blocks():
            whole = rest + block if rest else block
            end = len(whole) - len(whole) % size
            rest = whole[end:]
            if end:
                yield whole[:end] if rest else whole
        if rest:
            raise UserError(f"{self.path}: cut: the last record has {len(rest)} of {size} bytes")

    def lines(self) -> Iterator[bytes]:
        """All bytes, in blocks of whole lines; the last of them may lack its line end."""
        rest = b""
        for block in self.blocks():
            end = block.rfind(b"\n") + 1
            if not end:
                rest += block
            else:
                yield rest + block[:end]
                rest = block[end:]
            if len(rest) > MAX_LINE_BYTES:
                raise UserError(f"{self.path}: a line is longer than {MAX_LINE_BYTES >> 20} MiB: not text")
        if rest:
            yield rest

    def whole(self, most: int) -> bytes:
        """All bytes at once; raises :class:`UserError` if there are more than ``most``."""
        parts, size = [], 0
        for block in self.blocks():
            parts.append(block)
            size += len(block)
            if size > most:
                raise UserError(f"{self.path}: unpacks to more than {most >> 20} MiB, the most that is read at once")
        return b"".join(parts)


class _ZlibFile:
    """Bytes of a zlib stream, which Python has no file for."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._unpack = zlib.decompressobj()

    def read(self, size: int) -> bytes:
        while not self._unpack.eof:
            packed = self._unpack.unconsumed_tail or self._raw.read(1 << 16)
            if not packed:
                raise EOFError("the end is missing")
            if unpacked := self._unpack.decompress(packed, size):
                return unpacked
        return b""
