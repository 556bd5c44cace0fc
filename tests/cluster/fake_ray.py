"""As much of Ray as the executor uses, in one process: actors answer when they are waited for, or die."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    """The base of Ray's errors."""


class RayTaskError(RayError):
    """The method itself raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class ActorDiedError(RayError):
    """The actor is gone."""


@dataclass(eq=False)
class Ref:
    """An answer to come."""

    actor: Actor
    call: Callable[[], Any]
    value: Any = None
    error: Exception | None = None
    ready: bool = False


@dataclass(eq=False)
class Actor:
    """Calls wait in a queue; a dead actor fails them all."""

    real: Any
    ray: FakeRay
    queue: list[Ref] = field(default_factory=list)
    dead: bool = False
    stopped: bool = False  # as by SIGSTOP

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Ref:
            ref = Ref(self, lambda: getattr(self.real, name)(*arguments))
            self.queue.append(ref)
            return ref

        return SimpleNamespace(remote=remote)

    def step(self) -> None:
        """Answers the oldest call, or fails all of them."""
        if not self.dead and not self.stopped and self.queue:
            ref = self.queue.pop(0)
            try:
                ref.value = ref.call()
            except ActorDiedError as error:
                self.dead = True
                ref.error = error
            except Exception as error:
                ref.error = RayTaskError(error)
            ref.ready = True
        if self.dead:
            for ref in self.queue:
                ref.ready, ref.error = True, ActorDiedError("The actor died unexpectedly.\nIn many words.")
            self.queue.clear()


class FakeRay:
    """Stands for the ray module."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self) -> None:
        self.actors: list[Actor] = []
        self.most_in_flight = 0
        self.shut_down = False
        self.cpus = 2.0

    def remote(self, **options: Any) -> Callable[[type], Any]:
        assert options["num_cpus"] == 1
        assert options["memory"] > 200 << 20

        def make(kind: type) -> Any:
            def create(*arguments: Any) -> Actor:
                self.actors.append(Actor(kind(*arguments), self))
                return self.actors[-1]

            return SimpleNamespace(remote=create)

        return make

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self.cpus}

    def put(self, value: Any) -> Any:
        return value

    def wait(self, refs: list[Ref], *, num_returns: int, timeout: float, fetch_local: bool) -> tuple[list[Ref], None]:
        if timeout:
            self.most_in_flight = max(self.most_in_flight, *(len(actor.queue) for actor in self.actors))
            for actor in self.actors:
                actor.step()
        return [ref for ref in refs if ref.ready], None

    def get(self, what: Any) -> Any:
        if isinstance(what, list):
            return [self.get(ref) for ref in what]
        while not what.ready:
            what.actor.step()
        if what.error is not None:
            raise what.error
        return what.value

    def kill(self, actor: Actor) -> None:
        actor.dead = True

    def shutdown(self) -> None:
        self.shut_down = True
