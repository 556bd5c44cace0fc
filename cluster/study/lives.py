"""Who lives on which host of a fleet, and from when to when: known before any host is simulated."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.cluster.study.arrivals import HOUR_NS, arriving
from coldfleet.cluster.study.fleet_tables import Fleet
from coldfleet.cluster.study.model import CellSpec
from coldfleet.cluster.study.placement import REFUSALS, HostResources, Request, whole
from coldfleet.cluster.study.plan import Cell, Plan, Run
from coldfleet.cluster.study.terminal import SAY_AFTER_S, announce, announced, counted
from coldfleet.cluster.study.timeline import REFUSED, HostOutage, Life, place_in_time
from coldfleet.hostsim.spec.checks import MAX_HOST_PAGES
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.units import TIME

MAX_PLACING_S = 60.0
KEPT_FLEETS = 4  # that a process remembers
_Ints = npt.NDArray[np.int64]


class HostedLife(NamedTuple):
    """A life on a host, as the simulation of the host sees it: from which tick, up to which (0: to the end)."""

    number: int  # among all lives of the run
    request: Request
    life: Life
    arrives: int
    leaves: int

    @property
    def name(self) -> str:
        """The guest's class and number, and which life it is, if it lost a host before."""
        again = f".{self.life.number}" if self.life.number else ""
        return f"{self.request.name}-{self.request.number}{again}"

    @property
    def is_simulated(self) -> bool:
        """Whether it lives at the end of some tick, on a host."""
        return self.life.host != REFUSED and (not self.leaves or self.leaves > self.arrives)

    def ticks(self, of_run: int) -> int:
        """In how many ticks of so many it makes accesses."""
        return (self.leaves or of_run + 1) - max(self.arrives, 1)


class PlacedHost(NamedTuple):
    """A host that has guests: its class, its number in the fleet, and their lives in the order in which they begin."""

    host_class: str
    place: int
    lives: list[HostedLife]


def all_lives(run: Run) -> list[HostedLife]:
    """Every life of the guests of classes in a run, and every refusal, in the order of time."""
    return _placed(_Placing.of(run)).lives


def all_hosts(run: Run) -> list[PlacedHost]:
    """The hosts of a run whose guests are of classes, in the order of the table "hosts"."""
    return _placed(_Placing.of(run)).hosts


def most_guests(run: Run) -> int:
    """How many guests the host of a run has that has most, over all its time; they are numbered from 0 on each."""
    fleet = run.cell.spec.fleet
    return max((len(host.lives) for host in all_hosts(run)), default=0) if fleet.guest else fleet.guests_per_host


def most_hosts(spec: CellSpec) -> int:
    """How many hosts a run has; where guests are of classes, some may stay without any and are left out."""
    return sum(each.count for each in spec.host_classes.values()) if spec.fleet.guest else spec.fleet.hosts


def may_have_hosts(spec: CellSpec, count: int) -> bool:
    """Whether a run can have so many hosts."""
    return 0 < count <= most_hosts(spec) if spec.fleet.guest else count == spec.fleet.hosts


def check_fleets(plan: Plan, what_for: str = "") -> None:
    """Raises :class:`UserError` with the reasons if guests of some run that have to be there don't fit on its hosts.

    Fleets are placed once for each replicate, however many cells have them. ``what_for``: is told if it takes long.
    """
    if not plan.cell(0).spec.fleet.guest:
        return
    fleets: dict[object, Cell] = {}
    for number in announced(plan.cell_count, "cells looked at for their fleets"):
        cell = plan.cell(number)
        fleets.setdefault(_fleet_of(cell), cell)
    seconds = plan.replicates * sum(map(_placing_s, fleets.values()))
    placing = f"placing the guests of {counted(len(fleets), 'fleet')} in {counted(plan.replicates, 'replicate')}"
    if seconds > MAX_PLACING_S:
        raise UserError(f"{placing} would take {seconds:,.0f} s: make do with fewer guests, hosts or replicates")
    if seconds > SAY_AFTER_S:
        announce(f"{placing}, about {seconds:,.0f} s ...")
    sample = min(int(str(share).rpartition("/")[2]) for share in plan.values("host.sample"))
    for replicate in announced(plan.replicates, f"replicates placed{what_for}"):
        for cell in fleets.values():
            try:
                _check_pages(all_hosts(Run(-1, cell, replicate)), sample)
            except UserError as error:
                where = ", ".join(f"{path} = {cell.spec.value(path)}" for path in plan.varied)
                raise UserError(f"the fleet doesn't fit{f' in the cell {where}' if where else ''}: {error}") from None


