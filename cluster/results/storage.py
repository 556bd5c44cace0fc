"""Where results are kept: a local directory, or a folder on any file system that pyarrow opens by URI.

``s3://bucket/study``, ``gs://...``, ``hdfs://...`` and ``file://...`` all work; what a URI may say after ``?`` is
described in pyarrow's documentation of its file systems. Files appear whole or not at all, under their final name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from coldfleet.hostsim.spec.errors import UserError

ANSWER_WITHIN_S = 12.0
ATTEMPTS = 3  # of three seconds each
_CHECK = "check the address, the credentials and the network"
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

    @property
    def address(self) -> str:
        """What names the folder in any process, wherever that works: an absolute path or a URI."""
        return self.uri if self.local is None else self.root

    def path(self, name: str) -> str:
        """The path of a file on ``filesystem``."""
        return f"{self.root}/{name}"

    def __str__(self) -> str:
        return self.uri

    def exists(self, name: str) -> bool:
        """Whether there is such a file; raises :class:`UserError` if something else has its name."""
        if self.local is None:
            return bool(self._ask(self.filesystem.get_file_info, name).type == fs.FileType.File)
        try:
            os.close(open_here(self.local, name))
        except FileNotFoundError:
            return False
        return True

    def open(self, name: str) -> Any:
        """A file, open for reading; raises FileNotFoundError, and :class:`UserError` for what isn't a file in here."""
        if self.local is None:
            return self._ask(self.filesystem.open_input_file, name)
        return os.fdopen(open_here(self.local, name), "rb")

    def _ask(self, call: Callable[[str], Any], name: str) -> Any:
        try:
            return call(self.path(name))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UserError(f"{self}/{name}: {_one_line(error)}: {_CHECK}") from None

    def read(self, name: str) -> bytes:
        """A whole file; raises as :meth:`open`."""
        with self.open(name) as stream:
            return bytes(stream.read())

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a file with their ends, one at a time."""
        with self.open(name) as stream:
            rest: list[bytes] = []
            while chunk := stream.read(_CHUNK):
                first, *others = chunk.split(b"\n")
                rest.append(first)
                for other in others:
                    yield b"".join(rest) + b"\n"
                    rest = [other]
            if last := b"".join(rest):
                yield last

    def sha256(self, name: str) -> str:
        """The hash of a file's bytes (hex), "" if there is no such file."""
        try:
            with self.open(name) as stream:
                digest = hashlib.sha256()
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
                return digest.hexdigest()
        except FileNotFoundError:
            return ""

    def sizes(self, folder: str = "") -> dict[str, int]:
        """The files of a folder, sorted by name, and their sizes in bytes; nothing if there is no such folder.

        Links are no files: they lead elsewhere.
        """
        if self.local is not None:
            return _local_sizes(self.local, folder)
        selector = fs.FileSelector(f"{self.root}/{folder}".rstrip("/"), allow_not_found=True)
        found = self.filesystem.get_file_info(selector)
        return dict(sorted((info.base_name, info.size) for info in found if info.type == fs.FileType.File))

    def prepare(self, folder: str = "parts") -> None:
        """Makes the folder and one in it; an object store needs none."""
        if self.local is not None:
            try:
                (self.local / folder).mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                pass  # and no directory: said below
            except OSError as error:
                raise UserError(f"{self}: no directory can be made there: {error.strerror}: choose another") from None
            os.close(_open_folder(self.local, folder))

    def write(self, name: str, content: bytes | pa.Buffer) -> None:
        """Writes a file: readers and crashes see all of it or nothing."""
        if self.local is not None:
            write_here(self.local, name, content)
            return
        with self.filesystem.open_output_stream(self.path(name), compression=None) as stream:
            stream.write(content)  # an object appears when its upload is complete

    def delete(self, name: str) -> None:
        """Removes a file that may be gone already; of a link the link, never what it leads to."""
        if self.local is not None:
            folder, _, last = name.rpartition("/")
            handle = _open_folder(self.local, folder)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(last, dir_fd=handle)
            os.close(handle)
            return
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path(name))


