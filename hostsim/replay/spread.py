"""How a simulated run stands in the range that the kernel itself covers when it repeats a recording.

Under memory.max, with kswapd, and on some kernels always, repeats of a recording differ: the scheduler decides which
aging walks. Then being exact is a matter of luck, and the question is whether the simulator could be one more repeat.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.replay.comparison import RANGED, Comparison
from coldfleet.hostsim.replay.recording import Recording

WIDENED_BY = 0.03  # of the value, at both ends of the range
_Steps = npt.NDArray[np.float64]  # (steps, RANGED); nan where a step doesn't have a figure


def steps_in_range(comparisons: Sequence[Comparison]) -> dict[str, tuple[int, int]]:
    """For each of RANGED, the steps inside the kernel's range and all steps.

    ``comparisons``: all of one kernel, kind and mode. The range is that of a recording's repeats, step by step. A
    recording without a repeat has, around its values, the widest spread that the others of the same kernel, kind
    and mode have at that step.
    """
    groups = _repeats(comparisons)
    recorded = [_stacked([_values(each, 0) for each in group]) for group in groups]
    longest = max((len(runs[0]) for runs in recorded), default=0)
    spread = np.zeros((longest, len(RANGED)))
    for runs in recorded:
        np.fmax(spread[: len(runs[0])], _spread(runs), out=spread[: len(runs[0])])
    counts = np.zeros((2, len(RANGED)), np.int64)
    for group, runs in zip(groups, recorded, strict=True):
        margin = WIDENED_BY + (spread[: len(runs[0])] if len(group) == 1 else np.zeros_like(runs[0]))
        for comparison in group:
            counts += _inside(_values(comparison, 1), runs, margin)
    return _named(counts)


def repeats_in_range(comparisons: Sequence[Comparison]) -> dict[str, tuple[int, int]]:
    """The same for the kernel itself: each recording that has repeats against the range of the others."""
    counts = np.zeros((2, len(RANGED)), np.int64)
    for group in _repeats(comparisons):
        runs = _stacked([_values(each, 0) for each in group])
        for number, run in enumerate(runs):
            if others := runs[:number] + runs[number + 1 :]:
                counts += _inside(run, others, np.full_like(run, WIDENED_BY))
    return _named(counts)


def repeated(comparisons: Sequence[Comparison]) -> int:
    """How many of the recordings have a repeat among them: the others have no range but 3 % around their own values,
    or the spread of those that have one."""
    return sum(len(group) for group in _repeats(comparisons) if len(group) > 1)


def _repeats(comparisons: Sequence[Comparison]) -> list[list[Comparison]]:
    """Those of the same schedule together."""
    groups: dict[Any, list[Comparison]] = {}
    for comparison in comparisons:
        groups.setdefault(schedule_of(comparison.recording), []).append(comparison)
    return list(groups.values())


def _inside(run: _Steps, others: Sequence[_Steps], margin: _Steps) -> npt.NDArray[np.int64]:
    """For each of RANGED, the steps of a run inside the range of others, widened by ``margin``, and all of them."""
    length = len(run)
    low, high = _fold(np.fmin, others)[:length], _fold(np.fmax, others)[:length]
    known = ~np.isnan(run) & ~np.isnan(low)
    fits = (run >= low * (1 - margin[:length])) & (run <= high * (1 + margin[:length]))
    return np.array([(fits & known).sum(axis=0), known.sum(axis=0)])


def _named(counts: npt.NDArray[np.int64]) -> dict[str, tuple[int, int]]:
    inside, steps = counts.tolist()
    return dict(zip(RANGED, zip(inside, steps, strict=True), strict=True))


def schedule_of(recording: Recording) -> Any:
    """What repeats of a recording have in common, beside kernel, kind and mode."""
    header = recording.header
    size = (header.pages, header.accesses, header.rounds, header.target, header.layout, header.writes)
    return header.guests, size, header.swappiness


def _values(comparison: Comparison, whose: int) -> _Steps:
    return np.array([step[whose] for step in comparison.measured], np.float64).reshape(-1, len(RANGED))


def _stacked(runs: list[_Steps]) -> list[_Steps]:
    """Runs of the same length; one that ended early, because the guest was killed, is filled up with nan."""
    longest = max(map(len, runs))
    return [np.pad(run, ((0, longest - len(run)), (0, 0)), constant_values=np.nan) for run in runs]


def _fold(take: np.ufunc, runs: Iterable[_Steps]) -> _Steps:
    return take.reduce(list(runs))


def _spread(runs: list[_Steps]) -> _Steps:
    """(max - min) / mean of a step, 0 where the mean is."""
    mean = _fold(np.add, [np.nan_to_num(run) for run in runs]) / np.maximum(sum(~np.isnan(run) for run in runs), 1)
    width = np.nan_to_num(_fold(np.fmax, runs) - _fold(np.fmin, runs))
    return np.divide(width, mean, out=np.zeros_like(mean), where=mean > 0)
