"""A week of made-up VMs in a file with the schema of Azure's packing trace."""

from __future__ import annotations

import math
import random
import sqlite3
from pathlib import Path

from tests.reference.fleet import Vm

HOST_MIB, HOST_VCPUS = 32, 16
TYPES = {10: (4, 1), 11: (8, 7), 12: (8, 2), 13: (16, 8)}
"""Memory in MiB and vCPUs of each type."""


def write_week(path: Path, vms: int, seed: int = 1, days: float = 7.0) -> list[Vm]:
    """Writes a trace, and returns its VMs by type and number, as a study names them: times are whole seconds.

    Some start before the trace does and some never end; more come by day.
    """
    draw = random.Random(seed)
    end_s = round(days * 86_400)
    found = []
    for _ in range(vms):
        kind = draw.choices(list(TYPES), (8, 4, 2, 1))[0]
        start = draw.randrange(-end_s // 3, end_s)
        while draw.random() > 0.6 - 0.4 * math.cos(2 * math.pi * start / 86_400):
            start = draw.randrange(-end_s // 3, end_s)
        life = 1 + int(draw.expovariate(1 / (end_s / 4)))
        end = None if draw.random() < 0.05 else start + life
        found.append((start, end, kind, draw.choice((0, 0, 0, 1))))
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE vmType (id, vmTypeId, machineId, core, memory, hdd, ssd, nic)")
        types = [
            (n, kind, 0, vcpus / HOST_VCPUS, mib / HOST_MIB) for n, (kind, (mib, vcpus)) in enumerate(TYPES.items())
        ]
        db.executemany("INSERT INTO vmType VALUES (?, ?, ?, ?, ?, 0, 0.1, 0.1)", types)
        db.execute("CREATE TABLE vm (vmId, tenantId, vmTypeId, priority, starttime, endtime)")
        rows = [
            (n, kind, priority, start / 86_400, None if end is None else end / 86_400)
            for n, (start, end, kind, priority) in enumerate(found)
        ]
        db.executemany("INSERT INTO vm VALUES (?, 7, ?, ?, ?, ?)", rows)
    db.close()
    alive = [(start, n) for n, (start, end, *_) in enumerate(found) if end is None or end > 0]
    numbers = dict.fromkeys(TYPES, 0)
    named = []
    for start, n in sorted(alive):
        _, end, kind, priority = found[n]
        mib, vcpus = TYPES[kind]
        named.append(Vm(f"type{kind}-{numbers[kind]}", mib * 256, vcpus, start, end, priority))
        numbers[kind] += 1
    return named
