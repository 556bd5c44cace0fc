"""coldfleet policies: the catalogue of aging policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from policies import Call, Policy


def policies(
    name: Annotated[str | None, typer.Argument(help="A policy, to see its steps.", metavar="[NAME]")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """List the aging policies, or show one.

    Of one it prints the steps, the calls at MGLRU's three sites, and the source.

    \b
    Examples:
      coldfleet policies
      coldfleet policies fast-only-v5
      coldfleet policies --json
    """
    from cluster import output
    from policies import POLICIES, get_policy

    chosen = [get_policy(name)] if name else list(POLICIES.values())
    if json:
        described = [_described(policy) for policy in chosen]
        output.print_json(described[0] if name else described)
    elif name:
        _print_one(chosen[0])
    else:
        _print_list(chosen)
    return 0


def _described(policy: Policy) -> dict[str, Any]:
    return {
        "name": policy.name,
        "summary": policy.summary,
        "source": policy.source,
        "date": policy.date,
        "status": policy.status,
        "digest": policy.digest,
        "steps": [step.text for step in policy.steps],
        "sites": {site: [_call(call) for call in calls] for site, calls in _sites(policy)},
        "look_around_if": _enter(policy),
    }


def _print_list(policies: list[Policy]) -> None:
    from rich.table import Table

    from cluster import output

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("policy", "date", "status"):
        table.add_column(column, no_wrap=True)
    table.add_column("what it does")
    for policy in policies:
        table.add_row(policy.name, policy.date, policy.status, policy.summary)
    output.print_rich(table, 100)


def _print_one(policy: Policy) -> None:
    from cluster import output

    lines = [f"{policy.name}: {policy.summary}", "", "KVM, when it is asked for the age of a page:"]
    lines += [f"  {number}. {step.text}" for number, step in enumerate(policy.steps, 1)]
    lines += ["", "MGLRU asks:"]
    for site, calls in _sites(policy):
        lines.append(f"  {site + ':':<13} {'; then '.join(map(_call, calls)) or 'nobody: the primary MMU decides'}")
    lines += [
        f"  A page found young at eviction leads to a look-around if {_enter(policy)}.",
        "",
        f"source: {policy.source}",
        f"date:   {policy.date}",
        f"status: {policy.status}",
    ]
    output.print_text("\n".join(lines))


def _sites(policy: Policy) -> tuple[tuple[str, tuple[Call, ...]], ...]:
    return ("walk", policy.walk), ("look_around", policy.look_around), ("evict", policy.evict)


def _call(call: Call) -> str:
    from policies import When

    words = ["clear" if call.clear else "test"]
    words += ["fast_only"] if call.fast_only else []
    words += ["flush"] if call.flush else []
    when = {When.PRIMARY_OLD: "primary old", When.YOUNG: "young", When.FAILED: "failed"}.get(call.when)
    return " ".join(words) + (f" if {when}" if when else "")


def _enter(policy: Policy) -> str:
    from policies import Enter

    return {
        Enter.YOUNG: "anyone says young",
        Enter.PRIMARY: "the primary MMU says young",
        Enter.PRIMARY_OR_FAST: "the primary MMU says young, or the secondary one does and was fast",
        Enter.FAST: "the secondary MMU says young and was fast",
    }[policy.enter]
