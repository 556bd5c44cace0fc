"""Compiles several functions on all cores: once for all processes of a machine that need them at the same time.

Compiled code is shared through numba's cache. Each function has a lock there, held by the process that compiles it;
the others take the next one, and load it when it is there. Further processes are started only where something isn't on
the disk.
"""

from __future__ import annotations

import fcntl
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numba

from coldfleet.hostsim.engine.state import Machine

_config: Any = numba.config
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
    place = cache()
    if not missing or place is None:
        for unit in units:
            unit.build()
        return
    with _helpers(missing):
        build_missing(missing, place)
    for unit in units:
        unit.build()


def cache() -> Path | None:
    """Where compiled code is kept; None: nowhere that others would find it."""
    return Path(_config.CACHE_DIR) if _config.CACHE_DIR else None


def build_missing(missing: Sequence[Unit], place: Path) -> None:
    """Compiles those that nobody else compiles, and waits for the others."""
    was_enabled = gc.isenabled()
    gc.disable()  # a seventh of the time that it takes to compile, for nothing
    try:
        busy = [unit for unit in missing if not _build_alone(unit, place, wait=False)]
        for unit in busy:
            _build_alone(unit, place, wait=True)
    finally:
        if was_enabled:
            gc.enable()


def _build_alone(unit: Unit, place: Path, wait: bool) -> bool:
    """Compiles, or loads what another process has compiled meanwhile; False: another one is at it."""
    with open(place / f"{unit.module}.{unit.name}.lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        unit.load() or unit.build()
    return True


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
