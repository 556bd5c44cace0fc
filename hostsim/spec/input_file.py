"""Opens files that a user names, so that none of them can block or fill memory: FIFOs, devices, endless ones."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from coldfleet.hostsim.spec.errors import UserError

MAX_TEXT_BYTES = 1 << 20
"""Of a text that a person wrote, such as a study: a hundred times the longest, and tomllib takes a second for it."""


def open_input(path: Path) -> BinaryIO:
    """A regular file, open for reading; raises :class:`UserError` for anything else, without waiting for it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO would wait for its writer
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError:  # a NUL in the name
        raise UserError(f"{str(path)!r}: not the name of a file") from None
    kind = os.fstat(handle).st_mode
    if not stat.S_ISREG(kind):
        os.close(handle)
        what = "a directory" if stat.S_ISDIR(kind) else "a FIFO, socket or device"
        raise UserError(f"{path}: {what}, not a regular file")
    return os.fdopen(handle, "rb")


def read_input(path: Path, most: int = MAX_TEXT_BYTES) -> bytes:
    """The bytes of a regular file; raises :class:`UserError` if there are more than ``most``."""
    with open_input(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise UserError(f"{path}: more than {most >> 20} MiB, the most that is read")
    return content
