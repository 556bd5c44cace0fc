"""coldfleet policies: the catalogue of aging policies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from coldfleet.policies import Call, Policy


_STATUSES = {"merged": "in a release", "proposed": "in the thread", "control": "known to be wrong", "mine": "yours"}


def policies(
    name: Annotated[str | None, typer.Argument(help="A policy, to see its steps.", metavar="[NAME]")] = None,
    steps: Annotated[bool, typer.Option("--steps", help="Print the steps of every policy.")] = False,
    study: Annotated[Path | None, typer.Option(help="A study file, to see its own policies too.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """List the aging policies by status, or show one.

    Of one it prints the steps, the calls at MGLRU's three sites, and the source.

    \b
    Examples:
      coldfleet policies
      coldfleet policies fast-only-v5
      coldfleet policies --steps
      coldfleet policies mine --study my.toml
      coldfleet policies --json
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.study.reader import read_study
    from coldfleet.cluster.study.values import find_policy
    from coldfleet.policies import POLICIES
    from coldfleet.policies.installed import installed

    own = read_study(study).own_policies if study else {}
    names = [name] if name else [*dict.fromkeys([*POLICIES, *own, *installed()])]
    chosen = [find_policy(name, own) for name in names]
    if json:
        described = [_described(policy) for policy in chosen]
        output.print_json(described[0] if name else described)
    elif name or steps:
        output.print_paragraph("\n\n\n".join(map(_described_in_words, chosen)))
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
        "sites": {site: list(map(str, calls)) for site, calls in _sites(policy)},
        "look_around_if": _enter(policy),
        "fast_only_asks_kvm_if": policy.fast_aging,
    }


def _print_list(policies: list[Policy]) -> None:
    from rich.table import Table

    from coldfleet.cluster.commands import output

    width = max(len(policy.name) for policy in policies)
    for status in {**_STATUSES, **{policy.status: "" for policy in policies}}:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        title = _STATUSES.get(status, "of another package")
        table.add_column(f"{status} ({title})", no_wrap=True, min_width=width)
        table.add_column("date", no_wrap=True)
        table.add_column("what it does")
        for policy in policies:
            if policy.status == status:
                table.add_row(policy.name, policy.date, policy.summary)
        if table.row_count:
            output.print_rich(table)
            output.print_text("")


def _described_in_words(policy: Policy) -> str:
    lines = [f"{policy.name}: {policy.summary}".removesuffix(": "), "", "KVM, when it is asked for the age of a page:"]
    lines += [f"  {number}. {step.text}" for number, step in enumerate(policy.steps, 1)]
    lines += ["", "MGLRU asks:"]
    for site, calls in _sites(policy):
        lines.append(f"  {site + ':':<13} {'; then '.join(map(str, calls)) or 'not at all: the primary MMU decides'}")
    lines += [
        f"  A page found young at eviction leads to a look-around if {_enter(policy)}.",
    ]
    if policy.fast_aging:
        lines.append(f"  A fast_only call asks KVM only if {policy.fast_aging}.")
    lines += [
        "",
        f"source: {policy.source}" + (f", {policy.date}" if policy.date else ""),
        f"status: {policy.status}",
    ]
    return "\n".join(lines)


def _sites(policy: Policy) -> tuple[tuple[str, tuple[Call, ...]], ...]:
    return ("walk", policy.walk), ("look_around", policy.look_around), ("evict", policy.evict)


def _enter(policy: Policy) -> str:
    from coldfleet.policies import Enter

    return {
        Enter.YOUNG: "anyone says young",
        Enter.PRIMARY: "the primary MMU says young",
        Enter.PRIMARY_OR_FAST: "the primary MMU says young, or the secondary one does and was fast",
        Enter.FAST: "the secondary MMU says young and was fast",
        Enter.NEVER: "the mm has no notifiers, that is never for a VM",
        Enter.FAST_NOTIFIER: "the primary MMU says young, or anyone does and some subscriber has_fast_aging",
    }[policy.enter]
