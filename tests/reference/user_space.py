"""What user space does to guests, one step after the other, and the thread that does it on a clock: the plain form of
hostsim.clock.user_space and hostsim.clock.aging_thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Any

from .constants import MIN_NR_GENS

EVICT_SWAPPINESS = 200  # of the debugfs `-`: anonymous memory only
PART_TABLES = 64  # page tables that an aging walks at a time on a clock
SENPAI_RATIO = 0.0005  # of the memory, in a period without pressure


class Piece(Enum):
    """What a piece of user space's work on a guest was."""

    WALKED = auto()  # a part of an aging pass
    AGED = auto()  # the end of one
    RECLAIMED = auto()
    READ = auto()  # statistics, before which a recorder drains the CPUs' batches


Job = Iterator[Piece]
Pressure = Callable[[], float]
"""Percent of the time since the last call in which a guest was under "some" pressure of memory."""


def is_due(spec: Any, tick: int) -> bool:
    """Whether :func:`user_space_reclaim` does more in a tick than read statistics."""
    aging = spec.aging_every_ticks and tick % spec.aging_every_ticks == 0
    periodic = spec.mode in ("age", "pressure") and tick % spec.period_ticks == 0
    return bool(aging or periodic or spec.scenario or spec.mode in ("proactive", "debugfs"))


def user_space_reclaim(memory: Any, spec: Any, g: int, tick: int, pressure: Pressure | None) -> Job:
    """What user space does to a guest after its tick; ``pressure``: None where nothing takes time.

    Nobody ages one that was killed, or reclaims its memory.
    """
    lives = memory.is_alive(g)
    if lives and spec.aging_every_ticks and tick and tick % spec.aging_every_ticks == 0:
        yield from _age(memory, spec, g, force_scan=False)
    yield _read_stats(memory, spec)
    if spec.parent_pages:
        yield from _reclaim_parent(memory, spec)
    elif lives:
        yield from _reclaim(memory, spec, g, tick)
        if tick and tick % spec.period_ticks == 0:
            yield from _reclaim_cold(memory, spec, g, pressure)
    yield _read_stats(memory, spec)


def _read_stats(memory: Any, spec: Any) -> Piece:
    if spec.scenario:
        memory.drain()
    memory.flush_stats()
    return Piece.READ


def _age(memory: Any, spec: Any, g: int, *, force_scan: bool) -> Job:
    begin, end = memory.tables(g)
    if spec.clock and end - begin > PART_TABLES:
        yield from (Piece.WALKED for _ in memory.age_in_parts(g, 1, force_scan, PART_TABLES))
    else:
        memory.age(g, force_scan=force_scan)
    yield Piece.AGED


def _reclaim(memory: Any, spec: Any, g: int, tick: int) -> Job:
    """What user space asks for after a guest's tick, but for the one that populates."""
    if spec.mode not in ("debugfs", "proactive") or not spec.guests[g].limit_pages or not tick:
        return
    surplus = memory.in_memory(g) - spec.guests[g].limit_pages
    if spec.mode == "debugfs":
        yield from _age(memory, spec, g, force_scan=True)
        if surplus > 0:
            oldest_evictable = int(memory.lruvec(g)["max_seq"]) - MIN_NR_GENS
            memory.evict(g, oldest_evictable, EVICT_SWAPPINESS, surplus)
    elif spec.mode == "proactive" and surplus > 0:
        memory.memory_reclaim(g, surplus)
    yield Piece.RECLAIMED


def _reclaim_cold(memory: Any, spec: Any, g: int, pressure: Pressure | None) -> Job:
    """What user space asks for in every period, whatever the guest's limit."""
    if spec.mode == "age":
        yield from _age(memory, spec, g, force_scan=True)
        memory.evict(g, int(memory.lruvec(g)["max_seq"]) - MIN_NR_GENS, EVICT_SWAPPINESS, memory.in_memory(g))
        yield Piece.RECLAIMED
    elif spec.mode == "pressure":
        calm = 1 - pressure() / spec.psi_target if pressure else 1.0
        pages = round(memory.in_memory(g) * SENPAI_RATIO * calm)
        if pages > 0:
            memory.memory_reclaim(g, pages)
            yield Piece.RECLAIMED


def _reclaim_parent(memory: Any, spec: Any) -> Job:
    """The same for the memcg above all guests: after every guest's tick, also as they populate."""
    surplus = sum(memory.in_memory(g) for g in range(len(spec.guests))) - spec.parent_pages
    if spec.mode == "proactive" and surplus > 0:
        memory.memory_reclaim_parent(surplus)
    yield Piece.RECLAIMED


class AgingThread:
    """A thread with a job for each guest, which stops between two pieces."""

    def __init__(self) -> None:
        self.jobs: deque[tuple[int, Job]] = deque()  # of each, the guest that it is for

    def add(self, guest: int, job: Job) -> None:
        """Takes on a job, unless it still has one for this guest."""
        if all(other != guest for other, _ in self.jobs):
            self.jobs.append((guest, job))

    def work(self) -> tuple[int, Piece] | None:
        """Does the next piece of its first job, and says for which guest; None: all jobs are done."""
        while self.jobs:
            guest, job = self.jobs[0]
            piece = next(job, None)
            if piece is not None:
                return guest, piece
            self.jobs.popleft()
        return None
