"""Where a local sweep listens, and who gets in."""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.cluster

STRANGER = 65534
ATTEMPT = """\
import os, sys
from ray._raylet import Config, GcsClient
os.setgroups([]); os.setgid({uid}); os.setuid({uid})
Config.initialize("")
try:
    print("in:", GcsClient(address=sys.argv[1]).internal_kv_keys(b"", namespace=None))
except Exception as error:
    print("refused:", type(error).__name__)
"""


@pytest.fixture
def working(study_file: Path, tmp_path: Path) -> Iterator[psutil.Process]:
    """A sweep with a Ray of its own that has written a receipt."""
    text = study_file.read_text().replace("ticks = 4", "ticks = 100").replace("replicates = 3", "replicates = 1000")
    study_file.write_text(text)
    where = [str(study_file), "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "coldfleet", "sweep", *where, "--workers", "1"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean) as process:
        try:
            deadline = time.monotonic() + 180
            while not (tmp_path / "out" / "journal.jsonl").exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield psutil.Process(process.pid)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
            assert process.returncode == 143, said
        finally:
            process.kill()


def listeners(process: psutil.Process) -> dict[tuple[str, int], str]:
    """Every TCP address that the process or a descendant listens on, and the name of the process."""
    found = {}
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            for connection in each.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found[connection.laddr.ip, connection.laddr.port] = each.name()
    return found


def is_loopback(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def test_local_sweep_listens_on_loopback_and_lets_nobody_in(working: psutil.Process) -> None:
    found = listeners(working)
    for (address, port), name in sorted(found.items()):
        print(f"{name:20} {address}:{port}")
    assert {"gcs_server", "raylet"} <= set(found.values())
    assert all(is_loopback(address) for address, _ in found)

    gcs = next(child for child in working.children() if child.name() == "gcs_server")
    home = Path(gcs.environ()["RAY_TMPDIR"])
    assert home.stat().st_mode & 0o777 == 0o700
    token = gcs.environ()["RAY_AUTH_TOKEN"]
    for process in (working, *working.children(recursive=True)):  # other users can read these
        with suppress(psutil.NoSuchProcess):
            assert token not in " ".join(process.cmdline())
    if os.geteuid() != 0:
        pytest.skip("takes root to become another user")
    port = next(port for (_, port), name in found.items() if name == "gcs_server")
    outcomes = {}
    for mode, guess in (("disabled", ""), ("token", "0" * 64), ("token", token)):
        env = {**os.environ, "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": guess}
        command = [sys.executable, "-c", ATTEMPT.format(uid=STRANGER), f"127.0.0.1:{port}"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
        outcomes[mode, guess] = done.stdout
    *refused, let_in = outcomes.values()
    assert refused == ["refused: AuthenticationError\n"] * 2
    assert let_in.startswith("in:")  # so it was the token that they lacked
    listing = subprocess.run(["ls", home], user=STRANGER, group=STRANGER, capture_output=True, check=False)
    assert listing.returncode != 0
