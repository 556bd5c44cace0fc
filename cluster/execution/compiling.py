"""Says that kernels are compiled, while they are: new files in numba's cache show it, whichever process writes them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

COMPILING = "compiling the kernels, a minute or two; later runs find them ready"
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
    while not ended.wait(_LOOK_EVERY_S):
        if _compiled_since(since):
            say(COMPILING)
            return


def _compiled_since(since: float) -> bool:
    """Whether code was written to the cache after a time (time.time()). Loading it writes nothing.

    Where there is no cache, as the home can't be written to, this isn't known: False.
    """
    places = _packages()
    with suppress(OSError):
        return any(place.stat().st_mtime > since for place in places)
    return False


def _packages() -> list[Path]:
    """The folders of numba's cache, one for each version of a package; where hostsim.engine.jit puts it, or the user.

    To ask that module would import the compiler, which processes that only wait have no need of.
    """
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return list(Path(chosen).glob("*"))
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return list((home / "coldfleet").glob("*/*"))
