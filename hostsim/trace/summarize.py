"""The summary of a trace, whatever it holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.trace.heat import HeatSummary, summarize_heat
from coldfleet.hostsim.trace.summary import EXACT_PAGES, TraceSummary, summarize_accesses
from coldfleet.hostsim.trace.table import Trace

_MOST_SIZE = 1 << 52
_NO_LIMIT = 1 << 62


def summarize_trace(
    trace: Trace | str | os.PathLike[str],
    *,
    sizes: Sequence[int] = (),
    exact: bool = False,
    progress: Callable[[float], None] | None = None,
) -> TraceSummary | HeatSummary:
    """What an imported trace is like: a TraceSummary of accesses, a HeatSummary of heat.

    ``trace``: a Trace, or the path of its Parquet file. ``sizes``: more points of the miss-ratio curve, in pages of
    4 KiB. ``exact``: follow every page of a trace that has more than a million, which takes some 100 bytes for each;
    otherwise a sample is followed, and the summary says its errors. ``progress`` hears how much is done, 0 to 1.

    Raises UserError for a file that is no trace or damaged, and for sizes that no memory has.

        summary = coldfleet.summarize_trace("web.parquet", sizes=[16384])
        print(summary.pages, [point.miss_ratio for point in summary.curve])
    """
    opened = trace if isinstance(trace, Trace) else Trace.open(trace)
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= _MOST_SIZE:
            raise UserError(f"size {size!r:.40}: it should be a number of pages from 1")
    if opened.kind == "heat":
        if sizes or exact:
            raise UserError(
                f"{opened.path}: heat has no order of accesses, so there is no curve: leave out sizes and exact"
            )
        return summarize_heat(opened)
    return summarize_accesses(opened, sizes, _NO_LIMIT if exact else EXACT_PAGES, progress)
