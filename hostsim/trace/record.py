"""Records the memory accesses of a program, by valgrind's lackey: every load, store and instruction, by its page."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.trace.importing import ImportProgress, check_window, import_pipe
from coldfleet.hostsim.trace.table import Trace, check_new

_STDERR = 2  # its descriptor
_GRACE_S = 10.0  # for the program to end, once it is told to


def record_trace(
    command: Sequence[str],
    out: str | os.PathLike[str],
    *,
    window: int = 1,
    progress: Callable[[ImportProgress], None] | None = None,
) -> Trace:
    """Runs a command under valgrind, imports what it accesses into a new Parquet file, and returns that.

    ``command``: the program and its arguments; its children are not recorded, and its standard output goes to standard
    error. ``out``: the file, which must not exist. ``window``: as for import_trace; programs make so many accesses that
    something like 10,000 is of use. ``progress``: as for import_trace, without a total. It takes a hundred times as
    long as the program; a note says if that fails. Raises UserError if valgrind or the program can't be run.

        trace = coldfleet.record_trace(["python3", "-c", "print(sum(range(10**5)))"], "sum.parquet", window=1000)
    """
    place = Path(out)
    check_new(place)
    check_window(window)
    if isinstance(command, str) or not command or not all(isinstance(word, str) for word in command):
        raise UserError(f"command = {command!r:.80} is not a list of a program and its arguments")
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise UserError("recording needs valgrind, which isn't installed: apt install valgrind")
    if shutil.which(command[0]) is None:
        raise UserError(f"{command[0]!r:.200}: no such program")
    reading, writing = os.pipe()
    options = ["--tool=lackey", "--trace-mem=yes", f"--log-fd={writing}", "--child-silent-after-fork=yes"]
    with os.fdopen(reading, "rb") as pipe:
        program = subprocess.Popen([valgrind, *options, *command], stdout=_STDERR, pass_fds=(writing,))
        os.close(writing)
        try:
            if not pipe.peek(1):
                raise UserError(f"valgrind recorded nothing of {command[0]!r:.200}: its exit code is {program.wait()}")
            return import_pipe(pipe, Path(command[0]).name, place, window, progress, partial(_exit_note, program))
        finally:
            pipe.close()
            program.terminate()
            try:
                program.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()


def _exit_note(program: subprocess.Popen[bytes]) -> tuple[str, ...]:
    """What there is to note of a program that is at its end."""
    code = program.wait()
    if not code:
        return ()
    how = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
    return (f"the program {how}: what it accessed until then is here",)