def too_large_for_all(run: Run) -> dict[str, tuple[int, Request]]:
    """Classes some of whose guests are refused as no host could have them, were it empty: how many, and the first."""
    found: dict[str, tuple[int, Request]] = {}
    if not run.cell.spec.fleet.over_time or not run.cell.spec.memory_is_limited:
        return found
    rooms = {host for _, host in _resources(run.cell.spec, 0)}
    for each in all_lives(run):
        asked = each.request
        if each.life.refused and not any(
            asked.memory_pages <= room.memory_pages and asked.vcpus <= room.vcpus for room in rooms
        ):
            many, first = found.get(asked.name, (0, asked))
            found[asked.name] = many + 1, first
    return found


def _check_pages(hosts: Sequence[PlacedHost], sample: int) -> None:
    """Pages of all guests that live on a host in the course of a run are numbered by 31 bits."""
    for host in hosts:
        if (pages := sum(each.request.memory_pages for each in host.lives)) / sample >= MAX_HOST_PAGES:
            raise UserError(
                f"the {len(host.lives):,} guests that live on host {host.place} in the course of a run have "
                f"{pages:,} pages; at most {MAX_HOST_PAGES:,} are simulated: let fewer come, or add hosts"
            )


def _fleet_of(cell: Cell) -> tuple[object, ...]:
    """All that decides who lives where, but seed and replicate."""
    spec, fleet = cell.spec, cell.spec.fleet
    time = (spec.ticks, spec.tick_ns, cell.data.get(fleet.arrivals)) if fleet.over_time else ()
    return spec.overcommit, spec.host.hugetlb, str(spec.host_classes), fleet.model_dump_json(), *time


def _placing_s(cell: Cell) -> float:
    """About how long it takes to place a fleet, in seconds; measured."""
    fleet, spec = cell.spec.fleet, cell.spec
    hours = spec.ticks * spec.tick_ns / HOUR_NS
    guests = sum(
        each.count + each.arrivals.per_hour * (hours + each.arrivals.mean_lifetime / HOUR_NS)
        for each in fleet.guest.values()
    )
    guests += cell.data[fleet.arrivals].rows if fleet.arrivals else 0
    hosts = most_hosts(spec)
    return hosts * 1e-6 + guests * (15e-6 + hosts * 2e-9)


@dataclass(frozen=True)
class _Placing:
    """A run as far as who lives where is concerned: the cells of a fleet that differ in other things have the same."""

    fleet: tuple[object, ...]
    seed: int
    replicate: int
    cell: Cell = field(compare=False)

    @classmethod
    def of(cls, run: Run) -> _Placing:
        return cls(_fleet_of(run.cell), run.cell.seed, run.replicate, run.cell)


class _Placed(NamedTuple):
    lives: list[HostedLife]
    hosts: list[PlacedHost]


@lru_cache(maxsize=KEPT_FLEETS)  # the shards of a large run ask for it one after the other
def _placed(placing: _Placing) -> _Placed:
    """Raises :class:`UserError` if there is no room for a guest that has to be there, or none is there at all.

    Where hosts have as much memory as is needed, every guest fits on any: each then goes where the fewest pages are.
    """
    spec, seed, replicate = placing.cell.spec, placing.seed, placing.replicate
    requests = _requests(placing)
    resources = _resources(spec, sum(each.memory_pages for each in requests))
    rule = spec.fleet.placement if spec.memory_is_limited or spec.fleet.placement == "random" else "worst-fit"
    rank = partial(rank_of, "place", seed, replicate)
    until_ns = spec.ticks * spec.tick_ns
    found = place_in_time([host for _, host in resources], requests, rule, rank, outages_of(spec.fleet), until_ns)
    lives = hosted_lives(spec, found, requests)
    hosts = hosts_of(lives, [name for name, _ in resources])
    if not requests and spec.fleet.arrivals:
        raise UserError(
            f"no guest lives in the run: all rows of {spec.fleet.arrivals} are before or after the run, of "
            f"{TIME.format(until_ns)}: its times are seconds since the start of the run"
        )
    if not hosts:
        refused = Counter(each.life.refused for each in lives if each.life.refused)
        told = "; ".join(f"{counted(many, 'guest')} refused, as {REFUSALS[why]}" for why, many in refused.items())
        raise UserError(
            f"in replicate {replicate} no guest has a place at the end of any tick ({told or 'too few come'}): "
            + ("make hosts larger, or add some" if told else "let more arrive, or make the run longer")
        )
    return _Placed(lives, hosts)


