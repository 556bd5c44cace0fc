"""Guests that arrive: drawn for a class, or read from a table.

Drawn ones are those of a Poisson process whose rate follows the time of the day and of the week; how long each lives is
drawn for itself. A run starts as if that had always gone on: those who are there already are drawn, too, by the time
for which they have lived and will live.

A table has a row for each guest, with the columns below; a missing end means that it stays.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from csv import Error, reader
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from coldfleet.cluster.study.data import CSV, StudyData, find_file, named_by
from coldfleet.cluster.study.fleet_tables import MAX_GUESTS, Arrivals, Fleet, GuestClass
from coldfleet.cluster.study.placement import Request
from coldfleet.cluster.study.values import CLASS_NAME
from coldfleet.hostsim.spec.checks import MAX_CPUS
from coldfleet.hostsim.spec.errors import UserError, nearest
from coldfleet.hostsim.spec.host_spec import DataFile
from coldfleet.hostsim.spec.input_file import open_input

HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS
SECOND_NS = 10**9
MAX_TIME_S = 1e9  # of a guest, before or after the start of a run
WORKDAYS, WEEK = 5, 7  # days
PAGES_OF_MIB = 256
MAX_CSV_BYTES = 256 << 20  # of a table of guests, which is read at once
MAX_PRIORITY = 2**31 - 1
COLUMNS = {
    "class": (pa.string(), "text"),
    "start_s": (pa.float64(), "number of seconds since the start of the run, such as 28800"),
    "end_s": (pa.float64(), "number of seconds since the start of the run, such as 28800"),
    "memory_mib": (pa.float64(), "number of MiB, such as 4096"),
    "vcpus": (pa.int64(), "whole number"),
    "priority": (pa.int64(), "whole number"),
    "name": (pa.string(), "text"),
}
"""Of a table of guests (docs/fleets.md): each with its type, and that in words. The first three have to be there."""

_MISSING = [word for word in csv.ConvertOptions().null_values if not re.search("nan|ind", word, re.I)]
"""What an empty field may be in CSV, as Arrow has it; NaN is a number that is none, in CSV as in Parquet."""
_NEEDED = ("class", "start_s", "end_s")
_NO_NUMBER = re.compile(r"CSV column #(?P<column>\d+): .*invalid value '(?P<value>.*)'")
_Ints = npt.NDArray[np.int64]


def find_arrivals(name: str, folder: Path) -> StudyData:
    """The table of guests of a name that a study in ``folder`` gives, read through; raises :class:`UserError`."""
    from coldfleet.hostsim.workload.trace_data import sha256_of

    path, where = find_file(name, folder, "coldfleet fleet --arrivals")
    with named_by(where, path):
        sha256 = sha256_of(path)
        found = read_guests(path, sha256)
    kind = "arrivals" if _is_parquet(path) else CSV
    classes = tuple(sorted(found["class"].unique().to_pylist()))
    return StudyData(sha256, kind, found.num_rows, 0, (), classes, where)


def check_arrivals(fleet: Fleet, data: Mapping[str, StudyData]) -> None:
    """Raises :class:`UserError` unless the study has all classes of its table of guests, and each of its own guests."""
    if not fleet.arrivals:
        return
    if (found := data.get(fleet.arrivals)) is None:
        raise UserError(f"the study names no data {fleet.arrivals!r}{nearest(fleet.arrivals, data)}")
    if not found.classes:
        raise UserError(f"fleet.arrivals: {fleet.arrivals} is a trace of accesses: name it in a workload")
    for name in found.classes:
        if name not in fleet.guest:
            near = nearest(name, fleet.guest)
            add = f"{' Or' if near.endswith('?') else '; or'} add [fleet.guest.{name:.60}]"
            raise UserError(f"{fleet.arrivals} has guests of the class {name!r:.60}{near}{add}")


@lru_cache(maxsize=4)
def read_guests(path: Path, sha256: str) -> pa.Table:
    """A table of guests in Parquet or CSV, checked, with all COLUMNS; ``sha256``: of what is there, for the cache."""
    open_input(path).close()
    try:
        if _is_parquet(path):
            _check_rows(path, pq.read_metadata(path).num_rows)
            table = pq.read_table(path)
        else:
            types = {name: kind for name, (kind, _) in COLUMNS.items()}
            with path.open("rb") as file:  # not by its name, by which Arrow would unpack it
                if os.fstat(file.fileno()).st_size > MAX_CSV_BYTES:
                    raise UserError(f"{path}: a CSV of more than {MAX_CSV_BYTES >> 20} MiB: make a Parquet file of it")
                table = csv.read_csv(
                    file,
                    csv.ReadOptions(use_threads=False),  # of several mistakes, the same one is always told
                    convert_options=csv.ConvertOptions(column_types=types, null_values=_MISSING),
                )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        said = str(error).splitlines()[0]
        if found := _NO_NUMBER.search(said):
            column, value = int(found["column"]), found["value"]
            header = next((row for _, row in _rows(path)), [])
            if (name := "".join(header[column : column + 1])) in COLUMNS:
                line = _line_of(path, lambda _, row: row[column : column + 1] == [value])
                raise UserError(f"{path}{line}: {name} is {value!r:.40}, not a {COLUMNS[name][1]}") from None
        raise UserError(f"{path}: no table of guests in Parquet or CSV: {said:.200}") from None
    return _checked(table, path)


def _check_rows(path: Path, rows: int) -> None:
    if not 0 < rows <= MAX_GUESTS:
        raise UserError(f"{path}: has {rows:,} guests: from 1 to {MAX_GUESTS:,} are read")


def guests_outside(file: DataFile, until_ns: int) -> int:
    """How many guests of a table don't live in a run."""
    import pyarrow.compute as pc  # takes longer to import than most studies to read

    table = read_guests(Path(file.path), file.sha256)
    late = pc.greater(table["start_s"], until_ns / SECOND_NS)
    early = pc.fill_null(pc.less_equal(table["end_s"], 0.0), False)
    return int(pc.sum(pc.or_(late, early)).as_py())


