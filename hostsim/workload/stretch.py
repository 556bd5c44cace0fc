"""A trace for any size of memory: each of its pages stands for some pages of the guest, side by side.

Where k pages stand for each, an access is one of each of them, one after the other. So there are k times as many
accesses, reuse distances are k times as long, all of them, and what lies side by side, is accessed together or writes
stays so. In less memory than the trace has pages, some of its pages stand for one and the others for none: every so
manyth by popularity, as in a sample of the trace (SHARDS, Waldspurger et al., FAST 2015).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.state import PTRS_PER_PTE
from coldfleet.hostsim.workload.trace_data import TraceData


def scale_of(pages: int, memory: int) -> float:
    """How many pages of a guest stand for each of a trace, on average.

    A guest that follows the trace has as much memory as it takes, in whole page tables. In n times as much, and so in
    n times its pages, it is n; between these sizes it grows evenly. The rest of the memory isn't accessed.
    """
    times = memory // pages
    if not times:
        return memory / pages
    full, more = times * -(-pages // PTRS_PER_PTE) * PTRS_PER_PTE, (times + 1) * pages
    return times + max(memory - full, 0) / max(more - full, 1)


def first_pages(trace: TraceData, scale: float) -> npt.NDArray[np.int64]:
    """Of each page of a trace the first page that stands for it, and the end of the last one's: int64 (pages + 1)."""
    upto = np.floor(np.arange(trace.pages + 1) * scale + 0.5).astype(np.int64)
    copies = np.empty(trace.pages, np.int64)
    copies[np.argsort(-trace.counts, kind="stable")] = np.diff(upto)
    return np.append(0, np.cumsum(copies))