def outages_of(fleet: Fleet) -> list[HostOutage]:
    """The outages that a study says."""
    return [
        HostOutage(each.host, each.host + each.count, each.at, each.at + each.grace, each.back)
        for each in fleet.outage.values()
    ]


def hosted_lives(spec: CellSpec, found: Sequence[Life], requests: Sequence[Request]) -> list[HostedLife]:
    """The lives of a run as the simulation sees them; each says by its number whose request it is."""
    return [
        HostedLife(number, requests[life.request], life, *_in_ticks(life, spec.ticks, spec.tick_ns))
        for number, life in enumerate(found)
    ]


def hosts_of(lives: Iterable[HostedLife], classes: Sequence[str]) -> list[PlacedHost]:
    """The hosts of a fleet that have guests at the end of some tick; ``classes``: that of every host."""
    of_host: list[list[HostedLife]] = [[] for _ in classes]
    for each in filter(attrgetter("is_simulated"), lives):
        of_host[each.life.host].append(each)
    return [PlacedHost(name, place, own) for place, (name, own) in enumerate(zip(classes, of_host, strict=True)) if own]


def _in_ticks(life: Life, ticks: int, tick_ns: int) -> tuple[int, int]:
    """The first tick at whose end a life has begun, and the first at whose end it is over; 0: it lasts longer."""
    start, end = life.start_ns, life.end_ns
    arrives = 0 if start is None else -(-max(start, 0) // tick_ns)
    leaves = 0 if end is None else -(-end // tick_ns)
    return arrives, leaves if leaves <= ticks else 0


def _requests(placing: _Placing) -> list[Request]:
    """Every guest of a run. Those that are there throughout come in an order that only seed and replicate decide."""
    spec, seed, replicate = placing.cell.spec, placing.seed, placing.replicate
    requests = [
        Request(name, number, each.memory + each.page_cache.memory, each.vcpus, priority=each.priority)
        for name, each in spec.fleet.guest.items()
        for number in range(each.count)
    ]
    requests.sort(key=lambda each: (each.priority, rank_of("arrival", seed, replicate, each.name, each.number)))
    if spec.fleet.over_time:
        file = placing.cell.data[spec.fleet.arrivals].fetch() if spec.fleet.arrivals else None

        def random(name: str) -> np.random.Generator:
            return np.random.default_rng(int.from_bytes(rank_of("arrivals", seed, replicate, name)))

        requests += arriving(spec.fleet, file, spec.ticks * spec.tick_ns, random)
    return requests


def room_of(spec: CellSpec) -> HostResources:
    """What all hosts together can take; 0 pages, or infinitely many vCPUs: that isn't limited."""
    rooms = [host for _, host in _resources(spec, 0)]
    pages = sum(host.memory_pages for host in rooms) if spec.memory_is_limited else 0
    return HostResources(pages, sum(host.vcpus for host in rooms))


def hosts_out(spec: CellSpec, times_ns: _Ints) -> _Ints:
    """How many hosts are out of service at each of these times, those that are drained included."""
    out = np.zeros((most_hosts(spec), len(times_ns)), bool)
    for each in spec.fleet.outage.values():
        during = (each.at <= times_ns) & ((times_ns < each.back) | (each.back == 0))
        out[each.host : each.host + each.count] |= during
    counts: _Ints = out.sum(axis=0)
    return counts


def _resources(spec: CellSpec, every: int) -> list[tuple[str, HostResources]]:
    """Every host with its class's name, and what it can take under the overcommit ratios, maybe all: ``every`` page."""
    classes = {}
    for name, each in spec.host_classes.items():
        pages = (each.memory - spec.host.hugetlb) * spec.overcommit or every
        vcpus = each.cpus * spec.fleet.vcpus_per_cpu if each.cpus else math.inf
        classes[name] = HostResources(*whole([pages, vcpus]).tolist())
    return [(name, classes[name]) for name, each in spec.host_classes.items() for _ in range(each.count)]


def rank_of(*who: str | int) -> bytes:
    """A number that is drawn for somebody: a hash of all that it depends on."""
    return hashlib.blake2b(" ".join(map(str, who)).encode(), digest_size=16).digest()
