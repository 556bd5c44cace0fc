"""Copies a file from a URI, in a process of its own: pyarrow never gives up on a server that does not answer."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

TIMEOUT_S = 60.0
"""A server has to send something within that time."""

_CHUNK = 1 << 20
_EVERY_S = 0.05


def download(uri: str, out: Path) -> str:
    """Copies what a URI names into a file; returns "", or what is wrong."""
    size, last = 0, time.monotonic()
    words = [sys.executable, "-P", __file__, uri, str(out)]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace") as copy:
        try:
            while copy.poll() is None:
                time.sleep(_EVERY_S)
                if out.stat().st_size > size:
                    size, last = out.stat().st_size, time.monotonic()
                if time.monotonic() - last > TIMEOUT_S:
                    return f"nothing came for {TIMEOUT_S:g} s: is its server up?"
        finally:
            copy.kill()
        said = copy.stderr.read().strip() if copy.stderr else ""
    return (said or "its copy ended early") if copy.returncode else ""


def _copy(uri: str, out: str) -> None:
    filesystem, path = fs.FileSystem.from_uri(uri)
    with filesystem.open_input_stream(path, compression=None) as stream, open(out, "wb", buffering=0) as file:
        while chunk := stream.read(_CHUNK):
            file.write(chunk)


if __name__ == "__main__":
    try:
        _copy(*sys.argv[1:])
    except (OSError, ValueError, pa.ArrowException) as error:
        sys.exit(str(error))
