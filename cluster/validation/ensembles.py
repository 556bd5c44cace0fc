"""Ensembles: could a kernel's run be one of those that the simulator draws?

Where the scheduler or DAMON_STAT decides, a kernel doesn't repeat itself, and no single run can be equal to a
recording. So the schedule is simulated several times, each time with other luck, and the recording is ranked among
these runs, by how far each is from the mean of all, as a share of each figure. If the simulator is right every rank is
as likely as any other: p is uniform. Runs that are equally far are taken to be in a random order; without that, p of
a kernel that repeats itself would not be uniform. The ensemble also has to be as wide as the kernel itself over repeats
of a recording: in one that is too wide any p is large.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.cluster.validation.replays import Refusal, map_files
from coldfleet.hostsim.engine.kernels import Kernel
from coldfleet.hostsim.engine.philox import philox, study_key
from coldfleet.hostsim.replay.comparison import RANGED, REPEATABLE, ranged
from coldfleet.hostsim.replay.recording import Recording, read_recording
from coldfleet.hostsim.replay.replay import rules_of, simulate_recording
from coldfleet.hostsim.replay.spread import schedule_of
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.policies import Enter, Policy, get_policy

UNLIKELY = 0.1  # a p up to this is counted as unlikely
LEAST = 100  # of a figure whose spread is compared: below it a difference of one is many percent
_UNBIASED = (1.0, 1.0, 0.7979, 0.8862, 0.9213)  # c4: the standard deviation of so few runs comes out too small
_SAME = 1e-9  # distances that differ by less are equal
_Runs = npt.NDArray[np.float64]  # (runs, steps, RANGED); 0 where a step doesn't have a figure


def _blind(kernel: Kernel, policy: Policy) -> tuple[Kernel, Policy]:
    return kernel, get_policy("locked-6.12" if policy.name == "evict-only" else "evict-only")


def _no_look_around(kernel: Kernel, policy: Policy) -> tuple[Kernel, Policy]:
    return kernel, replace(policy, enter=Enter.NEVER)


def _other_birth(kernel: Kernel, policy: Policy) -> tuple[Kernel, Policy]:
    return replace(kernel, birth_by_distance=not kernel.birth_by_distance), policy


CONTROLS: dict[str, Callable[[Kernel, Policy], tuple[Kernel, Policy]]] = {
    "blind": _blind,
    "no-look-around": _no_look_around,
    "birth": _other_birth,
}
"""Wrong rules, which the judgement has to tell from the right ones: the walk doesn't see a guest's accesses (on 6.1: it
does); a young page at eviction leads to no look-around; a faulted page starts in the generation of other kernels."""


@dataclass(frozen=True)
class Ensemble:
    """A recording among the runs that were drawn for it.

    ``kernel``, ``kind``, ``mode``: what was recorded, and where; ``schedule``: what its repeats have in common.
    ``p``: the share of runs, the recording among them, that are further from the mean of all than it is, and a random
    part of those that are as far, itself among them. ``p_range``: what p can be, by that part: 0 to 1 if all runs equal
    the recording. ``recorded``: the kernel's figures; ``low``, ``middle``, ``high``: quantiles 5, 50 and 95 % of the
    ensemble's; all four after the last step, by name, without those that the recording doesn't have. ``width``: the
    ensemble's standard deviation as a share of a figure, on average over steps and figures; ``values``: the kernel's
    figures after every step.
    """

    path: Path
    kernel: str
    kind: str
    mode: str
    schedule: Any
    p: float
    p_range: tuple[float, float]
    recorded: Mapping[str, float]
    low: Mapping[str, float]
    middle: Mapping[str, float]
    high: Mapping[str, float]
    width: float
    values: npt.NDArray[np.float64] = field(repr=False)

    @property
    def group(self) -> tuple[str, str, str]:
        """The recordings of the same mode, kernel and kind are judged together."""
        return self.mode, self.kernel, self.kind

    def as_json(self) -> dict[str, Any]:
        """What users see of it."""
        figures = {
            name: {"kernel": self.recorded[name], "low": self.low[name], "median": self.middle[name]}
            | {"high": self.high[name]}
            for name in self.recorded
        }
        where = {"recording": str(self.path), "kernel": self.kernel, "kind": self.kind, "mode": self.mode}
        return {**where, "p": self.p, "p_range": list(self.p_range), "figures": figures}


@dataclass(frozen=True)
class Judgement:
    """How a group of recordings stands in its ensembles.

    ``unlikely``: the share of ``recordings`` with p up to UNLIKELY, ``mean_p`` their mean; of a single recording, whose
    luck nothing averages out, p is the middle of its range. ``rejected_at``: the probability that right rules give so
    small a mean; None where all runs equal their recordings, so that p is luck alone. ``spread``: the ensembles'
    width over the kernel's own, where there are repeats; None where there are none, or the kernel's are equal.
    """

    name: str
    recordings: int
    unlikely: float
    mean_p: float
    rejected_at: float | None
    spread: float | None


def is_drawn(recording: Recording) -> bool:
    """Whether a kernel doesn't repeat itself in this recording."""
    return recording.header.mode not in REPEATABLE or rules_of(recording)[0].damon_stat


def draw_all(
    files: Sequence[Path], members: int, seed: int, workers: int | None = None, control: str | None = None
) -> Iterator[Ensemble | Refusal | None]:
    """The ensemble of each recording, in order; None where the kernel repeats itself.

    ``members``: runs of each; ``seed``: of all luck; ``workers``: as in replay_all; ``control``: one of CONTROLS.
    """
    return map_files(_Draw(members, seed, control), files, workers)


