"""From a cell to its hosts: who runs a nested VM, and how much memory each guest may keep."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from coldfleet.cluster.study.arrivals import PAGES_OF_MIB, read_guests, told_guest
from coldfleet.cluster.study.data import READING_KINDS, StudyData, check_workload
from coldfleet.cluster.study.fleet_tables import GuestClass, HostClass
from coldfleet.cluster.study.lives import PlacedHost, all_hosts, all_lives, rank_of
from coldfleet.cluster.study.model import CellSpec
from coldfleet.cluster.study.placement import Request
from coldfleet.cluster.study.plan import Cell, Plan, Run, policy_of
from coldfleet.cluster.study.tables import Guest, Nested, PageCache, Workload
from coldfleet.cluster.study.values import KERNELS_OWN, parse_heat, parse_load
from coldfleet.hostsim.spec.calibration import parse_calibration
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import (
    ClockSpec,
    CompressionSpec,
    GuestSpec,
    HostSpec,
    NestedSpec,
    PageCacheSpec,
    RecordedWorkload,
    VmSpec,
    WorkloadSpec,
)
from coldfleet.hostsim.spec.huge_spec import HugePageSpec
from coldfleet.hostsim.spec.units import MEMORY
from coldfleet.policies import Policy

_RANK_BITS = 32


class FleetHost(NamedTuple):
    """A host of a fleet, the name of its class ("" where all are alike), and how its kernel asks KVM."""

    host_class: str
    spec: HostSpec
    policy: Policy


def build_fleet(run: Run, hosts: slice = slice(None)) -> list[FleetHost]:
    """The fleet of one run, host 0 first; ``hosts``: only these of it."""
    spec = run.cell.spec
    numbers = range(spec.fleet.hosts)[hosts]
    if spec.scenario:
        return [FleetHost("", _scenario_host(spec), run.cell.policy)] * len(numbers)
    if spec.fleet.guest:
        return build_placed(run, all_hosts(run)[hosts])  # the classes in the order of the study
    nested = nested_guests(spec, run.cell.seed, run.replicate)
    sorts = [_guest(run.cell, spec.guest, spec.nested, runs_nested) for runs_nested in (False, True)]
    return [
        FleetHost(
            "",
            _host(
                spec,
                [
                    replace(sorts[(host, guest) in nested], name=f"h{host}g{guest}")
                    for guest in range(spec.fleet.guests_per_host)
                ],
            ),
            run.cell.policy,
        )
        for host in numbers
    ]


def build_hosts(run: Run) -> list[HostSpec]:
    """The hosts of :func:`build_fleet`, without their classes."""
    return [host.spec for host in build_fleet(run)]


def unlike_hosts(run: Run) -> list[HostSpec]:
    """A host of each sort that a run has, by the classes of its guests and whether they come and go."""
    if not run.cell.spec.fleet.guest:
        return build_hosts(run)
    sorts: dict[object, PlacedHost] = {}
    for host in all_hosts(run):
        guests = {(e.request.name, e.request.vcpus, min(e.arrives, 2), e.leaves > 0) for e in host.lives}
        sorts.setdefault((host.host_class, frozenset(guests)), host)
    return [host.spec for host in build_placed(run, sorts.values())]


def host_work(run: Run) -> list[float]:
    """How much work each host of a run is: the accesses of its guests that are simulated, from tick 1 on."""
    spec = run.cell.spec
    if not spec.fleet.guest:
        return [run_work(run) / spec.fleet.hosts] * spec.fleet.hosts
    work, sizes = [], _Sizes(spec)
    for host in all_hosts(run):
        accesses = 0
        for each in host.lives:
            accesses += sizes.of(each.request).accesses_per_tick * each.ticks(spec.ticks)
            accesses += each.request.memory_pages if each.arrives else 0  # which it touches as it arrives
        work.append(float(accesses))
    return [each / sample_of(spec) for each in work]


def run_work(run: Run) -> float:
    """How much work all hosts of a run are together."""
    spec = run.cell.spec
    if spec.fleet.over_time:
        return sum(host_work(run))
    ticks = spec.ticks / sample_of(spec)
    if spec.fleet.guest:
        return ticks * sum(each.count * each.accesses_per_tick for each in spec.fleet.guest.values())
    return ticks * spec.fleet.hosts * spec.fleet.guests_per_host * spec.guest.accesses_per_tick


def sample_of(spec: CellSpec) -> int:
    """Of how many page tables one is simulated."""
    return int(spec.host.sample.rpartition("/")[2])


def varies_over_time(plan: Plan) -> bool:
    """Whether guests come and go in some cell of a plan."""
    return plan.cell(0).spec.fleet.over_time or any("arrivals" in path or "outage" in path for path in plan.varied)


def decides_work(path: str) -> bool:
    """Whether the work or the number of hosts may depend on a key."""
    return path in ("ticks", "host.sample") or path.startswith(("fleet.", "guest."))


def build_placed(run: Run, hosts: Iterable[PlacedHost]) -> list[FleetHost]:
    """Hosts of a run with the guests that live on them."""
    spec, cell = run.cell.spec, run.cell
    nested, guests = _nested_of_classes(run), _Guests(cell)
    fleet = []
    for host_class, _, lives in hosts:
        chosen = []
        for each in lives:
            guest = guests.like(each.request, (each.request.name, each.request.number) in nested)
            chosen.append(replace(guest, name=each.name, arrives=each.arrives, leaves=each.leaves))
        node = spec.host_classes[host_class]
        policy = policy_of(spec, {}, node.kernel) if spec.policy == KERNELS_OWN else cell.policy
        fleet.append(FleetHost(host_class, _host(spec, chosen, node), policy))
    return fleet


def requested_guests(run: Run) -> list[tuple[Request, GuestSpec]]:
    """Every guest of classes that asks for a place in a run, whether it gets one or not."""
    nested, guests = _nested_of_classes(run), _Guests(run.cell)
    requests = [each.request for each in all_lives(run) if not each.life.number]
    return [(request, guests.like(request, (request.name, request.number) in nested)) for request in requests]


class _Sizes:
    """The classes of a cell with the memory and the vCPUs of their guests, which a table of guests may say."""

    def __init__(self, spec: CellSpec) -> None:
        self._classes = spec.fleet.guest
        self._found: dict[tuple[str, int, int], GuestClass] = {}

    def of(self, request: Request) -> GuestClass:
        """Raises :class:`UserError` if such a guest can't be."""
        key = request.name, request.memory_pages, request.vcpus
        if key not in self._found:
            kind = self._classes[request.name]
            pages = request.memory_pages - kind.page_cache.memory
            self._found[key] = kind.model_copy(update={"memory": pages, "vcpus": request.vcpus}).sized()
        return self._found[key]


