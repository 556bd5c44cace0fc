"""Runs batches on a pool of HostActors: one a CPU slot, a bounded number of batches in flight, and none lost.

A batch is a pure function of its runs, so whatever happens to an actor - killed, out of memory, preempted, its
machine gone or out of reach - its batches are simply done again by another. The pool follows the cluster: machines
may join and leave. One that has another simulator is left out, and one that is new compiles before it gets work.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from coldfleet.cluster.execution import ray_cluster
from coldfleet.cluster.execution.batching import IN_FLIGHT
from coldfleet.cluster.execution.host_actor import Hello, HostActor
from coldfleet.cluster.execution.interrupt import LOST, StoppedError, StopRequest, uninterrupted
from coldfleet.cluster.execution.progress import say_on_stderr
from coldfleet.cluster.execution.ray_nodes import OTHER_VERSION, Nodes
from coldfleet.cluster.execution.ray_watch import ClusterWatch
from coldfleet.cluster.execution.work import Batch, failed, warm_up
from coldfleet.cluster.execution.worker_memory import worker_bytes
from coldfleet.cluster.results.journal import BatchReceipt
from coldfleet.cluster.results.storage import Storage
from coldfleet.cluster.results.versions import engine_digest
from coldfleet.cluster.study.plan import Plan
from coldfleet.hostsim.spec.errors import UserError

if TYPE_CHECKING:
    from coldfleet.hostsim.engine.shipping import CompiledCode

MAX_ATTEMPTS = 3  # workers that may die of a run before it counts as failed
MAX_DEATHS = 5  # deaths in a row, for each slot, without a batch done between them, before the sweep gives up
START_WITHIN_S = 90.0  # for the first worker
OTHERS_WITHIN_S = 15.0  # for the others after it; later ones join as they come
LATE_S = 10.0  # at the end of the work, before a batch is given to an idle worker, too
LATE = 2.0  # or so many times as long as the longest batch took, if that is more
RESIZE_EVERY_S = 5.0  # how soon a machine that joins gets work
END_WITHIN_S = 30.0  # once Ray has lost a process of its own
_POLL_S = 0.5


class RayEndedError(StoppedError):
    """A process that Ray can't do without is gone."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Ray's process {name} has ended unexpectedly", code=LOST)


@dataclass(eq=False)
class _Slot:
    """An actor and what it was given, oldest first. A new actor is given nothing until it has said hello."""

    actor: Any
    hello: Any
    cache: str = ""  # where it keeps compiled code, known once it lives; ...
    kind: str = ""  # ... what that is good for, ...
    machine: str = ""  # ... and the machine's name
    compiling: Any = None  # while it does so for all with that cache
    has_worked: bool = False  # or was given something to do
    batches: dict[Any, Batch] = field(default_factory=dict)  # by the reference of their receipt


