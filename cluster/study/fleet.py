"""From a cell to its hosts: who runs a nested VM, and how much memory each guest may keep."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import NamedTuple

from coldfleet.cluster.study.data import READING_KINDS, StudyData
from coldfleet.cluster.study.model import CellSpec
from coldfleet.cluster.study.placement import HostResources, Request, place
from coldfleet.cluster.study.plan import Cell, Plan, Run
from coldfleet.cluster.study.tables import Guest, GuestClass, Nested, PageCache, Workload
from coldfleet.cluster.study.terminal import announced
from coldfleet.cluster.study.values import parse_heat
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

MAX_PLACING_S = 60.0


class FleetHost(NamedTuple):
    """A host of a fleet, and the name of its class: "" where all are alike."""

    host_class: str
    spec: HostSpec


def build_fleet(run: Run, hosts: slice = slice(None)) -> list[FleetHost]:
    """The fleet of one run, host 0 first; ``hosts``: only these of it."""
    spec = run.cell.spec
    numbers = range(spec.fleet.hosts)[hosts]
    if spec.scenario:
        return [FleetHost("", _scenario_host(spec))] * len(numbers)
    if spec.fleet.guest:
        return _placed_hosts(run, hosts)
    nested = nested_guests(spec, run.cell.seed, run.replicate)
    return [
        FleetHost(
            "",
            _host(
                spec,
                [
                    _guest(run.cell, spec.guest, spec.nested, f"h{host}g{guest}", (host, guest) in nested)
                    for guest in range(spec.fleet.guests_per_host)
                ],
            ),
        )
        for host in numbers
    ]


def build_hosts(run: Run) -> list[HostSpec]:
    """The hosts of :func:`build_fleet`, without their classes."""
    return [host.spec for host in build_fleet(run)]


def host_work(run: Run) -> list[float]:
    """How much work each host of a run is: the accesses of its guests that are simulated."""
    spec = run.cell.spec
    if not spec.fleet.guest:
        return [run_work(spec) / spec.fleet.hosts] * spec.fleet.hosts
    accesses = {name: each.accesses_per_tick * _ticks(spec) for name, each in spec.fleet.guest.items()}
    return [float(sum(accesses[name] for name, _ in guests)) for _, guests in _placement(run)]


def run_work(spec: CellSpec) -> float:
    """How much work all hosts of a run are together."""
    if spec.fleet.guest:
        return _ticks(spec) * sum(each.count * each.accesses_per_tick for each in spec.fleet.guest.values())
    return _ticks(spec) * spec.fleet.hosts * spec.fleet.guests_per_host * spec.guest.accesses_per_tick


def _ticks(spec: CellSpec) -> float:
    """Its ticks, times the share of the pages that is simulated."""
    return spec.ticks / int(spec.host.sample.rpartition("/")[2])


def decides_work(path: str) -> bool:
    """Whether the work or the number of hosts may depend on a key."""
    return path in ("ticks", "host.sample") or path.startswith(("fleet.", "guest."))


def most_hosts(spec: CellSpec) -> int:
    """How many hosts a run has; where guests are of classes, some may stay without any and are left out."""
    return sum(each.count for each in spec.host_classes.values()) if spec.fleet.guest else spec.fleet.hosts


def may_have_hosts(spec: CellSpec, count: int) -> bool:
    """Whether a run can have so many hosts."""
    return 0 < count <= most_hosts(spec) if spec.fleet.guest else count == spec.fleet.hosts


def check_fleets(plan: Plan) -> None:
    """Raises :class:`UserError` with the reasons if the guests of some run don't fit on its hosts.

    Fleets are placed once for each replicate, however many cells have them.
    """
    if not plan.cell(0).spec.fleet.guest:
        return
    fleets: dict[tuple[float, str, str], CellSpec] = {}
    for number in announced(plan.cell_count, "cells looked at for their fleets"):
        spec = plan.cell(number).spec
        fleets.setdefault((spec.overcommit, str(spec.host_classes), spec.fleet.model_dump_json()), spec)
    seconds = plan.replicates * sum(map(_placing_s, fleets.values()))
    if seconds > MAX_PLACING_S:
        raise UserError(
            f"placing the guests of {len(fleets)} fleets in {plan.replicates:,} replicates would take "
            f"{seconds:,.0f} s: make do with fewer guests, hosts or replicates"
        )
    for replicate in announced(plan.replicates, "replicates placed"):
        for spec in fleets.values():
            try:
                _place(spec, plan.seed, replicate)
            except UserError as error:
                where = ", ".join(f"{path} = {spec.value(path)}" for path in plan.varied)
                raise UserError(f"the fleet doesn't fit{f' in the cell {where}' if where else ''}: {error}") from None


def _placing_s(spec: CellSpec) -> float:
    """About how long it takes to place a fleet, in seconds; measured."""
    hosts, guests = (sum(each.count for each in classes.values()) for classes in (spec.host_classes, spec.fleet.guest))
    return hosts * 1e-6 + guests * (15e-6 + hosts * 2e-9)


def _placed_hosts(run: Run, hosts: slice) -> list[FleetHost]:
    """Of the hosts that have guests, the classes in the order of the study, the chosen ones."""
    spec, seed, replicate = run.cell.spec, run.cell.seed, run.replicate
    nested = {
        (name, number)
        for name, each in spec.fleet.guest.items()
        for number in _first(each.count, each.nested_ratio, partial(_rank, "nested", seed, replicate, name))
    }
    fleet = []
    for host_class, guests in _placement(run)[hosts]:
        chosen = [
            _guest(run.cell, spec.fleet.guest[name], spec.fleet.guest[name].nested, f"{name}-{n}", (name, n) in nested)
            for name, n in guests
        ]
        fleet.append(FleetHost(host_class, _host(spec, chosen, spec.host_classes[host_class].memory)))
    return fleet


@lru_cache(maxsize=1)  # the shards of a large run ask for it one after the other
def _placement(run: Run) -> list[tuple[str, list[tuple[str, int]]]]:
    """The class of each host that has guests, and the (class, number) of these."""
    placed = _place(run.cell.spec, run.cell.seed, run.replicate)
    names = [host_class for host_class, _ in _resources(run.cell.spec)]
    return [(host_class, guests) for host_class, guests in zip(names, placed, strict=True) if guests]


def _resources(spec: CellSpec) -> list[tuple[str, HostResources]]:
    """Every host with its class's name, and what it can take under the overcommit ratios, maybe everything."""
    every = sum(each.count * (each.memory + each.page_cache.memory) for each in spec.fleet.guest.values())
    classes = {
        name: HostResources(
            (each.memory - spec.host.hugetlb) * spec.overcommit or every,
            each.cpus * spec.fleet.vcpus_per_cpu if each.cpus else math.inf,
        )
        for name, each in spec.host_classes.items()
    }
    return [(name, classes[name]) for name, each in spec.host_classes.items() for _ in range(each.count)]


