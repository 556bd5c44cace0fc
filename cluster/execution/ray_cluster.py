"""Starts Ray on this machine, or joins a cluster: quietly, in bounded time, and without touching anyone else's."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import coldfleet
from coldfleet.cluster.execution.host_actor import ONE_THREAD
from coldfleet.cluster.execution.interrupt import SIGNALS
from coldfleet.hostsim.spec.errors import UserError

ANSWER_WITHIN_S = 15.0
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
_PROBE = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='CRITICAL')"


class OwnRay:
    """A Ray of our own: on loopback only, behind a token, its files in a directory that nobody else can enter.

    The token stands in the environment of its processes, which other users can't read.
    """

    def __init__(self) -> None:
        self._ray: Any = None
        self._home = ""  # its directory; as RAY_TMPDIR it also marks its processes
        self._before: dict[str, str | None] = {}
        self._vital: dict[int, str] = {}

    def start(self, workers: int | None) -> Any:
        """Starts it with that many CPUs (default: this machine's) and returns the module.

        A slow machine can make the first start fail (ray#65983), so it is tried twice.
        """
        self._home = tempfile.mkdtemp(prefix="cf-")  # short, since it holds sockets
        token = os.environ.get("RAY_AUTH_TOKEN") or _token()
        ours = {**_QUIET, **_ALONE, **dict.fromkeys(ONE_THREAD, "1"), "RAY_TMPDIR": self._home, "RAY_AUTH_TOKEN": token}
        self._before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        self._ray = importlib.import_module("ray")
        _obey_environment(self._ray)
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
            except (Exception, SystemExit) as error:
                self._ray.shutdown()
                if attempt == 2:
                    raise UserError(
                        f"Ray doesn't start on this machine ({_one_line(error)}): --executor serial does without"
                    ) from None
        self._vital = {pid: name for pid, name in _family(self._home).items() if name in _VITAL}
        return self._ray

    def ended(self) -> str:
        """The name of a process that has ended and that Ray can't do without; "" while there is none."""
        for pid, name in self._vital.items():
            try:
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    return name
            except ChildProcessError:  # Ray has noticed
                return name
        return ""

    def stop(self) -> None:
        """Takes it down, with all of its processes and files."""
        if self.ended():
            self._kill()  # they would wait for it
        if self._ray is not None:
            self._ray.shutdown()
        self._kill()
        shutil.rmtree(self._home, ignore_errors=True)
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def _kill(self) -> None:
        for pid in _family(self._home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@cache
def _token() -> str:
    """One for each process, since Ray reads it only once."""
    return secrets.token_hex(32)


def _obey_environment(ray: Any) -> None:
    """Has Ray read its settings, which it did before if it was imported before; raises UserError if it is too old."""
    if tuple(map(int, ray.__version__.split(".")[:2])) < FIRST_WITH_TOKENS:
        first = ".".join(map(str, FIRST_WITH_TOKENS))
        raise UserError(f"Ray {ray.__version__} lets everybody in: pip install 'ray[default]>={first}'")
    importlib.import_module("ray._raylet").Config.initialize("")
    constants: Any = importlib.import_module("ray._private.ray_constants")
    constants.ENABLE_RAY_CLUSTER = False


def _family(home: str) -> dict[int, str]:
    """The other processes that have this directory's name in their environment, and their own names."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if home and f"RAY_TMPDIR={home}".encode() in (path / "environ").read_bytes().split(b"\0"):
                found[int(path.name)] = (path / "comm").read_text().strip()
    found.pop(os.getpid(), None)
    return found


@contextlib.contextmanager
def _our_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself as it starts. The handlers of before come back, and get what came meanwhile."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS} if is_main else {}
    missed = False
    try:
        yield
    except SystemExit as left:
        missed = left.code == signal.SIGTERM
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if missed:
            signal.raise_signal(signal.SIGTERM)


def join(address: str) -> Any:
    """Joins the cluster at HOST:PORT (or "auto") and returns the module; raises :class:`UserError`."""
    os.environ.update(_QUIET)
    if address.startswith("ray://"):
        raise UserError(f"{address}: Ray Client is not supported: give the head's HOST:PORT, usually port 6379")
    _probe(address)
    ray = importlib.import_module("ray")
    try:
        with _packages_first(), _our_signals():
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (Exception, SystemExit) as error:
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
