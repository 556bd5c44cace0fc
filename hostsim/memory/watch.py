"""A host's memory that writes down what is done to it, and the lives of single pages.

The engine knows nothing of it: :class:`Watch` looks at the arrays between operations. :class:`PageWatch` also cuts one
guest's accesses at those that fault (hostsim.memory.diary), so it sees every eviction with the Accessed bits that the
page had just before, and every ask of MGLRU's with its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.counters.counters import EVENTS
from coldfleet.hostsim.engine.far_calls import link
from coldfleet.hostsim.engine.state import (
    ACCESS_L2,
    ACCESS_PAGE,
    ACCESS_WRITE,
    ACTIVE,
    ASK,
    GEN_MASK,
    LOCKS,
    MAX_NR_GENS,
    PRESENT,
    PRIMARY,
    REFERENCED,
    REFS_SHIFT,
    SHADOW,
    SKIPPED,
    TDP,
    TOUCHED,
    WORKINGSET,
)
from coldfleet.hostsim.memory.diary import (
    ACCESS,
    AFTER,
    BEFORE,
    GONE,
    LOOKS,
    OLDEST,
    PLACE,
    YOUNGEST,
    YOUNGEST_BEFORE,
    begin,
    end,
    follow,
    look,
    new_diary,
)
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.mm import writeback
from coldfleet.policies import Lock, Site

BETWEEN = "between the operations"  # devices, NUMA balancing and access monitors act on the pages directly
_NAMES = EVENTS.names or ()
_WORTH_KEEPING = [
    _NAMES.index(name)
    for name in ("pgsteal", "damos_applied", "agings", "walk_tables", "pgscan", "pgmajfault", "refaults")
]
_PIECE = 256  # accesses of a followed guest that are one operation
_ROOM, _ROOM_PER_PAGE = 4096, 8  # rows of a diary between two times that it is emptied
_LOCK_NAMES = {lock: f"{lock.name.lower()}_acquisitions" for lock in Lock}


class Instant(NamedTuple):
    """A point of a run: the tick, and how many accesses the guest had made in it.

    On a clock a guest may be behind: the tick is the host's. What happens in the course of an access has its number.
    """

    tick: int
    access: int


class Seen(NamedTuple):
    """What there is to see of a page.

    ``seq``: its generation, -1 on no list. ``primary``, ``tdp``, ``shadow``: Accessed bits. ``touched``: it was touched
    since a site of MGLRU last asked, which no kernel can know. ``huge``: it is part of a huge page.
    """

    present: bool
    swapped: bool
    seq: int
    primary: bool
    tdp: bool
    shadow: bool
    touched: bool
    referenced: bool
    workingset: bool
    active: bool
    refs: int
    huge: bool


@dataclass(frozen=True)
class Operation:
    """An operation in which reclaim or aging was at work. ``changes``: the counters that moved, and by how much."""

    when: Instant
    guest: int
    cause: str
    changes: dict[str, int]
    max_seq: int


class Touch(NamedTuple):
    """An access to a page."""

    when: Instant
    by_l2: bool
    write: bool


@dataclass(frozen=True)
class Moment:
    """Something happened to a page. ``cause``: the operation in the course of which it did."""

    when: Instant
    cause: str
    before: Seen
    after: Seen
    min_seq: int  # the oldest and the youngest generation after it
    max_seq: int

    @property
    def evicted(self) -> bool:
        """The page was unmapped and left memory."""
        return self.before.present and not self.after.present

    @property
    def faulted_in(self) -> bool:
        """The page came into memory."""
        return self.after.present and not self.before.present


@dataclass(frozen=True)
class Ask:
    """A site of MGLRU asked whether a page is young, and was told.

    ``site``: "walk", "look_around" or "evict"; empty: an aging walk left out the page's table, and so didn't ask.
    ``primary``, ``tdp``, ``shadow``: the Accessed bits as they were. ``touched``: the truth, whether the page was
    touched since a site last asked. ``young``: the answer. ``fast``: it carried "fast". ``failed``: KVM said nothing
    about the page: it was not asked, or answered "failed". ``huge``: all this is of the huge page that it is part of.
    """

    when: Instant
    site: str
    primary: bool
    tdp: bool
    shadow: bool
    touched: bool
    young: bool
    fast: bool
    failed: bool
    huge: bool


@dataclass
class Life:
    """What a page went through, in order."""

    page: int
    touches: list[Touch] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)


class Eviction(NamedTuple):
    """A page left memory; ``touched``: before the operation in which it did, it was touched since last asked for."""

    when: Instant
    page: int
    touched: bool


class Watch(HostMemory):
    """Writes down each operation in which something was aged, scanned, reclaimed or read back, for every guest.

    ``operations``: in order. ``last_touch``: for each guest the tick in which each of its pages was last touched, -1 if
    never.
    """

    watched = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.operations: list[Operation] = []
        self._counts = self.machine.events.view(np.int64).reshape(len(self.machine.events), -1)
        self.last_touch = [np.full(int(mm["pages"]), -1, np.int64) for mm in self.machine.mms]
        self._made = [Instant(0, 0)] * len(self.last_touch)

    def arrive(self, guest: int) -> None:
        with self._operation(guest, "the guest's arrival"):
            super().arrive(guest)

    def leave(self, guest: int) -> None:
        with self._operation(guest, "the guest's end"):
            super().leave(guest)

    def access(self, guest: int, accesses: npt.NDArray[np.uint32]) -> None:
        self.last_touch[guest][accesses & np.uint32(ACCESS_PAGE)] = self.tick
        with self._operation(guest, "the guest's accesses"):
            super().access(guest, accesses)
            self._count(guest, len(accesses))

    def access_file(self, guest: int, accesses: npt.NDArray[np.uint32]) -> None:
        with self._operation(guest, "the accesses to its file"):
            super().access_file(guest, accesses)

    def age(self, guest: int, swappiness: int = 1, force_scan: bool = True) -> None:
        with self._operation(guest, "an aging that user space asked for"):
            super().age(guest, swappiness, force_scan)

    def age_in_parts(self, guest: int, swappiness: int, force_scan: bool, tables: int) -> Iterator[int]:
        parts = super().age_in_parts(guest, swappiness, force_scan, tables)
        yield from self._in_operations(parts, "a part of an aging that user space asked for", guest)

    def evict(self, guest: int, seq: int, swappiness: int, nr_pages: int) -> int:
        with self._operation(guest, "an eviction by lru_gen of debugfs"):
            return super().evict(guest, seq, swappiness, nr_pages)

    def memory_reclaim(self, guest: int, nr_pages: int) -> int:
        with self._operation(guest, "memory.reclaim"):
            return super().memory_reclaim(guest, nr_pages)

    def memory_reclaim_parent(self, nr_pages: int) -> int:
        with self._operation(-1, "memory.reclaim of the parent"):
            return super().memory_reclaim_parent(nr_pages)

    def page_out(self, guest: int, pages: npt.NDArray[np.int64]) -> int:
        with self._operation(guest, "a pageout by DAMOS"):
            return super().page_out(guest, pages)

    def stop_nested(self, guest: int) -> None:
        with self._operation(guest, "the end of the nested VM"):
            super().stop_nested(guest)

    def complete_io(
        self, pages: int | None = None, kind: int = writeback.EITHER, guests: Sequence[int] | None = None
    ) -> None:
        with self._operation(-1, "the end of I/O"):
            super().complete_io(pages, kind, guests)

    def balance_part(self) -> int:
        with self._operation(-1, "a visit of kswapd's"):
            return super().balance_part()

    def drain(self) -> None:
        with self._operation(-1, "lru_add_drain_all"):
            super().drain()

    def now(self, guest: int) -> Instant:
        """The present, as the guest sees it."""
        made = self._made[guest]
        return made if made.tick == self.tick else Instant(self.tick, 0)

    def _count(self, guest: int, accesses: int) -> None:
        tick, made = self.now(guest)
        self._made[guest] = Instant(tick, made + accesses)

    def _in_operations(self, parts: Iterator[int], cause: str, guest: int) -> Iterator[int]:
        """An operation for a guest (-1: for all) that others are let in between the parts of."""
        while True:
            with self._operation(guest, cause):
                part = next(parts, None)
            if part is None:
                return
            yield part

    @contextmanager
    def _operation(self, guest: int, cause: str) -> Iterator[None]:
        """Runs an operation for a guest (-1: for all) and writes down what it did to each."""
        m = self.machine
        before, sites = self._counts.copy(), m.sites.copy()
        yield
        for g in np.flatnonzero((self._counts != before)[:, _WORTH_KEEPING].any(axis=1)).tolist():
            moved = self._counts[g] - before[g]
            changes = {_NAMES[place]: int(moved[place]) for place in np.flatnonzero(moved).tolist()}
            locks = (m.sites[g] - sites[g])[:, LOCKS:].sum(axis=0)
            changes |= {_LOCK_NAMES[lock]: int(locks[lock]) for lock in Lock if locks[lock]}
            self.operations.append(Operation(self.now(g), g, cause, changes, int(m.lruvecs[g]["max_seq"])))


class PageWatch(Watch):
    """Follows the ``pages`` of one ``guest`` (numbers from the first of its memslot), access by access.

    ``lives``: of these pages. ``evictions``: of all pages of the guest, in order of time. ``drawn``: its accesses,
    as (tick, accesses). ``on_tick``: is called at its first accesses in each tick.
    """

    on_tick: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self, guest: int, pages: Sequence[int], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.guest = guest
        self.lives = {page: Life(page) for page in pages}
        self.evictions: list[Eviction] = []
        self.drawn: list[tuple[int, npt.NDArray[np.uint32]]] = []
        mm = self.machine.mms[guest]
        self._pages = np.array(pages, np.int64)
        rows = self._pages + int(mm["first"])
        followed = np.zeros(len(self.machine.bits), np.uint64)
        np.bitwise_or.at(followed, rows >> 6, np.uint64(1) << (rows & 63).astype(np.uint64))
        room = _ROOM + _ROOM_PER_PAGE * len(rows)
        self.machine = replace(self.machine, followed=followed, asks=np.zeros(room, ASK))
        link(self.machine)
        self._diary = new_diary(rows, int(mm["pages"]), room)
        look(self.machine, self._diary, guest, 0, False)

    def access(self, guest: int, accesses: npt.NDArray[np.uint32]) -> None:
        if guest != self.guest:
            super().access(guest, accesses)
            return
        if not self.drawn or self.drawn[-1][0] != self.tick:
            self.on_tick()
        self.drawn.append((self.tick, accesses.copy()))
        self._note_touches(accesses)
        self._note(self._made[guest], BETWEEN)
        start = 0
        while start < len(accesses):
            piece = accesses[start : start + _PIECE]
            with super()._operation(guest, "the guest's accesses"):
                made = follow(self.machine, self._diary, guest, piece)
                self._write_down(self.now(guest), piece)
                self._count(guest, made)
            start += made
        self.last_touch[guest][accesses & np.uint32(ACCESS_PAGE)] = self.tick

    @contextmanager
    def _operation(self, guest: int, cause: str) -> Iterator[None]:
        when = self.now(self.guest)
        self._note(when, BETWEEN)
        begin(self.machine, self._diary, self.guest)
        with super()._operation(guest, cause):
            yield
        end(self.machine, self._diary, self.guest, 0, 0)
        self._write_down(when, cause)

    def _note_touches(self, accesses: npt.NDArray[np.uint32]) -> None:
        tick, made = self.now(self.guest)
        for number in np.flatnonzero(np.isin(accesses & np.uint32(ACCESS_PAGE), self._pages)).tolist():
            access = int(accesses[number])
            touch = Touch(Instant(tick, made + number), bool(access & ACCESS_L2), bool(access & ACCESS_WRITE))
            self.lives[access & ACCESS_PAGE].touches.append(touch)

    def _note(self, when: Instant, cause: str) -> None:
        """A moment for each page that isn't as it was when it was last looked at."""
        look(self.machine, self._diary, self.guest, 0, True)
        self._write_down(when, cause)

    def _write_down(self, when: Instant, cause: str | npt.NDArray[np.uint32]) -> None:
        """Empties the diary, which was begun then; ``cause``: the operation, or the guest's accesses."""
        m, diary = self.machine, self._diary

        def time_of(access: int) -> Instant:
            return Instant(when.tick, when.access + access)

        looks, gone, asks = int(diary.counts[LOOKS]), int(diary.counts[GONE]), int(m.node[0]["asks"])
        if asks > len(m.asks):
            raise MemoryError(f"{asks} asks in one operation, where there is room for {len(m.asks)}")
        for ask, access in zip(m.asks[:asks].tolist(), diary.asked[:asks].tolist(), strict=True):
            page, site, bits, *answer = ask
            number = page - int(m.mms[self.guest]["first"])
            told = (bool(bits >> column & 1) for column in (PRIMARY, TDP, SHADOW, TOUCHED))
            name = Site(site).name.lower() if site != SKIPPED else ""
            self.lives[number].asks.append(Ask(time_of(access), name, *told, *map(bool, answer)))
        for row in diary.looks[:looks].tolist():
            before = seen(row[BEFORE:AFTER], row[YOUNGEST_BEFORE])
            after = seen(row[AFTER:], row[YOUNGEST])
            if before != after:
                access = row[ACCESS]
                why = (
                    cause
                    if isinstance(cause, str)
                    else f"the guest's access to its page {int(cause[access]) & ACCESS_PAGE}"
                )
                moment = Moment(time_of(access), why, before, after, row[OLDEST], row[YOUNGEST])
                self.lives[int(self._pages[row[PLACE]])].moments.append(moment)
        self.evictions += [
            Eviction(time_of(access), page, touched != 0) for access, page, touched in diary.gone[:gone].tolist()
        ]
        diary.counts[LOOKS] = diary.counts[GONE] = m.node[0]["asks"] = 0


def seen(columns: list[int], youngest: int) -> Seen:
    """What :meth:`PageWatch._look` saw of a page, while that generation was the youngest."""
    *bits, state, has_shadow, in_swapcache, huge = columns
    gen = (state & GEN_MASK) - 1
    present = bool(bits[PRESENT])
    return Seen(
        present=present,
        swapped=not present and bool(has_shadow or in_swapcache),
        seq=youngest - (youngest - gen) % MAX_NR_GENS if gen >= 0 else -1,
        primary=bool(bits[PRIMARY]),
        tdp=bool(bits[TDP]),
        shadow=bool(bits[SHADOW]),
        touched=bool(bits[TOUCHED]),
        referenced=bool(state & REFERENCED),
        workingset=bool(state & WORKINGSET),
        active=bool(state & ACTIVE),
        refs=state >> REFS_SHIFT,
        huge=bool(huge),
    )
