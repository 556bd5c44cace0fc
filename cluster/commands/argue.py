"""coldfleet argue: the thread's arguments, run as experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldfleet.cluster.commands.execution import Address, ExecutorName, ExecutorOption, Runs, Workers

if TYPE_CHECKING:
    from coldfleet.cluster.answers.claims import Argued, Outcome
    from coldfleet.cluster.study.argument import Argument

QUICK_REPLICATES = 3

_PAGE = (
    """\
# Arguments

<!-- Made by `coldfleet argue --markdown`. -->

What the reviewers of the series argued about, as experiments: each is a study in `configs/arguments/`, with the claim,
what is measured, and the bound that decides. The figures are means over the replicates with 95 % intervals; a check is
open if its interval reaches to both sides of the bound. One refuted check refutes the claim. `coldfleet argue C5` runs
one of them again.

The date is `bound_set` in the study: the day on which a bound of the claim was last changed. How far to trust it: the
bounds of C1 to C3, and the one of C7 that was raised, were committed before the figures that they judge; those under
reclaim in C1 and C2 were copied from them afterwards. All others were committed together with their first figures, so
that the repository doesn't show which came first.

Waiting for mmu_lock is modelled [on a clock](clock.md#mmu_lock). These studies have none, so that nobody waits in them:
claims about contention are decided by how often mmu_lock is taken.
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
    executor: ExecutorOption = ExecutorName.RAY,
    workers: Workers = None,
    address: Address = None,
    out: Runs = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/arguments.md.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Run the thread's arguments as experiments, and say what the runs say.

    Prints each claim, when its bounds were set, what was measured with 95 % intervals, and the verdict: confirmed,
    refuted, or open; at the end how many of each there are.

    \b
    Examples:
      coldfleet argue --quick
      coldfleet argue C1 C14
      coldfleet argue my_claim.toml --json
    """
    from coldfleet.cluster.answers.claims import find_arguments, run_arguments, tally
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.execution.progress import make_reporter
    from coldfleet.cluster.execution.trials import executor_for

    argued = run_arguments(
        find_arguments(claims or []),
        replicates=QUICK_REPLICATES if quick else None,
        executor=executor_for(out, executor, workers, address),
        reporter=make_reporter(),
        out=out,
    )
    if json:
        output.print_json([_as_json(one) for one in argued])
    elif markdown:
        output.print_text("\n".join(_as_markdown(list(argued))))
    else:
        told = []
        for one in argued:
            output.print_paragraph("\n".join(_in_words(one)) + "\n")
            told.append(one)
        output.print_text(tally(told))
    return 0


def _in_words(argued: Argued) -> list[str]:
    argument = argued.argument
    lines = [f"C{argument.number} {argued.verdict}: {argument.claim}", f"   {_source(argument)}"]
    for outcome in argued.outcomes:
        shown = f"{outcome.figure} ({outcome.check.bound})"
        lines.append(f"   {outcome.verdict + ':':<10} {outcome.check.says}: {shown}")
    return lines


def _source(argument: Argument) -> str:
    """Who made the claim, and when its bounds were set."""
    return argument.by + (f"; bounds set {argument.bound_set}" if argument.bound_set else "")


def _as_json(argued: Argued) -> dict[str, Any]:
    argument = argued.argument
    return {
        "claim": f"C{argument.number}",
        "study": str(argued.study),
        "text": argument.claim,
        "by": argument.by,
        "bound_set": argument.bound_set and argument.bound_set.isoformat(),
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


def _judged(outcome: Outcome) -> str:
    """A check with its figure; what doesn't hold says so."""
    marked = "" if outcome.verdict == "confirmed" else f"**{outcome.verdict}**: "
    return f"{marked}{outcome.check.says}: {outcome.figure} ({outcome.check.bound})"


def _as_markdown(argued: list[Argued]) -> list[str]:
    from coldfleet.cluster.answers.claims import tally

    lines = [
        *_PAGE.splitlines(),
        f"{tally(argued)}.",
        "",
        "| claim | verdict | what was measured |",
        "| --- | --- | --- |",
    ]
    for one in argued:
        figures = "<br>".join(_judged(outcome) for outcome in one.outcomes)
        argument = one.argument
        lines.append(f"| **C{argument.number}** {argument.claim} *({_source(argument)})* | {one.verdict} | {figures} |")
    return lines
