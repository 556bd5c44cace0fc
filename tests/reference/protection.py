"""Effective protection of memcgs, plainly: any tree, exact fractions, one memcg at a time from the top.

What is protected of a memcg depends on who reclaims. For a reclaim of memcg R, R's own protection means nothing, and
each child of R has what it was given. Further down, the children of a memcg claim what they were given, at most what
they use. If its effective protection is too little for all claims they get it in proportion. If some is left, and
cgroup2 is mounted with memory_recursiveprot, it goes to what its children use beyond their claims, in proportion to
that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import floor


@dataclass
class Memcg:
    """A memcg: pages that it and all below it use, what it was given, and its children."""

    usage: int
    setting: int = 0
    children: list[Memcg] = field(default_factory=list)


def effective(root: Memcg, recursive: bool) -> dict[int, int]:
    """The effective protection of every memcg below the one that is reclaimed, by id()."""
    found = {id(child): child.setting for child in root.children}
    below = list(root.children)
    while below:
        parent = below.pop()
        shares = share(parent, found[id(parent)], recursive)
        found |= {id(child): pages for child, pages in zip(parent.children, shares, strict=True)}
        below += parent.children
    return found


def share(parent: Memcg, available: int, recursive: bool) -> list[int]:
    """How the children of a memcg share what is effective of its protection."""
    claims = [min(child.usage, child.setting) for child in parent.children]
    claimed = sum(claims)
    if claimed > available:
        return [floor(Fraction(claim * available, claimed)) for claim in claims]
    if not recursive or parent.usage <= claimed:
        return claims
    of_the_rest = Fraction(available - claimed, parent.usage - claimed)
    return [
        claim + floor(of_the_rest * (child.usage - claim)) for child, claim in zip(parent.children, claims, strict=True)
    ]


def is_spared(usage: int, effective_min: int, effective_low: int, even_low: bool) -> bool:
    """Whether reclaim passes over a memcg; ``even_low``: nothing else was left, so that memory.low no longer counts."""
    return usage <= effective_min or (usage <= effective_low and not even_low)


def part_to_scan(pages: int, usage: int, effective_min: int, effective_low: int, even_low: bool) -> int:
    """Of so many pages of a memcg's lists, how many count for what is scanned, where that is in proportion."""
    protection = effective_low if effective_low > effective_min and not even_low else effective_min
    if not effective_min and not effective_low:
        return pages
    return max(pages - floor(Fraction(pages * protection, max(usage, protection) + 1)), 32)
