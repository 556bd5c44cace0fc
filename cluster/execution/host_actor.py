"""The worker process of a Ray sweep: one hypervisor host at a time, then the next."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from coldfleet.cluster.results.versions import engine_digest

if TYPE_CHECKING:
    from coldfleet.cluster.execution.work import Batch
    from coldfleet.cluster.results.journal import BatchReceipt
    from coldfleet.cluster.study.plan import Plan
    from coldfleet.hostsim.engine.shipping import CompiledCode

# One actor is one core's worth of work; libraries that start threads of their own would only get in the way.
ONE_THREAD = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Hello(NamedTuple):
    """Where an actor lives and which simulator it has.

    ``cache``: where it keeps compiled code; ``kind``: what that depends on, such as the CPU.
    """

    machine: str
    pid: int
    engine: str
    cache: str = ""
    kind: str = ""


class HostActor:
    """Simulates batches of a plan and writes their parts.

    It keeps nothing but the plan and compiled code, so any actor can do any batch.
    """

    def __init__(self, plan: Plan) -> None:
        os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
        self._plan = plan
        self._where = ""

    def hello(self) -> Hello:
        """Tells where it lives; also a proof of life."""
        machine, cache, kind = socket.gethostname(), "", ""
        with suppress(Exception):  # what is wrong with the engine here warm_up says
            from coldfleet.hostsim.engine.shipping import cache_id, made_for

            cache, kind = cache_id(), " ".join(made_for())
        return Hello(machine, os.getpid(), engine_digest(), f"{machine} {cache}", kind)

    def warm_up(self, code: CompiledCode | None = None) -> CompiledCode | None:
        """Loads the kernels, or compiles what isn't there, after ``code`` of another machine; what others can take."""
        from coldfleet.cluster.execution.work import warm_up
        from coldfleet.hostsim.engine.shipping import pack, unpack

        if code is not None and not unpack(code):
            print("compiled code of another machine doesn't fit or can't be kept here: compiling it", file=sys.stderr)
        warm_up(self._plan)
        return pack() if code is None else None

    def run(self, batch: Batch, where: str) -> BatchReceipt:
        """Simulates a batch; raises FileNotFoundError if this machine doesn't see the results directory."""
        from coldfleet.cluster.execution.work import run_batch
        from coldfleet.cluster.results.storage import open_storage

        if where != self._where:
            self._plan, self._where = self._plan.with_data_at(where), where
        return run_batch(self._plan, batch, open_storage(where))