def open_storage(where: str | os.PathLike[str] | Storage) -> Storage:
    """The storage at a path or URI, which need not exist yet; raises :class:`UserError` if no such place can be."""
    if isinstance(where, Storage):
        return where
    name = str(where)
    unnamed = not name.strip() or "\0" in name or name.encode(errors="ignore").decode() != name  # or no UTF-8
    if not isinstance(where, str | os.PathLike) or unnamed:
        raise UserError(f"{where!r:.80} is not the name of a directory for results: give for example results/study")
    if "://" not in name:
        return Storage(name, fs.LocalFileSystem(), str(Path(name).absolute()))
    return _open_uri(name)


@lru_cache(maxsize=8)
def _open_uri(where: str) -> Storage:
    try:
        filesystem, root = fs.FileSystem.from_uri(where)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{where}: {_one_line(error)}") from None
    if not root.strip("/"):
        raise UserError(f"{where}: names no folder: write for example s3://bucket/results/study")
    storage = Storage(where.rstrip("/"), _with_timeouts(filesystem), root.rstrip("/"))
    if isinstance(filesystem, fs.GcsFileSystem):
        _wait_for_answer(storage)
    return storage


def _wait_for_answer(storage: Storage) -> None:
    """Raises UserError if no answer comes at all; what the answer is, shows when it is needed."""
    answered = threading.Event()

    def ask() -> None:
        with contextlib.suppress(OSError):
            storage.filesystem.get_file_info(storage.root)
        answered.set()

    threading.Thread(target=ask, daemon=True).start()
    if not answered.wait(ANSWER_WITHIN_S):
        raise UserError(f"{storage}: no answer within {ANSWER_WITHIN_S:.0f} s: {_CHECK}")


def _with_timeouts(filesystem: Any) -> Any:
    """A client that gives up after about ten seconds without an answer, where one made from a URI would go on.

    That of Google's goes on for two minutes all the same, so its first answer is waited for elsewhere.
    """
    if isinstance(filesystem, fs.S3FileSystem):
        _, (options,) = filesystem.__reduce__()
        return fs.S3FileSystem(**options, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS))
    if isinstance(filesystem, fs.GcsFileSystem):
        _, (options,) = filesystem.__reduce__()
        return fs.GcsFileSystem(**{**options, "retry_time_limit": timedelta(seconds=10)})
    return filesystem


def open_here(root: Path, name: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file in a folder or its parts/; links are not followed, and nothing is waited for.

    Raises FileNotFoundError, and :class:`UserError` for links, FIFOs, devices and folders: results lie in their own
    directory only, and nobody else's files are read, written or removed.
    """
    folder, _, last = name.rpartition("/")
    within = _open_folder(root, folder)
    try:
        handle = os.open(last, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666, dir_fd=within)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise UserError(_not_ours(root, name)) from None
        raise
    finally:
        os.close(within)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(_not_ours(root, name))
    return handle


def _not_ours(root: Path, name: str) -> str:
    return f"{root}/{name} is a link or no regular file: results lie in their own directory only: put the file there"


def _open_folder(root: Path, folder: str) -> int:
    """A descriptor of the folder, or of one inside it, which may be no link."""
    within = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if not folder:
        return within
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise UserError(
                f"{root}/{folder} is a link or no folder: results lie in their own directory only: "
                "put the folder itself there"
            ) from None
        raise
    finally:
        os.close(within)


def _local_sizes(root: Path, folder: str) -> dict[str, int]:
    try:
        handle = _open_folder(root, folder)
    except FileNotFoundError:
        return {}
    try:
        with os.scandir(handle) as entries:
            found = {each.name: each.stat(follow_symlinks=False) for each in entries}
    finally:
        os.close(handle)
    return {name: info.st_size for name, info in sorted(found.items()) if stat.S_ISREG(info.st_mode)}


def write_here(root: Path, name: str, content: bytes | pa.Buffer) -> None:
    """Writes beside the file, flushes to disk, then renames, and makes the rename survive a power cut."""
    folder, _, last = name.rpartition("/")
    within = _open_folder(root, folder)
    beside = f".{last}.{os.getpid()}.tmp"
    try:
        try:
            with os.fdopen(_create(within, beside), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, last, src_dir_fd=within, dst_dir_fd=within)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=within)
            raise
        os.fsync(within)
    finally:
        os.close(within)


def create_here(root: Path, name: str) -> int:
    """A descriptor of a new file in a folder, for reading and writing; what had its name is removed."""
    within = _open_folder(root, "")
    try:
        return _create(within, name)
    finally:
        os.close(within)


def _create(within: int, name: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=within)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o666, dir_fd=within)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