def write_guests(path: Path, guests: Sequence[tuple[str, float, float | None, int, str]]) -> None:
    """Writes a table of guests: the class of each, from when to when it lives (s), its priority and its own name.

    Raises :class:`UserError` if there is something of that name already: pyarrow would remove it if it can't write.
    """
    from coldfleet.hostsim.trace.table import check_new

    check_new(path)
    names = ["class", "start_s", "end_s", "priority", "name"]
    columns = zip(names, zip(*guests, strict=True), strict=True)
    table = pa.table({name: pa.array(values, COLUMNS[name][0]) for name, values in columns})
    try:
        pq.write_table(_checked(table, path).select(names), path)
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror or error}") from None


def _checked(table: pa.Table, path: Path) -> pa.Table:
    """The table with all columns in their types; raises :class:`UserError` if it isn't one of guests."""
    import pyarrow.compute as pc

    for name in table.column_names:
        if ";" in name or "\t" in name:
            raise UserError(f"{path}: its columns are separated by semicolons or tabs: separate them by commas")
        if name not in COLUMNS:
            raise UserError(f"{path}: unknown column {name!r:.60}{nearest(name, COLUMNS)}")
    for name in _NEEDED:
        if name not in table.column_names:
            raise UserError(f"{path}: has no column {name!r}: it takes {', '.join(COLUMNS)}")
    if len(set(table.column_names)) < table.num_columns:
        twice = next(name for name in table.column_names if table.column_names.count(name) > 1)
        raise UserError(f"{path}: has the column {twice!r:.60} twice")
    _check_rows(path, table.num_rows)
    columns = {}
    for name, (kind, _) in COLUMNS.items():
        column = table[name] if name in table.column_names else pa.nulls(table.num_rows, kind)
        try:
            columns[name] = column.cast(kind)
        except pa.ArrowNotImplementedError:
            raise UserError(f"{path}: {name} is of the type {column.type}, not a {COLUMNS[name][1]}") from None
        except pa.ArrowException as error:
            raise UserError(f"{path}: column {name}: {str(error).splitlines()[0]:.200}") from None
    table = pa.table(columns)
    start, end = table["start_s"], table["end_s"]
    most = MAX_TIME_S
    for wrong, why in (
        (pc.is_null(table["class"]), "class is {class}"),
        (pc.invert(pc.match_substring_regex(table["class"], CLASS_NAME)),
         "class {class!r:.60} can't name a table: it has up to 41 letters, digits, _ and -"),
        (pc.invert(pc.fill_null(pc.less(pc.abs(start), most), False)),
         f"start_s is {{start_s}}, not a time of less than {most:g} s"),
        (pc.invert(pc.fill_null(pc.less(pc.abs(end), most), True)),
         f"end_s is {{end_s}}, not a time of less than {most:g} s"),
        (pc.less_equal(end, start), "it ends at end_s {end_s}, which isn't after its start_s {start_s}"),
        (pc.invert(pc.is_in(pc.fill_null(_part(table["memory_mib"]), 0.0), pa.array([0.0]))),
         "memory_mib is {memory_mib}, not a multiple of 2 from 2 to 4,194,302"),
        (pc.invert(pc.fill_null(pc.and_(pc.greater(table["vcpus"], 0), pc.less_equal(table["vcpus"], MAX_CPUS)), True)),
         f"vcpus is {{vcpus}}: from 1 to {MAX_CPUS}"),
        (pc.or_(pc.less(table["priority"], 0), pc.greater(table["priority"], MAX_PRIORITY)),
         f"priority is {{priority}}: from 0 to {MAX_PRIORITY:,}"),
    ):  # fmt: skip
        if found := pc.index(pc.fill_null(wrong, False), True).as_py() + 1:
            (row,) = table.slice(found - 1, 1).to_pylist()
            shown = {name: "missing" if value is None else _plain(value) for name, value in row.items()}
            raise UserError(f"{path}: {told_guest(path, found, table.num_rows)}: {why.format(**shown)}")
    return table


