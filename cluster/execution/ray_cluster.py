"""Starts Ray on this machine, or joins a cluster: quietly, in bounded time, and without touching anyone else's."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import coldfleet
from coldfleet.cluster.execution.host_actor import ONE_THREAD
from coldfleet.cluster.execution.interrupt import SIGNALS
from coldfleet.cluster.execution.ray_home import make_home, remove_left_homes
from coldfleet.cluster.execution.ray_watch import gcs_address, takes_connections
from coldfleet.hostsim.spec.errors import UserError

_HOST_PORT = re.compile(r"[^\s/]+:[0-9]{1,5}")
ANSWER_WITHIN_S = 15.0
LEAST_DESCRIPTORS = 1024  # the usual limit of a process
FIRST_WITH_TOKENS = (2, 52)  # versions of Ray
_STORE_BYTES = 100 << 20  # results never go through the object store
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # else it prints on stdout what its daemons have to say
}
_ALONE = {
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # so that every part of it listens on loopback only, on Linux too
}
_VITAL = ("gcs_server", "raylet")
_ASK_EVERY_S = 2.0
_PROBE = """\
import ray, sys
from ray._raylet import GcsClient
address = sys.argv[1]
":" in address and GcsClient(address=address)  # which says at once if the token is wrong
ray.init(address=address, log_to_driver=False, logging_level="CRITICAL")
"""


class OwnRay:
    """A Ray of our own: on loopback only, behind a token, its files in a directory that nobody else can enter.

    The token is RAY_AUTH_TOKEN, or a new one if that isn't set. It is in the environment of the processes only, which
    other users can't read.
    """

    def __init__(self) -> None:
        self._ray: Any = None
        self._home = ""  # its directory; as RAY_TMPDIR it also marks its processes
        self._lock = -1
        self._before: dict[str, str | None] = {}
        self._started: dict[int, str] = {}  # its processes, by pid
        self._gcs = ("", 0)
        self._asked = 0.0
        self._ended = ""

    def start(self, workers: int | None) -> Any:
        """Starts it with that many CPUs (default: this machine's) and returns the module.

        A slow machine can make the first start fail (ray#65983), so it is tried twice.
        """
        check_descriptors()
        remove_left_homes(lambda home: bool(_family(home)))
        self._home, self._lock = make_home()
        token = os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)
        ours = {**_QUIET, **_ALONE, **dict.fromkeys(ONE_THREAD, "1"), "RAY_TMPDIR": self._home, "RAY_AUTH_TOKEN": token}
        self._before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        ray = importlib.import_module("ray")
        _check_version(ray)
        self._ray = ray
        _obey_environment(loopback=True)
        for attempt in (1, 2):
            try:
                with _packages_first(), _our_signals():
                    self._ray.init(
                        address="local",
                        num_cpus=workers,
                        include_dashboard=False,
                        object_store_memory=_STORE_BYTES,
                        log_to_driver=False,
                        logging_level=logging.CRITICAL,
                    )
                break
            except Exception as error:
                shut_down(self._ray)
                if attempt == 2:
                    raise UserError(
                        f"Ray doesn't start on this machine ({_one_line(error)}): --executor serial does without"
                    ) from None
        self._started = _family(self._home)
        self._gcs = gcs_address(self._ray)
        return self._ray

    def ended(self) -> str:
        """The name of a process that has ended and that Ray can't do without; "" while there is none."""
        self._ended = self._ended or self._look()
        return self._ended

    def _look(self) -> str:
        for pid, name in self._started.items():
            with contextlib.suppress(ChildProcessError):  # Ray has noticed
                if name not in _VITAL or not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    continue
            return name
        if self._started and time.monotonic() - self._asked > _ASK_EVERY_S:
            self._asked = time.monotonic()
            if takes_connections(self._gcs, _ASK_EVERY_S) is False:  # after SIGTERM it closes its port, and never ends
                return _VITAL[0]
        return ""

    def stop(self) -> None:
        """Takes it down, with all of its processes and files."""
        if self._ended:
            self._kill()  # the others would wait for it
        if self._ray is not None:
            shut_down(self._ray)
        self._kill()
        if self._home:
            shutil.rmtree(self._home, ignore_errors=True)
            os.close(self._lock)
            self._home = ""
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if self._ray is not None:
            _obey_environment(loopback=False)

    def _kill(self) -> None:
        alive = _processes()
        ours = {pid for pid, name in self._started.items() if pid in alive and alive[pid].name == name}
        for pid in ours | _family(self._home).keys():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def check_descriptors() -> None:
    """Gives this process and its children as many file descriptors as Ray needs; raises UserError if it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= LEAST_DESCRIPTORS:
        return
    if hard != resource.RLIM_INFINITY and hard < LEAST_DESCRIPTORS:
        raise UserError(
            f"too few file descriptors: Ray needs {LEAST_DESCRIPTORS}, and this process may have {hard}: raise the "
            "hard limit (ulimit -Hn), or do without Ray: --executor serial"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (LEAST_DESCRIPTORS, hard))


def _check_version(ray: Any) -> None:
    """Raises UserError if this Ray knows no tokens."""
    if tuple(map(int, ray.__version__.split(".")[:2])) < FIRST_WITH_TOKENS:
        first = ".".join(map(str, FIRST_WITH_TOKENS))
        raise UserError(f"Ray {ray.__version__} lets everybody in: pip install 'ray[default]>={first}'")


def _obey_environment(loopback: bool) -> None:
    """Has Ray read its settings again, which else it does only once in a process, when it is imported."""
    core = importlib.import_module("ray._raylet")
    core.Config.initialize("")
    core.AuthenticationTokenLoader.instance().reset_cache()
    constants: Any = importlib.import_module("ray._private.ray_constants")
    constants.ENABLE_RAY_CLUSTER = not loopback


class _Process(NamedTuple):
    name: str
    parent: int
    environment: list[bytes]


def _processes() -> dict[int, _Process]:
    """Those of this user, by pid."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environment = (path / "environ").read_bytes().split(b"\0")
            _, name, rest = re.split(r"\((.*)\)", (path / "stat").read_text(), flags=re.DOTALL)
            found[int(path.name)] = _Process(name, int(rest.split()[1]), environment)
    return found


def _family(home: str) -> dict[int, str]:
    """The names of the processes that were started with this directory in their environment, and of their children.

    Some give themselves a title, which overwrites their environment.
    """
    alive = _processes()
    found = {pid for pid, each in alive.items() if home and f"RAY_TMPDIR={home}".encode() in each.environment}
    while children := {pid for pid, each in alive.items() if each.parent in found} - found:
        found |= children
    return {pid: alive[pid].name for pid in found - {os.getpid()}}


@contextlib.contextmanager
def _our_signals() -> Iterator[None]:
    """Keeps SIGTERM from Ray, which takes it for itself as it starts, and may lose one that comes in a callback.

    Ray's C++ part installs a handler even so, which ends the process with a dump: it is replaced at the end.
    """
    real = signal.signal

    def keep(number: int, handler: Any) -> Any:
        return signal.getsignal(number) if number in SIGNALS else real(number, handler)

    signal.signal = keep  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = real
        _handle_again()


def _handle_again() -> None:
    """Gives signals back to Python's handlers, in place of what Ray's C++ part has installed."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.getsignal(number))


def shut_down(ray: Any) -> None:
    """Leaves Ray, and ends it if this process has started it.

    Ray first takes away all handlers of SIGTERM, so that it would end this process, and then waits for its own
    processes: from there on our handlers are back.
    """
    node = importlib.import_module("ray._private.worker")._global_node
    if node is not None:
        kill = node.kill_all_processes

        def kill_all_processes(*arguments: Any, **options: Any) -> None:
            _handle_again()
            kill(*arguments, **options)

        node.kill_all_processes = kill_all_processes
    ray.shutdown()
    _handle_again()


def join(address: str) -> Any:
    """Joins the cluster at HOST:PORT (or "auto") and returns the module; raises :class:`UserError`."""
    os.environ.update(_QUIET)
    if address.startswith("ray://"):
        raise UserError(f"{address}: Ray Client is not supported: give the head's HOST:PORT, usually port 6379")
    port = address.rpartition(":")[2]
    if address != "auto" and not (_HOST_PORT.fullmatch(address) and 0 < int(port) < 1 << 16):
        raise UserError(f"{address!r}: not an address of a Ray cluster: give the head's HOST:PORT, usually port 6379")
    check_descriptors()
    _probe(address)
    ray = importlib.import_module("ray")
    try:
        with _packages_first(), _our_signals():
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:
        raise UserError(f"can't join the Ray cluster at {address}: {_one_line(error)}") from None
    return ray


def _probe(address: str) -> None:
    """Joins in another process first: Ray itself would wait for minutes, and can't be interrupted."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, address],
            capture_output=True,
            timeout=ANSWER_WITHIN_S,
            check=False,
            text=True,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"no Ray cluster answers at {address} within {ANSWER_WITHIN_S:.0f} s") from None
    if done.returncode:
        if "InvalidAuthToken" in done.stderr:
            raise UserError(
                f"can't join the Ray cluster at {address}: it has another token than is given here: "
                "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
            )
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise UserError(
            f"can't join the Ray cluster at {address}: {said[-1].strip() if said else 'Ray gives no reason'}"
        )


def _packages_first() -> contextlib.AbstractContextManager[None]:
    """Ray puts the driver's current directory first in its workers' path.

    In a checkout that would be other files than the installed ones, compiled anew in every worker. So Ray gets to see
    the directory that our packages were imported from.
    """
    return contextlib.chdir(Path(coldfleet.__file__).resolve().parents[1])


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
