"""Looks whether a cluster that was joined still has its head, and this machine its raylet.

Without them Ray waits for a minute and then ends the process with a dump, whatever it is doing.
"""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path
from typing import Any

SILENT_S = 20.0  # without an answer of the head, before it counts as gone; Ray itself gives it a minute
_CONNECT_WITHIN_S = 2.0


def gcs_address(ray: Any) -> tuple[str, int]:
    """Where the head of the Ray that was joined or started listens."""
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return host.strip("[]"), int(port)


def takes_connections(address: tuple[str, int], within_s: float) -> bool | None:
    """Whether a process listens there; None: it didn't answer in time, and may be busy."""
    try:
        socket.create_connection(address, timeout=within_s).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return None
    return True


class ClusterWatch:
    """The two processes of a cluster that its driver can't do without."""

    def __init__(self, ray: Any) -> None:
        self._gcs = gcs_address(ray)
        self._raylet = _listener(ray._private.worker._global_node.raylet_socket_name)
        self._answered = time.monotonic()

    def ended(self) -> str:
        """Which of them has ended; "" while there is none."""
        if self._raylet and _name(self._raylet) != "raylet":
            return "raylet"
        if (listens := takes_connections(self._gcs, _CONNECT_WITHIN_S)) is False:
            return "gcs_server"
        if listens:
            self._answered = time.monotonic()
        return "gcs_server" if time.monotonic() - self._answered > SILENT_S else ""


def _listener(path: str) -> int:
    """The process that listens on a socket of this machine; 0 if it can't be seen."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            return int(struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
    except OSError:
        return 0


def _name(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    name, _, state = stat.partition("(")[2].rpartition(") ")
    return "" if state.startswith("Z") else name  # a zombie has ended
