"""The TLB of the machine that the recordings were made on, which hides accesses from the kernel.

An access whose translation is in the TLB sets no Accessed bit. The kernel clears such a bit without a flush, and when
it unmaps a page on a machine with one CPU it invalidates that page alone. So what a process' own reclaim has just
looked at stays unseen until its translation is replaced, or the CPU switches to another process. A guest leaves the
CPU with every fault, which flushes everything; so does what asks for memory.reclaim or writes to the debugfs file.

The machine is QEMU's, which makes the TLB as large as it was used, by the rule below. On real hardware a TLB has some
2,000 entries, and hides less.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled

USUAL_ENTRIES = 8192  # when a recording begins: the ones before it were of the same kind
LEAST_ENTRIES = 64
VICTIMS = 8  # entries that were replaced last
FULL, EMPTY = 70, 30  # percent of the entries used since the last flush
_FREE = -1


class Tlb:
    """A direct-mapped TLB of so many ``entries``, a power of two, and those that were replaced last."""

    def __init__(self, entries: int = USUAL_ENTRIES) -> None:
        self._make_empty(entries)

    def _make_empty(self, entries: int) -> None:
        self._pages = np.full(entries, _FREE, np.int64)
        self._victims = np.full(VICTIMS, _FREE, np.int64)

    @property
    def entries(self) -> int:
        """Its size now."""
        return len(self._pages)

    def flush(self) -> None:
        """The CPU switches to another process. If most entries were used there will be twice as many, if few as many
        as were needed."""
        used = int((self._pages != _FREE).sum())
        entries = self.entries
        if used * 100 > FULL * entries:
            entries *= 2
        elif used * 100 < EMPTY * entries:
            entries = 1 << max(used - 1, 0).bit_length()
            if used * 100 > FULL * entries:
                entries *= 2
        self._make_empty(max(entries, LEAST_ENTRIES))

    def look_up(self, pages: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """For each access to a page, in order, whether it is found; else it replaces what is in its place."""
        found = np.zeros(len(pages), np.bool_)
        _look_up(self._pages, self._victims, pages, found)
        return found


@compiled
def _look_up(
    entries: npt.NDArray[np.int64],
    victims: npt.NDArray[np.int64],
    pages: npt.NDArray[np.int64],
    found: npt.NDArray[np.bool_],
) -> None:
    oldest = 0
    for i in range(len(pages)):
        page = pages[i]
        place = page & (len(entries) - 1)
        before = entries[place]
        if before == page:
            found[i] = True
            continue
        entries[place] = page
        for victim in range(len(victims)):
            if victims[victim] == page:
                victims[victim] = before
                found[i] = True
                break
        if not found[i] and before != _FREE:
            victims[oldest] = before
            oldest = (oldest + 1) % len(victims)