class RayExecutor:
    """A pool on a Ray of its own (``address`` None) or on a cluster; ``workers`` None: one for each CPU."""

    name = "ray"
    say: Callable[[str], None] = staticmethod(say_on_stderr)

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        self._workers = workers
        self._address = address
        self._ray: Any = None
        self._own = ray_cluster.OwnRay()  # unless there is an address
        self._watch: ray_cluster.OwnRay | ClusterWatch = self._own
        self._nodes: Nodes  # if there is one
        self._warm: set[str] = set()  # its caches that have the kernels
        self._code: dict[str, CompiledCode | None] = {}  # what the first of each kind of machines compiled
        self._plan: Plan  # once it is started
        self._sent: Plan  # the same, as it is sent to actors
        self._worker_bytes: int  # the memory that each of them asks for
        self._pool: list[_Slot] = []
        self._again: deque[Batch] = deque()
        self._out: dict[Batch, float] = {}  # without an answer so far, and when they were handed out
        self._longest_s = 0.0  # from then to the answer
        self._deaths = 0
        self._resized = 0.0
        self.slots = 0

    def __enter__(self) -> Self:
        if self._address:
            self._ray = ray_cluster.join(self._address)
            self._watch = ClusterWatch(self._ray)
            self._nodes = Nodes(self._ray)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with uninterrupted():
            if not self._address:
                self._own.stop()
            elif self._ray is not None:
                for slot in [] if self._watch.ended() else self._pool:
                    self._ray.kill(slot.actor)
                ray_cluster.shut_down(self._ray)

    def start(self, plan: Plan) -> None:
        self._plan = plan
        if self._address:
            self._start_actors()
            while not self._warm and any(slot.cache for slot in self._pool):
                self._compile(_POLL_S)
            return
        with _Compilation(plan):  # here, while Ray starts
            self._ray = self._own.start(self._workers)
            self._start_actors()

    def _start_actors(self) -> None:
        """Starts the actors and waits for most of them: on a busy cluster the others come much later, or never."""
        # A copy without the ids that it has made, and not in Ray's object store: as a raylet ends, Ray tries to
        # recover what was there, and ends this process if that fails.
        self._sent = replace(self._plan)
        self._worker_bytes = worker_bytes(self._plan)  # once: it may look at every cell
        self._resize()
        deadline = time.monotonic() + START_WITHIN_S
        while ((waiting := self._starting()) or not self._pool) and time.monotonic() < deadline:
            if self._address:
                self._resize()
                if self._nodes.hopeless:
                    break
            for ref in self._finished(list(waiting)):
                self._start_or_replace(waiting[ref])
                if any(slot.cache for slot in self._pool):
                    deadline = min(deadline, time.monotonic() + OTHERS_WITHIN_S)
        if not any(slot.cache for slot in self._pool):
            size = self._worker_bytes >> 20
            if self._address and self._nodes.hopeless:
                raise UserError(f"no node of the cluster can work: {'; '.join(self._nodes.refused)}")
            raise UserError(
                f"Ray gave no worker of 1 CPU and {size} MiB within {START_WITHIN_S:.0f} s: is that free anywhere?"
            )

    def _resize(self) -> None:
        """Makes the pool as large as the cluster is now; actors that still wait for a place are the first to go."""
        self._check_ray()
        self._resized = time.monotonic()
        if self._address:
            self._nodes.update(self.say)
            self.slots = 0 if self._nodes.unknown else self._workers or self._nodes.cpus
        elif not self.slots:  # a Ray of our own doesn't grow
            self.slots = self._workers or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        while len(self._pool) < self.slots:
            self._pool.append(self._new_slot())
        for slot in [slot for slot in self._pool if not slot.cache][: len(self._pool) - self.slots]:
            self._pool.remove(slot)
            self._ray.kill(slot.actor)

    def _compile(self, patience_s: float) -> None:
        """Has the kernels compiled by one worker of the first machine of each kind, which the others take them from.

        Takes note of those that are ready.
        """
        compiling = {slot.compiling: slot for slot in self._pool if slot.compiling is not None}
        for ref in self._finished(list(compiling), patience_s) if compiling else []:
            slot = compiling[ref]
            slot.compiling = None
            try:
                self._code.setdefault(slot.kind, self._ray.get(ref))
                self._warm.add(slot.cache)
            except self._ray.exceptions.RayTaskError as error:
                raise UserError(f"the simulator doesn't run on {slot.machine}: {_cause(error)}") from None
            except self._ray.exceptions.RayError as error:
                self._replace(slot, error)
        busy = self._warm | {slot.cache for slot in self._pool if slot.compiling is not None}
        kinds = {slot.kind for slot in self._pool if slot.compiling is not None}
        for slot in self._pool:
            if slot.cache and slot.cache not in busy and (slot.kind in self._code or slot.kind not in kinds):
                busy.add(slot.cache)
                kinds.add(slot.kind)
                slot.compiling = slot.actor.warm_up.remote(self._code.get(slot.kind))

    def run(self, batches: Iterator[Batch], storage: Storage, stop: StopRequest) -> Iterator[BatchReceipt]:
        where = storage.address
        try:
            if len(self._pool) < self.slots:
                self._resize()
            while not stop.requested:
                if self._address:
                    self._compile(0)
                none_left = self._hand_out(batches, where)
                if none_left and not self._out:
                    self._dismiss()
                    return
                yield from self._collect(_POLL_S)
                new = self._address and self._nodes.asking
                if time.monotonic() - self._resized > (_POLL_S if new else RESIZE_EVERY_S):
                    self._resize()
            yield from self._last()
        except RayEndedError as error:
            stop.ask(error.why, error.code, END_WITHIN_S)

    def _last(self) -> Iterator[BatchReceipt]:
        """What has come back by now; whoever died isn't replaced any more."""
        working = {ref: batch for slot in self._pool for ref, batch in slot.batches.items()}
        for ref in self._finished(list(working), 0):
            with suppress(self._ray.exceptions.RayError):
                receipt: BatchReceipt = self._ray.get(ref)
                if self._out.pop(working[ref], None) is not None:
                    yield receipt

    def _hand_out(self, batches: Iterator[Batch], where: str) -> bool:
        """Fills the ready slots, one batch each in turn; returns whether there is no batch left to give."""
        for depth in range(IN_FLIGHT):
            for slot in self._pool:
                if not self._is_ready(slot) or len(slot.batches) > depth:
                    continue
                batch = self._again.popleft() if self._again else next(batches, None)
                if batch is None:
                    self._hand_out_again(where)
                    return True
                if not slot.has_worked and len(batch.runs) > 1:  # one run, so that its first result is there soon
                    self._again.appendleft(replace(batch, runs=batch.runs[1:]))
                    batch = replace(batch, runs=batch.runs[:1])
                slot.has_worked = True
                self._out[batch] = time.monotonic()
                slot.batches[slot.actor.run.remote(batch, where)] = batch
        return False

    def _hand_out_again(self, where: str) -> None:
        """Gives idle workers the batches that others take long for: the first answer counts."""
        now, patience_s = time.monotonic(), max(LATE_S, LATE * self._longest_s)
        copies = Counter(batch for slot in self._pool for batch in slot.batches.values())
        late = [batch for batch, since in self._out.items() if now - since > patience_s and copies[batch] == 1]
        idle = [slot for slot in self._pool if self._is_ready(slot) and not slot.batches]
        for slot, batch in zip(idle, late, strict=False):
            slot.batches[slot.actor.run.remote(batch, where)] = batch

    def _dismiss(self) -> None:
        """Ends workers that are still at a batch that another has done."""
        for slot in [slot for slot in self._pool if slot.batches]:
            self._pool.remove(slot)
            self._ray.kill(slot.actor)

    def _is_ready(self, slot: _Slot) -> bool:
        return bool(slot.cache) and (not self._address or slot.cache in self._warm)

    def _collect(self, patience_s: float) -> Iterator[BatchReceipt]:
        """Waits that long for at least one answer, and takes all that are there."""
        starting = self._starting()
        working = {ref: slot for slot in self._pool for ref in slot.batches}
        for ref in self._finished([*starting, *working], patience_s):
            if ref in starting:
                self._start_or_replace(starting[ref])
                continue
            slot = working[ref]
            if ref not in slot.batches:  # its actor was found dead just now
                continue
            try:
                receipt: BatchReceipt = self._ray.get(ref)
            except self._ray.exceptions.RayTaskError as error:
                why = f"a worker can't write its results: {_cause(error)}"
                raise UserError(f"{why}; once that is mended, run the same command again") from None
            except self._ray.exceptions.RayError as error:
                yield from self._replace_dead(slot, error)
            else:
                since = self._out.pop(slot.batches.pop(ref), None)
                self._deaths = 0
                if since is not None:  # or else another worker was first
                    self._longest_s = max(self._longest_s, time.monotonic() - since)
                    yield receipt

    def _replace_dead(self, slot: _Slot, error: Exception) -> Iterator[BatchReceipt]:
        """Replaces a dead actor and takes its batches back. The oldest may be what killed it: its runs go on alone."""
        mine = list(slot.batches.values())
        slot.batches.clear()
        elsewhere = {batch for other in self._pool for batch in other.batches.values()}
        lost = [batch for batch in mine if batch in self._out and batch not in elsewhere]
        for batch in lost:
            del self._out[batch]
        self._replace(slot, error)
        self._again.extend(batch for batch in lost if batch != mine[0])
        suspect = mine[0]
        if suspect not in lost:  # others have done it, or are at it
            return
        attempt = suspect.attempt + 1
        if attempt < MAX_ATTEMPTS:
            self._again.extend(replace(suspect, runs=(run,), attempt=attempt) for run in suspect.runs)
            return
        why = f"{MAX_ATTEMPTS} workers died of it, the last with {type(error).__name__}: {_cause(error)}"
        runs = tuple(failed(self._plan.run(index), why) for index in suspect.runs)
        yield BatchReceipt(f"{suspect.number:06d}-lost", (), runs)

    def _start_or_replace(self, slot: _Slot) -> None:
        if slot not in self._pool:  # a machine left meanwhile, and the pool became smaller
            return
        try:
            self._admit(slot)
        except self._ray.exceptions.RayError as error:
            self._replace(slot, error)

    def _replace(self, slot: _Slot, error: Exception) -> None:
        self._deaths += 1
        if self._deaths > MAX_DEATHS * max(self.slots, 1):
            raise UserError(f"workers die as fast as they start, the last of {_cause(error)}")
        self._check_ray()
        self._pool.remove(slot)
        self._ray.kill(slot.actor)
        self._resize()

    def _new_slot(self) -> _Slot:
        options: dict[str, Any] = {"scheduling_strategy": "SPREAD"}
        if self._address and (selector := self._nodes.selector):
            options["label_selector"] = selector
        remote = self._ray.remote(num_cpus=1, memory=self._worker_bytes, max_restarts=0, **options)(HostActor)
        actor = remote.remote(self._sent)
        return _Slot(actor, actor.hello.remote())

    def _admit(self, slot: _Slot) -> None:
        """Takes an actor into service, unless it has another simulator: its node was new, and wasn't looked at yet."""
        hello: Hello = self._ray.get(slot.hello)
        if hello.engine == engine_digest():
            slot.machine, slot.cache, slot.kind = hello.machine, hello.cache, hello.kind
        else:
            self._replace(slot, UserError(f"{hello.machine}: {OTHER_VERSION}"))

    def _starting(self) -> dict[Any, _Slot]:
        return {slot.hello: slot for slot in self._pool if not slot.cache}

    def _check_ray(self) -> None:
        """Raises :class:`RayEndedError`: before anything that only Ray's own processes can answer."""
        if name := self._watch.ended():
            raise RayEndedError(name)

    def _finished(self, refs: list[Any], patience_s: float = _POLL_S) -> list[Any]:
        """The references whose answers are there, after waiting at most so long for the first.

        Raises :class:`RayEndedError`: nothing comes any more, and Ray itself would wait for a minute and abort.
        """
        self._check_ray()
        if not refs:
            time.sleep(patience_s)
            return []
        self._ray.wait(refs, num_returns=1, timeout=patience_s, fetch_local=False)
        ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        return list(ready)


class _Compilation:
    """Compiles the kernels in a thread; leaving it waits for the end, or raises what went wrong."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._compile, daemon=True)

    def _compile(self) -> None:
        try:
            warm_up(self._plan)
        except Exception as error:
            self._error = error

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._thread.join()
            if self._error is not None:
                raise self._error


def _cause(error: Exception) -> str:
    """What happened, in one short line, from one of Ray's long messages."""
    cause = getattr(error, "cause", None) or error
    lines = [" ".join(line.split()) for line in str(cause).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(cause).__name__
