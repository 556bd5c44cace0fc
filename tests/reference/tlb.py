"""The emulated CPU's translation cache, which hides accesses from the Accessed bits.

Aging and look-around clear A bits without a flush. A process that goes on running finds its
translation cached and does not set the bit again. The recordings come from an emulator with a
direct-mapped cache that is emptied when another process runs. Guests are not affected: every exit
flushes their translations.
"""

from __future__ import annotations


class Tlb:
    """Direct-mapped; index = page number modulo the number of entries."""

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self.cached: dict[int, int] = {}

    def hit(self, page: int) -> bool:
        return self.cached.get(page % self.entries) == page

    def fill(self, page: int) -> None:
        self.cached[page % self.entries] = page

    def drop(self, page: int) -> None:
        """The page was unmapped."""
        if self.hit(page):
            del self.cached[page % self.entries]

    def flush(self) -> None:
        self.cached.clear()