class _Guests:
    """The guests of classes of a cell, without names: one of each size, and each with and without a nested VM."""

    def __init__(self, cell: Cell) -> None:
        self._cell, self._sizes = cell, _Sizes(cell.spec)
        self._found: dict[tuple[str, int, int, bool], GuestSpec] = {}

    def like(self, request: Request, runs_nested: bool) -> GuestSpec:
        """What asks for a place; raises :class:`UserError` if such a guest can't be."""
        key = request.name, request.memory_pages, request.vcpus, runs_nested
        if key not in self._found:
            kind = self._sizes.of(request)
            self._found[key] = _guest(self._cell, kind, kind.nested, runs_nested)
        return self._found[key]


def check_sizes(plan: Plan) -> None:
    """Raises :class:`UserError` if a guest of a table can't have the memory that its row says."""
    checked: set[tuple[str, str]] = set()
    for number in range(plan.cell_count if any(each.classes for each in plan.data.values()) else 0):
        cell = plan.cell(number)
        fleet, spec = cell.spec.fleet, cell.spec
        if not fleet.arrivals or (fleet.arrivals, str(fleet.guest)) in checked:
            continue
        checked.add((fleet.arrivals, str(fleet.guest)))
        file, sizes = cell.data[fleet.arrivals].fetch(), _Sizes(spec)
        table = read_guests(Path(file.path), file.sha256)
        rows = zip(table["class"].to_pylist(), table["memory_mib"].to_pylist(), strict=True)
        first: dict[tuple[str, float | None], int] = {}
        for row, what in enumerate(rows, 1):
            first.setdefault(what, row)
        for (name, mib), row in first.items():
            if mib is not None:
                kind = fleet.guest[name]
                pages = int(mib * PAGES_OF_MIB)
                try:
                    sizes.of(Request(name, 0, pages + kind.page_cache.memory, kind.vcpus))
                    check_workload(kind.workload, pages, cell.data)
                except UserError as error:
                    where = (
                        f"{fleet.arrivals}: {told_guest(Path(file.path), row, table.num_rows)}, of fleet.guest.{name}"
                    )
                    raise UserError(f"{where} with {MEMORY.format(pages)}: {error}") from None


