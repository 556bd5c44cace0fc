"""What the guests' memory really takes of DRAM, and how many hosts they need.

DRAM used is resident pages, zram's pool and kernel memory, the mean over the ticks of a run. Guests that do the same
(of a class, nested or not) are a kind. What a host has to have for a guest is the mean of its kind over all of them and
all replicates, times the spread: how much more than its guests' means a host used at the 95th percentile of hosts and
replicates.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from coldfleet.cluster.answers.host_check import CheckedHost, HostCheck, check_hosts
from coldfleet.cluster.answers.slo import Slo
from coldfleet.cluster.stats.statistics import Interval, short, t_interval
from coldfleet.cluster.study.fleet import FleetHost, build_fleet, build_hosts
from coldfleet.cluster.study.model import CellSpec
from coldfleet.cluster.study.placement import Amounts, Need, Packing, Room, most_at_once, pack, uncut_hosts
from coldfleet.cluster.study.plan import Cell, Plan, Run
from coldfleet.cluster.study.terminal import counted
from coldfleet.hostsim.engine.state import PTRS_PER_PTE, SHADOW_UPPER_LEVELS, UPPER_LEVELS
from coldfleet.hostsim.memory.watermarks import kernel_watermarks
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import GuestSpec, HostSpec

DENSITY = "fleet.guests_per_host"
DRAM = ("resident_page_ticks", "pool_page_ticks", "kernel_page_ticks")
_KERNEL = DRAM[-1:]
_SPREAD = 95  # percent of hosts and replicates that use no more
_MANY = 1000  # fleets, to see how many hosts one needs on average
_TRIES = 20  # of fleets, for one that needs as many as asked
_LOST = 0.05  # of the hosts: fragmentation that takes more is what binds

Rows = Sequence[Mapping[str, Any]]


def kind_of(guest: GuestSpec) -> GuestSpec:
    """What all guests that do the same have in common."""
    return replace(guest, name="", limit_pages=0, arrives=0, leaves=0)


def memory_of(guest: GuestSpec) -> int:
    """Pages that a guest is promised: its memory, and its file in the page cache."""
    return guest.memory_pages + (guest.page_cache.pages if guest.page_cache else 0)


@dataclass(frozen=True)
class DramAccount:
    """DRAM of a fleet at one load, in pages. ``promised``, ``used``: of the fleet, in each replicate.

    Promised is the guests' memory, their files included, for as long as they live, and the kernel memory that they
    take. ``guests``: by kind, how many there are. ``means``: by kind, what a guest used while it lived. ``spread``: as
    above, 1 at least.
    """

    promised: tuple[float, ...]
    used: tuple[float, ...]
    guests: Mapping[GuestSpec, int]
    means: Mapping[GuestSpec, float]
    spread: float

    @classmethod
    def of(cls, runs: Sequence[tuple[Sequence[HostSpec], Rows]]) -> DramAccount:
        """The account of replicates: each its hosts and the rows of all guests."""
        promised, used = [], []
        by_kind: dict[GuestSpec, list[float]] = {}
        by_host: list[tuple[float, dict[GuestSpec, float]]] = []
        for hosts, rows in runs:
            kinds: list[dict[GuestSpec, float]] = [defaultdict(float) for _ in hosts]
            spent = [0.0] * len(hosts)
            promised.append(0.0)
            for row in rows:
                spec = hosts[row["host"]]
                guest = spec.guests[row["guest"]]
                dram = sum(row[name] for name in DRAM) / spec.ticks
                there = row["lived_ticks"] / spec.ticks
                promised[-1] += memory_of(guest) * there + sum(row[name] for name in _KERNEL) / spec.ticks
                spent[row["host"]] += dram
                kinds[row["host"]][kind_of(guest)] += there
                of_kind = by_kind.setdefault(kind_of(guest), [0.0, 0.0])
                of_kind[0] += dram
                of_kind[1] += there
            used.append(sum(spent))
            by_host += zip(spent, kinds, strict=True)
        means = {kind: dram / there if there else float(memory_of(kind)) for kind, (dram, there) in by_kind.items()}
        ratios = sorted(spent / sum(means[kind] * n for kind, n in kinds.items()) for spent, kinds in by_host if spent)
        spread = max(ratios[math.ceil(_SPREAD / 100 * len(ratios)) - 1], 1.0) if ratios else 1.0
        guests = Counter(kind_of(guest) for host in runs[0][0] for guest in host.guests)
        return cls(tuple(promised), tuple(used), guests, means, spread)

    @property
    def saved(self) -> float:
        """Promised less used, the mean over replicates; 0 if more is used than promised."""
        return max(statistics.fmean(self.promised) - statistics.fmean(self.used), 0.0)

    def saved_interval(self, confidence: float) -> Interval:
        """Of what is saved, at a confidence in percent."""
        saved = [a - b for a, b in zip(self.promised, self.used, strict=True)]
        low, high = t_interval(saved, confidence) if len(saved) > 1 else (saved[0], saved[0])
        return Interval(max(low, 0.0), max(high, 0.0))

    @property
    def saved_share(self) -> float:
        """Of what is promised, 0..1."""
        return self.saved / statistics.fmean(self.promised)

    def saved_share_interval(self, confidence: float) -> Interval:
        """Of that share."""
        promised = statistics.fmean(self.promised)
        low, high = self.saved_interval(confidence)
        return Interval(low / promised, high / promised)

    def used_interval(self, confidence: float) -> Interval:
        """Of what is used, as a share of its mean."""
        low, high = t_interval(self.used, confidence) if len(self.used) > 1 else (self.used[0], self.used[0])
        mean = statistics.fmean(self.used) or 1.0
        return Interval(low / mean, high / mean)


@dataclass(frozen=True)
class HostCount:
    """Hosts that a fleet needs.

    ``hosts``: with ``spare`` ones; ``without``: the same without overcommit. ``binding``: what asks for them.
    ``by_use``: guests are packed by what they used, else by what they are promised, which is less.
    ``guests``: by kind, those of a host of which there are most; its memory is ``host_pages``. ``fleets``: how many
    like the one that was run. ``all_guests``: of the fleet. ``asked``: what they all need of placement.RESOURCES;
    ``rooms``: the hosts that have it, in the order in which they are taken, and those that would come next.
    ``uncut_without``: hosts that would do without overcommit if guests could be cut in pieces. ``classes``: where there
    are several, the hosts of each, without those that are kept without guests.
    """

    hosts: int
    spare: int
    without: int
    binding: str
    guests: Mapping[GuestSpec, int] = field(default_factory=dict)
    host_pages: float = 0.0
    fleets: float = 1.0
    all_guests: int = 1
    asked: Amounts = (0.0, 0.0, 0.0)
    rooms: tuple[Room, ...] = (Room((math.inf, math.inf, math.inf), 1),)
    uncut_without: float = 0.0
    by_use: bool = True
    classes: Mapping[str, int] = field(default_factory=dict)

    def uncut(self, times: float = 1.0) -> float:
        """Hosts that would do if guests could be cut in pieces, and used so many times the memory; spare ones included.

        Whole guests make whole numbers of them on each host, which hides small differences and enlarges others.
        """
        pages, vcpus, guests = self.asked
        return min(max(uncut_hosts((pages * times, vcpus, guests), self.rooms)), self.uncut_without) + self.spare

    @property
    def guests_per_host(self) -> float:
        """On those that aren't spare."""
        return self.all_guests / (self.hosts - self.spare)

    @property
    def of_one_guest(self) -> float:
        """How many hosts one guest a host more or less is, about: the change of guests / (guests per host)."""
        return (self.hosts - self.spare) / self.guests_per_host

    @property
    def saved(self) -> int:
        """Hosts fewer than without overcommit; negative: more."""
        return self.without - self.hosts

    @property
    def text(self) -> str:
        """It in words."""
        spare = f", {self.spare} of them spare" if self.spare else ""
        one = f"± one guest a host is {short(self.of_one_guest)} hosts"
        with_spare = f", {self.spare} spare included" if self.spare else ""
        one = f"{short(self.uncut())}{with_spare} if guests could be cut in pieces; {one}"
        if not self.saved:
            needed = f": {self.in_classes} are needed" if self.classes else ""
            return f"No host is saved{needed}, because of {self.binding} ({one})"
        enough = f"{self.in_classes}{spare} {'is' if self.hosts == 1 else 'are'} enough"
        if self.saved < 0:
            return f"{enough}, {self.more} ({one})"
        why = f"and not fewer because of {self.binding}"
        return f"{enough} for what needs {self.without:,} without overcommit, {why} ({one})"

    @property
    def in_classes(self) -> str:
        """How many hosts, and of which classes: "12 hosts (2 big, 10 small)"."""
        some = ", ".join(f"{count:,} {name}" for name, count in self.classes.items() if count)
        return f"{counted(self.hosts, 'host')} ({some})" if some else counted(self.hosts, "host")

    @property
    def more(self) -> str:
        """Why there are more than without overcommit, in words."""
        own = "as kernel memory and what the kernel keeps free take room, too"
        return f"{-self.saved:,} more than for what guests are promised, which didn't hold in a run, {own}"


