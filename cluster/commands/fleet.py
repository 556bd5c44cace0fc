"""coldfleet fleet: host and guest classes for a study, as a cloud has them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from coldfleet.hostsim.spec.checks import MAX_CPUS

_SMALL = 1024  # pages, 4 MiB, as docs/fleets.md advises
_TICKS_OF_DAY = 96  # of 15 minutes


def fleet(
    trace: Annotated[
        Path | None, typer.Argument(help="Azure's packing trace.  [default: published sizes]", metavar="[TRACE.sqlite]")
    ] = None,
    guests: Annotated[
        int | None,
        typer.Option(min=1, max=1_000_000, help="Guests to draw.  [default: 100; with --arrivals, all VMs]"),
    ] = None,
    memory: Annotated[str, typer.Option(help="Memory of a host.")] = "1 GiB",
    cpus: Annotated[int, typer.Option(min=1, max=MAX_CPUS, help="CPUs of a host.")] = 32,
    overcommit: Annotated[float, typer.Option(min=1, max=100, help="Guests' memory over the hosts'.")] = 1.0,
    vcpus_per_cpu: Annotated[float, typer.Option(min=0.01, max=1000, help="vCPUs over CPUs.")] = 4.0,
    machine: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="TRACE: kind of machine (machineId).")] = 0,
    at: Annotated[float, typer.Option(help="TRACE: time at which VMs are counted, in days.")] = 7.0,
    arrivals: Annotated[
        Path | None,
        typer.Option(help="TRACE: write a table of guests that come and go from then on.", metavar="FILE.parquet"),
    ] = None,
    days: Annotated[float, typer.Option(min=0.001, max=1000, help="TRACE: for so many days.")] = 7.0,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other guests.")] = 1,
) -> int:
    """Print a fleet for a study: tables to paste into its file.

    Draws guests from the sizes of VMs alive in Azure's public packing trace, or from what is published of Azure's
    sizes, scaled to hosts of the given memory; and counts how many hosts they need. Keep hosts small: a study
    simulates every page.

    With --arrivals the guests are VMs that are alive at some time of so many days from --at on. Their arrivals and
    departures go into a table, which the study names, and there are hosts for the most that are there at a time.

    \b
    Examples:
      coldfleet fleet --guests 40 --memory "512 MiB" --overcommit 1.5
      coldfleet fleet packing_trace_zone_a_v1.sqlite --machine 3 --at 2.5 --guests 200
      coldfleet fleet packing_trace_zone_a_v1.sqlite --machine 3 --at 0 --arrivals week.parquet
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.execution.progress import say_on_stderr
    from coldfleet.cluster.study import azure
    from coldfleet.cluster.study.arrivals import write_guests
    from coldfleet.cluster.study.fleet_tables import MAX_GUESTS, MAX_HOSTS
    from coldfleet.cluster.study.placement import check_largest, hosts_needed, most_at_once
    from coldfleet.hostsim.spec.errors import UserError
    from coldfleet.hostsim.spec.units import MEMORY

    host_pages = MEMORY.parse(memory)
    if not 512 <= host_pages < 1 << 31:
        raise UserError(f"--memory {memory!r:.40}: a host has from 2 MiB to less than 8 TiB")
    for name, value in (("overcommit", overcommit), ("vcpus-per-cpu", vcpus_per_cpu), ("at", at), ("days", days)):
        if not math.isfinite(value):
            raise UserError(f"--{name} {value}: it should be a number")
    room = host_pages * overcommit, cpus * vcpus_per_cpu
    if arrivals is not None:
        if trace is None:
            raise UserError("--arrivals takes a TRACE, which says when VMs come and go")
        there = azure.read_vms(trace, at, days, machine, cpus)
        if guests is None and len(there) > MAX_GUESTS:
            raise UserError(
                f"{trace}: {len(there):,} VMs live then; at most {MAX_GUESTS:,} are simulated: set --guests"
            )
        vms = azure.draw_vms(there, len(there) if guests is None else guests, seed)
        if len(vms) < len(there):
            say_on_stderr(f"coldfleet: {len(vms):,} of {len(there):,} VMs are drawn (--guests)")
        drawn = dict.fromkeys(sorted({vm.size for vm in vms}, key=lambda size: size.name), 0)
        check_largest(((azure.guest_pages(vm.size, host_pages), vm.size.vcpus) for vm in vms), *room)
        asked_for = ((vm.start_s, vm.end_s, azure.guest_pages(vm.size, host_pages), vm.size.vcpus) for vm in vms)
        _, *most = most_at_once(asked_for)
        hosts = max(math.ceil(asked / each) for asked, each in zip(most, room, strict=True))
    else:
        sizes = azure.read_trace(trace, at, machine, cpus) if trace is not None else list(azure.A_SERIES)
        drawn = azure.draw(sizes, 100 if guests is None else guests, seed)
        hosts = hosts_needed(
            [(azure.guest_pages(size, host_pages), size.vcpus, count) for size, count in drawn.items()], *room
        )
    if hosts > MAX_HOSTS:
        raise UserError(f"the guests need {hosts:,} hosts; at most {MAX_HOSTS:,} are simulated: draw fewer guests")
    if arrivals is not None:
        write_guests(arrivals, [(vm.size.name, vm.start_s, vm.end_s, vm.priority, vm.name) for vm in vms])
    small = [size.name for size in drawn if azure.guest_pages(size, host_pages) < _SMALL]
    if small:
        say_on_stderr(
            f"coldfleet: {', '.join(small)}: guests of less than {MEMORY.format(_SMALL)}, of which kernel memory is a "
            "larger part than of real ones: set a larger --memory"
        )
    lines = [
        *([f"ticks = {max(math.ceil(days * _TICKS_OF_DAY), 1)}"] if arrivals is not None else []),
        f"overcommit = {overcommit:g}",
        "",
        "[fleet]",
        *(
            [f"arrivals = {json.dumps(arrivals.name, ensure_ascii=False)}", 'tick = "15 min"']
            if arrivals is not None
            else []
        ),
        'placement = "best-fit"',
        f"vcpus_per_cpu = {vcpus_per_cpu:g}",
        "",
        "[fleet.host.node]",
        f"count = {hosts}",
        f'memory = "{MEMORY.format(host_pages)}"',
        f"cpus = {cpus}",
    ]
    for size, count in drawn.items():
        lines += ["", f"[fleet.guest.{size.name}]", *([f"count = {count}"] if count else [])]
        lines += [f'memory = "{MEMORY.format(azure.guest_pages(size, host_pages))}"', f"vcpus = {size.vcpus}"]
    for line in lines:
        output.print_text(line)
    return 0