@lru_cache(maxsize=4)  # every host of a run asks for it
def _nested_of_classes(run: Run) -> set[tuple[str, int]]:
    """The (class, number) of guests that run a nested VM: of each class its share of all guests.

    Of guests that are there throughout, those that a fixed ranking puts first; of a class whose guests come and go, as
    evenly over the order in which they come as can be, of long and short lives alike: so its share at any time is
    nearly the same.
    """
    seed, replicate, classes = run.cell.seed, run.replicate, run.cell.spec.fleet.guest
    asked: dict[str, list[Request]] = {name: [] for name in classes}
    for each in all_lives(run):
        if not each.life.number:
            asked[each.request.name].append(each.request)
    chosen = set()
    for name, kind in classes.items():
        guests = sorted(asked[name], key=attrgetter("number"))
        rank: Callable[[int], bytes | int] = partial(rank_of, "nested", seed, replicate, name)
        if len(guests) > kind.count:
            rank = _in_turn(guests, np.random.default_rng(int.from_bytes(rank_of("nested", seed, replicate, name))))
        chosen |= {(name, number) for number in _first(len(guests), kind.nested_ratio, rank)}
    return chosen


def _in_turn(guests: Sequence[Request], rng: np.random.Generator) -> Callable[[int], int]:
    """A ranking by which the first of any share of the guests lie evenly in their order.

    Ranks are a van der Corput sequence: of 2^k guests in a row, from a multiple of 2^k on, each 1/2^k of the ranks has
    one. Which of them is random, or else every second guest would run a nested VM if half of them do. Guests whose
    lifetimes differ by a factor of two or more have sequences of their own.
    """
    ranks = np.zeros(len(guests), np.int64)
    lifetimes = [-1 if each.end_ns is None or each.start_ns is None else each.end_ns - each.start_ns for each in guests]
    magnitudes = np.array([max(each, 0).bit_length() for each in lifetimes])
    for magnitude in np.unique(magnitudes):
        (which,) = np.nonzero(magnitudes == magnitude)
        place = np.arange(len(which))
        bits = len(which).bit_length()
        for bit in range(bits):
            above = place >> (bit + 1)  # what is flipped depends on the bits above: it is done from the lowest on
            place ^= rng.integers(0, 2, len(which))[above] << bit
            ranks[which] |= (place >> bit & 1) << (_RANK_BITS - 1 - bit)
        ranks[which] |= rng.integers(0, 1 << (_RANK_BITS - bits), len(which))
    return ranks.__getitem__


