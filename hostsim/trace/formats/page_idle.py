"""/sys/kernel/mm/page_idle/bitmap: one file a snapshot, a bit for each page frame, set while the page is idle.

Source: Documentation/admin-guide/mm/idle_page_tracking.rst. Words are 64 bits in the byte order of the machine.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.trace.source import Source
from coldfleet.hostsim.trace.table import HEAT

_WORD_BYTES = 8


def read_page_idle(source: Source, snapshot: int) -> Iterator[pa.RecordBatch]:
    """Ranges of frames that are idle (heat 0) or not (heat 1), in order."""
    first, any_idle = 0, False
    for block in source.records(_WORD_BYTES):
        idle = np.unpackbits(np.frombuffer(block, np.uint8), bitorder="little")
        starts = np.flatnonzero(np.diff(idle, prepend=1 - idle[:1]))
        pages = np.diff(starts, append=len(idle))
        any_idle = any_idle or bool(idle.any())
        count = len(starts)
        columns = {
            "snapshot": np.full(count, snapshot, np.int64),
            "page": (first + starts).astype(np.uint64),
            "pages": pages.astype(np.int64),
            "heat": 1.0 - idle[starts],
            "most": np.ones(count),
        }
        arrays = [
            pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(count, field.type)
            for field in HEAT
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=HEAT)
        first += len(idle)
    if not any_idle:
        raise UserError(f"{source.path}: no page is idle: was the bitmap written before, and is it one of page_idle?")
