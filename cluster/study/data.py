"""The data that a study names: imported traces, found once, known by their hash from then on, and only ever read.

A name is a path beside the study or in the data directory (``COLDFLEET_DATA``), a URI that pyarrow opens, or that of a
program's trace that comes along. What is found travels through the results directory, as data/<sha256>.parquet; every
process checks the hash before it reads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Self

import pyarrow as pa
from pyarrow import fs

from coldfleet.cluster.study.download import download
from coldfleet.cluster.study.tables import Workload
from coldfleet.hostsim.spec.errors import UserError, nearest
from coldfleet.hostsim.spec.host_spec import DataFile
from coldfleet.hostsim.spec.input_file import open_input
from coldfleet.hostsim.spec.units import whole_mib
from coldfleet.hostsim.trace.programs import find_program

DATA_DIRECTORY = "COLDFLEET_DATA"
READING_KINDS = ("trace", "clone", "profile")
"""Kinds of workloads that read a file."""

CSV = "arrivals.csv"
KINDS = ("accesses", "heat", "arrivals", CSV)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHOWN = 8  # processes in a message


@dataclass(frozen=True)
class StudyData:
    """A file that a study names.

    ``kind``: "accesses" or "heat" of a trace, "arrivals", or "arrivals.csv" of a fleet. ``rows``: how many. ``pages``:
    distinct ones that are accessed; 0 of others. ``processes``: whose accesses there are, where the trace says that.
    ``classes``: of the guests that arrive. ``sha256`` "": its content is made up, for trials. ``where``: a path or URI
    at which it is found, "" if nobody has said that yet; the same content is equal wherever it is.
    """

    sha256: str
    kind: str
    rows: int
    pages: int
    processes: tuple[int, ...]
    classes: tuple[str, ...] = ()
    where: str = field(default="", compare=False)

    @property
    def stored_name(self) -> str:
        """Its name in a results directory."""
        return f"data/{self.sha256}.{'csv' if self.kind == CSV else 'parquet'}"

    def made_up(self) -> StudyData:
        """Such data with made-up content, which no file has."""
        return replace(self, sha256="", where="")

    def at(self, storage: str) -> StudyData:
        """The same in a results directory: a path or URI."""
        base, question, query = storage.partition("?") if "://" in storage else (storage, "", "")
        return replace(self, where=f"{base.rstrip('/')}/{self.stored_name}{question}{query}")

    def fetch(self) -> DataFile:
        """The file on this machine, its hash checked; raises :class:`UserError` if it is missing or changed."""
        if not self.sha256:
            return DataFile("", "")
        if not self.where:
            raise UserError(f"{self.stored_name}: it is not known where this file is")
        path = Path(self.where)
        if "://" in self.where:
            path = _cache() / f"{self.sha256}.parquet"
            path = path if path.exists() else _download(self.where)
        _check(path, self.sha256, self.where, _version(path))
        return DataFile(str(path), self.sha256)

    def frozen(self) -> dict[str, Any]:
        """As plain data, for study.json."""
        return {name: value for name, value in asdict(self).items() if name != "where"}

    @classmethod
    def thaw(cls, data: Mapping[str, Any]) -> Self:
        """What :meth:`frozen` wrote; raises KeyError, TypeError or ValueError if it isn't that."""
        if not _SHA256.fullmatch(data["sha256"]) or data["kind"] not in KINDS:
            raise ValueError(f"sha256 = {data['sha256']!r:.80} or kind = {data['kind']!r:.40} can't be")
        processes = tuple(int(each) for each in data["processes"])
        classes = tuple(str(each) for each in data["classes"])
        return cls(data["sha256"], data["kind"], int(data["rows"]), int(data["pages"]), processes, classes)


def find_data(name: str, folder: Path) -> StudyData:
    """The trace of a name that a study in ``folder`` gives, read through; raises :class:`UserError`."""
    path, where = find_file(name, folder)
    with named_by(where, path):
        return replace(_inspected(path, _version(path)), where=where)