def _place(spec: CellSpec, seed: int, replicate: int) -> list[list[tuple[str, int]]]:
    """For each host the (class, number) of its guests. They arrive in an order that only seed and replicate decide.

    Where hosts have as much memory as is needed, every guest fits on any: each then goes where the fewest pages are.
    """
    requests = [
        Request(name, number, each.memory + each.page_cache.memory, each.vcpus)
        for name, each in spec.fleet.guest.items()
        for number in range(each.count)
    ]
    requests.sort(key=lambda request: _rank("arrival", seed, replicate, request.name, request.number))
    rank = partial(_rank, "place", seed, replicate)
    limited = all(each.memory for each in spec.host_classes.values())
    rule = spec.fleet.placement if limited or spec.fleet.placement == "random" else "worst-fit"
    return place([host for _, host in _resources(spec)], requests, rule, rank)


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
        spec.fleet.hosts * per_host, spec.nested_ratio, lambda n: _rank("nested", seed, replicate, *divmod(n, per_host))
    )
    return {divmod(number, per_host) for number in chosen}


def limit_pages(spec: CellSpec) -> int:
    """What a guest may keep in memory, in pages."""
    return int(spec.guest.memory / spec.overcommit)


def _first(count: int, share: float, rank: Callable[[int], bytes]) -> list[int]:
    """A share of the numbers below ``count``, halves rounded up: those that the ranking puts first."""
    return sorted(range(count), key=rank)[: math.floor(share * count + 0.5)]


def _rank(*who: str | int) -> bytes:
    return hashlib.blake2b(" ".join(map(str, who)).encode(), digest_size=16).digest()


def _guest(cell: Cell, guest: Guest, nested: Nested, name: str, runs_nested: bool) -> GuestSpec:
    spec = cell.spec
    return GuestSpec(
        name=name,
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
    return WorkloadSpec(**load.model_dump(exclude={"heat", "file"}), heat=heat, file=file)


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


def _host(spec: CellSpec, guests: Sequence[GuestSpec], class_pages: int = 0) -> HostSpec:
    """A host with these guests; ``class_pages``: its memory, if it is of a class."""
    reclaim = spec.reclaim
    pages = spec.host.memory
    if reclaim.mode == "host" and not pages:
        pages = class_pages or sum(guest.limit_pages for guest in guests)
    every_ticks, samples = spec.monitor.intervals(spec.clock)
    return HostSpec(
        kernel=spec.kernel,
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
        epochs=int(spec.output.epochs == "on"),
        huge_pages=HugePageSpec(**spec.huge_pages.model_dump() | {"khugepaged": spec.huge_pages.khugepaged == "on"}),
    )


def _compression(spec: CellSpec) -> CompressionSpec:
    swap = spec.swap
    return CompressionSpec(swap.ratio, swap.ratio_spread, swap.incompressible_share, swap.same_filled_share)


def _clock(spec: CellSpec) -> ClockSpec | None:
    clock = spec.clock
    if clock.mode == "replay":
        return None
    return ClockSpec(clock.tick, clock.access, clock.pcpus, clock.batch)
