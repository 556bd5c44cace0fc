"""The directory of a Ray of our own, with its files and sockets. One that a sweep left behind, the next one removes."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

_PREFIX = "cf-"  # short, since the directory holds sockets
_LOCK = "coldfleet.lock"  # held while the sweep lives; it also tells our directories from other people's


def make_home() -> tuple[str, int]:
    """A new directory that only this user can enter, and a descriptor: as long as it is open, nobody removes it."""
    while True:
        home = tempfile.mkdtemp(prefix=_PREFIX)
        lock = os.open(f"{home}/{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(f"{home}/{_LOCK}"):
            return home, lock
        os.close(lock)  # another sweep took it for one that was left


def remove_left_homes(is_used: Callable[[str], bool]) -> None:
    """Removes this user's directories whose sweep is gone without removing them, as after SIGKILL.

    ``is_used``: whether processes that were started for a directory are still there.
    """
    for home in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            info = home.lstat()
            lock = os.open(home / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if info.st_uid == os.getuid() and not home.is_symlink() and not is_used(str(home)):
                shutil.rmtree(home, ignore_errors=True)
        except BlockingIOError:
            pass  # its sweep lives
        finally:
            os.close(lock)
