"""coldfleet argue: the thread's arguments, run as experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from coldfleet.cluster.answers.claims import Argued

QUICK_REPLICATES = 3

_PAGE = (
    """\
# Arguments

<!-- Made by `coldfleet argue --markdown`. -->

What the reviewers of the series argued about, as experiments: each is a study in `configs/arguments/`, with the claim,
what is measured, and the bound that decides. The figures are means over the replicates with 95 % intervals; a check is
open if its interval reaches to both sides of the bound. `coldfleet argue C5` runs one of them again.

These studies have no clock, so nobody waits: claims about contention are decided by how often mmu_lock is taken.
Some figures follow from a policy's steps, or are nearly a parameter of the study, and can't surprise; `decides` in the
study says which.
"""
    + "\n"
)


def argue(
    claims: Annotated[
        list[str] | None, typer.Argument(help="Claims by number, such as C1; or study files.", metavar="[C1 ...]")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Three replicates of each instead of all.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time.  [default: all CPUs]")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/arguments.md.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Run the thread's arguments as experiments, and say what the runs say.

    Prints each claim, what was measured with 95 % intervals, and the verdict: confirmed, refuted, or open.

    \b
    Examples:
      coldfleet argue --quick
      coldfleet argue C1 C14
      coldfleet argue my_claim.toml --json
    """
    from coldfleet.cluster.answers.claims import find_arguments, run_arguments
    from coldfleet.cluster.commands import output

    found = find_arguments(claims or [])
    argued = run_arguments(found, replicates=QUICK_REPLICATES if quick else None, workers=workers)
    if json:
        output.print_json([_as_json(one) for one in argued])
    elif markdown:
        output.print_text("\n".join(_as_markdown(list(argued))))
    else:
        for one in argued:
            output.print_paragraph("\n".join(_in_words(one)) + "\n")
    return 0


def _in_words(argued: Argued) -> list[str]:
    argument = argued.argument
    lines = [f"C{argument.number} {argued.verdict}: {argument.claim}", f"   {argument.by}"]
    for outcome in argued.outcomes:
        shown = f"{outcome.figure} ({outcome.check.bound})"
        lines.append(f"   {outcome.verdict + ':':<10} {outcome.check.says}: {shown}")
    return lines


def _as_json(argued: Argued) -> dict[str, Any]:
    argument = argued.argument
    return {
        "claim": f"C{argument.number}",
        "study": str(argued.study),
        "text": argument.claim,
        "by": argument.by,
        "decides": argument.decides,
        "replicates": argued.replicates,
        "verdict": argued.verdict,
        "checks": [
            {
                "says": outcome.check.says,
                "measure": outcome.check.measure,
                "bound": outcome.check.bound,
                "mean": outcome.mean.mean,
                "ci95": outcome.mean.half_width,
                "verdict": outcome.verdict,
            }
            for outcome in argued.outcomes
        ],
    }


def _as_markdown(argued: list[Argued]) -> list[str]:
    lines = [*_PAGE.splitlines(), "| claim | verdict | what was measured |", "| --- | --- | --- |"]
    for one in argued:
        figures = "<br>".join(f"{o.check.says}: {o.figure} ({o.check.bound})" for o in one.outcomes)
        argument = one.argument
        lines.append(f"| **C{argument.number}** {argument.claim} *({argument.by})* | {one.verdict} | {figures} |")
    return lines
