"""How many hosts guests need that come and go: the fewest on which all of them get a place, at the peak hour, too.

They are placed in the order of time, by the study's rule, on ever more hosts, of which as many are out of service as
the study says. What a guest needs of a host is what its kind really used while it lived, times the spread, as in
:mod:`cluster.answers.sizing`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from itertools import cycle, groupby, islice
from operator import itemgetter
from typing import NamedTuple

from coldfleet.cluster.answers.host_check import HostCheck, check_hosts
from coldfleet.cluster.answers.sizing import DramAccount, FleetSize, HostCount, kind_of, memory_of
from coldfleet.cluster.answers.slo import Slo
from coldfleet.cluster.stats.statistics import short
from coldfleet.cluster.study.arrivals import HOUR_NS
from coldfleet.cluster.study.fleet import build_placed, requested_guests
from coldfleet.cluster.study.fleet_tables import MAX_HOSTS, Fleet
from coldfleet.cluster.study.lives import PlacedHost, hosted_lives, hosts_of, outages_of, rank_of
from coldfleet.cluster.study.model import CellSpec
from coldfleet.cluster.study.placement import (
    REFUSALS,
    RESOURCES,
    Amounts,
    HostResources,
    NoRoomError,
    Request,
    Room,
    most_at_once,
    uncut_hosts,
    whole,
)
from coldfleet.cluster.study.plan import Cell, Plan, Run
from coldfleet.cluster.study.terminal import counted
from coldfleet.cluster.study.timeline import REFUSED, HostOutage, Life, place_in_time
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import GuestSpec
from coldfleet.hostsim.spec.units import MEMORY

REPLICATES = 5  # whose guests are placed
_ROUNDING = 1e-9  # of a host
_LOST = 0.05  # of the hosts: fragmentation that takes more is what binds


class _Moment(NamedTuple):
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


@dataclass(frozen=True)
class PeakHosts(HostCount):
    """Hosts that a fleet needs over time.

    ``hosts``: enough in each of REPLICATES, of which the easiest needs ``least`` and the hardest all of them.
    ``peak_ns``: since the start of the run, in the hardest. ``moment``: what goes wrong there with one host fewer.
    ``failures``: that the hosts survive: at the peak hour the fullest ones fail for good. ``guests`` are those of the
    fullest host then, ``all_guests`` those of the fleet. ``tightest``: when most hosts would be needed if guests could
    be cut in pieces; those that are out of service or have failed then are ``spare``. ``busiest``: the same for vCPUs
    alone, of which the largest host has ``vcpus``. ``study_hosts``: that the study has. ``placed``: who lives where in
    the hardest replicate, which is ``run``, the fullest host of the peak first.
    """

    least: int = 0
    peak_ns: int = 0
    moment: str = ""
    failures: int = 0
    tightest: _Moment = field(default_factory=_Moment)
    busiest: _Moment = field(default_factory=_Moment)
    vcpus: float = math.inf
    study_hosts: int = 0
    run: Run | None = None
    placed: tuple[PlacedHost, ...] = field(default=(), repr=False)

    @property
    def peak_hour(self) -> float:
        """In hours."""
        return self.peak_ns / HOUR_NS

    @property
    def text(self) -> str:
        """It in words."""
        survive = f", of which {counted(self.failures, 'host')} may fail at the peak," if self.failures else ""
        enough = f"{counted(self.hosts, 'host')}{survive} {'is' if self.hosts == 1 else 'are'} enough"
        beside = [f"{self.tightest.out:,} out of service"] if self.tightest.out else []
        beside += [f"{self.tightest.failed:,} that failed"] if self.tightest.failed else []
        included = f", {' and '.join(beside)} included" if beside else ""
        uncut = f"{short(self.uncut())} if guests could be cut in pieces{included}"
        return (
            f"{enough}, {self._than_without}: {self._than_study} ({uncut}; {self.least:,} in the easiest replicate)."
            f"{self._vcpus_decide} The peak of memory is at {hour_text(self.peak_ns)}; with one host fewer "
            f"{self.moment}"
        )

    @property
    def _than_without(self) -> str:
        if self.saved < 0:
            return self.more
        return f"{self.saved:,} fewer than without overcommit" if self.saved else "as many as without overcommit"

    @property
    def _than_study(self) -> str:
        left = self.study_hosts - self.hosts
        if left > 0:
            return f"{left:,} of the study's {self.study_hosts:,} can go"
        return f"{-left:,} more than the study's {self.study_hosts:,}" if left else "as many as the study has"

    @property
    def _vcpus_decide(self) -> str:
        if self.binding != "vCPUs":
            return ""
        save = "save more" if self.saved > 0 else "save a host"
        asked = f"{self.busiest.vcpus:,} at {hour_text(self.busiest.time_ns)}, {self.vcpus:g} a host"
        return f" vCPUs decide: {asked}: no policy can {save}; raise fleet.vcpus_per_cpu."


class _Fewest(NamedTuple):
    """The fewest hosts that were found to do, what they would be if guests could be cut, and what one less fails of."""

    hosts: int
    least: int  # on which this replicate alone does
    tightest: _Moment
    busiest: _Moment
    rooms: tuple[Room, ...]  # in service at the tightest moment, and those that would come next
    peak_ns: int
    lives: list[Life]
    less: _Try  # with one host fewer, if this replicate is why there are so many
    because: str  # "vCPUs": they alone ask for as many; "failures" or "outages": without them one host fewer would do

    @property
    def alone(self) -> Amounts:
        return uncut_hosts(self.tightest.asked, self.rooms)

    @property
    def uncut(self) -> float:
        return max(self.alone) + self.tightest.out + self.tightest.failed


class _Try(NamedTuple):
    """Who lives where on so many hosts, with which outages, and whether the fullest of them fail at the peak."""

    lives: list[Life]
    outages: Sequence[HostOutage] = ()
    failing: bool = False

    @property
    def refused(self) -> Life | None:
        return next((life for life in self.lives if life.refused), None)


@dataclass(frozen=True)
class FleetOverTime(FleetSize):
    """Hosts for guests that come and go. ``spare`` is the number of failures that they are to survive."""

    runs: tuple[Run, ...] = ()
    asked: tuple[tuple[tuple[Request, GuestSpec], ...], ...] = field(default=(), repr=False)

    @classmethod
    def over_time(cls, plan: Plan, headroom: float = 0.0, failures: int = 0) -> FleetOverTime:
        """The study's fleet, with the guests of some replicates."""
        if not plan.cell(0).spec.memory_is_limited:
            raise UserError("hosts that have as much memory as is needed are never too few: set fleet.host.NAME.memory")
        size = FleetSize.of(plan, None, headroom, failures)
        fleet = cls(size.rooms, headroom, failures, size.guests, size.watermark_scale_factor, True, size.hugetlb_pages)
        return fleet.at(plan.cell(0))

    def at(self, cell: Cell) -> FleetOverTime:
        """The same with the guests that come at the load of a cell."""
        runs = tuple(Run(-1, cell, replicate) for replicate in range(REPLICATES))
        return replace(self, runs=runs, asked=tuple(tuple(requested_guests(run)) for run in runs))

    @property
    def hosts(self) -> int:
        """Hosts that would do without overcommit."""
        return self._without[0].hosts

    def hosts_needed(self, account: DramAccount, most_guests: float = math.inf, by_use: bool = False) -> HostCount:
        """Hosts for all guests, each with the memory that its kind used; never more than without overcommit, unless
        ``by_use``."""
        usable = [self._usable(room, math.inf).amounts for room in self.rooms for _ in range(room.count)]
        rooms = [HostResources(pages, vcpus) for pages, vcpus, _ in usable]
        needs = [
            [
                replace(
                    each, memory_pages=math.ceil(account.means.get(kind_of(guest), memory_of(guest)) * account.spread)
                )
                for each, guest in asked
            ]
            for asked in self.asked
        ]
        plain = self._without
        without = plain[0].hosts
        try:
            used = self._enough(needs, rooms)
        except UserError:
            used, by_use = plain, False
        else:
            by_use = by_use or used[0].hosts <= without
        found = used if by_use else plain
        hardest = max(range(len(found)), key=lambda number: found[number].less.refused is not None)
        most, run = found[hardest], self.runs[hardest]
        requests = [request for request, _ in self.asked[hardest]]
        guests = [guest for _, guest in self.asked[hardest]]
        there = [life for life in most.lives if _lives_at(life, most.peak_ns)]
        held = _held(there, [memory_of(guest) for guest in guests])
        on_it = Counter(kind_of(guests[life.request]) for life in there if life.host == max(held, key=held.__getitem__))
        spec = run.cell.spec
        classes = [name for name, each in spec.host_classes.items() for _ in range(each.count)]
        placed = hosts_of(hosted_lives(spec, most.lives, requests), list(islice(cycle(classes), most.hosts)))
        return PeakHosts(
            most.hosts,
            most.tightest.out + most.tightest.failed,
            without,
            _binding(most),
            on_it,
            self.rooms[0].amounts[0],
            1.0,
            len(there),
            most.tightest.asked,
            most.rooms,
            plain[hardest].uncut - most.tightest.out - most.tightest.failed if most.hosts <= without else math.inf,
            by_use,
            least=min(each.least for each in found),
            peak_ns=most.peak_ns,
            moment=_moment(most, requests, spec),
            failures=self.spare,
            tightest=most.tightest,
            busiest=most.busiest,
            vcpus=max(room.vcpus for room in rooms),
            study_hosts=len(rooms),
            run=run,
            placed=tuple(sorted(placed, key=lambda host: -held[host.place])),
        )

    def check(self, run: Run, count: HostCount, seconds: float, slos: Sequence[Slo]) -> HostCheck:
        """Runs the fleet that is answered, failures and outages included, from the start to the end."""
        assert isinstance(count, PeakHosts)
        assert count.run is not None
        pages = [room.amounts[0] for room in self.rooms for _ in range(room.count)]
        hosts = (
            self._checked(each.place, build_placed(count.run, [each])[0], pages[each.place % len(pages)], count.by_use)
            for each in count.placed
        )
        found = check_hosts(hosts, len(count.placed), count.run.cell.seed, count.run.replicate, seconds, slos)
        if not found.passed:
            return found  # it tells of one host
        guests = {
            (each.request.name, each.request.number) for host in count.placed[: found.hosts] for each in host.lives
        }
        return replace(found, guests=len(guests))  # of which some had several lives

    @cached_property
    def _without(self) -> list[_Fewest]:
        """Hosts for each replicate if every guest has all of its memory."""
        rooms = [
            HostResources(room.amounts[0] * (1 - self.headroom), room.amounts[1])
            for room in self.rooms
            for _ in range(room.count)
        ]
        return self._enough([[request for request, _ in each] for each in self.asked], rooms)

    def _enough(self, asked: Sequence[Sequence[Request]], rooms: Sequence[HostResources]) -> list[_Fewest]:
        """As many hosts for each replicate, on which the guests of every replicate get a place.

        A rule that does with so many hosts may not do with one more. So all are placed on those of the hardest.
        """
        found = [self._fewest(run, requests, rooms) for run, requests in zip(self.runs, asked, strict=True)]
        while len({each.hosts for each in found}) > 1:
            most = max(each.hosts for each in found)
            for number, each in enumerate(found):
                if each.hosts < most:
                    more = self._fewest(self.runs[number], asked[number], rooms, at_least=most)
                    found[number] = more._replace(least=each.least)
        return found

    def _fewest(
        self, run: Run, requests: Sequence[Request], rooms: Sequence[HostResources], at_least: int = 1
    ) -> _Fewest:
        """The fewest hosts on which all of them get a place, also if the fullest ones fail at the peak hour."""
        spec = run.cell.spec
        until_ns = spec.ticks * spec.tick_ns
        peak, _, _ = most_at_once(
            ((each.start_ns or 0, each.end_ns, each.memory_pages, each.vcpus) for each in requests), until_ns
        )
        peak_ns = int(peak)
        failure_ns = min(peak_ns + 1, until_ns)
        largest = Room((max(room.memory_pages for room in rooms), max(room.vcpus for room in rooms), math.inf), 1)
        classes = _in_classes(rooms)
        kinds = [whole([room.memory_pages, room.vcpus]) for room in set(rooms)]
        for request in requests:
            if not any(request.memory_pages <= pages and request.vcpus <= vcpus for pages, vcpus in kinds):
                size = f"{MEMORY.format(request.memory_pages)}, {counted(request.vcpus, 'vCPU')}"
                raise UserError(
                    f"no number of hosts is enough: {request.name}-{request.number} ({size}) is too large for a host: "
                    "make hosts larger, or keep less of them free"
                )
        rule = spec.fleet.placement, partial(rank_of, "place", run.cell.seed, run.replicate)

        def placed(
            many: int, outages: Sequence[HostOutage], on: Sequence[HostResources], who: Sequence[Request]
        ) -> _Try:
            return _Try(_placed(list(islice(cycle(on), many)), who, rule, outages, until_ns), outages)

        def attempt(many: int, on: Sequence[HostResources] = rooms, who: Sequence[Request] = requests) -> _Try:
            outages = _outages(spec.fleet, many)
            found = placed(many, outages, on, who)
            if found.refused or not self.spare:
                return found
            there = [life for life in found.lives if _lives_at(life, peak_ns)]
            held = _held(there, [request.memory_pages for request in who])
            out = _closed_at(outages, failure_ns)
            failed = sorted(range(many), key=lambda host: (host in out, -held[host]))[: self.spare]
            failures = [HostOutage(host, host + 1, failure_ns, failure_ns, 0) for host in failed]
            all_outages = [*failures, *_outages(spec.fleet, many, failures)]
            return placed(many, all_outages, on, who)._replace(failing=True)

        tried = cache(attempt)

        def fits(many: int) -> bool:
            return many > self.spare and tried(many).refused is None  # else all of them might fail

        studied = outages_of(spec.fleet)
        moments = list(_moments(requests, studied, self.spare, failure_ns, until_ns))
        tightest = max(moments, key=lambda moment: moment.hosts(classes))
        busiest = max(moments, key=lambda moment: moment._replace(pages=0).hosts(classes))
        times = [failure_ns, *(each.at_ns for each in studied if each.at_ns <= until_ns)]
        closed = max(len(_closed_at(studied, time)) + self.spare * (time >= failure_ns) for time in times)
        bound = max(math.ceil(tightest.hosts([largest]) - _ROUNDING), closed)  # on fewer, fewer would be out
        low, step = max(bound, at_least, self.spare + 1) - 1, 1
        while (high := min(low + step, MAX_HOSTS)) > low and not fits(high):
            low, step = high, 2 * step
        if high <= low:
            spare = f", {self.spare:,} spare ones included: ask for fewer of those" if self.spare else ""
            raise UserError(f"more than {MAX_HOSTS:,} hosts would be needed{spare or ': make hosts larger'}")
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        less = tried(high - 1) if high > max(self.spare + 1, at_least) else _Try([], failing=self.spare > 0)
        because = "failures" if less.failing else ""
        if less.refused:
            if not because and spec.fleet.outage and not placed(high - 1, (), rooms, requests).refused:
                because = "outages"
            by_vcpus = [HostResources(room.vcpus, room.vcpus) for room in rooms]
            without_memory = [replace(each, memory_pages=each.vcpus) for each in requests]
            if largest.amounts[1] < math.inf and (vcpus := attempt(high - 1, by_vcpus, without_memory)).refused:
                less, because = vcpus, "vCPUs"
        elif not because and high == closed > 1:
            because = "outages"
        found = tried(high)
        out = _out_at(found.outages, tightest.time_ns)
        in_service = (room for host, room in enumerate(islice(cycle(rooms), high)) if host not in out)
        return _Fewest(
            high, high, tightest, busiest, (*_in_classes(in_service), *classes), peak_ns, found.lives, less, because
        )