@dataclass(frozen=True)
class FleetSize:
    """The hosts that guests are packed on, and how many fleets like the study's there are.

    ``rooms``: pages, vCPUs and guests of a host of each class, of whose memory ``hugetlb_pages`` are reserved beside
    these. ``headroom``: share of the memory that is kept free.
    ``spare``: hosts that have no guests, in case others fail. ``guests``: in the study's fleet.
    ``watermark_scale_factor``: of the kernel, which keeps its high watermark free. ``given``: the study says how much
    memory hosts have. ``scale``: times the study's fleet. ``classes``: the names of the classes of hosts.
    """

    rooms: tuple[Room, ...]
    headroom: float
    spare: int
    guests: Mapping[GuestSpec, int]
    watermark_scale_factor: int
    given: bool
    hugetlb_pages: int = 0
    scale: float = 1.0
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, plan: Plan, hosts: int | None, headroom: float = 0.0, spare: int = 0) -> FleetSize:
        """The study's fleet, or one like it that needs so many hosts without overcommit, spare ones apart, or as nearly
        as many as whole guests allow.

        Hosts have the memory and the CPUs that the study gives them; else the memory that their guests are promised,
        and no limit of vCPUs.
        """
        spec, built = plan.cell(0).spec, build_hosts(plan.run(0))
        guests = Counter(kind_of(guest) for host in built for guest in host.guests)
        pages = max(sum(map(memory_of, host.guests)) for host in built)
        rooms = _rooms(spec, [pages] * len(spec.host_classes))
        limited = spec.memory_is_limited
        fleet = cls(rooms, headroom, spare, guests, spec.host.watermark_scale_factor, limited, spec.host.hugetlb)
        fleet = replace(fleet, classes=tuple(spec.host_classes))
        if hosts is None:
            return fleet
        many = {kind: count * _MANY for kind, count in guests.items()}
        about = hosts * _MANY / fleet._without_overcommit(many).hosts
        return replace(fleet, scale=fleet._nearest_scale(hosts, about))

    def _nearest_scale(self, hosts: int, about: float) -> float:
        """At which the guests need so many hosts without overcommit, or as nearly so many as is found."""
        low, high, found = 0.0, 2 * about, []
        scale = about
        for tried in range(_TRIES):
            needed = self._without_overcommit(self._scaled(self.guests, scale)).hosts
            found.append((abs(needed - hosts), tried, scale))
            if needed == hosts:
                break
            low, high = (scale, high) if needed < hosts else (low, scale)
            scale = (low + high) / 2
        return min(found)[-1]

    @property
    def hosts(self) -> int:
        """Hosts that the guests need if each has all of its memory, spare ones included."""
        return self._without_overcommit(self._scaled(self.guests, self.scale)).hosts + self.spare

    def at(self, cell: Cell) -> Self:
        """The same with the hosts that there are at the load of a cell; an account brings its guests with it."""
        rooms = _rooms(cell.spec, [room.amounts[0] for room in self.rooms])
        return replace(self, rooms=rooms, watermark_scale_factor=cell.spec.host.watermark_scale_factor)

    def hosts_needed(self, account: DramAccount, most_guests: float = math.inf, by_use: bool = False) -> HostCount:
        """Hosts for the guests of an account, and for as many as in the study if a host has ``most_guests`` at a time.

        Never more than without overcommit, unless ``by_use``: guests need room for all that they used. That is more
        than they are promised where kernel memory and what the kernel keeps free are more than reclaim saved. If a
        guest then is larger than a host, it is without overcommit whatever ``by_use`` says.
        """
        scale = self.scale
        if most_guests < math.inf:
            scale *= sum(self.guests.values()) / sum(account.guests.values())
        guests = self._scaled(account.guests, scale)
        plain = self._without_overcommit(guests)
        needs = [Need((account.means[kind] * account.spread, kind.vcpus, 1.0), count) for kind, count in guests.items()]
        try:
            packed = pack(needs, [self._usable(room, most_guests) for room in self.rooms])
        except UserError:
            packed, by_use = plain, False
        else:
            by_use = by_use or packed.hosts <= plain.hosts
        chosen = packed if by_use else plain
        load = max(chosen.loads)
        on_it = {kind: n for kind, n in zip(guests, load.guests, strict=True) if n}
        pages = self.rooms[load.room].amounts[0]
        return HostCount(
            chosen.hosts + self.spare,
            self.spare,
            plain.hosts + self.spare,
            _binding(packed, chosen.hosts),
            on_it,
            pages,
            scale,
            sum(guests.values()),
            packed.asked,
            packed.rooms,
            math.inf if by_use and packed.hosts > plain.hosts else max(plain.alone),
            by_use,
            self._in_classes((self.classes[load.room], load.hosts) for load in chosen.loads),
        )

    def check(self, run: Run, count: HostCount, seconds: float, slos: Sequence[Slo]) -> HostCheck:
        """Runs a host of the size that is answered, with the guests of one of which there are most."""
        like = build_fleet(run, slice(1))[0]
        kinds = (kind for kind, many in count.guests.items() for _ in range(many))
        guests = tuple(replace(kind, name=f"guest-{number}") for number, kind in enumerate(kinds))
        spec = replace(like.spec, guests=guests, mode="host")
        host = self._checked(0, like._replace(spec=spec), count.host_pages, count.by_use)
        return check_hosts([host], 1, run.cell.seed, 0, seconds)

    def _in_classes(self, hosts: Iterable[tuple[str, int]]) -> dict[str, int]:
        """Of each class the hosts, given in any number of pieces, if there are several classes."""
        counts = dict.fromkeys(self.classes, 0)
        for name, count in hosts:
            counts[name] += count
        return counts if len(counts) > 1 else {}

    def _checked(self, number: int, host: FleetHost, pages: float, by_use: bool) -> CheckedHost:
        """A host with so much memory: less headroom, and less what KVM has for nothing, which are its page tables.
        What is reserved for hugetlbfs comes on top.

        Where the study doesn't say how much hosts have, those with what their guests are promised have kernel memory
        and what kswapd keeps free on top of that.
        """

        def most(pages_of: Callable[[GuestSpec], int]) -> int:
            return most_at_once((g.arrives, g.leaves or None, pages_of(g), 0) for g in host.spec.guests)[1]

        if by_use or self.given:
            kvm = most(lambda guest: (1 + bool(guest.nested)) * _tables(guest))
            memory = round(pages * (1 - self.headroom)) - kvm
        else:
            own = most(lambda guest: _tables(guest) + guest.kernel_pages + guest.own_pages)
            memory = round(pages) + own + 2 * self._high_watermark(pages)
        spec = replace(host.spec, memory_pages=max(memory, 1) + self.hugetlb_pages, parent_pages=0, epochs=1)
        return CheckedHost(number, spec, host.policy)

    def _without_overcommit(self, guests: Mapping[GuestSpec, int]) -> Packing:
        needs = [Need((memory_of(kind), kind.vcpus, 1.0), count) for kind, count in guests.items()]
        rooms = [Room((r.amounts[0] * (1 - self.headroom), *r.amounts[1:]), r.count) for r in self.rooms]
        return pack(needs, rooms)

    def _usable(self, room: Room, most_guests: float) -> Room:
        pages, vcpus, _ = room.amounts
        usable = pages * (1 - self.headroom) - self._high_watermark(pages)
        return Room((max(usable, 1.0), vcpus, most_guests), room.count)

    def _high_watermark(self, pages: float) -> int:
        return kernel_watermarks(round(pages) + self.hugetlb_pages, self.watermark_scale_factor).high

    @staticmethod
    def _scaled(guests: Mapping[GuestSpec, int], scale: float) -> dict[GuestSpec, int]:
        return {kind: max(round(count * scale), 1) for kind, count in guests.items()}


def _rooms(spec: CellSpec, pages: Sequence[float]) -> tuple[Room, ...]:
    """Of each class of hosts; ``pages``: what those have of which the study doesn't say it."""
    per_cpu, hugetlb = spec.fleet.vcpus_per_cpu, spec.host.hugetlb
    return tuple(
        Room(
            (each.memory - hugetlb if each.memory else else_pages, each.cpus * per_cpu or math.inf, math.inf),
            each.count,
        )
        for each, else_pages in zip(spec.host_classes.values(), pages, strict=True)
    )


def _tables(guest: GuestSpec) -> int:
    """Page tables of a guest, of one MMU."""
    return UPPER_LEVELS + SHADOW_UPPER_LEVELS * bool(guest.nested) + -(-memory_of(guest) // PTRS_PER_PTE)


def _binding(packed: Packing, hosts: int) -> str:
    """What keeps the number of hosts from falling: a resource, or that guests can't be cut in pieces."""
    if hosts == 1:
        return "one host"
    return "fragmentation" if hosts - packed.least > _LOST * hosts else packed.scarcest
