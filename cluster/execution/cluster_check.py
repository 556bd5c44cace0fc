"""What each node of a Ray cluster is like, and whether it can take part in a sweep: asked before one is started."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from coldfleet.cluster.execution.ray_cluster import join, shut_down
from coldfleet.cluster.execution.ray_nodes import ask, asks_for_token, look, why_refused, working_nodes
from coldfleet.cluster.execution.worker_memory import BASE_BYTES
from coldfleet.cluster.results.storage import Storage, open_storage
from coldfleet.cluster.results.versions import engine_digest

ANSWER_WITHIN_S = 60.0  # a node may have to start a process, on a slow disk
MOST_OFF_S = 15 * 60.0  # object stores refuse requests that are older (Amazon S3: RequestTimeTooSkewed)
_ROUNDS = 5  # of asking for the time: the quickest answer counts


@dataclass(frozen=True)
class NodeCheck:
    """What one node answered.

    ``cpus``: those that Ray gives out; ``memory_bytes``: free now. ``engine``: the digest of its simulator, "" if it
    has none. ``token``: whether it asks its callers for one. ``compiled``: whether it has the simulator in its cache.
    ``clock_s``: by how much its clock is ahead of the one here, give or take ``clock_error_s``. ``unfit``: why it can't
    take part, or couldn't do its work; empty: it is fit. What it didn't answer is None.
    """

    machine: str
    address: str
    cpus: int
    unfit: tuple[str, ...]
    python: str = ""
    engine: str = ""
    memory_bytes: int | None = None
    token: bool | None = None
    writes: bool | None = None
    compiled: bool | None = None
    clock_s: float | None = None
    clock_error_s: float | None = None


class ClusterSize(NamedTuple):
    """What there is to work with: ``memory_bytes``: of the machine that has the most; ``cpus``: of all."""

    memory_bytes: int
    cpus: int


def size_of(address: str | None) -> ClusterSize:
    """The size of the cluster at HOST:PORT, by what Ray gives out there; None: of this machine. Raises UserError."""
    if address is None:
        return ClusterSize(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), os.cpu_count() or 1)
    ray = join(address)
    resources = [node["Resources"] for node in working_nodes(ray).values()]
    shut_down(ray)
    largest = max((int(each.get("memory", 0)) for each in resources), default=0)
    return ClusterSize(largest, sum(int(each["CPU"]) for each in resources))


def check_cluster(address: str, out: str | None = None) -> list[NodeCheck]:
    """Every node with CPUs of the cluster at HOST:PORT, by name.

    ``out``: where results are to be: each node writes a file there, which is read here and removed. Raises UserError if
    the cluster can't be joined, or nothing can be written there from here.
    """
    storage = None if out is None else open_storage(out)
    ray = join(address)
    try:
        made = _prepare(storage)
        try:
            return sorted(_check_nodes(ray, storage), key=lambda node: (node.machine, node.address))
        finally:
            for folder in made:
                with suppress(OSError):  # a node may write there late
                    folder.rmdir()
    finally:
        shut_down(ray)


def _prepare(storage: Storage | None) -> list[Path]:
    """Makes the directory; returns those that weren't there, innermost first."""
    if storage is None:
        return []
    missing: list[Path] = []
    if storage.local is not None:
        folder = storage.local / "parts"
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
    storage.prepare()
    return missing


def _check_nodes(ray: Any, storage: Storage | None) -> list[NodeCheck]:
    nodes = working_nodes(ray)
    where = None if storage is None else storage.address
    files = {name: f".check-{uuid4().hex}" for name in nodes}
    answers = {name: ask(ray, name, examine, where, files[name], engine_digest()) for name in nodes}
    if answers:
        ray.wait(list(answers.values()), num_returns=len(answers), timeout=ANSWER_WITHIN_S)
    try:
        return [_judge(ray, name, node, answers[name], storage, files[name]) for name, node in nodes.items()]
    finally:
        if storage is not None:
            for file in files.values():
                with suppress(OSError):
                    storage.delete(file)


