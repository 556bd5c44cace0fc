"""What somebody may have meant who wrote a name that there isn't."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST = 3


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names that are most like this one, as the end of a message: ": did you mean 'a' or 'b'?".

    If none is like it, all of them, or the first few if there are many.
    """
    names = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, names, n=_MOST, cutoff=0.5)
    near += [each for each in names if name and name in each and each not in near][: _MOST - len(near)]
    if near:
        return f": did you mean {' or '.join(map(repr, near))}?"
    more = ", ..." if len(names) > 2 * _MOST else ""
    return f": there are {', '.join(map(repr, names[: 2 * _MOST]))}{more}" if names else ""