def judge(name: str, ensembles: Sequence[Ensemble]) -> Judgement:
    """What is to be said of some recordings together; at least one."""
    ps = np.array([each.p for each in ensembles] if len(ensembles) > 1 else [sum(ensembles[0].p_range) / 2])
    undecided = all(each.p_range == (0, 1) for each in ensembles)
    kernels: dict[Any, list[Ensemble]] = {}
    for each in ensembles:
        kernels.setdefault((each.kernel, each.kind, each.mode, each.schedule), []).append(each)
    repeated = [group for group in kernels.values() if len(group) > 1]
    ours = sum(group[0].width for group in repeated)
    own = sum(_width(_stacked([each.values for each in group])) for group in repeated)
    return Judgement(
        name,
        len(ps),
        float((ps <= UNLIKELY).mean()),
        float(ps.mean()),
        None if undecided else 0.5 * math.erfc((0.5 - ps.mean()) * math.sqrt(12 * len(ps)) / math.sqrt(2)),
        ours / own if own else None,
    )


def rank(recorded: npt.NDArray[np.float64], members: _Runs, number: float) -> float:
    """The p of a recording (steps, figures) among the runs (members, steps, figures); ``number`` in [0, 1) is the part
    of those that are as far as the recording."""
    low, high = rank_range(recorded, members)
    return low + number * (high - low)


def rank_range(recorded: npt.NDArray[np.float64], members: _Runs) -> tuple[float, float]:
    """What that p can be: the share of runs that are further, and of those that are at least as far; 0 and 1 if all are
    equal."""
    runs = _stacked([recorded, *members])
    far = (np.abs(runs - runs.mean(axis=0)) / _size(runs)).mean(axis=(1, 2))
    further, same = int((far > far[0] + _SAME).sum()), int((abs(far - far[0]) <= _SAME).sum())
    return further / len(runs), (further + same) / len(runs)


@dataclass(frozen=True)
class _Draw:
    members: int
    seed: int
    control: str | None

    def __call__(self, file: Path) -> Ensemble | Refusal | None:
        try:
            recording = read_recording(file)
            if not is_drawn(recording):
                return None
            runs = _stacked([self._run(recording, member) for member in range(self.members)])
        except UserError as error:
            return Refusal(file, str(error))
        starts = {step.get("c"): step["st"] for step in recording.steps if step["ev"] == "start"}
        recorded = _values([ranged(step, starts.get(step.get("c"), {})) for step in recording.steps])
        has = [RANGED[place] for place in np.flatnonzero(~np.isnan(recorded[-1]))]
        recorded = np.nan_to_num(recorded)
        number, _, _, _ = philox(self._key(recording, self.members), *np.zeros(4, np.uint64))
        low, middle, high = np.quantile(runs[:, -1], (0.05, 0.5, 0.95), axis=0)
        header = recording.header
        return Ensemble(
            path=file,
            kernel=header.kernel,
            kind=header.label,
            mode=header.mode,
            schedule=schedule_of(recording),
            p=rank(recorded, runs, int(number) / 2**32),
            p_range=rank_range(recorded, runs),
            recorded=_named(recorded[-1], has),
            low=_named(low, has),
            middle=_named(middle, has),
            high=_named(high, has),
            width=_width(runs),
            values=recorded,
        )

    def _key(self, recording: Recording, member: int) -> np.uint64:
        """Luck goes by a recording's name, so that the ranks of several are independent of each other."""
        return study_key(self.seed << 32 | zlib.crc32(recording.path.name.encode()), member)

    def _run(self, recording: Recording, member: int) -> npt.NDArray[np.float64]:
        rules = rules_of(recording)
        if self.control:
            rules = CONTROLS[self.control](*rules)
        steps = simulate_recording(recording, luck=self._key(recording, member), rules=rules)
        return np.nan_to_num(_values([ranged(step, {}) for step in steps]))


def _named(figures: npt.NDArray[np.float64], has: Collection[str]) -> dict[str, float]:
    """Those of the figures that a recording has, by name."""
    return {name: value for name, value in zip(RANGED, figures.tolist(), strict=True) if name in has}


def _values(rows: list[list[int | None]]) -> npt.NDArray[np.float64]:
    """Rows of figures; nan where a step doesn't have one."""
    return np.array(rows, np.float64)


def _stacked(runs: list[npt.NDArray[np.float64]]) -> _Runs:
    """Runs of a schedule, as far as the shortest: one in which the guest was killed ended early."""
    shortest = min(map(len, runs))
    return np.array([run[:shortest] for run in runs])


def _size(runs: _Runs) -> npt.NDArray[np.float64]:
    """The size of each figure, by which deviations from it are judged."""
    size: npt.NDArray[np.float64] = np.maximum(np.abs(runs.mean(axis=0)).max(axis=0), LEAST)
    return size


def _width(runs: _Runs) -> float:
    """The standard deviation of a figure as a share of it, on average over steps and figures."""
    unbiased = _UNBIASED[len(runs)] if len(runs) < len(_UNBIASED) else 1 - 1 / (4 * len(runs) - 3)
    return float((runs.std(axis=0, ddof=1) / _size(runs)).mean()) / unbiased if len(runs) > 1 else 0.0
