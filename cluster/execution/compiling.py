"""Says that kernels are compiled, while they are: new files in the cache show it, whichever process writes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

COMPILING = "compiling the simulator: on an idle machine up to half a minute; the next run of the kind finds it ready"
NOT_KEPT = "each process compiles the simulator for this run alone ({}): NUMBA_CACHE_DIR can name a folder for it"
_LOOK_AFTER_S = 5.0  # before, nothing is worth importing the compiler for, which takes a second
_LOOK_EVERY_S = 1.0


@contextmanager
def compiling_is_said(say: Callable[[str], None]) -> Iterator[None]:
    """Inside, says so once if code is compiled on this machine, so that the wait is explained."""
    ended = threading.Event()
    threading.Thread(target=_watch, args=(say, ended, time.time()), daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _watch(say: Callable[[str], None], ended: threading.Event, since: float) -> None:
    if ended.wait(_LOOK_AFTER_S):
        return
    code_cache = import_module("coldfleet.hostsim.engine.code_cache")
    said = False
    while not ended.wait(_LOOK_EVERY_S):
        if code_cache.problems:
            say(NOT_KEPT.format(code_cache.problems[0]))
            return
        if not said and code_cache.OWN_CACHE and _compiled_since(since, code_cache.OWN_CACHE):
            say(COMPILING)
            said = True


def _compiled_since(since: float, cache: Path) -> bool:
    """Whether code was written after a time (time.time()): its folder is younger. Loading code writes nothing."""
    with suppress(OSError):
        return any(package.stat().st_mtime > since for package in cache.iterdir())
    return False
