"""How long batches of accesses take, as a histogram whose buckets are narrow everywhere (about 1.5 %)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled

STEPS = 64  # buckets for each doubling
OCTAVES = 48  # up to 3 days
BUCKETS = STEPS * OCTAVES


@compiled
def bucket_of(ns: int) -> int:
    """The bucket of a latency."""
    octave = 0
    while max(ns, 1) >> octave > 1:
        octave += 1
    step = max(ns, 1) * STEPS // (1 << octave) - STEPS
    return min(octave * STEPS + step, BUCKETS - 1)


def quantile_ns(histogram: npt.NDArray[np.int64], share: float) -> int:
    """The latency, ns, that at least this share of the batches didn't exceed, within a bucket; 0 without batches."""
    total = int(histogram.sum())
    if not total:
        return 0
    bucket = int(np.searchsorted(np.cumsum(histogram), share * total))
    octave, step = divmod(bucket, STEPS)
    return (STEPS + step + 1) * (1 << octave) // STEPS


def latency_gauges(histogram: npt.NDArray[np.int64]) -> dict[str, float]:
    """The columns of hostsim.counters.timing.GAUGES that a histogram has."""
    return {f"latency_p{percent}_ns": float(quantile_ns(histogram, percent / 100)) for percent in (50, 99)}
