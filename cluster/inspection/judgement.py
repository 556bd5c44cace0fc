"""Evictions judged by what no kernel knows: when the page had been touched, and when it was wanted again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_PAGE
from coldfleet.hostsim.memory.watch import Eviction, Instant, Life, PageWatch


@dataclass(frozen=True)
class JudgedEviction:
    """Whether an eviction was right.

    ``idle_ticks``: how long ago the page was touched last. ``missed``: it had been touched, and the last site of MGLRU
    that asked for it was told that it is old. ``next_touch``: when it was wanted again. ``others``: different pages
    that the guest touched between the two touches; a memory that keeps the ``limit_pages`` last touched would have had
    the page if there were fewer. None: it was not touched again.
    """

    when: Instant
    idle_ticks: int
    missed: bool
    next_touch: Instant | None
    others: int | None
    limit_pages: int

    @property
    def right(self) -> bool:
        """The page was not touched again, or so late that no memory of this size could have kept it."""
        return self.others is None or self.others >= self.limit_pages

    def __str__(self) -> str:
        if self.next_touch is None:
            return "right: it was not touched again"
        told = f"it came back in tick {self.next_touch.tick}, after {self.others:,} other pages"
        if self.right:
            return f"right: {told}, and the guest may keep {self.limit_pages:,}"
        why = ", because of a wrong answer" if self.missed else ""
        return f"wrong{why}: {told}; LRU would have kept {self.limit_pages:,}"


@dataclass(frozen=True)
class Fates:
    """What became of a guest's evicted pages: the evictions after tick 0 of the pages that one level touched last.

    ``idle_ticks``: the median time since that touch. ``wanted_ticks``: the median time until the next one; None if
    fewer than half were touched again. ``wanted_in_a_tick``: share that was, within the time of a tick, 0..1. Times
    are in ticks, over which a tick's accesses are spread evenly.
    """

    by_l2: bool
    evictions: int
    idle_ticks: float
    wanted_ticks: float | None
    wanted_in_a_tick: float

    def __str__(self) -> str:
        again = "never" if self.wanted_ticks is None else f"after {self.wanted_ticks:.2f} ticks"
        return (
            f"{self.evictions:,} evictions of pages that {'L2' if self.by_l2 else 'L1'} touched last, "
            f"{self.idle_ticks:.2f} ticks before; wanted again {again} (medians), "
            f"{self.wanted_in_a_tick:.0%} of them within a tick"
        )


def regretted(watch: PageWatch, pages: npt.NDArray[np.int64], limit_pages: int) -> list[Eviction]:
    """The evictions that were certainly wrong: the guest made fewer accesses between two of the page than it may keep
    pages."""
    last, after = _uses(watch, pages)
    soon = (last >= 0) & (after >= 0) & (after - last <= limit_pages)
    return [watch.evictions[number] for number in np.flatnonzero(soon)]


def refaults(watch: PageWatch, pages: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How often each page of the guest was evicted and then touched again."""
    _, after = _uses(watch, pages)
    evicted = [watch.evictions[number].page for number in np.flatnonzero(after >= 0)]
    return np.bincount(np.array(evicted, np.int64), minlength=int(pages.max()) + 1)


def _uses(watch: PageWatch, pages: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each eviction the numbers of the page's accesses before and after it; -1 where there is none."""
    order = np.argsort(pages, kind="stable")  # by page, then by time
    keys = pages[order] * len(pages) + order
    evicted = np.array([eviction.page for eviction in watch.evictions])
    following = np.searchsorted(keys, evicted * len(pages) + _places(watch))
    uses = []
    for places in (following - 1, following):
        numbers = order[np.clip(places, 0, len(order) - 1)]
        uses.append(np.where((places >= 0) & (places < len(order)) & (pages[numbers] == evicted), numbers, -1))
    return uses[0], uses[1]


def fates(watch: PageWatch) -> list[Fates]:
    """What became of the guest's evicted pages, by the level that touched them last."""
    if not watch.evictions:
        return []
    pages, starts = accessed(watch), _starts(watch)
    last, after = _uses(watch, pages)
    by_l2 = np.concatenate([accesses & np.uint32(ACCESS_L2) for _, accesses in watch.drawn]) != 0
    numbers = np.vstack([last, _places(watch), np.where(after < 0, len(pages), after)])
    last_time, time, next_time = np.interp(numbers, starts, np.arange(len(starts)))
    next_time[after < 0] = np.inf
    after_populating = (last >= 0) & (_places(watch) >= starts[1])
    found = []
    for level in (False, True):
        some = after_populating & (by_l2[last] == level)
        if some.any():
            wanted = next_time[some] - time[some]
            middle = float(np.sort(wanted)[(len(wanted) - 1) // 2])
            idle = float(np.median(time[some] - last_time[some]))
            share = float(np.mean(wanted < 1))
            found.append(Fates(level, int(some.sum()), idle, middle if np.isfinite(middle) else None, share))
    return found


def most_common(evictions: list[Eviction]) -> tuple[int, str]:
    """The page that was evicted most often, the first by number of several, and how often."""
    counts = Counter(eviction.page for eviction in evictions)
    page = min(counts, key=lambda page: (-counts[page], page))
    return page, "once" if counts[page] == 1 else f"{counts[page]} times"


def accessed(watch: PageWatch) -> npt.NDArray[np.int64]:
    """The pages of all accesses of the guest, in order."""
    drawn = [accesses & np.uint32(ACCESS_PAGE) for _, accesses in watch.drawn]
    return np.concatenate([np.zeros(0, np.int64), *drawn]).astype(np.int64)


def _starts(watch: PageWatch) -> npt.NDArray[np.int64]:
    """For each tick the number of accesses before it; on a clock a tick may have none."""
    made = np.zeros(watch.tick + 2, np.int64)
    for tick, accesses in watch.drawn:
        made[tick + 1] += len(accesses)
    return np.cumsum(made)


def _places(watch: PageWatch) -> npt.NDArray[np.int64]:
    """For each eviction the number of the access in the course of which it happened, or before which."""
    starts = _starts(watch)
    return np.array([_place(starts, eviction.when) for eviction in watch.evictions], np.int64)


def _place(starts: npt.NDArray[np.int64], when: Instant) -> int:
    """The number of an access among all of the guest's, or of the first one after something else."""
    return int(starts[when.tick]) + when.access


def judge(life: Life, watch: PageWatch, limit_pages: int) -> list[JudgedEviction]:
    """Judges each eviction of the page."""
    pages, starts = accessed(watch), _starts(watch)
    judged = []
    for moment in life.moments:
        if not moment.evicted:
            continue
        last = next((touch for touch in reversed(life.touches) if touch.when < moment.when), None)
        following = next((touch for touch in life.touches if touch.when >= moment.when), None)
        asks = [ask for ask in life.asks if ask.site and ask.when <= moment.when]
        others = None
        if following is not None:
            start = _place(starts, last.when) + 1 if last is not None else 0
            others = len(np.unique(pages[start : _place(starts, following.when)]))
        judged.append(
            JudgedEviction(
                moment.when,
                moment.when.tick - (last.when.tick if last is not None else 0),
                asks[-1].touched and not asks[-1].young if asks else False,
                following.when if following is not None else None,
                others,
                limit_pages,
            )
        )
    return judged
