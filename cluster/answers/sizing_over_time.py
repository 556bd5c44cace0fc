"""How many hosts guests need that come and go, so that all of them get a place at every moment.

What a guest needs of a host is what its kind really used while it lived, times the spread, as in
:mod:`cluster.answers.sizing`; how few hosts do is in :mod:`cluster.answers.fewest_hosts`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import cycle, islice
from typing import Self

from coldfleet.cluster.answers.fewest_hosts import Fewest, enough_hosts, hardest_of, held_pages, lives_at
from coldfleet.cluster.answers.host_check import HostCheck, check_hosts
from coldfleet.cluster.answers.peak_hosts import PeakHosts, binding, what_fails
from coldfleet.cluster.answers.sizing import DramAccount, FleetSize, HostCount, kind_of, memory_of
from coldfleet.cluster.answers.slo import Slo
from coldfleet.cluster.study.fleet import build_placed, requested_guests
from coldfleet.cluster.study.lives import hosted_lives, hosts_of
from coldfleet.cluster.study.placement import HostResources, Request
from coldfleet.cluster.study.plan import Cell, Plan, Run
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import GuestSpec

REPLICATES = 5  # whose guests are placed


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
        fleet = replace(fleet, classes=size.classes)
        return fleet.at(plan.cell(0))

    def at(self, cell: Cell) -> Self:
        """The same with the hosts, and the guests that come, at the load of a cell."""
        runs = tuple(Run(-1, cell, replicate) for replicate in range(REPLICATES))
        return replace(super().at(cell), runs=runs, asked=tuple(tuple(requested_guests(run)) for run in runs))

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
            used = enough_hosts(self.runs, needs, rooms, self.spare)
        except UserError:
            used, by_use = plain, False
        else:
            by_use = by_use or used[0].hosts <= without
        found = used if by_use else plain
        hardest, most = hardest_of(found)
        run = self.runs[hardest]
        requests = [request for request, _ in self.asked[hardest]]
        guests = [guest for _, guest in self.asked[hardest]]
        there = [life for life in most.lives if lives_at(life, most.peak_ns)]
        held = held_pages(there, [memory_of(guest) for guest in guests])
        on_it = Counter(kind_of(guests[life.request]) for life in there if life.host == max(held, key=held.__getitem__))
        spec = run.cell.spec
        own = [name for name, each in spec.host_classes.items() for _ in range(each.count)]
        classes = list(islice(cycle(own), most.hosts))
        placed = hosts_of(hosted_lives(spec, most.lives, requests), classes)
        return PeakHosts(
            most.hosts,
            most.tightest.out + most.tightest.failed,
            without,
            binding(most),
            on_it,
            self.rooms[0].amounts[0],
            1.0,
            len(there),
            most.tightest.asked,
            most.rooms,
            plain[hardest].uncut - most.tightest.out - most.tightest.failed if most.hosts <= without else math.inf,
            by_use,
            self._in_classes((name, 1) for name in classes),
            last=classes[-1],
            least=min(each.least for each in found),
            peak_ns=most.peak_ns,
            moment=what_fails(most, requests, spec),
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
    def _without(self) -> list[Fewest]:
        """Hosts for each replicate if every guest has all of its memory."""
        rooms = [
            HostResources(room.amounts[0] * (1 - self.headroom), room.amounts[1])
            for room in self.rooms
            for _ in range(room.count)
        ]
        return enough_hosts(self.runs, [[request for request, _ in each] for each in self.asked], rooms, self.spare)
