"""Replays recordings, one or many on all CPUs: each is read, replayed and compared in one process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from coldfleet.hostsim.spec.checks import check_argument
from coldfleet.hostsim.spec.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from coldfleet.hostsim.replay.comparison import Comparison

_T = TypeVar("_T")
FEW = 4  # recordings: starting a process takes as long as replaying some twenty
_AT_ONCE = 4  # recordings that a process is given at a time


@dataclass(frozen=True)
class StepDifference:
    """A field of a step on which kernel and simulator disagree.

    ``step``: its number in the recording, from 0; ``event``, ``round``: what it is. ``field``: which; ``kernel``,
    ``ours``: its values, as the recording writes them (docs/truth.md).
    """

    step: int
    event: str
    round: int
    field: str
    kernel: Any
    ours: Any


@dataclass(frozen=True)
class ReplayAnswer:
    """How a recording fared, as plain data.

    ``recording``: the file. ``kernel``, ``kind``, ``mode``: what was recorded, and where. ``exact_steps`` of ``steps``
    have every figure of the kernel's. ``worst``: for each figure that was off, by how much in the worst step;
    ``worst_pages``: the same of residency and generations, in pages. ``first_difference``: None if all steps are exact.
    ``figures``: for "res" and "fres", in pages, "max", a number of a generation, and each counter of memory.stat since
    the start, the kernel's and the simulator's value after every step; None where a step doesn't have one.
    """

    recording: str
    kernel: str
    kind: str
    mode: str
    steps: int
    exact_steps: int
    worst_pages: int
    worst: Mapping[str, int]
    first_difference: StepDifference | None
    figures: Mapping[str, Sequence[tuple[int | None, int | None]]]

    @classmethod
    def of(cls, result: Comparison) -> ReplayAnswer:
        """What a comparison found."""
        from coldfleet.hostsim.replay.comparison import RANGED

        first, header = result.first, result.recording.header
        measured = [zip(kernel, ours, strict=True) for kernel, ours in result.measured]
        return cls(
            recording=str(result.recording.path),
            kernel=header.kernel,
            kind=header.label,
            mode=header.mode,
            steps=result.steps,
            exact_steps=result.exact,
            worst_pages=result.worst_pages,
            worst=result.worst,
            first_difference=None
            if first is None
            else StepDifference(first.step, first.event, first.round, first.field, first.kernel, first.ours),
            figures=dict(zip(RANGED, zip(*measured, strict=True), strict=True)),
        )

    def table(self) -> pa.Table:
        """``figures`` as a pyarrow table.

        Columns: step (int64, from 0), figure (string), kernel and ours (int64, null where a step doesn't have it).
        """
        import pyarrow as pa

        rows = [
            {"step": step, "figure": figure, "kernel": kernel, "ours": ours}
            for figure, values in self.figures.items()
            for step, (kernel, ours) in enumerate(values)
        ]
        types = {"step": pa.int64(), "figure": pa.string(), "kernel": pa.int64(), "ours": pa.int64()}
        return pa.Table.from_pylist(rows, pa.schema(types.items()))


def replay(recording: Path | str) -> ReplayAnswer:
    """Replays a ``recording`` of a real kernel (``*.jsonl.gz``) and compares every step.

    The schedule is made again from the recording's header and runs through the engine that sweeps use. Raises UserError
    if the recording can't be read, is damaged, or can't be replayed.

        answer = coldfleet.replay("tests/recordings/k6.12_host_hotcold_debugfs_r1.jsonl.gz")
        print(answer.exact_steps, "of", answer.steps, "steps are exact")
    """
    check_argument("recording", recording, (str, PathLike), "the name of a file")
    (result,) = replay_all([Path(recording)])
    if isinstance(result, Refusal):
        raise UserError(result.reason)
    return ReplayAnswer.of(result)


@dataclass(frozen=True)
class Refusal:
    """A recording that can't be replayed, and why."""

    path: Path
    reason: str


def replay_all(
    files: Sequence[Path], workers: int | None = None, out: Path | None = None, simulator: str = ""
) -> Iterator[Comparison | Refusal]:
    """Compares each recording, in order. ``workers``: processes, None: one for each CPU.

    ``out``: a folder for the simulator's own recordings, in which ``simulator`` is named as their maker.
    """
    yield from map_files(_Job(out, simulator), files, workers)


def map_files(job: Callable[[Path], _T], files: Sequence[Path], workers: int | None = None) -> Iterator[_T]:
    """What ``job`` makes of each recording, in order; ``workers``: processes, None: one for each CPU."""
    processes = min(workers or os.cpu_count() or 1, len(files))
    if processes == 1 or len(files) <= FEW:
        yield from map(job, files)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        try:
            list(pool.map(_compile, range(processes)))
            yield from pool.map(job, files, chunksize=_AT_ONCE)
        finally:
            pool.shutdown(cancel_futures=True)


def check_all(files: Sequence[Path]) -> None:
    """Raises UserError if one of the recordings can't be replayed; nothing is simulated."""
    from coldfleet.hostsim.replay.recording import read_recording
    from coldfleet.hostsim.replay.replay import check_replayable

    for file in files:
        check_replayable(read_recording(file))


@dataclass(frozen=True)
class _Job:
    out: Path | None
    simulator: str

    def __call__(self, file: Path) -> Comparison | Refusal:
        from coldfleet.hostsim.replay.comparison import compare_recording
        from coldfleet.hostsim.replay.recording import read_recording
        from coldfleet.hostsim.replay.recording_writer import write_recording

        try:
            recording = read_recording(file)
            result = compare_recording(recording)
        except UserError as error:
            return Refusal(file, str(error))
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            write_recording(self.out / file.name, recording, result.simulated, self.simulator)
        return result.without_steps()


def _compile(process: int) -> None:
    """Each process compiles, or loads, one half of the kernels that the others need, too."""
    from coldfleet.hostsim.engine.hybrids import get_kernel
    from coldfleet.hostsim.host import simulate_host
    from coldfleet.hostsim.spec.host_spec import GuestSpec, HostSpec
    from coldfleet.policies import get_policy

    kind, mode = (("vm", "debugfs"), ("process", "proactive"))[process % 2]
    guest = GuestSpec("", memory_pages=1024, limit_pages=512, accesses_per_tick=512, kind=kind)
    spec = HostSpec("6.12", (guest,), ticks=2, mode=mode)
    simulate_host(spec, get_policy(get_kernel("6.12").policy), seed=0, replicate=0, host=0)
