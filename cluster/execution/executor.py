"""What a sweep asks of whatever runs its batches, the executor that runs them here, and how to name one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

from coldfleet.cluster.execution.interrupt import StopRequest
from coldfleet.cluster.execution.progress import say_on_stderr
from coldfleet.cluster.execution.work import Batch, run_batch, warm_up
from coldfleet.cluster.results.journal import BatchReceipt
from coldfleet.cluster.results.storage import Storage
from coldfleet.cluster.study.plan import Plan
from coldfleet.hostsim.spec.errors import UserError

AUTO = "auto"  # the name of the executor that suits the work: a sweep of a few seconds is not worth starting Ray for


class Executor(Protocol):
    """Runs batches. It is entered and started before anything is written, and left in any case.

    ``slots`` is the number of batches that it can work on at a time; it is known once the executor is started. ``say``
    is set before that, and told what a person should know.
    """

    name: str
    slots: int
    say: Callable[[str], None]

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def start(self, plan: Plan) -> None:
        """Gets workers, and has the kernels that the plan needs compiled: once on each machine."""

    def run(self, batches: Iterator[Batch], storage: Storage, stop: StopRequest) -> Iterator[BatchReceipt]:
        """Takes batches as it has room for them; yields receipts as they come, in any order.

        After ``stop.requested`` it begins nothing more, yields what has already come back, and ends.
        """


class SerialExecutor:
    """Runs everything in this process. Same results as any other executor, and no Ray."""

    name = "serial"
    slots = 1
    say: Callable[[str], None] = staticmethod(say_on_stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def start(self, plan: Plan) -> None:
        self._plan = plan
        warm_up(plan)

    def run(self, batches: Iterator[Batch], storage: Storage, stop: StopRequest) -> Iterator[BatchReceipt]:
        plan = self._plan.with_data_at(storage.address)
        while not stop.requested and (batch := next(batches, None)) is not None:
            stop.urgent = True  # nothing of this batch is worth keeping, and a run may take minutes
            try:
                receipt = run_batch(plan, batch, storage)
            except KeyboardInterrupt:
                return
            finally:
                stop.urgent = False
            yield receipt


def make_executor(executor: Executor | str, workers: int | None = None, address: str | None = None) -> Executor:
    """The executor of a name: "ray" or "auto", in parallel, or "serial", in this process; one that was made as it is.
    ``workers``: processes; None: as many as there are CPUs. ``address``: HOST:PORT of a Ray cluster to join; None:
    a Ray is started here, and stopped at the end. Raises UserError if these don't go together, or are something else.
    """
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise UserError(f"workers = {workers!r:.80}: it should be a whole number from 1, or None")
    if executor in ("ray", AUTO):
        from coldfleet.cluster.execution.ray_executor import RayExecutor  # slow to import

        return RayExecutor(workers, address)
    if workers not in (None, 1) or address is not None:
        raise UserError("the executor serial runs in this process: workers and address are for ray")
    if executor == "serial":
        return SerialExecutor()
    if isinstance(executor, str) or not all(hasattr(executor, name) for name in ("__enter__", "start", "run")):
        raise UserError(f"unknown executor {executor!r:.80}: it should be 'auto', 'ray' or 'serial'")
    return executor
