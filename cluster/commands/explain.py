"""coldfleet explain: the life of one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coldfleet.cluster.commands.execution import Directory

_MOST_LINES = 80


def explain(
    directory: Directory,
    cell: Annotated[str, typer.Argument(help="The cell's id, column cell_id. Its beginning is enough.")],
    replicate: Annotated[int, typer.Option(min=0, help="Which replicate, from 0.")] = 0,
    host: Annotated[int, typer.Option(min=0, help="Which host of the fleet, from 0.")] = 0,
    guest: Annotated[
        int | None, typer.Option(min=0, help="Which guest of the host.  [default: the one with the most refaults]")
    ] = None,
    page: Annotated[
        str | None,
        typer.Option(metavar="GFN", help="Which page, as 1234 or 0x4d2.  [default: the one that says most]"),
    ] = None,
    trace: Annotated[Path | None, typer.Option(help="Write what reclaim did to this file, for Perfetto.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show the history of one page: touches, Accessed bits, generations, evictions, and whether they were right.

    The host is simulated again, and must give the rows that the sweep wrote, bit for bit.

    \b
    Examples:
      coldfleet explain results/quickstart 10ae63
      coldfleet explain results/quickstart 10ae63 --guest 3 --page 0x4d2 --trace trace.json
    """
    import json as encoder

    from coldfleet.cluster.commands import output
    from coldfleet.cluster.commands.run import find_cell
    from coldfleet.cluster.inspection.explain import explain as explained
    from coldfleet.cluster.inspection.explain import in_words
    from coldfleet.cluster.inspection.trace import trace as traced
    from coldfleet.cluster.results.results import Results
    from coldfleet.cluster.study.plan import Run
    from coldfleet.hostsim.spec.errors import UserError

    results = Results.open(directory)
    plan = results.plan
    chosen = plan.cell(find_cell(plan, cell))
    if replicate >= plan.replicates:
        raise UserError(f"replicate {replicate}: the study has 0 to {plan.replicates - 1}")
    run = Run(plan.index_of(chosen.cell_id, replicate), chosen, replicate)
    found = explained(results, run, host, guest, None if page is None else _number(page))
    if trace is not None:
        trace.write_text(encoder.dumps(traced(found), separators=(",", ":")))
    if json:
        output.print_json(found.as_json())
        return 0
    wrong = sum(not eviction.right for eviction in found.judged)
    output.print_text(
        f"cell {chosen.cell_id}, replicate {replicate}: {chosen.policy.name}, kernel {chosen.spec.kernel}"
    )
    output.print_text(f"host {host}, guest {found.guest} ({found.guest_name}), page {found.life.page}: {found.why}")
    output.print_text(
        f"{len(found.life.touches)} touches, {len(found.judged)} evictions, {wrong} of them wrong; "
        "the simulation gave the stored rows again, bit for bit"
    )
    for fates in found.fates:
        output.print_text(f"the guest: {fates}")
    output.print_text("")
    lines = in_words(found)
    for line in lines[:_MOST_LINES]:
        output.print_text(line)
    if len(lines) > _MOST_LINES:
        output.print_text(f"and {len(lines) - _MOST_LINES} more lines: --json has all")
    if trace is not None:
        output.print_text(f"\ntrace: {trace} (open it at ui.perfetto.dev)")
    return 0


def _number(text: str) -> int:
    from coldfleet.hostsim.spec.errors import UserError

    try:
        return int(text, 0)
    except ValueError:
        raise UserError(f"--page {text!r} is not a number: write 1234 or 0x4d2") from None
