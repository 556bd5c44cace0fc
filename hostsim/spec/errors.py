"""What a person did wrong, as opposed to what we did wrong, and what they may have meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

_MOST = 3


class UserError(ValueError):
    """Input that can't be used: a file, a value, an address.

    The message is one line that says what, where, and if possible the mend. The command line prints it
    after ``coldfleet:`` on stderr and exits with 2; nothing else is printed. Line ends in what it cites are spaces.
    """

    def __init__(self, message: object) -> None:
        super().__init__(" ".join(str(message).splitlines()))


def cited(value: Any) -> str:
    """A value for a message, its beginning if it is long."""
    text = repr(value)
    return text if len(text) < 60 else text[:56] + " ..."


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names that are most like this one, as the end of a message: ": did you mean 'a' or 'b'?".

    First come those of which it is a part: "reclaim_lru" for "lru".

    If none is like it, all of them, or the first few if there are many.
    """
    names = list(dict.fromkeys(known))
    parts = [each for each in names if name and re.search(rf"(^|[._]){re.escape(name)}($|[._])", each)]
    near = list(dict.fromkeys([*parts[:_MOST], *difflib.get_close_matches(name, names, n=_MOST, cutoff=0.5)]))[:_MOST]
    near += [each for each in names if name and name in each and each not in near][: _MOST - len(near)]
    if near:
        return f": did you mean {' or '.join(map(repr, near))}?"
    more = ", ..." if len(names) > 2 * _MOST else ""
    return f": there are {', '.join(map(repr, names[: 2 * _MOST]))}{more}" if names else ""
