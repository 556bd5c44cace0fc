"""Replays many recordings, on all CPUs: a recording is read, replayed and compared in one process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from coldfleet.hostsim.spec.errors import UserError

if TYPE_CHECKING:
    from coldfleet.hostsim.replay.comparison import Comparison

FEW = 4  # recordings: starting a process takes as long as replaying some twenty
_AT_ONCE = 4  # recordings that a process is given at a time


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
    processes = min(workers or os.cpu_count() or 1, len(files))
    job = _Job(out, simulator)
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
