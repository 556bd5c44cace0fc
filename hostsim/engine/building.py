"""Compiles several functions on all cores: once for all processes of a machine that need them at the same time.

Compiled code is shared through numba's cache. Each function has a lock there, held by the process that compiles it;
the others take the next one, and load it when it is there. Who has waited for WAIT_S, or can't lock a file there,
compiles it too. Further processes are started only where something isn't on the disk.
"""

from __future__ import annotations

import fcntl
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from coldfleet.hostsim.engine.code_cache import OWN_CACHE
from coldfleet.hostsim.engine.state import Machine

WAIT_S = 60.0  # for another process: it may be stopped
_LOOK_EVERY_S = 0.01
_LEAST = 2  # functions, for which a further process is worth its start of a second
_HELP = "import sys; from coldfleet.hostsim.engine.far_calls import help_to_build; help_to_build(sys.argv[1:])"


class Unit(NamedTuple):
    """A function that is called by address and isn't linked yet.

    ``module``, ``name``: where it is. ``needed``: whether a Machine may come to it. ``load``: takes it from the disk
    if it is there; ``build``: compiles it, unless it is loaded, and fills its slot.
    """

    module: str
    name: str
    needed: Callable[[Machine], bool]
    load: Callable[[], bool]
    build: Callable[[], None]


def build_all(units: Sequence[Unit]) -> None:
    """Builds them, and lets other processes help."""
    missing = [unit for unit in units if not unit.load()]
    if missing and OWN_CACHE and os.access(OWN_CACHE, os.W_OK):
        with _helpers(missing):
            build_missing(missing, OWN_CACHE)
    for unit in units:
        unit.build()


def build_missing(missing: Sequence[Unit], place: Path) -> None:
    """Compiles those that nobody else compiles, and waits for the others."""
    was_enabled = gc.isenabled()
    gc.disable()  # a seventh of the time that it takes to compile, for nothing
    try:
        busy = [unit for unit in missing if not _build_alone(unit, place, 0.0)]
        for unit in busy:
            _build_alone(unit, place, WAIT_S) or unit.load() or unit.build()
    finally:
        if was_enabled:
            gc.enable()


def _build_alone(unit: Unit, place: Path, wait_s: float) -> bool:
    """Compiles, or loads what another process has compiled meanwhile; False: another one is still at it."""
    with ExitStack() as stack:
        with suppress(OSError):  # without a lock, where there can be none
            lock = stack.enter_context(open(place / f"{unit.module}.{unit.name}.lock", "a"))
            if not _could_lock(lock, wait_s):
                return False
        unit.load() or unit.build()
    return True


def _could_lock(lock: IO[str], wait_s: float) -> bool:
    end = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
        time.sleep(_LOOK_EVERY_S)


@contextmanager
def _helpers(missing: Sequence[Unit]) -> Iterator[None]:
    """Other processes, one for each further core, that begin at the end of the list."""
    names = [f"{unit.module}:{unit.name}" for unit in reversed(missing)]
    spare = min(len(os.sched_getaffinity(0)) - 1, len(missing) // _LEAST)
    null = subprocess.DEVNULL
    started = [
        subprocess.Popen([sys.executable, "-c", _HELP, *names], stdin=null, stdout=null, stderr=null)
        for _ in range(spare)
    ]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()
