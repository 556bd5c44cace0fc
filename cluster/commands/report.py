"""coldfleet report: a sweep as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coldfleet.cluster.commands.execution import Directory


def report(
    directory: Directory,
    other: Annotated[
        str | None, typer.Argument(help="Other results, to compare with them.", metavar="OTHER", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write it.  [default: report.html in the directory; of two: comparison.html]"),
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

    First which policy is best at what, then maps, a picture for each axis of the study, locks and times, hosts tick by
    tick, all cells with a filter, and where it all comes from. With two directories: what differs between them.
    Needs pip install 'coldfleet[report]'.

    \b
    Examples:
      coldfleet report results/quickstart
      coldfleet report results/quickstart --out quickstart.html --observe 872b28
      coldfleet report results/quickstart --export docs/pictures --picture map
      coldfleet report results/before results/after --out before-after.html
    """
    from importlib.util import find_spec

    from coldfleet.cluster.answers.cell_choice import find_cell
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.commands.execution import say_if_partial
    from coldfleet.cluster.results.results import Results
    from coldfleet.hostsim.spec.errors import UserError

    if out is not None and export is not None:
        raise UserError("--out or --export: choose one")
    if other is not None and (export is not None or observe is not None):
        raise UserError(f"{other}: --export and --observe are of one directory")
    if picture and export is None:
        raise UserError("--picture NAME goes with --export DIR")
    if not all(map(find_spec, ("altair", "jinja2", "vl_convert"))):
        raise UserError("reports need Altair, Jinja2 and vl-convert: pip install 'coldfleet[report]'")
    from coldfleet.cluster.report.page import export as write_pictures
    from coldfleet.cluster.report.page import page, page_of_two

    results = Results.open(directory)
    second = None if other is None else Results.open(other)
    say_if_partial(results)
    if second is not None:
        say_if_partial(second)
    cell = None if observe is None else find_cell(results.plan, observe)
    if export is not None:
        for file in write_pictures(results, export, picture or [], cell):
            output.print_text(str(file))
        return 0
    if out is None:
        if results.storage.local is None:
            raise UserError(f"{results.storage} is no local directory: say where to write with --out FILE")
        out = results.storage.local / ("report.html" if other is None else "comparison.html")
        results.storage.exists(out.name)  # refuses a link that leads elsewhere
    content = (page(results, cell) if second is None else page_of_two(results, second)).encode()
    if out.parent == results.storage.local:
        results.storage.write(out.name, content)
    else:
        out.write_bytes(content)
    output.print_text(f"{out}: {len(content) / 1e6:.1f} MB")
    return 0
