"""What DAMON measured: records and snapshots of damo (JSON, also packed), and `perf script` of its tracepoint.

DAMON knows how many of its checks found a region accessed, not which pages of it: heat is that count, and stands for
every page of the region. Sources: damo, _damo_records.py; include/trace/events/damon.h.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.units import PAGE_BYTES
from coldfleet.hostsim.trace.formats.perf_script import EVENT, is_perf_script
from coldfleet.hostsim.trace.source import Source
from coldfleet.hostsim.trace.table import HEAT, KERNEL_START, USER_END

MAX_JSON_BYTES = 256 << 20  # unpacked; Python needs some five times as much for it
_OLD_RECORD = b"damon_recfmt_ver"
_PERF_DATA = b"PERFILE2"
_TRACEPOINT = b"damon:damon_aggregated"
_REGION = re.compile(rb"target_id=(\d+) nr_regions=(\d+) (\d+)-(\d+): (\d+)(?: (\d+))?")
_MOST_NS = 1 << 63
Row = dict[str, Any]


def is_damon(head: bytes) -> bool:
    """Whether it is damo's JSON, DAMON's tracepoint, or an older record, which reading says more about."""
    start = head.lstrip()
    if start[:1] in (b"[", b"{"):
        return b'"snapshots"' in head or b'"nr_accesses"' in head
    return head.startswith((_OLD_RECORD, _PERF_DATA)) or (_TRACEPOINT in head and is_perf_script(head))


def read_damon(source: Source) -> Iterator[pa.RecordBatch]:
    """Snapshots of all targets, in order of time."""
    head = source.head()
    if head.startswith(_OLD_RECORD):
        raise UserError(f"{source.path}: a record of an older DAMON, in binary: damo of that time can print it as JSON")
    if head.startswith(_PERF_DATA):
        raise UserError(f"{source.path}: perf's own data: import what perf script prints of it")
    rows = _from_tracepoint(source) if _TRACEPOINT in head else _from_json(source)
    rows.sort(key=lambda row: (row["end"], row["start"] if row["start"] is not None else -1))
    number, last = -1, None
    for row in rows:
        number += row["end"] != last
        last = row["end"]
        row["snapshot"] = number
    if not rows:
        raise UserError(f"{source.path}: no region was recorded")
    try:
        yield pa.RecordBatch.from_pylist(rows, schema=HEAT)
    except (pa.ArrowException, OverflowError) as error:
        raise UserError(f"{source.path}: a number is too large: {error}") from None


def _from_json(source: Source) -> list[Row]:
    content = source.whole(MAX_JSON_BYTES)
    try:
        records = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source.path}: not damo's JSON, damaged or cut: {error}") from None
    rows: list[Row] = []
    for record in _list(source, records, "records"):
        target = record.get("target_id")
        target = None if target is None else str(target)[:100]
        intervals = record.get("intervals") or {}
        if not isinstance(intervals, dict):
            raise UserError(f"{source.path}: intervals is {intervals!r:.40}, not a table")
        check_ns, interval_ns = (
            None if intervals.get(name) is None else 1000 * _whole(source, intervals[name], name)
            for name in ("sample_us", "aggr_us")
        )
        most = interval_ns / check_ns if check_ns and interval_ns else None
        last = -1
        for snapshot in _list(source, record.get("snapshots"), "snapshots"):
            start, end = (_whole(source, snapshot.get(name), name) for name in ("start_time", "end_time"))
            if not last <= start <= end < _MOST_NS:
                raise UserError(f"{source.path}: snapshots are not in order of time: {start} to {end} ns after {last}")
            last = start
            for region in _list(source, snapshot.get("regions"), "regions"):
                row = _json_region(source, region, most, interval_ns)
                if row is not None:
                    rows.append({"start": start, "end": end, "target": target, **row})
    return rows


def _json_region(source: Source, region: Row, most: float | None, interval_ns: int | None) -> Row | None:
    """A region; None if damo only marks the end of a record with it."""
    checks, age = region.get("nr_accesses"), region.get("age")
    if isinstance(checks, dict):
        if checks.get("samples") is None and checks.get("percent") is not None:
            checks = float(checks["percent"]) if isinstance(checks["percent"], int | float) else checks["percent"]
            heat, most = checks, 100.0
        else:
            heat = checks.get("samples")
    else:
        heat = checks
    if heat == -1:
        return None
    heat = _number(source, heat, "nr_accesses")
    age_ns = None
    if isinstance(age, dict):
        if age.get("usec") is not None:
            age_ns = 1000 * _whole(source, age["usec"], "age")
        elif age.get("aggr_intervals") is not None and interval_ns:
            age_ns = interval_ns * _whole(source, age["aggr_intervals"], "age")
    start, end = (_whole(source, region.get(name), name) for name in ("start", "end"))
    return {**_range(source, start, end), "heat": heat, "most": most, "age": age_ns}


def _from_tracepoint(source: Source) -> list[Row]:
    """Regions of an interval follow each other; it began when the one before it ended."""
    rows: list[Row] = []
    ends: dict[str, int] = {}  # of the last whole interval of each target
    open_rows: dict[str, list[Row]] = {}
    number = 0
    for block in source.lines():
        for line in block.splitlines():
            number += 1
            if _TRACEPOINT not in line:
                if line.strip() and not line.startswith(b"#") and EVENT.match(line) is None:
                    raise UserError(f"{source.path}, line {number}: not an event of perf script: {line!r:.80}")
                continue
            event, region = EVENT.match(line.rstrip()), _REGION.search(line)
            if event is None or region is None or len(event["s"]) > 9:
                raise UserError(f"{source.path}, line {number}: cut or damaged: {line.decode(errors='replace')!r:.80}")
            target, regions = region[1].decode()[:100], int(region[2][:19])
            now = int(event["s"]) * 10**9 + int(event["fraction"].ljust(9, b"0"))
            if now < ends.get(target, 0):
                raise UserError(f"{source.path}, line {number}: times are not in order")
            place = _range(source, int(region[3][:30]), int(region[4][:30]))
            heat = float(region[5][:30])
            row = {"start": ends.get(target), "target": target, **place, "heat": heat, "most": None, "age": None}
            mine = open_rows.setdefault(target, [])
            mine.append(row)
            if len(mine) >= regions:
                rows += [{**each, "end": now} for each in mine]
                ends[target] = now
                mine.clear()
    if cut := sum(map(len, open_rows.values())):
        raise UserError(f"{source.path}: cut: the last interval has only {cut} of its regions")
    return rows


def _range(source: Source, start: int, end: int) -> Row:
    """Whole pages that hold start..end, in bytes."""
    last = end - 1
    if not 0 <= start <= last < USER_END and not KERNEL_START <= start <= last < 1 << 64:
        raise UserError(
            f"{source.path}: a region from {start} to {end}: addresses have 57 bits, and its end is after its start"
        )
    first, last = start // PAGE_BYTES, last // PAGE_BYTES
    return {"page": first, "pages": last - first + 1}


def _list(source: Source, value: Any, what: str) -> list[Row]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise UserError(f"{source.path}: {what} is {value!r:.40}, not a list of tables: an older record of DAMON?")
    return value


def _whole(source: Source, value: Any, what: str) -> int:
    """A number as damo writes it: 1, "1" or "1,234"."""
    text = value.replace(",", "") if isinstance(value, str) else value
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 20:
        text = int(text)
    if isinstance(text, bool) or not isinstance(text, int) or not 0 <= text < 1 << 65:
        raise UserError(f"{source.path}: {what} is {value!r:.40}, not a whole number from 0")
    return text


def _number(source: Source, value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e15:
        raise UserError(f"{source.path}: {what} is {value!r:.40}, not a number from 0")
    return float(value)
