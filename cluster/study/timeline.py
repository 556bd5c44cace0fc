"""Who lives where and when: guests that come and go, put on hosts in the order of time.

What happens doesn't depend on what guests do to each other's memory. So it is known before any host is simulated, and
each host can then be simulated alone, from the first tick to the last.

At one moment guests leave first, then hosts come back, then hosts go out of service, then guests arrive, those of a
higher priority first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import count
from typing import NamedTuple

from coldfleet.cluster.study.placement import HostResources, Hosts, Request, place

REFUSED = -1


@dataclass(frozen=True)
class HostOutage:
    """The hosts ``first`` <= n < ``end`` take no guests from ``at_ns`` on, lose theirs at ``empty_ns``, and take guests
    again at ``back_ns`` (0: never)."""

    first: int
    end: int
    at_ns: int
    empty_ns: int
    back_ns: int


class Life(NamedTuple):
    """A guest on a host, or its refusal.

    ``request``: its place among the requests. ``number``: 0 for its first life, 1 for that after it lost a host.
    ``host``: of the fleet; REFUSED. ``start_ns``, ``end_ns``: ns; None: from before the run, and on after it. A refused
    guest has the same in both. ``ended``: "left", "outage" (of its host), "refused" or "end" (that of the run).
    ``refused``: one of placement.REFUSALS, or "".
    """

    request: int
    number: int
    host: int
    start_ns: int | None
    end_ns: int | None
    ended: str = "end"
    refused: str = ""


class _Kind(IntEnum):
    """What happens, in the order in which it does at one moment."""

    LEAVE = 0
    BACK = 1
    CLOSE = 2
    EMPTY = 3
    ARRIVE = 4


def place_in_time(
    hosts: Sequence[HostResources],
    requests: Sequence[Request],
    rule: str,
    rank: Callable[..., bytes],
    outages: Sequence[HostOutage] = (),
    until_ns: int = 0,
) -> list[Life]:
    """Every life of every guest up to the end of the run, in the order in which they begin, and every refusal.

    Guests without a start come first, in their order, and all have to fit. Those that began before the run arrive as it
    starts, in the order of their starts. Raises :class:`NoRoomError` if one of the former fits nowhere, with its number
    among them.
    """
    return _Timeline(hosts, requests, rule, rank, outages, until_ns).lives


class _Timeline:
    def __init__(
        self,
        hosts: Sequence[HostResources],
        requests: Sequence[Request],
        rule: str,
        rank: Callable[..., bytes],
        outages: Sequence[HostOutage],
        until_ns: int,
    ) -> None:
        self.lives: list[Life] = []
        self._requests = requests
        self._hosts = Hosts(hosts, rule, rank)
        self._on: list[dict[int, None]] = [{} for _ in hosts]  # the lives on each, in the order in which they came
        self._turn = count()
        self._events: list[tuple[int, _Kind, int, int, int]] = []  # time, kind, priority, turn; what it is about
        standing = [number for number, request in enumerate(requests) if request.start_ns is None]
        coming = [number for number, request in enumerate(requests) if request.start_ns is not None]
        for number, host in zip(standing, place(self._hosts, [requests[n] for n in standing]), strict=True):
            self._begin(Life(number, 0, host, None, requests[number].end_ns))
        for number in sorted(coming, key=lambda n: requests[n].start_ns or 0):
            self._add(max(requests[number].start_ns or 0, 0), _Kind.ARRIVE, number, requests[number].priority)
        for number, out in enumerate(outages):
            for time, kind in ((out.at_ns, _Kind.CLOSE), (out.empty_ns, _Kind.EMPTY), (out.back_ns, _Kind.BACK)):
                if kind is not _Kind.BACK or time:
                    self._add(time, kind, number)
        while self._events and self._events[0][0] <= until_ns:
            now, kind, _, _, who = heapq.heappop(self._events)
            if kind is _Kind.LEAVE:
                self._leave(who)
            elif kind is _Kind.ARRIVE:
                self._arrive(Life(who, 0, REFUSED, requests[who].start_ns, requests[who].end_ns))
            elif kind is _Kind.EMPTY:
                self._empty(outages[who], now)
            else:
                self._hosts.close(outages[who].first, outages[who].end, 1 if kind is _Kind.CLOSE else -1)

    def _add(self, time: int, kind: _Kind, who: int, priority: int = 0) -> None:
        heapq.heappush(self._events, (time, kind, priority, next(self._turn), who))

    def _arrive(self, life: Life) -> None:
        request = self._requests[life.request]
        host = self._hosts.put(request)
        if host != REFUSED:
            self._begin(life._replace(host=host))
            return
        why = self._hosts.why_not(request)
        self.lives.append(life._replace(end_ns=life.start_ns, ended="refused", refused=why))

    def _begin(self, life: Life) -> None:
        self._on[life.host][len(self.lives)] = None
        if life.end_ns is not None:
            self._add(life.end_ns, _Kind.LEAVE, len(self.lives))
        self.lives.append(life)

    def _leave(self, number: int) -> None:
        life = self.lives[number]
        if number in self._on[life.host]:  # else it lost its host before
            del self._on[life.host][number]
            self._hosts.take(self._requests[life.request], life.host)
            self.lives[number] = life._replace(ended="left")

    def _empty(self, out: HostOutage, now: int) -> None:
        """Whoever is still on these hosts starts anew elsewhere, those of a higher priority first."""
        lost = [number for host in range(out.first, out.end) for number in self._on[host]]
        for number in lost:
            life = self.lives[number]
            del self._on[life.host][number]
            self._hosts.take(self._requests[life.request], life.host)
            self.lives[number] = life._replace(end_ns=now, ended="outage")
        for number in sorted(lost, key=lambda n: (self._requests[self.lives[n].request].priority, n)):
            life = self.lives[number]
            end_ns = self._requests[life.request].end_ns
            self._arrive(Life(life.request, life.number + 1, REFUSED, now, end_ns))
