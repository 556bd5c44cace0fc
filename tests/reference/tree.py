"""A parent memcg: reclaim spread over its children (specification, section 8)."""

from __future__ import annotations

from collections.abc import Iterator

from .host import ReferenceHost
from .reclaim import ScanControl, memory_reclaim


class ReferenceParent:
    """Children in order of creation. The parent's own lruvec is empty and never matters."""

    def __init__(self, children: list[ReferenceHost]) -> None:
        self.children = children
        self.kernel = children[0].kernel
        self.swappiness = 60
        self.position = -1
        """Last member visited by partial walks: 0 is the parent itself, -1 none."""

    def memcgs(self, sc: ScanControl) -> Iterator[ReferenceHost]:
        """One pass, to the end of the tree at most."""
        if not self.kernel.partial_tree_walk:
            yield from self.children
            return
        first = True
        while True:
            self.position += 1
            if self.position > len(self.children):
                self.position = -1
                if not first:
                    return
                continue
            first = False
            if self.position:
                yield self.children[self.position - 1]
            if sc.nr_reclaimed >= sc.nr_to_reclaim:
                return

    def wait_for_io(self) -> None:
        for child in self.children:
            child.wait_for_io()

    def wait_for_flusher(self) -> None:
        for child in self.children:
            child.wait_for_flusher()

    def reclaim_ended(self, sc: ScanControl) -> None:
        """All priorities were gone through."""

    def memory_reclaim(self, nr: int) -> int:
        return memory_reclaim(self, nr)
