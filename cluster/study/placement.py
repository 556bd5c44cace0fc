"""Which host a guest is put on: the textbook rules of bin packing, with memory and vCPUs as the two sizes.

:class:`Hosts` puts guests on the hosts that there are, one by one: :func:`place` those that are there throughout,
:mod:`cluster.study.timeline` those that come and go. :func:`pack` asks how few hosts would do for guests that are all
known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.cluster.study.terminal import counted
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.units import MEMORY

RESOURCES = ("memory", "vCPUs", "guests per host")
Amounts = tuple[float, float, float]
"""Pages, vCPUs and guests: what one guest needs (it is one guest), or what a host has room for (inf: no limit)."""

_ROUNDING = 1e-9  # of a host


@dataclass(frozen=True)
class HostResources:
    """What a host may be given, in pages and vCPUs, overcommit included."""

    memory_pages: float
    vcpus: float


@dataclass(frozen=True)
class Request:
    """A guest that wants a place: guest ``number`` of the class ``name``.

    ``start_ns``, ``end_ns``: from when to when it lives, since the start of the run, ns; None: from before it, and on
    after its end. ``priority``: 0 is the highest. ``own_name``: that a table of guests gives it, or "".
    """

    name: str
    number: int
    memory_pages: int
    vcpus: int
    start_ns: int | None = None
    end_ns: int | None = None
    priority: int = 0
    own_name: str = ""


def whole(amounts: Sequence[float]) -> npt.NDArray[np.float64]:
    """The whole pages or vCPUs in what hosts may be given: 50 CPUs x 1.14 is 57, though the product is a little less.

    With them sums of what guests take are exact.
    """
    return np.floor(np.array(amounts, np.float64) * (1 + _ROUNDING))


class NoRoomError(UserError):
    """A guest that has to be there fits nowhere: that of the request ``number``; ``why``: one of REFUSALS."""

    def __init__(self, text: str, number: int, why: str) -> None:
        super().__init__(text)
        self.number, self.why = number, why


class Hosts:
    """What the hosts of a fleet have left, and which of those that have room gets a guest.

    ``rule``: "first-fit" takes the first host with room, "best-fit" the one with the least memory left, "worst-fit" the
    one with the most, "random" any of them, by ``rank``. Among equals the first.
    """

    def __init__(self, hosts: Sequence[HostResources], rule: str, rank: Callable[..., bytes]) -> None:
        self.pages = whole([host.memory_pages for host in hosts])
        self.vcpus = whole([host.vcpus for host in hosts])
        self.closed = np.zeros(len(hosts), bool)  # by outages, which keep guests from it
        self._outages = np.zeros(len(hosts), np.int64)
        self._rule = rule
        self._rank = rank

    def put(self, request: Request) -> int:
        """Puts a guest on a host and returns which; -1: none has room."""
        host = self._best(request)
        if not self._fits(request, host):
            return -1
        self.pages[host] -= request.memory_pages
        self.vcpus[host] -= request.vcpus
        return host

    def _fits(self, request: Request, host: int) -> bool:
        return bool(
            self.pages[host] >= request.memory_pages and self.vcpus[host] >= request.vcpus and not self.closed[host]
        )

    def _best(self, request: Request) -> int:
        """The host that the rule chooses; one without room if all are."""
        if self._rule == "worst-fit" and self._fits(request, host := int(self.pages.argmax())):
            return host  # in most cases
        fits = (self.pages >= request.memory_pages) & (self.vcpus >= request.vcpus) & ~self.closed
        if self._rule == "random" and len(room := fits.nonzero()[0]):
            return int(room[int.from_bytes(self._rank(request.name, request.number)) % len(room)])
        if self._rule == "best-fit":
            return int(np.where(fits, self.pages, np.inf).argmin())
        if self._rule == "worst-fit":
            return int(np.where(fits, self.pages, -1.0).argmax())
        return int(fits.argmax())

    def close(self, first: int, end: int, outages: int) -> None:
        """These hosts have so many outages more, or fewer."""
        self._outages[first:end] += outages
        self.closed[first:end] = self._outages[first:end] > 0

    def take(self, request: Request, host: int) -> None:
        """Takes a guest from its host."""
        self.pages[host] += request.memory_pages
        self.vcpus[host] += request.vcpus

    def why_not(self, request: Request) -> str:
        """What keeps a guest from a host, one of REFUSALS."""
        is_open = ~self.closed
        has_memory, has_vcpus = (request.memory_pages <= self.pages) & is_open, (request.vcpus <= self.vcpus) & is_open
        if not is_open.any():
            return "outage"
        if not has_memory.any():
            return "memory"
        return "both" if has_vcpus.any() else "vcpus"


REFUSALS = {
    "memory": "no host had enough memory left",
    "vcpus": "no host had enough vCPUs left, though one had the memory",
    "both": "hosts with enough memory had too few vCPUs, and those with the vCPUs too little memory",
    "outage": "no host was in service",
}
"""Why a guest gets no place: exactly one of these holds."""


def place(hosts: Hosts, requests: Sequence[Request]) -> list[int]:
    """Puts guests that all have to be there on hosts, one by one, and returns the host of each.

    Raises :class:`NoRoomError` with the reasons if one fits nowhere.
    """
    places = []
    for placed, request in enumerate(requests):
        places.append(hosts.put(request))
        if places[-1] < 0:
            text = _why_not(request, hosts.pages, hosts.vcpus, placed, len(requests))
            raise NoRoomError(text, placed, hosts.why_not(request))
    return places


def most_at_once(
    lives: Iterable[tuple[float, float | None, int, int]], until: float = math.inf
) -> tuple[float, int, int]:
    """When most memory is asked for at a time, how many pages that are, and the most vCPUs, up to a time.

    ``lives``: from when to when (None: it stays), pages and vCPUs. What begins before time 0 is there then.
    """
    events = []
    for start, end, pages, vcpus in lives:
        events.append((max(start, 0), 1, pages, vcpus))
        if end is not None:
            events.append((end, -1, pages, vcpus))
    events.sort(key=lambda event: event[:2])  # at one moment they leave first
    pages = vcpus = most_pages = most_vcpus = 0
    peak: float = 0
    for time, sign, more_pages, more_vcpus in events:
        if time > until:
            break
        pages += sign * more_pages
        vcpus += sign * more_vcpus
        most_vcpus = max(most_vcpus, vcpus)
        if pages > most_pages:
            most_pages, peak = pages, time
    return peak, most_pages, most_vcpus


def hosts_needed(needs: list[tuple[int, int, int]], memory_pages: float, vcpus: float) -> int:
    """How many hosts with so much room take guests of these (pages, vCPUs, count), in whatever order they arrive.

    Guests that arrive in an unlucky order leave gaps, each too small for the largest of them. So a host is taken to be
    full when the largest guest no longer fits. Raises :class:`UserError` if a guest is larger than a host.
    """
    most_pages, most_vcpus = check_largest([need[:2] for need in needs], memory_pages, vcpus)
    pages = sum(size * count for size, _, count in needs) / max(memory_pages - most_pages, most_pages)
    cpus = sum(size * count for _, size, count in needs) / max(vcpus - most_vcpus, most_vcpus)
    return math.ceil(max(pages, cpus)) + 1


def check_largest(needs: Iterable[tuple[int, int]], memory_pages: float, vcpus: float) -> tuple[int, int]:
    """The most pages, and the most vCPUs, that one of these guests needs; raises :class:`UserError` if that is more
    than a host has room for."""
    most_pages, most_vcpus = map(max, zip(*needs, strict=True))
    if ([most_pages, most_vcpus] > whole([memory_pages, vcpus])).any():
        raise UserError(
            f"a host with room for {MEMORY.format(int(memory_pages))} and {vcpus:g} vCPUs can't take a guest of "
            f"{MEMORY.format(most_pages)} and {most_vcpus} vCPUs: make hosts larger"
        )
    return most_pages, most_vcpus


@dataclass(frozen=True)
class Need:
    """Guests that are alike: what each needs, and how many there are."""

    amounts: Amounts
    count: int


@dataclass(frozen=True)
class Room:
    """Hosts that are alike, and how many of them are taken before those of the next kind."""

    amounts: Amounts
    count: int


def uncut_hosts(asked: Amounts, rooms: Sequence[Room]) -> Amounts:
    """Hosts that each of RESOURCES would ask for if guests could be cut in pieces and nothing else counted.

    ``asked``: of all guests together. Hosts are taken in the order of ``rooms``, again and again, the last one in part.
    """
    memory, vcpus, guests = (
        _taken(amount, [(room.amounts[kind], room.count) for room in rooms]) for kind, amount in enumerate(asked)
    )
    return memory, vcpus, guests


def _taken(amount: float, hosts: Sequence[tuple[float, int]]) -> float:
    """How many hosts, each so much and so many of them, have an amount."""
    rounds, left = divmod(amount, sum(size * count for size, count in hosts))
    taken = rounds * sum(count for _, count in hosts)
    for size, count in hosts:
        if left < size * count:
            return taken + left / size
        taken, left = taken + count, left - size * count
    return taken


class Load(NamedTuple):
    """Hosts with the same guests: how many, of which room, and the guests of each need that are on one."""

    hosts: int
    room: int
    guests: tuple[int, ...]


@dataclass(frozen=True)
class Packing:
    """Guests on as few hosts as were found to do.

    ``asked``: by all guests. ``rooms``: the hosts that have guests, and then those that would come next.
    """

    loads: tuple[Load, ...]
    asked: Amounts
    rooms: tuple[Room, ...]

    @cached_property
    def alone(self) -> Amounts:
        """Hosts that each of RESOURCES would ask for if guests could be cut in pieces and nothing else counted."""
        return uncut_hosts(self.asked, self.rooms)

    @property
    def hosts(self) -> int:
        """Hosts that have guests."""
        return sum(load.hosts for load in self.loads)

    @property
    def least(self) -> int:
        """Hosts that would do if guests could be cut in pieces: there are more because of fragmentation."""
        return math.ceil(max(self.alone) - _ROUNDING)

    @property
    def scarcest(self) -> str:
        """The resource that asks for most hosts, of equal ones the last: one of RESOURCES."""
        return max(zip(self.alone, range(len(RESOURCES)), RESOURCES, strict=True))[2]


def pack(needs: Sequence[Need], rooms: Sequence[Room]) -> Packing:
    """Packs the guests by several rules and returns what takes the fewest hosts.

    Each rule fills host after host with whatever fits: in a fixed order, the largest first (first-fit-decreasing), by
    either size or their sum; or next the guest that asks most for what the host has most of (Panigrahy et al.,
    Heuristics for Vector Bin Packing, 2011). A host like the last one is not filled anew, so that many guests of few
    kinds take little time. Raises :class:`UserError` if a guest is larger than every host.
    """
    sizes = [[[a / r for a, r in zip(n.amounts, room.amounts, strict=True)] for n in needs] for room in rooms]
    for number, need in enumerate(needs):
        if need.count and all(max(sized[number]) > 1 + _ROUNDING for sized in sizes):
            raise UserError(
                f"no host has room for a guest that needs {MEMORY.format(math.ceil(need.amounts[0]))} and "
                f"{need.amounts[1]:g} vCPUs: make hosts larger, or keep less of them free"
            )
    memory, vcpus, guests = (sum(need.amounts[kind] * need.count for need in needs) for kind in range(len(RESOURCES)))
    rules = [_largest_by(weights) for weights in ((1, 0, 0), (0, 1, 0), (1, 1, 0))]
    found = [_fill(needs, rooms, sizes, rule) for rule in (*rules, _dot)]
    best = min(found, key=lambda loads: sum(load.hosts for load in loads))
    used = [Room(rooms[load.room].amounts, load.hosts) for load in best]
    return Packing(tuple(best), (memory, vcpus, guests), (*used, *rooms))


_Rule = Callable[[Sequence[float], Sequence[float]], float]


def _dot(size: Sequence[float], weights: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(size, weights, strict=True))


def _largest_by(weights: Sequence[float]) -> _Rule:
    return lambda size, free: _dot(size, weights)


def _fill(
    needs: Sequence[Need], rooms: Sequence[Room], sizes: Sequence[Sequence[Sequence[float]]], rule: _Rule
) -> list[Load]:
    """Fills hosts until all guests have one; a rule says which guest comes first, by its size and the room left."""
    left = [need.count for need in needs]
    loads: list[Load] = []
    while any(left):
        for number, room in enumerate(rooms):
            hosts = room.count if len(rooms) > 1 else sum(left)
            while hosts and any(left):
                guests = _fill_host(left, sizes[number], rule)
                if not any(guests):
                    break
                alike = min([hosts, *(have // taken for have, taken in zip(left, guests, strict=True) if taken)])
                left = [have - taken * alike for have, taken in zip(left, guests, strict=True)]
                loads.append(Load(alike, number, tuple(guests)))
                hosts -= alike
    return loads


def _fill_host(left: Sequence[int], sizes: Sequence[Sequence[float]], rule: _Rule) -> list[int]:
    guests = [0] * len(left)
    free = [1.0] * len(RESOURCES)
    while True:
        fitting = [
            number
            for number, size in enumerate(sizes)
            if left[number] > guests[number] and all(a <= b + _ROUNDING for a, b in zip(size, free, strict=True))
        ]
        if not fitting:
            return guests
        chosen = max(fitting, key=lambda number: rule(sizes[number], free))
        guests[chosen] += 1
        free = [b - a for a, b in zip(sizes[chosen], free, strict=True)]


def _why_not(
    request: Request, pages: npt.NDArray[np.float64], vcpus: npt.NDArray[np.float64], placed: int, total: int
) -> str:
    """Why there is no room, from what hosts have left."""
    guest = f"{request.name}-{request.number} ({MEMORY.format(request.memory_pages)}, {counted(request.vcpus, 'vCPU')})"
    return (
        f"after {placed} of {total} guests none of the {len(pages)} hosts has room for {guest}: "
        f"{np.count_nonzero(request.memory_pages > pages)} lack memory (at most {MEMORY.format(int(pages.max()))} is "
        f"left), {np.count_nonzero(request.vcpus > vcpus)} lack vCPUs: "
        "add hosts, or raise overcommit or fleet.vcpus_per_cpu"
    )
