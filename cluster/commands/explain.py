"""coldfleet explain: the life of one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coldfleet.cluster.commands.execution import CellAt, Directory

if TYPE_CHECKING:
    from coldfleet.cluster.inspection.explain import Explanation

_MOST_LINES = 80


def explain(
    directory: Directory,
    cell: Annotated[
        str, typer.Argument(help="The cell's id, column cell_id. Its beginning is enough.", metavar="[CELL]")
    ] = "",
    at: CellAt = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY|KEY=VALUE", help="Show the page's life beside that in another cell, which has this instead."
        ),
    ] = None,
    replicate: Annotated[int, typer.Option(min=0, help="Which replicate, from 0.")] = 0,
    host: Annotated[
        int | None, typer.Option(min=0, help="Which host of the fleet, from 0.  [default: the guest's, or 0]")
    ] = None,
    guest: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Which guest of the host.  [default: the one with the most wrong answers; with --against, of those "
            "whose accesses are the same in both, the one whose refaults differ most]",
        ),
    ] = None,
    page: Annotated[
        str | None,
        typer.Option(metavar="GFN", help="Which page, as 1234 or 0x4d2.  [default: the one that says most]"),
    ] = None,
    trace: Annotated[Path | None, typer.Option(help="Write what reclaim did to this file, for Perfetto.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show the history of one page: touches, every answer about it and the truth, evictions, and which were right.

    The cell is named by its id, or by what it has (--at). The host is simulated again, and must give the rows that the
    sweep wrote, bit for bit.

    \b
    Examples:
      coldfleet explain results/quickstart 872b28
      coldfleet explain results/quickstart --at policy=fast-only-v5 --at nested_ratio=1
      coldfleet explain results/quickstart 872b28 --against lockless-6.15
      coldfleet explain results/quickstart 872b28 --guest 3 --page 0x4d2 --trace trace.json
    """
    import json as encoder

    from coldfleet.cluster.answers.cell_choice import find_cell
    from coldfleet.cluster.answers.question import find_sibling
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.commands.execution import settings
    from coldfleet.cluster.execution.compiling import compiling_is_said
    from coldfleet.cluster.execution.progress import say_on_stderr
    from coldfleet.cluster.inspection.explain import explain as explained
    from coldfleet.cluster.inspection.trace import trace as traced
    from coldfleet.cluster.results.results import Results
    from coldfleet.cluster.study.plan import Run
    from coldfleet.hostsim.spec.errors import UserError

    results = Results.open(directory)
    plan = results.plan
    numbers, path = [find_cell(plan, cell, settings(at))], "policy"
    if against is not None:
        other, path = find_sibling(plan, numbers[0], against)
        numbers.append(other)
    if replicate >= plan.replicates:
        raise UserError(f"--replicate {replicate}: the study has 0 to {plan.replicates - 1}")
    cells = [plan.cell(number) for number in numbers]
    runs = [Run(plan.index_of(each.cell_id, replicate), each, replicate) for each in cells]
    if host is None and guest is not None:
        host = 0
    with compiling_is_said(say_on_stderr):
        found = explained(results, runs, host, guest, None if page is None else _number(page))
    if trace is not None:
        trace.write_text(encoder.dumps(traced(found[0]), separators=(",", ":")))
    if json:
        output.print_json(found[0].as_json() | ({"against": found[1].as_json()} if against else {}))
        return 0
    _print_head(found)
    if against is None:
        _print_life(found[0])
    else:
        _print_lives(found, path)
    if trace is not None:
        output.print_text(f"\ntrace: {trace} (open it at ui.perfetto.dev)")
    return 0


def _print_head(found: list[Explanation]) -> None:
    from coldfleet.cluster.commands import output

    first = found[0]
    output.print_paragraph(
        f"host {first.host}, guest {first.guest} ({first.guest_name}), page {first.life.page}: {first.why}"
    )
    for each in found:
        cell, wrong = each.run.cell, sum(not eviction.right for eviction in each.judged)
        asked = [ask for ask in each.life.asks if ask.site]
        false = sum(ask.young != ask.touched for ask in asked)
        output.print_paragraph(
            f"{cell.policy.name} on {cell.spec.kernel} (cell {cell.cell_id}, replicate {each.run.replicate}): "
            f"{len(asked)} asks, {false} of them answered wrongly; {len(each.judged)} evictions, {wrong} of them wrong"
        )
        if len(found) == 1:
            for fates in each.fates:
                output.print_paragraph(f"the guest: {fates}")
    output.print_paragraph("the simulation gave the stored rows again, bit for bit")
    output.print_text("")


def _print_life(explanation: Explanation) -> None:
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.inspection.words import in_lines

    lines = list(in_lines(explanation))
    table = output.make_table("tick, access", "what happened")
    for time, text in lines[:_MOST_LINES]:
        table.add_row(time, text)
    output.print_rich(table)
    if len(lines) > _MOST_LINES:
        output.print_paragraph(f"and {len(lines) - _MOST_LINES} more lines: --json has all")


def _print_lives(found: list[Explanation], path: str) -> None:
    """Side by side; ``path``: the key that the two cells have different values of."""
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.inspection.words import by_tick
    from coldfleet.cluster.results.summary import as_read

    values = [as_read(path, each.run.cell.spec.value(path)) for each in found]
    table = output.make_table(
        "tick", "touched", *(value if path == "policy" else f"{path}={value}" for value in values)
    )
    for tick, touched, news in by_tick(found):
        table.add_row(tick, touched, *news)
    output.print_rich(table)


def _number(text: str) -> int:
    from coldfleet.hostsim.spec.errors import UserError

    try:
        return int(text, 0)
    except ValueError:
        raise UserError(f"--page {text!r} is not a number: write 1234 or 0x4d2") from None