@contextmanager
def named_by(where: str, path: Path) -> Iterator[None]:
    """Inside, what is wrong with the copy of a file is said of the URI from which it is."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(path), where) if "://" in where else str(error)) from None


def find_file(name: str, folder: Path, made_by: str = "coldfleet trace import") -> tuple[Path, str]:
    """The file of a name that a study in ``folder`` gives, and the path or URI at which it is found.

    ``made_by``: what makes such files. Raises :class:`UserError` if there is none.
    """
    if "://" in name:
        return _download(name), name
    if program := find_program(name):
        return program, str(program)
    places = [folder / name]
    if os.environ.get(DATA_DIRECTORY):
        places.append(Path(os.environ[DATA_DIRECTORY]) / name)
    try:
        found = [place for place in places if place.exists()]
    except OSError as error:
        raise UserError(f"{name!r:.80}...: {error.strerror}") from None
    if not found:
        tried = " and ".join(str(place.parent) for place in places)
        raise UserError(
            f"no file {name!r} in {tried}: make it with {made_by}, put it beside the study, or name "
            f"its directory in {DATA_DIRECTORY}"
        )
    return found[0], str(found[0].absolute())


def check_workload(load: Workload, memory_pages: int, data: Mapping[str, StudyData]) -> None:
    """Raises :class:`UserError` unless guests with so much memory can do what their workload says."""
    if load.kind not in READING_KINDS or not load.file:
        return
    if (found := data.get(load.file)) is None:
        raise UserError(f"the study names no data {load.file!r}{nearest(load.file, data)}")
    if found.classes:
        raise UserError(f"{load.file} has guests that arrive, not what they do: name it in fleet.arrivals")
    if load.kind == "profile":
        return
    if found.kind == "heat":
        raise UserError(f'{load.file} has heat, which has no order of accesses: use it with kind = "profile"')
    if load.kind == "trace" and found.pages > memory_pages:
        raise UserError(
            f"{load.file} has {found.pages:,} distinct pages, a guest {memory_pages:,}: give it "
            f'{whole_mib(found.pages)} or more, or use kind = "clone", which is scaled to it'
        )
    if load.l2_process >= 0 and load.l2_process not in found.processes:
        shown = ", ".join(map(str, found.processes[:_SHOWN])) + (", ..." if len(found.processes) > _SHOWN else "")
        raise UserError(f"{load.file} has no process {load.l2_process}: it has {shown or 'none that is known'}")


@lru_cache(maxsize=64)
def _inspected(path: Path, version: tuple[int, int]) -> StudyData:
    """What is in a version of a file."""
    from coldfleet.hostsim.trace.footprint import find_footprint
    from coldfleet.hostsim.trace.table import Trace
    from coldfleet.hostsim.workload.trace_data import check_length, sha256_of

    trace = Trace.open(path)
    digest = sha256_of(path)
    if not trace.rows:
        raise UserError(f"{path}: an empty trace: import it from one that has accesses or heat")
    if trace.kind == "heat":
        return StudyData(digest, trace.kind, trace.rows, 0, ())
    check_length(trace)
    footprint = find_footprint(trace)
    processes = sorted({int(each) for each in footprint.processes} - {-1})
    return StudyData(digest, trace.kind, trace.rows, len(footprint.keys), tuple(processes))


@lru_cache(maxsize=64)
def _check(path: Path, sha256: str, where: str, version: tuple[int, int]) -> None:
    """Raises :class:`UserError` unless a file has this hash; each version of a file is read once."""
    from coldfleet.hostsim.workload.trace_data import sha256_of

    if (found := sha256_of(path)) != sha256:
        raise UserError(
            f"{where}: changed: its sha256 is {found[:16]}..., not {sha256[:16]}...: put the file back, or run the "
            "study again into a new directory"
        )


def _version(path: Path) -> tuple[int, int]:
    """When a file was changed last, ns, and its size."""
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: the study names it: put it back") from None
    return found.st_mtime_ns, found.st_size


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coldfleet" / "data"


@lru_cache(maxsize=64)
def _download(uri: str) -> Path:
    """Copies a file into this machine's cache, named by its hash; raises :class:`UserError`."""
    from coldfleet.hostsim.workload.trace_data import sha256_of

    cache = _cache()
    part = None
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
        if isinstance(filesystem, fs.LocalFileSystem):
            open_input(Path(path)).close()  # a FIFO would block, a device never ends
        cache.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=cache, delete=False) as file:
            part = Path(file.name)
        if wrong := download(uri, part):
            raise OSError(wrong)
        kept = cache / f"{sha256_of(part)}.parquet"
        part.replace(kept)
    except (OSError, ValueError, pa.ArrowException) as error:
        if part is not None:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        raise UserError(f"{uri}: can't be read: {' '.join(str(error).split())[:200]}") from None
    return kept
