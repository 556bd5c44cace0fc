"""Real Ray nodes as child processes: started with `ray start --block`, stopped by their own process ids."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

RAY = str(Path(sys.executable).with_name("ray"))
ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def environment(token: str) -> dict[str, str]:
    """For nodes and their clients: token authentication on, our packages importable, no usage statistics."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {
        **inherited,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


class Node:
    """A Ray node; ``prefix`` is a command to start it under, such as `ip netns exec NAME`."""

    def __init__(self, arguments: Sequence[str], token: str, log: Path, prefix: Sequence[str] = ()) -> None:
        command = [*prefix, RAY, "start", *arguments, "--block", "--object-store-memory", str(100 << 20)]
        with open(log, "ab") as file:
            self.process = subprocess.Popen(
                command, env=environment(token), stdout=file, stderr=file, start_new_session=True, cwd=log.parent
            )
        self.log = log

    def running(self) -> bool:
        """Whether it hasn't given up."""
        return self.process.poll() is None

    def stop(self) -> None:
        """Ends it with all that it has started, and nothing else."""
        family = psutil.Process(self.process.pid).children(recursive=True) if self.running() else []
        if self.running():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        _, alive = psutil.wait_procs(family, timeout=5)
        for process in alive:
            process.kill()


class Head(NamedTuple):
    """A cluster on loopback: its head's node, its HOST:PORT, and its token."""

    node: Node
    address: str
    token: str

    @property
    def joining(self) -> list[str]:
        """What `ray start` is told by another node with one CPU."""
        return ["--address", self.address, "--num-cpus", "1", "--node-ip-address", "127.0.0.1"]


@contextmanager
def running_head(cpus: int, log: Path, token: str = "") -> Iterator[Head]:
    """A head with so many CPUs, and this token or one of its own, which is stopped at the end."""
    token, port = token or secrets.token_hex(32), free_port()
    with tempfile.TemporaryDirectory(prefix="cf", dir="/tmp") as short:  # sockets have short paths
        place = ["--port", str(port), "--node-ip-address", "127.0.0.1", "--temp-dir", short]
        words = ["--head", "--num-cpus", str(cpus), "--include-dashboard", "false", *place]
        node = Node(words, token, log)
        try:
            wait_for("Ray runtime started", log, within_s=120)
            yield Head(node, f"127.0.0.1:{port}", token)
        finally:
            node.stop()


def wait_for(what: str, log: Path, within_s: float = 60) -> None:
    """Until the log has that text; fails with the log if it never does."""
    deadline = time.monotonic() + within_s
    while what not in (log.read_text(errors="replace") if log.exists() else ""):
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.2)


def command(cluster: Head, token: str, *words: object) -> subprocess.Popen[str]:
    """One of our commands on a cluster."""
    said = [sys.executable, "-m", "coldfleet", *map(str, words), "--address", cluster.address]
    return subprocess.Popen(said, env=environment(token), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def mounted(name: str, what: Path, where: Path) -> list[str]:
    """A command prefix: a machine of that name on which something else is at a place."""
    script = 'hostname "$0" && mount --bind "$1" "$2" && shift 2 && exec "$@"'
    return ["unshare", "--mount", "--uts", "sh", "-c", script, name, str(what), str(where)]