def _in_classes(rooms: Iterable[HostResources]) -> tuple[Room, ...]:
    """Hosts in their order, those that follow on one like them together with it."""
    return tuple(Room((each.memory_pages, each.vcpus, math.inf), len(list(some))) for each, some in groupby(rooms))


def _moments(
    requests: Sequence[Request], outages: Sequence[HostOutage], failures: int, failure_ns: int, until_ns: int
) -> Iterator[_Moment]:
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
        yield _Moment(time, pages, vcpus, out, failures * (time >= failure_ns))


def _placed(
    hosts: Sequence[HostResources],
    requests: Sequence[Request],
    rule: tuple[str, Callable[..., bytes]],
    outages: Sequence[HostOutage],
    until_ns: int,
) -> list[Life]:
    """Who lives where, as a study places them; of guests that have to be there, the first that fits nowhere."""
    try:
        return place_in_time(hosts, requests, *rule, outages, until_ns)
    except NoRoomError as error:
        standing = [number for number, request in enumerate(requests) if request.start_ns is None]
        return [Life(standing[error.number], 0, REFUSED, None, None, "refused", error.why)]


def _outages(fleet: Fleet, hosts: int, failures: Sequence[HostOutage] = ()) -> list[HostOutage]:
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


def _held(lives: Iterable[Life], pages: Sequence[int]) -> Counter[int]:
    """Pages that lives have on each host; ``pages``: of the guest of each request."""
    held = Counter[int]()
    for life in lives:
        held[life.host] += pages[life.request]
    return held