def _scenario_host(spec: CellSpec) -> HostSpec:
    """A host with the guests of a scenario. Several share what all of them may keep, one has a limit of its own."""
    from coldfleet.hostsim.workload.scenario import KINDS, parse_scenario

    guests = []
    for number, guest in enumerate(parse_scenario(spec.scenario)):
        layout = "ident" if "ident" in guest.options else "perm"
        guests.append(
            GuestSpec(
                name=f"{number} {guest}",
                memory_pages=spec.guest.memory,
                limit_pages=limit_pages(spec),
                min_pages=spec.guest.memory_min,
                low_pages=spec.guest.memory_low,
                high_pages=spec.guest.memory_high,
                huge_pages=spec.guest.huge_pages,
                accesses_per_tick=spec.guest.accesses_per_tick,
                kind=guest.kind,
                recorded=RecordedWorkload(guest.workload, layout, "write" in guest.options),
                own_pages=KINDS[guest.kind].own_pages,
                kernel_pages=KINDS[guest.kind].kernel_pages,
                vm=_vm(spec, spec.nested),
                vcpus=spec.clock.vcpus,
            )
        )
    parent_pages = int(len(guests) * spec.guest.memory / spec.overcommit) if len(guests) > 1 else 0
    return replace(_host(spec, guests), parent_pages=parent_pages, scenario=True)


def nested_guests(spec: CellSpec, seed: int, replicate: int) -> set[tuple[int, int]]:
    """The (host, guest) that run a nested VM: the first nested_ratio x guests, halves rounded up, of a fixed ranking.

    The ranking depends on (seed, replicate, host, guest) only. So it is the same for every policy, and the guests
    that are nested at 5 % are nested at 25 % as well.
    """
    per_host = spec.fleet.guests_per_host
    chosen = _first(
        spec.fleet.hosts * per_host,
        spec.nested_ratio,
        lambda n: rank_of("nested", seed, replicate, *divmod(n, per_host)),
    )
    return {divmod(number, per_host) for number in chosen}


def limit_pages(spec: CellSpec) -> int:
    """What a guest may keep in memory, in pages."""
    return int(spec.guest.memory / spec.overcommit)


def _first(count: int, share: float, rank: Callable[[int], bytes | int]) -> list[int]:
    """A share of the numbers below ``count``, halves rounded up: those that the ranking puts first."""
    return sorted(range(count), key=rank)[: math.floor(share * count + 0.5)]


def _guest(cell: Cell, guest: Guest, nested: Nested, runs_nested: bool) -> GuestSpec:
    spec = cell.spec
    return GuestSpec(
        name="",
        memory_pages=guest.memory,
        limit_pages=int((guest.memory + guest.page_cache.memory) / spec.overcommit),
        accesses_per_tick=guest.accesses_per_tick,
        workload=_workload(guest.workload, cell.data),
        min_pages=guest.memory_min,
        low_pages=guest.memory_low,
        high_pages=guest.memory_high,
        huge_pages=guest.huge_pages,
        page_cache=_page_cache(guest.page_cache),
        nested=NestedSpec(**nested.model_dump(exclude={"l1_paging", "l1_huge_pages"})) if runs_nested else None,
        vm=_vm(spec, nested),
        vcpus=guest.vcpus if isinstance(guest, GuestClass) else spec.clock.vcpus,
    )


def _workload(load: Workload, data: Mapping[str, StudyData]) -> WorkloadSpec:
    """What a guest does; the file that it follows is on this machine then, and has its hash."""
    heat = parse_heat(load.heat) if load.heat and load.kind == "profile" else ()
    file = data[load.file].fetch() if load.file and load.kind in READING_KINDS else None
    own = load.model_dump(exclude={"heat", "file", "load_table"})
    return WorkloadSpec(**own, heat=heat, file=file, load_table=parse_load(load.load_table))


def _vm(spec: CellSpec, nested: Nested) -> VmSpec:
    vm = spec.vm
    return VmSpec(
        **vm.model_dump(exclude={"tdp", "accessed_bits", "subscribers"}),
        tdp=vm.tdp == "on",
        accessed_bits=vm.accessed_bits == "on",
        l1_shadow_paging=nested.l1_paging == "shadow",
        subscribers=tuple(vm.subscribers.split(", ")),
        truth=spec.truth == "on",
        l1_huge_pages=nested.l1_huge_pages == "on",
    )