def _judge(ray: Any, node_id: str, node: dict[str, Any], answer: Any, storage: Storage | None, file: str) -> NodeCheck:
    address, cpus = str(node["NodeManagerAddress"]), int(node["Resources"]["CPU"])
    try:
        found = ray.get(answer, timeout=0)
        clock_s, clock_error_s = _clock(ray, node_id)
    except ray.exceptions.GetTimeoutError:
        return NodeCheck(address, address, cpus, (f"it doesn't answer within {ANSWER_WITHIN_S:.0f} s",))
    except ray.exceptions.RayError as error:
        why = f"nothing runs there ({' '.join(str(error).split())[:200]})"
        return NodeCheck(address, address, cpus, (why,))
    seen, why_not = found.pop("seen"), found.pop("why_not")
    refused = why_refused(**seen)
    unfit = [refused] if refused else []
    if storage is not None and not refused:
        unfit += [f"it can't write to {storage}: {why_not}"] if why_not else _not_seen(storage, file)
        found["writes"] = not unfit
    if found["memory_bytes"] < BASE_BYTES:
        free = found["memory_bytes"] >> 20
        unfit.append(f"it has {free:,} MiB of memory free, and a worker takes {BASE_BYTES >> 20:,} at least")
    if abs(clock_s) - clock_error_s > MOST_OFF_S:
        unfit.append(f"its clock is off by {clock_s:+,.0f} s: object stores refuse that: set it by NTP")
    who = {"python": seen["python"], "engine": seen["engine"]}
    return NodeCheck(
        seen["machine"], address, cpus, tuple(unfit), **who, **found, clock_s=clock_s, clock_error_s=clock_error_s
    )


def _not_seen(storage: Storage, file: str) -> list[str]:
    """Why what a node has written isn't seen here; and it is removed."""
    try:
        written = storage.read(file).decode(errors="replace")
        storage.delete(file)
    except OSError:
        written = ""
    return [] if written == file else [f"what it writes to {storage} isn't there on this machine: share it between all"]


def _clock(ray: Any, node_id: str) -> tuple[float, float]:
    """By how many seconds a node's clock is ahead, and how wrong that may be: half of the quickest round trip."""
    trips = []
    for _ in range(_ROUNDS):
        asked = time.time()
        there = ray.get(ask(ray, node_id, time_there), timeout=ANSWER_WITHIN_S)
        back = time.time()
        trips.append(((back - asked) / 2, there - (asked + back) / 2))
    error, ahead = min(trips)
    return ahead, error


def time_there() -> float:
    """Seconds since 1970, by the clock of the node."""
    import time

    return time.time()


def examine(where: str | None, file: str, engine: str) -> dict[str, Any]:
    """What a node finds out about itself; where it hasn't this simulator, as much as can be had without it.

    Of NodeCheck's fields ``memory_bytes``, ``token`` and ``compiled``, and: ``seen``, as :func:`look` has it, and
    ``why_not``: why it can't write the file there.
    """
    found: dict[str, Any] = {
        "seen": look(),
        "why_not": "",
        "memory_bytes": _free_bytes(),
        "token": asks_for_token(),
        "compiled": None,
    }
    if found["seen"]["engine"] != engine:
        return found
    from coldfleet.cluster.results.storage import open_storage

    found["compiled"] = is_compiled()
    if where is not None:
        try:
            open_storage(where).write(file, file.encode())
        except Exception as error:  # whatever a file system says
            found["why_not"] = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
    return found


def _free_bytes() -> int:
    """The memory that Linux could give to a new process without swapping."""
    from pathlib import Path

    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def is_compiled() -> bool:
    """Whether numba has the simulator in its cache: for this processor, and of this source."""
    from coldfleet.hostsim.engine.code_cache import OWN_CACHE
    from coldfleet.hostsim.workload import batches

    if OWN_CACHE is None:
        return False
    make_all: Any = batches.make_all  # every host populates its memory by it
    index = make_all._cache._cache_file._load_index()  # empty if it is of another source
    return any(magic == make_all.targetctx.codegen().magic_tuple() for _, magic, _ in index)
