"""coldfleet fleet: host and guest classes for a study, as a cloud has them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def fleet(
    trace: Annotated[
        Path | None, typer.Argument(help="Azure's packing trace.  [default: published sizes]", metavar="[TRACE.sqlite]")
    ] = None,
    guests: Annotated[int, typer.Option(min=1, max=1_000_000, help="Guests to draw.")] = 100,
    memory: Annotated[str, typer.Option(help="Memory of a host.")] = "1 GiB",
    cpus: Annotated[int, typer.Option(min=1, help="CPUs of a host.")] = 32,
    overcommit: Annotated[float, typer.Option(min=1, help="Guests' memory over the hosts'.")] = 1.0,
    vcpus_per_cpu: Annotated[float, typer.Option(min=0.01, help="vCPUs over CPUs.")] = 4.0,
    machine: Annotated[int, typer.Option(help="TRACE: kind of machine (machineId).")] = 0,
    at: Annotated[float, typer.Option(help="TRACE: time at which VMs are counted, in days.")] = 7.0,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other guests.")] = 1,
) -> int:
    """Print a fleet for a study: tables to paste into its file.

    Draws guests from the sizes of VMs alive in Azure's public packing trace, or from what is published of Azure's
    sizes, scaled to hosts of the given memory; and counts how many hosts they need. Keep hosts small: a study
    simulates every page.

    \b
    Examples:
      coldfleet fleet --guests 40 --memory "512 MiB" --overcommit 1.5
      coldfleet fleet packing_trace_zone_a_v1.sqlite --machine 3 --at 2.5 --guests 200
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.study import azure
    from coldfleet.cluster.study.placement import hosts_needed
    from coldfleet.hostsim.spec.units import MEMORY

    host_pages = MEMORY.parse(memory)
    sizes = azure.read_trace(trace, at, machine, cpus) if trace is not None else list(azure.A_SERIES)
    drawn = azure.draw(sizes, guests, seed)
    needs = [(azure.guest_pages(size, host_pages), size.vcpus, count) for size, count in drawn.items()]
    hosts = hosts_needed(needs, host_pages * overcommit, cpus * vcpus_per_cpu)
    lines = [
        f"overcommit = {overcommit:g}",
        "",
        "[fleet]",
        'placement = "best-fit"',
        f"vcpus_per_cpu = {vcpus_per_cpu:g}",
        "",
        "[fleet.host.node]",
        f"count = {hosts}",
        f'memory = "{MEMORY.format(host_pages)}"',
        f"cpus = {cpus}",
    ]
    for size, (pages, vcpus, count) in zip(drawn, needs, strict=True):
        lines += ["", f"[fleet.guest.{size.name}]", f"count = {count}", f'memory = "{MEMORY.format(pages)}"']
        lines.append(f"vcpus = {vcpus}")
    for line in lines:
        output.print_text(line)
    return 0
