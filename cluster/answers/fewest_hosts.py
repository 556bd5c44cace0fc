"""The fewest hosts on which all guests get a place that come and go, with outages, and failures at the peak hour.

Guests are placed in the order of time, by the study's rule, on ever more hosts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cache, partial
from itertools import cycle, groupby, islice
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.cluster.study.fleet_tables import MAX_HOSTS, Fleet
from coldfleet.cluster.study.lives import outages_of, rank_of
from coldfleet.cluster.study.placement import (
    Amounts,
    HostResources,
    NoRoomError,
    Request,
    Room,
    most_at_once,
    uncut_hosts,
    whole,
)
from coldfleet.cluster.study.plan import Run
from coldfleet.cluster.study.terminal import counted
from coldfleet.cluster.study.timeline import REFUSED, HostOutage, Life, place_in_time
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.units import MEMORY

ROUNDING = 1e-9  # of a host
FAILURES, OUTAGES = "failures", "outages"
BOTH = f"{FAILURES} and {OUTAGES}"
_SPARED = {FAILURES: (True, False), OUTAGES: (False, True), BOTH: (True, True)}


class Moment(NamedTuple):
    """What guests ask for at a time, and how many hosts are out of service or have failed."""

    time_ns: int = 0
    pages: int = 0
    vcpus: int = 0
    out: int = 0
    failed: int = 0

    @property
    def asked(self) -> Amounts:
        """Of placement.RESOURCES."""
        return self.pages, self.vcpus, 0.0

    def hosts(self, rooms: Sequence[Room]) -> float:
        """Hosts that would then do, with those that are out or have failed; none if there are no guests."""
        return max(uncut_hosts(self.asked, rooms)) + self.out + self.failed if self.vcpus else 0.0


class Fewest(NamedTuple):
    """The fewest hosts that were found to do, what they would be if guests could be cut, and what one less fails of."""

    hosts: int
    least: int  # on which this replicate alone does
    tightest: Moment
    busiest: Moment
    rooms: tuple[Room, ...]  # in service at the tightest moment, and those that would come next
    peak_ns: int
    lives: list[Life]
    less: Try  # with one host fewer, if this replicate is why there are so many
    reasons: tuple[str, ...]  # "vCPUs": fewer have too few; or those of _SPARED without which one host fewer would do
    closed: int = 0  # hosts that are out of service at a time, or have failed

    @property
    def because(self) -> str:
        """The first of the reasons; "": there is none."""
        return self.reasons[0] if self.reasons else ""

    @property
    def alone(self) -> Amounts:
        return uncut_hosts(self.tightest.asked, self.rooms)

    @property
    def uncut(self) -> float:
        return max(self.alone) + self.tightest.out + self.tightest.failed


class Try(NamedTuple):
    """Who lives where on so many hosts, with which outages, and whether the fullest of them fail at the peak."""

    lives: list[Life]
    outages: Sequence[HostOutage] = ()
    failing: bool = False

    @property
    def refused(self) -> Life | None:
        return next((life for life in self.lives if life.refused), None)


def enough_hosts(
    runs: Sequence[Run], asked: Sequence[Sequence[Request]], rooms: Sequence[HostResources], failures: int = 0
) -> list[Fewest]:
    """As many hosts for each replicate, on which the guests of every replicate get a place.

    A rule that does with so many hosts may not do with one more. So all are placed on those of the hardest.
    """
    found = [fewest_hosts(run, requests, rooms, failures) for run, requests in zip(runs, asked, strict=True)]
    while len({each.hosts for each in found}) > 1:
        most = max(each.hosts for each in found)
        for number, each in enumerate(found):
            if each.hosts < most:
                more = fewest_hosts(runs[number], asked[number], rooms, failures, at_least=most)
                found[number] = more._replace(least=each.least)
    return found


def hardest_of(found: Sequence[Fewest]) -> tuple[int, Fewest]:
    """The replicate that tells why there are so many hosts, with the reasons that hold for all that need so many.

    That is one in which vCPUs decide, if there is any; else one that needs so many without outages and failures, too.
    """
    need = [n for n, each in enumerate(found) if each.less.refused or each.least == each.hosts] or range(len(found))
    by_vcpus = [n for n in need if found[n].because == "vCPUs"]
    hardest = max(
        by_vcpus or [n for n in need if not found[n].reasons] or need, key=lambda n: found[n].less.refused is not None
    )
    if by_vcpus:
        return hardest, found[hardest]
    common = (each for each in found[hardest].reasons if all(each in found[n].reasons for n in need))
    return hardest, found[hardest]._replace(reasons=tuple(common))


def fewest_hosts(
    run: Run, requests: Sequence[Request], rooms: Sequence[HostResources], failures: int = 0, at_least: int = 1
) -> Fewest:
    """The fewest hosts on which all of them get a place, also if the fullest ones fail at the peak hour."""
    search = _Search(run, requests, rooms, failures)
    until_ns, failure_ns = search.until_ns, search.failure_ns
    largest = Room((max(room.memory_pages for room in rooms), max(room.vcpus for room in rooms), math.inf), 1)
    classes = _in_classes(rooms)
    studied = outages_of(search.fleet)
    moments = list(_moments(requests, studied, failures, failure_ns, until_ns))
    tightest = max(moments, key=lambda moment: moment.hosts(classes))
    busiest = max(moments, key=lambda moment: moment._replace(pages=0).hosts(classes))
    closed = search.closed
    bound = max(math.ceil(tightest.hosts([largest]) - ROUNDING), closed)  # on fewer, fewer would be out
    hosts = search.fewest(max(bound, at_least, failures + 1))
    less, reasons = Try([]), list[str]()
    if hosts > at_least:
        less = search.tried(hosts - 1) if hosts > failures + 1 else less
        if less.refused and search.lacks_vcpus(hosts - 1, moments):
            less, reasons = search.without_memory().attempt(hosts - 1), ["vCPUs"]
        else:
            reasons = search.spared(hosts - 1)
    found = search.tried(hosts)
    out = _out_at(found.outages, tightest.time_ns)
    in_service = (room for host, room in enumerate(islice(cycle(rooms), hosts)) if host not in out)
    return Fewest(
        hosts,
        hosts,
        tightest,
        busiest,
        (*_in_classes(in_service), *classes),
        search.peak_ns,
        found.lives,
        less,
        tuple(reasons),
        closed,
    )


class _Search:
    """Numbers of hosts that are tried, one after the other, for the guests of a run.

    Raises :class:`UserError` if a guest is too large for every host.
    """

    def __init__(self, run: Run, requests: Sequence[Request], rooms: Sequence[HostResources], failures: int) -> None:
        spec = run.cell.spec
        self.run, self.requests, self.rooms, self.failures = run, requests, rooms, failures
        self.fleet = spec.fleet
        self.until_ns = spec.ticks * spec.tick_ns
        peak, _, _ = most_at_once(
            ((each.start_ns or 0, each.end_ns, each.memory_pages, each.vcpus) for each in requests), self.until_ns
        )
        self.peak_ns = int(peak)
        self.failure_ns = min(self.peak_ns + 1, self.until_ns)
        self.tried = cache(self.attempt)
        kinds = [whole([room.memory_pages, room.vcpus]) for room in set(rooms)]
        for request in requests:
            if not any(request.memory_pages <= pages and request.vcpus <= vcpus for pages, vcpus in kinds):
                size = f"{MEMORY.format(request.memory_pages)}, {counted(request.vcpus, 'vCPU')}"
                raise UserError(
                    f"no number of hosts is enough: {request.name}-{request.number} ({size}) is too large for a host: "
                    "make hosts larger, or keep less of them free"
                )

    def fewest(self, bound: int) -> int:
        """The fewest hosts that do, from a bound on; raises :class:`UserError` if MAX_HOSTS don't."""
        low, step = bound - 1, 1
        while (high := min(low + step, MAX_HOSTS)) > low and not self._fits(high):
            low, step = high, 2 * step
        if high <= low:
            spare = f", {self.failures:,} spare ones included: ask for fewer of those" if self.failures else ""
            raise UserError(f"more than {MAX_HOSTS:,} hosts would be needed{spare or ': make hosts larger'}")
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._fits(middle) else (middle, high)
        return high

    def _fits(self, hosts: int) -> bool:
        return hosts > self.failures and self.tried(hosts).refused is None  # else all of them might fail

    @property
    def closed(self) -> int:
        """The most hosts that are out of service at a time of the run, or have failed."""
        studied = outages_of(self.fleet)
        times = [self.failure_ns, *(each.at_ns for each in studied if each.at_ns <= self.until_ns)]
        return max(len(_closed_at(studied, time)) + self.failures * (time >= self.failure_ns) for time in times)

    def spared(self, hosts: int) -> list[str]:
        """Without what so many hosts would do, of failures and outages; without both, if without either."""
        found = list[str]()
        for name, (failures, outages) in _SPARED.items():
            if (failures and not self.failures) or (outages and not self.fleet.outage):
                continue
            less = copy(self)
            less.failures = 0 if failures else self.failures
            less.fleet = self.fleet.model_copy(update={"outage": {}}) if outages else self.fleet
            less.tried = cache(less.attempt)
            if (found and name == BOTH) or (hosts >= less.closed and less._fits(hosts)):
                found.append(name)
        return found

    def attempt(self, hosts: int) -> Try:
        """Puts the guests on so many hosts, of which the fullest ones fail at the peak hour."""
        outages = outages_on(self.fleet, hosts)
        found = self.place(hosts, outages)
        if found.refused or not self.failures:
            return found
        there = [life for life in found.lives if lives_at(life, self.peak_ns)]
        held = held_pages(there, [request.memory_pages for request in self.requests])
        out = _closed_at(outages, self.failure_ns)
        failed = sorted(range(hosts), key=lambda host: (host in out, -held[host]))[: self.failures]
        failures = [HostOutage(host, host + 1, self.failure_ns, self.failure_ns, 0) for host in failed]
        return self.place(hosts, [*failures, *outages_on(self.fleet, hosts, failures)])._replace(failing=True)

    def place(self, hosts: int, outages: Sequence[HostOutage]) -> Try:
        """Who lives where, as a study places them; of guests that have to be there, the first that fits nowhere."""
        on = list(islice(cycle(self.rooms), hosts))
        rank = partial(rank_of, "place", self.run.cell.seed, self.run.replicate)
        try:
            lives = place_in_time(on, self.requests, self.fleet.placement, rank, outages, self.until_ns)
        except NoRoomError as error:
            standing = [number for number, request in enumerate(self.requests) if request.start_ns is None]
            lives = [Life(standing[error.number], 0, REFUSED, None, None, "refused", error.why)]
        return Try(lives, outages)

    def lacks_vcpus(self, hosts: int, moments: Sequence[Moment]) -> bool:
        """Whether so many hosts have too few vCPUs at some moment, whoever lives on which of them, and so have fewer.

        There are too few for all guests, or hosts have too few times k for the guests of k vCPUs and more. Of hosts
        that are out of service, or have failed, those with the fewest vCPUs are taken. They fail at the peak of memory,
        which may be as late as the last arrival.
        """
        have = np.sort(whole([room.vcpus for room in islice(cycle(self.rooms), hosts)]))
        times, asked, out = (
            np.array(each) for each in zip(*((m.time_ns, m.vcpus, m.out) for m in moments), strict=True)
        )
        starts = np.array([max(each.start_ns or 0, 0) for each in self.requests])
        ends = np.array([math.inf if each.end_ns is None else each.end_ns for each in self.requests])
        vcpus = np.array([each.vcpus for each in self.requests])
        gone = np.minimum(out + self.failures * (times >= starts.max()), hosts)

        def too_few(need: npt.NDArray[np.int64], of_host: npt.NDArray[np.float64]) -> bool:
            all_but = np.append(np.cumsum(of_host[::-1])[::-1], 0.0)  # the first n hosts
            return bool((need > all_but[gone]).any())

        def alive(which: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
            come, left = (np.searchsorted(np.sort(each[which]), times, "right") for each in (starts, ends))
            return come - left

        return too_few(asked, have) or any(
            too_few(alive(vcpus >= size), np.floor(have / size)) for size in np.unique(vcpus)
        )

    def without_memory(self) -> _Search:
        """The same for guests and hosts with as many pages as vCPUs, so that vCPUs alone decide."""
        found = copy(self)
        found.rooms = [HostResources(room.vcpus, room.vcpus) for room in self.rooms]
        found.requests = [replace(each, memory_pages=each.vcpus) for each in self.requests]
        found.tried = cache(found.attempt)
        return found


def _in_classes(rooms: Iterable[HostResources]) -> tuple[Room, ...]:
    """Hosts in their order, those that follow on one like them together with it."""
    return tuple(Room((each.memory_pages, each.vcpus, math.inf), len(list(some))) for each, some in groupby(rooms))


def _moments(
    requests: Sequence[Request], outages: Sequence[HostOutage], failures: int, failure_ns: int, until_ns: int
) -> Iterator[Moment]:
    """What there is whenever something changes, up to the end of the run; hosts that are drained are out once empty."""
    events = [(max(each.start_ns or 0, 0), each.memory_pages, each.vcpus) for each in requests]
    events += [(each.end_ns, -each.memory_pages, -each.vcpus) for each in requests if each.end_ns is not None]
    events += [(time, 0, 0) for each in outages for time in (each.empty_ns, each.back_ns)]
    changes = {time for each in outages for time in (each.empty_ns, each.back_ns)}
    pages = vcpus = out = 0
    for time, some in groupby(sorted([*events, (failure_ns, 0, 0)]), key=itemgetter(0)):
        if time > until_ns:
            break
        for _, more_pages, more_vcpus in some:
            pages, vcpus = pages + more_pages, vcpus + more_vcpus
        if time in changes:
            out = len(_out_at(outages, time))
        yield Moment(time, pages, vcpus, out, failures * (time >= failure_ns))


def outages_on(fleet: Fleet, hosts: int, failures: Sequence[HostOutage] = ()) -> list[HostOutage]:
    """The study's outages on so many hosts, of which as many are out at a time as it says, beside those that failed.

    For a host that isn't there, or that failed before, the next one is out, from the first on again, that is in
    service; the same one in all outages of that host that overlap.
    """
    found: list[HostOutage] = []
    stands_in: dict[int, tuple[int, float]] = {}  # for each host of the study, and until when it is out
    for each in sorted(outages_of(fleet), key=lambda outage: outage.at_ns):
        out = {host for host, until_ns in stands_in.values() if until_ns > each.at_ns}
        out |= {failure.first for failure in failures if _is_out(failure, each.at_ns)}
        places = []
        for number in range(each.first, each.end):
            host, until_ns = stands_in.get(number, (0, 0))
            if until_ns <= each.at_ns:
                turns = ((number + more) % hosts for more in range(hosts))
                host = next((turn for turn in turns if turn not in out), number % hosts)
            out.add(host)
            stands_in[number] = host, max(until_ns, each.back_ns or math.inf)
            places.append(host)
        if places == list(range(each.first, each.end)):
            found.append(each)  # at once, so that all its guests look for a place by their priority
        else:
            found += [replace(each, first=host, end=host + 1) for host in places]
    return found


def _is_out(outage: HostOutage, time_ns: int) -> bool:
    return outage.at_ns <= time_ns and not 0 < outage.back_ns <= time_ns


def _closed_at(outages: Iterable[HostOutage], time_ns: int) -> set[int]:
    """Hosts that take no guests then."""
    return {host for each in outages if _is_out(each, time_ns) for host in range(each.first, each.end)}


def _out_at(outages: Iterable[HostOutage], time_ns: int) -> set[int]:
    """Hosts that have no guests then, as they are out of service."""
    return _closed_at((replace(each, at_ns=each.empty_ns) for each in outages), time_ns)


def held_pages(lives: Iterable[Life], pages: Sequence[int]) -> Counter[int]:
    """Pages that lives have on each host; ``pages``: of the guest of each request."""
    held = Counter[int]()
    for life in lives:
        held[life.host] += pages[life.request]
    return held


def lives_at(life: Life, time_ns: int) -> bool:
    return not life.refused and (life.start_ns or 0) <= time_ns and (life.end_ns is None or life.end_ns > time_ns)
