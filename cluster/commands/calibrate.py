"""coldfleet calibrate: the fit of the time model to published measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def calibrate(
    what: Annotated[str, typer.Argument(help="published: access_tracking_perf_test, as CSV.", metavar="published")],
    data: Annotated[Path | None, typer.Option(help="A CSV file to use instead of the v4 cover letter's table.")] = None,
    hold_out: Annotated[
        list[int] | None,
        typer.Option(
            help="Leave rows with this many vCPUs out of the fit; may be repeated.  [default: 4, of our table]"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures to this file, for calibration = ...")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Fit the time model to published measurements.

    A few figures for all rows: least squares over the logarithms of wall and pass times. Prints the figures, and how
    far each row is off, those that were held out too. The same rows give the same figures.

    \b
    Examples:
      coldfleet calibrate published
      coldfleet calibrate published --hold-out 16 --hold-out 64
      coldfleet calibrate published --data mine.csv --out mine.toml
    """
    from dataclasses import asdict, fields
    from datetime import UTC, datetime

    from coldfleet.cluster.commands import output
    from coldfleet.cluster.commands.validate import as_json, side_by_side
    from coldfleet.cluster.execution.progress import make_reporter
    from coldfleet.cluster.validation.published import HELD_OUT, benchmark_lines, worst
    from coldfleet.hostsim.published.fit import fit, fit_seconds, rows_to_fit
    from coldfleet.hostsim.published.rows import V4, read_rows
    from coldfleet.hostsim.spec.calibration import Calibration, format_calibration
    from coldfleet.hostsim.spec.errors import UserError

    if what != "published":
        raise UserError(f"calibrate {what!r}: the only fit is to published measurements: calibrate published")
    rows = read_rows(data)
    held = tuple(hold_out if hold_out is not None else () if data else HELD_OUT)
    used = rows_to_fit(rows, held)
    make_reporter().say(f"fitting {len(used)} rows, about {fit_seconds(used):,.0f} s")
    found = fit(rows, held)
    lines = benchmark_lines(rows, found, held)
    source = data.name if data else V4.name
    if out is not None:
        counts = sorted({row.vcpus for row in rows} - set(held))
        comments = [
            f"Fitted to {source}, rows with {', '.join(map(str, counts))} vCPUs, on {datetime.now(UTC).date()}.",
            f"Rows that were not fitted are off by up to {worst(lines, fitted=False):.0%}, the others by up to "
            f"{worst(lines, fitted=True):.0%}.",
        ]
        out.write_text(format_calibration(found, comments), "utf-8")
    if json:
        output.print_json({"data": source, "calibration": asdict(found), "rows": [as_json(line) for line in lines]})
        return 0
    table = output.make_table("figure", "value", "unit", "meaning", numbers=["value"])
    for each in fields(Calibration):
        value = getattr(found, each.name)
        table.add_row(each.name, f"{value:.4g}", each.metadata["unit"], each.metadata["meaning"])
    output.print_rich(table)
    output.print_text("")
    output.print_rich(side_by_side(lines))
    if out is not None:
        output.print_text(f"written: {out}")
    return 0
