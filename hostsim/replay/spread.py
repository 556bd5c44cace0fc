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
    groups: dict[Any, list[Comparison]] = {}
    for comparison in comparisons:
        groups.setdefault(schedule_of(comparison.recording), []).append(comparison)
    repeats = [_stacked([_values(each, 0) for each in group]) for group in groups.values()]
    longest = max((len(kernels[0]) for kernels in repeats), default=0)
    spread = np.zeros((longest, len(RANGED)))
    for kernels in repeats:
        np.fmax(spread[: len(kernels[0])], _spread(kernels), out=spread[: len(kernels[0])])
    inside, steps = np.zeros(len(RANGED), np.int64), np.zeros(len(RANGED), np.int64)
    for group, kernels in zip(groups.values(), repeats, strict=True):
        low, high = _fold(np.fmin, kernels), _fold(np.fmax, kernels)
        margin = WIDENED_BY + (spread[: len(low)] if len(group) == 1 else 0.0)
        for comparison in group:
            ours = _values(comparison, 1)
            length = len(ours)
            known = ~np.isnan(ours) & ~np.isnan(low[:length])
            fits = (ours >= (low * (1 - margin))[:length]) & (ours <= (high * (1 + margin))[:length])
            inside += (fits & known).sum(axis=0)
            steps += known.sum(axis=0)
    return {name: (int(inside[i]), int(steps[i])) for i, name in enumerate(RANGED)}


def repeats_in_range(comparisons: Sequence[Comparison]) -> dict[str, tuple[int, int]]:
    """The same for the kernel itself: each recording that has repeats against the range of the others."""
    groups: dict[Any, list[Comparison]] = {}
    for comparison in comparisons:
        groups.setdefault(schedule_of(comparison.recording), []).append(comparison)
    inside, steps = np.zeros(len(RANGED), np.int64), np.zeros(len(RANGED), np.int64)
    for group in groups.values():
        runs = _stacked([_values(each, 0) for each in group])
        for number, run in enumerate(runs):
            others = runs[:number] + runs[number + 1 :]
            if not others:
                continue
            low, high = _fold(np.fmin, others), _fold(np.fmax, others)
            known = ~np.isnan(run) & ~np.isnan(low)
            inside += ((run >= low * (1 - WIDENED_BY)) & (run <= high * (1 + WIDENED_BY)) & known).sum(axis=0)
            steps += known.sum(axis=0)
    return {name: (int(inside[i]), int(steps[i])) for i, name in enumerate(RANGED)}


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