def _page_cache(cache: PageCache) -> PageCacheSpec | None:
    if not cache.memory:
        return None
    return PageCacheSpec(
        pages=cache.memory,
        access_share=cache.access_share,
        kind=cache.kind,
        mmap_share=cache.mmap_share,
        write_share=cache.write_share,
        device=cache.device,
        readahead_pages=cache.readahead,
    )


def _own_memory(spec: CellSpec, kind: HostClass | None) -> int:
    """What a host has for reclaim to go by, in pages, whoever lives on it; 0: as much as its guests need, or no end."""
    return spec.host.memory or (kind.memory if kind and spec.reclaim.mode == "host" else 0)


def pages_without_guests(run: Run) -> int:
    """The memory of the hosts of a run that never have a guest, which nobody simulates, in pages."""
    spec = run.cell.spec
    unused = Counter({name: kind.count for name, kind in spec.host_classes.items()})
    unused.subtract(host.host_class for host in all_hosts(run))
    memory = {name: _own_memory(spec, kind) for name, kind in spec.host_classes.items()}
    return sum(count * max(memory[name] - spec.host.hugetlb, 0) for name, count in unused.items())


def _host(spec: CellSpec, guests: Sequence[GuestSpec], kind: HostClass | None = None) -> HostSpec:
    """A host with these guests; ``kind``: its class, if it is of one."""
    reclaim = spec.reclaim
    pages = _own_memory(spec, kind)
    if reclaim.mode == "host" and not pages:
        pages = _most_at_once(guests, spec.ticks)
    every_ticks, samples = spec.monitor.intervals(spec.clock)
    return HostSpec(
        kernel=kind.kernel if kind else spec.kernel,
        guests=tuple(guests),
        ticks=spec.ticks,
        mode=reclaim.mode,
        lru_gen=reclaim.lru == "mglru",
        scheduler=reclaim.scheduler,
        aging_every_ticks=reclaim.aging_every_ticks,
        period_ticks=reclaim.period_ticks,
        psi_target=reclaim.psi_target,
        swappiness=reclaim.swappiness,
        flush_every_ticks=reclaim.flush_every_ticks,
        memory_pages=pages,
        hugetlb_pages=spec.host.hugetlb,
        watermark_scale_factor=spec.host.watermark_scale_factor,
        swap_device=spec.swap.device,
        swap_pages=spec.swap.size,
        page_cluster=spec.swap.page_cluster,
        pool_pages=spec.swap.pool_limit,
        min_ttl_ms=reclaim.min_ttl_ms,
        compression=_compression(spec),
        monitor="" if spec.monitor.kind == "none" else spec.monitor.kind,
        monitor_every_ticks=every_ticks,
        damon=spec.monitor.damon(samples),
        clock=_clock(spec),
        sample=int(spec.host.sample.rpartition("/")[2]),
        calibration=parse_calibration(spec.calibration),
        epochs=spec.output.every_ticks if spec.output.epochs == "on" else 0,
        huge_pages=HugePageSpec(**spec.huge_pages.model_dump() | {"khugepaged": spec.huge_pages.khugepaged == "on"}),
    )


def _most_at_once(guests: Sequence[GuestSpec], ticks: int) -> int:
    """The most pages that the guests which are there in some tick may keep."""
    come = {0, *(guest.arrives for guest in guests)}
    return max(sum(guest.limit_pages for guest in guests if tick in guest.life(ticks)) for tick in come)


def _compression(spec: CellSpec) -> CompressionSpec:
    swap = spec.swap
    return CompressionSpec(swap.ratio, swap.ratio_spread, swap.incompressible_share, swap.same_filled_share)


def _clock(spec: CellSpec) -> ClockSpec | None:
    clock = spec.clock
    if clock.mode == "replay":
        return None
    return ClockSpec(clock.tick, clock.access, clock.pcpus, clock.batch)
