"""What `perf script` prints of memory samples and page faults: one access each.

The address must be there: record with -d (page-faults, mem-loads, ...), print with -F comm,pid,tid,time,event,addr.
Events of exceptions:page_fault_user and _kernel have it in their own fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.trace.source import Source
from coldfleet.hostsim.trace.table import KERNEL_START, PAGE_SHIFT, USER_END, Accesses

EVENT = re.compile(
    rb"^\s*(?P<comm>\S.{0,31}?)\s+(?P<id>-?\d+)(?P<thread>/-?\d+)?\s+(?:\[\d+\]\s+)?(?:[.\w]{4,6}\s+)?"
    rb"(?P<s>\d+)\.(?P<fraction>\d{1,9}):\s+(?:\d+\s+)?(?P<event>[\w:/,=.\-@]+?):(?P<u>[ukhGHpPS]*:)?\s*(?P<rest>.*)$"
)
"""A line of an event: command, process and thread, CPU, time, period, name, and what follows."""

_STACK = re.compile(rb"^\s+[0-9a-f]+ .*$")
_ADDRESS = re.compile(rb"^\s*(?P<address>[0-9a-f]{1,16})(?P<more>$|\s+(?=[0-9a-f]+\b|\|).*$)")
_FAULT = re.compile(rb"\baddress=0x(?P<address>[0-9a-f]{1,16})\b.*?\berror_code=(?:0x)?(?P<code>[0-9a-f]+)")
_WRITE_FAULT = 2  # bit 1 of x86's error code


def is_perf_script(head: bytes) -> bool:
    """Whether the first line that isn't a comment is an event."""
    lines = (line for line in head.split(b"\n")[:200] if line.strip() and not line.startswith(b"#"))
    return EVENT.match(next(lines, b"").rstrip()) is not None


def read_perf_script(source: Source) -> Iterator[Accesses]:
    """Accesses of all events that have an address; processes by their id where there are both of process and thread."""
    number, found = 0, False
    for block in source.lines():
        times, pages, writes, processes = [], [], [], []
        for line in block.split(b"\n"):
            number += 1
            event = EVENT.match(line.rstrip())
            if event is None:
                if line.strip() and not line.startswith(b"#") and not _STACK.match(line):
                    shown = line.decode(errors="replace").strip()
                    raise UserError(f"{source.path}, line {number}: not an event of perf script: {shown!r:.80}")
                continue
            access = _access(event["event"], event["rest"])
            if access is None:
                continue
            address, write = access
            if USER_END <= address < KERNEL_START:
                raise UserError(f"{source.path}, line {number}: {address:#x} is no address: those have at most 57 bits")
            seconds, process = int(event["s"][:19]), int(event["id"][:19])
            if seconds >= 9_000_000_000:
                raise UserError(f"{source.path}, line {number}: {seconds} s is later than 2^63 ns")
            if process >= 1 << 63:
                raise UserError(f"{source.path}, line {number}: {process} is too large for a process id")
            times.append(seconds * 10**9 + int(event["fraction"].ljust(9, b"0")))
            pages.append(address >> PAGE_SHIFT)
            writes.append(write)
            processes.append(process if event["thread"] is not None else -1)
        number -= block.endswith(b"\n")
        found = found or bool(pages)
        yield Accesses(
            np.array(pages, np.uint64),
            np.array(times, np.int64),
            np.array(writes, np.int8),
            np.array(processes, np.int64),
        )
    if not found:
        raise UserError(
            f"{source.path}: no event has a data address: perf record -d, then "
            "perf script -F comm,pid,tid,time,event,addr"
        )


def _access(event: bytes, rest: bytes) -> tuple[int, int] | None:
    """Address and whether it writes (-1: unknown) of an event; None: it has no address."""
    if fault := _FAULT.search(rest):
        return int(fault["address"], 16), int(int(fault["code"], 16) & _WRITE_FAULT != 0)
    match = _ADDRESS.match(rest)
    if match is None:  # a single number before a symbol is where the program was
        return None
    write = -1
    if b"OP STORE" in match["more"] or b"stores" in event:
        write = 1
    elif b"OP LOAD" in match["more"] or b"loads" in event:
        write = 0
    return int(match["address"], 16), write
