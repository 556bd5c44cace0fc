"""coldfleet report: a sweep as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coldfleet.cluster.commands.execution import Directory


def report(
    directory: Directory,
    out: Annotated[
        Path | None, typer.Option(help="Where to write it.  [default: report.html in the directory]")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the pictures there instead, as SVG and PNG.")
    ] = None,
    picture: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="With --export: only this picture.  [repeatable]")
    ] = None,
    observe: Annotated[
        str | None, typer.Option(metavar="CELL", help="The cell whose first host is shown tick by tick.")
    ] = None,
) -> int:
    """Write a report: one HTML file that opens from disk, without network.

    First which policy is best at what, then maps, curves, locks and times, one host tick by tick, all cells with a
    filter, and where it all comes from. Needs pip install 'coldfleet[report]'.

    \b
    Examples:
      coldfleet report results/quickstart
      coldfleet report results/quickstart --out quickstart.html --observe d866dd
      coldfleet report results/quickstart --export docs/pictures --picture map
    """
    from importlib.util import find_spec

    from coldfleet.cluster.commands import output
    from coldfleet.cluster.commands.run import find_cell
    from coldfleet.cluster.results.results import Results
    from coldfleet.hostsim.spec.errors import UserError

    if out is not None and export is not None:
        raise UserError("--out or --export: choose one")
    if picture and export is None:
        raise UserError("--picture NAME goes with --export DIR")
    if not all(map(find_spec, ("altair", "jinja2", "vl_convert"))):
        raise UserError("reports need Altair, Jinja2 and vl-convert: pip install 'coldfleet[report]'")
    from coldfleet.cluster.report.page import export as write_pictures
    from coldfleet.cluster.report.page import page

    results = Results.open(directory)
    cell = None if observe is None else find_cell(results.plan, observe)
    if export is not None:
        for file in write_pictures(results, export, picture or [], cell):
            output.print_text(str(file))
        return 0
    if out is None:
        if results.storage.local is None:
            raise UserError(f"{results.storage} is no local directory: say where to write with --out FILE")
        out = results.storage.local / "report.html"
        results.storage.exists("report.html")  # refuses a link that leads elsewhere
    content = page(results, cell).encode()
    if out.parent == results.storage.local:
        results.storage.write(out.name, content)
    else:
        out.write_bytes(content)
    output.print_text(f"{out}: {len(content) / 1e6:.1f} MB")
    return 0