def told_guest(path: Path, number: int, guests: int) -> str:
    """Which row of a table a guest is: its number, from 1, and its line if the table is a text."""
    is_text = path.exists() and not _is_parquet(path)
    return f"guest {number} of {guests:,}{_line_of(path, lambda row, _: row == number) if is_text else ''}"


def _line_of(path: Path, is_it: Callable[[int, list[str]], bool]) -> str:
    """The line of a row of a CSV, the header being row 0 and empty lines none, for a message; "": it isn't found."""
    for number, (line, row) in enumerate(_rows(path)):
        if is_it(number, row):
            return f", line {line}"
    return ""


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV that aren't empty, each with its line, for a message: as far as Python can read them."""
    with suppress(Error), path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = reader(file)
        for row in filter(None, rows):
            yield rows.line_num, row


def _plain(value: str | float) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _part(memory_mib: pa.ChunkedArray) -> pa.ChunkedArray:
    """What of a guest's memory is no whole page table; NaN if it can't be its memory at all."""
    amounts = memory_mib.to_numpy(zero_copy_only=False).astype(float)
    sound = np.isnan(amounts) & np.array(memory_mib.is_null()) | (amounts >= 2) & (amounts < 1 << 22)
    return pa.chunked_array([pa.array(np.where(sound, np.nan_to_num(amounts) % 2, 1.0))])


def _is_parquet(path: Path) -> bool:
    with open_input(path) as file:
        return file.read(4) == b"PAR1"


def arriving(
    fleet: Fleet, file: DataFile | None, until_ns: int, random: Callable[[str], np.random.Generator]
) -> list[Request]:
    """Every guest of a fleet that arrives up to the end of a run, or has arrived before and is still there.

    ``random``: numbers for a class. They are numbered by class, after those that are there throughout, in the order of
    their starts.
    """
    found = [(name, *each) for name, kind in fleet.guest.items() for each in _drawn(name, kind, until_ns, random)]
    if file is not None:
        found += _read(fleet, file, until_ns)
    found.sort(key=lambda each: each[1])
    numbers = {name: each.count for name, each in fleet.guest.items()}
    requests = []
    for name, start, end, pages, vcpus, priority, own_name in found:
        cache = fleet.guest[name].page_cache.memory
        requests.append(Request(name, numbers[name], pages + cache, vcpus, start, end, priority, own_name))
        numbers[name] += 1
    return requests


