"""The worker process of a Ray sweep: one hypervisor host at a time, then the next."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cluster.versions import engine_digest

if TYPE_CHECKING:
    from cluster.journal import BatchReceipt
    from cluster.work import Batch
    from hostsim.model import HostSpec

# One actor is one core's worth of work; libraries that start threads of their own would only get in the way.
ONE_THREAD = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Hello(NamedTuple):
    """Where an actor lives and which simulator it has."""

    machine: str
    pid: int
    engine: str


class HostActor:
    """Simulates batches and writes their parts. It keeps nothing but compiled code, so any actor can do any batch."""

    def hello(self) -> Hello:
        """Tells where it lives; also a proof of life."""
        os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
        return Hello(socket.gethostname(), os.getpid(), engine_digest())

    def warm_up(self, shapes: tuple[HostSpec, ...]) -> None:
        """Compiles the kernels, or loads them."""
        from cluster.work import warm_up

        warm_up(shapes)

    def run(self, batch: Batch, directory: str) -> BatchReceipt:
        """Simulates a batch; raises FileNotFoundError if this machine doesn't see the results directory."""
        from cluster.work import run_batch

        return run_batch(batch, Path(directory))
