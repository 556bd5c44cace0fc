"""Records the memory accesses of a program, by valgrind's lackey: every load, store and instruction, by its page."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.trace.importing import ImportProgress, import_trace
from coldfleet.hostsim.trace.table import Trace, check_new

_STDERR = 2  # its descriptor


def record_trace(
    command: Sequence[str],
    out: str | os.PathLike[str],
    *,
    progress: Callable[[ImportProgress], None] | None = None,
) -> Trace:
    """Runs a command under valgrind, and imports what it accesses into a new Parquet file, which it returns.

    ``command``: the program and its arguments; its children are not recorded, and its standard output goes to standard
    error. ``out``: the file, which must not exist. ``progress``: as for import_trace, after the program has ended. It
    takes a hundred times as long as the program, and some 16 bytes of the directory for temporary files for each
    access. Raises UserError if valgrind or the program can't be run.

        trace = coldfleet.record_trace(["python3", "-c", "print(sum(range(10**5)))"], "sum.parquet")
    """
    place = Path(out)
    check_new(place)
    if isinstance(command, str) or not command or not all(isinstance(word, str) for word in command):
        raise UserError(f"command = {command!r:.80} is not a list of a program and its arguments")
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise UserError("recording needs valgrind, which isn't installed: apt install valgrind")
    if shutil.which(command[0]) is None:
        raise UserError(f"{command[0]!r:.200}: no such program")
    with TemporaryDirectory(prefix="coldfleet-record-") as folder:
        log = Path(folder) / f"{Path(command[0]).name}.lackey"
        words = [valgrind, "--tool=lackey", "--trace-mem=yes", f"--log-file={log}", *command]
        ended = subprocess.run(words, stdout=_STDERR, check=False)
        if not log.exists() or not log.stat().st_size:
            raise UserError(f"valgrind recorded nothing of {command[0]!r:.200}: its exit code is {ended.returncode}")
        return import_trace(log, place, format="lackey", progress=progress)
