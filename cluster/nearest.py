"""What somebody may have meant who wrote a name that there isn't."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST = 3


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names that are most like this one, as the end of a message: ': did you mean "a" or "b"?'.

    If none is like it, all of them, or the first few if there are many.
    """
    names = list(known)
    folded = {each.lower(): each for each in names}
    near = [folded[each] for each in difflib.get_close_matches(name.lower(), folded, n=_MOST)]
    if near:
        return f": did you mean {' or '.join(_quoted(near))}?"
    more = ", ..." if len(names) > 2 * _MOST else ""
    return f": there are {', '.join(_quoted(names[: 2 * _MOST]))}{more}" if names else ""


def _quoted(names: list[str]) -> list[str]:
    return [f'"{name}"' for name in names]