_Guest = tuple[int, int | None, int, int, int, str]  # start and end in ns, pages, vCPUs, priority, its own name


def _read(fleet: Fleet, file: DataFile, until_ns: int) -> Iterator[tuple[str, int, int | None, int, int, int, str]]:
    """The guests of a table that live in a run. A warm-up knows of no file, and has one guest of each class."""
    if not file.path:
        for name, each in fleet.guest.items():
            yield name, 1, until_ns, each.memory, each.vcpus, each.priority, ""
        return
    for row in read_guests(Path(file.path), file.sha256).to_pylist():
        own = fleet.guest[row["class"]]
        start = round(row["start_s"] * SECOND_NS)
        end = None if row["end_s"] is None else max(round(row["end_s"] * SECOND_NS), start + 1)
        if start <= until_ns and (end is None or end > 0):
            pages = own.memory if row["memory_mib"] is None else int(row["memory_mib"] * PAGES_OF_MIB)
            vcpus = own.vcpus if row["vcpus"] is None else row["vcpus"]
            priority = own.priority if row["priority"] is None else row["priority"]
            yield row["class"], start, end, pages, vcpus, priority, row["name"] or ""


def _drawn(
    name: str, kind: GuestClass, until_ns: int, random: Callable[[str], np.random.Generator]
) -> Iterator[_Guest]:
    law = kind.arrivals
    if not law.per_hour:
        return
    most = law.per_hour / HOUR_NS * (1 + law.day_swing) * max(law.weekend, 1.0)  # guests in a ns
    if (expected := most * (until_ns + law.mean_lifetime)) > MAX_GUESTS:
        raise UserError(
            f"fleet.guest.{name}.arrivals: about {expected:,.0f} guests come in a run; at most {MAX_GUESTS:,} are "
            "simulated: let fewer arrive, or make the run shorter"
        )
    rng = random(name)
    there = rng.poisson(most * law.mean_lifetime)
    whole = _lifetimes(law, rng, there, of_those_alive=True)
    age = whole * rng.random(there)
    come = rng.poisson(most * until_ns)
    start = np.concatenate([-age, rng.random(come) * until_ns])
    end = np.concatenate([whole - age, start[there:] + _lifetimes(law, rng, come)])
    kept = rng.random(there + come) * most < rate(law, start) / HOUR_NS
    starts = np.floor(start[kept]).astype(np.int64)
    ends = np.maximum(np.ceil(end[kept]).astype(np.int64), starts + 1)
    for number in np.argsort(starts, kind="stable").tolist():
        yield int(starts[number]), int(ends[number]), kind.memory, kind.vcpus, kind.priority, ""


def rate(law: Arrivals, time_ns: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Guests that arrive in an hour, at each time since the start of a run: midnight before day 1 of a week."""
    day = 1 - law.day_swing * np.cos(2 * math.pi * time_ns / DAY_NS)
    weekend = np.floor(time_ns / DAY_NS) % WEEK >= WORKDAYS
    found: npt.NDArray[np.float64] = law.per_hour * day * np.where(weekend, law.weekend, 1.0)
    return found


def _lifetimes(
    law: Arrivals, rng: np.random.Generator, many: int, of_those_alive: bool = False
) -> npt.NDArray[np.float64]:
    """How long guests live, ns. Of those who are alive at a moment, there are the more the longer they live."""
    mean, shape = float(law.mean_lifetime), law.shape
    if law.lifetime == "exponential":
        lives = rng.gamma(2.0 if of_those_alive else 1.0, mean, many)
    elif law.lifetime == "lognormal":
        lives = rng.lognormal(math.log(mean) + (0.5 if of_those_alive else -0.5) * shape**2, shape, many)
    elif law.lifetime == "pareto":
        lives = (1 + rng.pareto(shape - of_those_alive, many)) * mean * (shape - 1) / shape
    else:
        lives = np.full(many, mean)
    return np.minimum(lives, MAX_TIME_S * SECOND_NS)
