"""Texts for a terminal: without control characters of any input, numbers with their nouns, how far a check is."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

SAY_AFTER_S = 1.0  # the command itself may take another to start
SAY_AGAIN_S = 15.0

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, separators of lines, what turns the direction of writing, halves of surrogate pairs."""


def visible(text: str) -> str:
    """A text from any input, safe to print: what a terminal would obey is written as ``\\x1b``, all but \\n and \\t."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def visible_json(text: str) -> str:
    """The same of JSON, with JSON's own escapes: it is read back as it was."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def counted(number: int, what: str) -> str:
    """A number with its noun: "1 cell", "1,200 cells"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


_tell: ContextVar[Callable[[str], None] | None] = ContextVar("tell", default=None)


@contextmanager
def telling(tell: Callable[[str], None]) -> Iterator[None]:
    """Inside, ``tell`` is told how far long checks are. Elsewhere nobody is: a library doesn't print by itself."""
    token = _tell.set(tell)
    try:
        yield
    finally:
        _tell.reset(token)


def announce(text: str) -> None:
    """Tells it to whoever wants to know what takes long."""
    if tell := _tell.get():
        tell(text)


def announced(count: int, what: str) -> Iterator[int]:
    """The numbers below ``count``; tells how many it gave after :data:`SAY_AFTER_S`, then every :data:`SAY_AGAIN_S`."""
    say_at = time.monotonic() + SAY_AFTER_S
    for number in range(count):
        if time.monotonic() >= say_at:
            announce(f"{number:,} of {count:,} {what} ...")
            say_at = time.monotonic() + SAY_AGAIN_S
        yield number
