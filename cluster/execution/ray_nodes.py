"""Which nodes of a Ray cluster can take part: each is looked at once, as it joins, by a function of its own.

It is sent as code and imports what it looks for, so it also runs where coldfleet isn't installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from coldfleet.cluster.results.versions import engine_digest, versions

OTHER_VERSION = "it has another version of coldfleet: install this one there"
_ID = "ray.io/node-id"  # a label that Ray gives to every node


@dataclass(frozen=True)
class Node:
    """A node that was looked at: its name, its CPUs, and why it can't take part; "": it can."""

    machine: str
    cpus: int
    why_not: str = ""


def look() -> dict[str, str]:
    """What a node is: its machine, its Python, and its coldfleet, if it has one."""
    import platform
    import socket

    found = {"machine": socket.gethostname(), "python": platform.python_version(), "engine": "", "error": ""}
    try:
        from coldfleet.cluster.results.versions import engine_digest

        found["engine"] = engine_digest()
    except Exception as error:  # whatever keeps it from being imported
        found["error"] = f"{type(error).__name__}: {error}"
    return found


def asks_for_token() -> bool:
    """Whether the Ray of this process, on a node, asks its callers for a token."""
    core: Any = import_module("ray._raylet")
    return bool(core.get_authentication_mode() != core.AuthenticationMode.DISABLED)


def working_nodes(ray: Any) -> dict[str, dict[str, Any]]:
    """What Ray knows of its nodes, by their ids: of those that live and have CPUs to give."""
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")}


def ask(ray: Any, node_id: str, question: Callable[..., Any], *arguments: Any) -> Any:
    """Has a node answer a function of ours, which is sent as code; returns the reference of the answer."""
    cloudpickle: Any = import_module("ray.cloudpickle")
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    modules = {sys.modules[name] for name in (__name__, question.__module__)}
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return ray.remote(num_cpus=0, scheduling_strategy=there, max_retries=0)(question).remote(*arguments)
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


class Nodes:
    """The nodes of a cluster, as far as they have answered. ``say`` is told once of each that can't take part."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._asked: dict[str, tuple[Any, int, str]] = {}
        self._known: dict[str, Node] = {}
        self._told: set[str] = set()

    def update(self, say: Callable[[str], None]) -> None:
        """Looks at those that are new, and forgets those that are gone. It waits for nobody."""
        alive = working_nodes(self._ray)
        self._known = {name: node for name, node in self._known.items() if name in alive}
        self._asked = {name: asked for name, asked in self._asked.items() if name in alive}
        for name, node in alive.items():
            if name not in self._known and name not in self._asked:
                address = str(node["NodeManagerAddress"])
                self._asked[name] = (ask(self._ray, name, look), int(node["Resources"]["CPU"]), address)
        refs = [ref for ref, *_ in self._asked.values()]
        answered, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0) if refs else ([], [])
        for name, (ref, cpus, address) in list(self._asked.items()):
            if ref in answered:
                del self._asked[name]
                self._known[name] = known = self._judge(ref, cpus, address)
                news = f"coldfleet: node {known.machine} gets no work: {known.why_not}"
                if known.why_not and news not in self._told:
                    self._told.add(news)
                    say(news)

    def _judge(self, ref: Any, cpus: int, address: str) -> Node:
        try:
            found = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return Node(address, cpus, f"nothing runs there ({' '.join(str(error).split())[:200]})")
        return Node(found["machine"], cpus, why_refused(**found))

    @property
    def refused(self) -> list[str]:
        """Those that can't take part, and why."""
        return [f"{node.machine}: {node.why_not}" for node in self._known.values() if node.why_not]

    @property
    def unknown(self) -> bool:
        """Whether none has answered yet of those that were asked."""
        return bool(self._asked) and not self._known

    @property
    def asking(self) -> bool:
        """Whether there are new ones that have not answered yet."""
        return bool(self._asked)

    @property
    def hopeless(self) -> bool:
        """Whether there are nodes, and none of them can take part."""
        return bool(self._known) and not self._asked and not self.cpus

    @property
    def cpus(self) -> int:
        """The CPUs of those that can."""
        return sum(node.cpus for node in self._known.values() if not node.why_not)

    @property
    def selector(self) -> dict[str, str]:
        """Ray's label selector that leaves out those that can't."""
        others = [name for name, node in self._known.items() if node.why_not]
        return {_ID: f"!in({', '.join(others)})"} if others else {}


def why_refused(machine: str, python: str, engine: str, error: str = "") -> str:
    """Why a node can't take part, and what to do; "": it can."""
    ours = versions()["python"]
    if python.split(".")[:2] != ours.split(".")[:2]:
        return f"it has Python {python}, here it is {ours}: start its Ray with this one"
    if error:
        return f"it can't import coldfleet ({' '.join(error.split())[:200]}): install it there"
    if engine != engine_digest():
        return OTHER_VERSION
    return ""