def _lives_at(life: Life, time_ns: int) -> bool:
    return not life.refused and (life.start_ns or 0) <= time_ns and (life.end_ns is None or life.end_ns > time_ns)


def _binding(found: _Fewest) -> str:
    """What keeps the number of hosts from falling: a resource, fragmentation, failures to survive, or outages."""
    if found.hosts == 1:
        return "one host"
    if found.because:
        return found.because
    if found.hosts - math.ceil(found.uncut - _ROUNDING) > _LOST * found.hosts:
        return "fragmentation"
    return RESOURCES[found.alone[1] > found.alone[0]]


def hour_text(time_ns: int) -> str:
    """When something is, since the start of the run and by the clock: "hour 38.0 (day 2, 14:00)"."""
    day, minute = divmod(time_ns // (HOUR_NS // 60), 24 * 60)
    return f"hour {time_ns / HOUR_NS:.1f} (day {day + 1}, {minute // 60:02}:{minute % 60:02})"


def _moment(found: _Fewest, requests: Sequence[Request], spec: CellSpec) -> str:
    """What goes wrong with one host fewer, and when."""
    refused = found.less.refused
    if refused is None:
        return "there would be none left"
    request, now = requests[refused.request], max(refused.start_ns or 0, 0)
    guest = f"{request.name}-{request.number} ({MEMORY.format(request.memory_pages)}, {counted(request.vcpus, 'vCPU')})"
    after = ", after the failure" if found.less.failing else ""
    out = [name for name, each in spec.fleet.outage.items() if each.at <= now and not 0 < each.back <= now]
    during = f", during fleet.outage.{' and fleet.outage.'.join(out)}" if out else ""
    why = REFUSALS[refused.refused]
    if found.because == "vCPUs":
        why = "no host had enough vCPUs left, however little memory guests take"
    return f"{guest} gets no place at {hour_text(now)}{after}{during}: {why}"
