"""coldfleet validate: published measurements beside simulated ones."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from coldfleet.cluster.validation.published import Line

MAX_VCPUS = 1024


class Aging(StrEnum):
    """The ways of aging that the benchmark is modelled with."""

    NONE = "no-aging"
    LOCKED = "locked-6.12"
    LOCKLESS = "lockless-6.15"


class Tdp(StrEnum):
    """kvm.tdp_mmu."""

    ON = "on"
    OFF = "off"


def validate(
    vcpus: Annotated[
        int | None, typer.Option(min=1, max=MAX_VCPUS, help="Only the benchmark, with this many vCPUs of 1 GiB each.")
    ] = None,
    policy: Annotated[
        Aging | None, typer.Option(help="With --vcpus: how MGLRU ages meanwhile.  [default: no-aging]")
    ] = None,
    tdp: Annotated[Tdp | None, typer.Option(help="With --vcpus: the TDP MMU is on or off.  [default: on]")] = None,
    calibration: Annotated[Path | None, typer.Option(help="Figures that `calibrate --out` wrote.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Compare published measurements with simulated ones.

    Prints access_tracking_perf_test of the v4 cover letter row by row, then what the page-level engine says of tab
    latency on ChromeOS and of multichase. "held out" rows took no part in the fit. "miss": off by more than the 15 % by
    which the published figures vary from run to run.

    \b
    Examples:
      coldfleet validate
      coldfleet validate --vcpus 32 --policy locked-6.12
      coldfleet validate --vcpus 64 --policy lockless-6.15 --tdp off --json
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.validation.published import HELD_OUT, benchmark_lines, engine_lines
    from coldfleet.hostsim.published.access_tracking import run_benchmark
    from coldfleet.hostsim.published.rows import find_policy, read_rows
    from coldfleet.hostsim.spec.calibration import DEFAULT, read_calibration
    from coldfleet.hostsim.spec.errors import UserError

    figures = read_calibration(calibration) if calibration else DEFAULT
    if vcpus is not None:
        policy, tdp = policy or Aging.NONE, tdp or Tdp.ON
        found = run_benchmark(vcpus, find_policy(policy), figures, tdp=tdp == Tdp.ON)
        row = {
            "vcpus": vcpus,
            "policy": policy.value,
            "tdp": tdp.value,
            "vcpu_wall_s": found.vcpu_wall_s,
            "aging_pass_s": found.aging_pass_s,
        }
        if json:
            output.print_json(row)
        else:
            output.print_text("\n".join(f"{key}: {'-' if value is None else value}" for key, value in row.items()))
        return 0
    if policy or tdp:
        raise UserError("--policy and --tdp go with --vcpus N: without it all published rows are compared")
    lines = [*benchmark_lines(read_rows(), figures, HELD_OUT), *engine_lines()]
    if json:
        output.print_json([as_json(line) for line in lines])
    else:
        output.print_rich(side_by_side(lines))
    return 0


def as_json(line: Line) -> dict[str, Any]:
    """A line with its error, for scripts."""
    from dataclasses import asdict

    return {**asdict(line), "error": line.error, "missed": line.missed}


def side_by_side(lines: list[Line]) -> Table:
    """A table of published and simulated figures."""
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.stats.statistics import percent

    numbers = ("published", "simulated", "error")
    table = output.make_table("what", *numbers, "basis", "", numbers=numbers)
    for line in lines:
        unit = "" if line.unit == "ratio" else f" {line.unit}"
        table.add_row(
            line.what,
            f"{line.published:.4g}{unit}",
            f"{line.simulated:.4g}{unit}",
            percent(line.error, signed=True),
            line.basis,
            "miss" if line.missed else "",
        )
    return table
