"""From a cell to its hosts: who runs a nested VM, and how much memory each guest may keep."""

from __future__ import annotations

import hashlib
import math

from cluster.plan import Run
from cluster.study import CellSpec
from hostsim.model import GuestSpec, HostSpec, NestedSpec, RecordedWorkload, WorkloadSpec


def build_hosts(run: Run) -> list[HostSpec]:
    """The fleet of one run, host 0 first."""
    spec = run.cell.spec
    if spec.scene:
        return [_scene_host(spec)] * spec.fleet.hosts
    nested = nested_guests(spec, run.cell.seed, run.replicate)
    return [
        HostSpec(
            kernel=spec.kernel,
            guests=tuple(
                _guest(spec, f"h{host}g{guest}", (host, guest) in nested) for guest in range(spec.fleet.guests_per_host)
            ),
            ticks=spec.ticks,
            mode=spec.reclaim.mode,
            aging_every_ticks=spec.reclaim.aging_every_ticks,
        )
        for host in range(spec.fleet.hosts)
    ]


def _scene_host(spec: CellSpec) -> HostSpec:
    """A host with the guests of a scene. Several share what all of them may keep, one has a limit of its own."""
    from hostsim.scene import KINDS, parse_scene

    guests = []
    for number, guest in enumerate(parse_scene(spec.scene)):
        layout = "ident" if "ident" in guest.options else "perm"
        guests.append(
            GuestSpec(
                name=f"{number} {guest}",
                memory_pages=spec.guest.memory,
                limit_pages=limit_pages(spec),
                accesses_per_tick=spec.guest.accesses_per_tick,
                kind=guest.kind,
                recorded=RecordedWorkload(guest.workload, layout, "write" in guest.options),
                own_pages=KINDS[guest.kind].own_pages,
                kernel_pages=KINDS[guest.kind].kernel_pages,
            )
        )
    return HostSpec(
        kernel=spec.kernel,
        guests=tuple(guests),
        ticks=spec.ticks,
        mode=spec.reclaim.mode,
        aging_every_ticks=spec.reclaim.aging_every_ticks,
        parent_pages=int(len(guests) * spec.guest.memory / spec.overcommit) if len(guests) > 1 else 0,
        scene=True,
    )


def nested_guests(spec: CellSpec, seed: int, replicate: int) -> set[tuple[int, int]]:
    """The (host, guest) that run a nested VM: the first nested_ratio x guests, halves rounded up, of a fixed ranking.

    The ranking depends on (seed, replicate, host, guest) only. So it is the same for every policy, and the guests
    that are nested at 5 % are nested at 25 % as well.
    """
    guests = [(h, g) for h in range(spec.fleet.hosts) for g in range(spec.fleet.guests_per_host)]
    count = math.floor(spec.nested_ratio * len(guests) + 0.5)
    return set(sorted(guests, key=lambda who: _rank(seed, replicate, *who))[:count])


def limit_pages(spec: CellSpec) -> int:
    """What a guest may keep in memory, in pages."""
    return int(spec.guest.memory / spec.overcommit)


def _rank(seed: int, replicate: int, host: int, guest: int) -> bytes:
    return hashlib.blake2b(f"nested {seed} {replicate} {host} {guest}".encode(), digest_size=16).digest()


def _guest(spec: CellSpec, name: str, nested: bool) -> GuestSpec:
    return GuestSpec(
        name=name,
        memory_pages=spec.guest.memory,
        limit_pages=limit_pages(spec),
        accesses_per_tick=spec.guest.accesses_per_tick,
        workload=WorkloadSpec(**spec.guest.workload.model_dump()),
        nested=NestedSpec(**spec.nested.model_dump()) if nested else None,
    )
