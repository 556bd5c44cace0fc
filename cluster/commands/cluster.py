"""coldfleet cluster: whether the nodes of a Ray cluster can take part in a sweep."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from coldfleet.cluster.commands.execution import Json

if TYPE_CHECKING:
    from coldfleet.cluster.execution.cluster_check import NodeCheck


class ClusterAction(StrEnum):
    """What to do with a cluster."""

    CHECK = "check"


def cluster(
    action: Annotated[ClusterAction, typer.Argument(help="check.", metavar="check")],
    address: Annotated[str, typer.Option(help="The cluster's HOST:PORT.", show_default=False)],
    out: Annotated[
        str | None, typer.Option(help="Where results are to be: each node writes a file there, which is removed.")
    ] = None,
    json: Json = False,
) -> int:
    """Check the nodes of a cluster before a sweep: a row for each that has CPUs.

    Python and coldfleet, CPUs, free memory, whether Ray asks for a token, whether the simulator is compiled there, by
    how much the clock is ahead of the one here, and, with --out, whether the node can write results that are seen here.
    Exit code 0: all nodes are fit; 1: some are not, and lines below the table say why.

    \b
    Examples:
      coldfleet cluster check --address head:6379 --out /shared/results
      coldfleet cluster check --address head:6379 --out s3://bucket/results --json
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.execution.cluster_check import check_cluster

    nodes = check_cluster(address, out)
    fit = bool(nodes) and not any(node.unfit for node in nodes)
    if json:
        output.print_json({"fit": fit, "nodes": [asdict(node) for node in nodes]})
    elif nodes:
        _print(nodes)
    else:
        output.print_text("no node of the cluster has a CPU to give")
    return 0 if fit else 1


def _print(nodes: list[NodeCheck]) -> None:
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.results.versions import engine_digest

    titles = ("node", "fit", "Python", "coldfleet", "CPUs", "GiB free", "results", "token", "compiled", "clock")
    table = output.make_table(*titles, numbers=("CPUs", "GiB free", "clock"))
    for node in nodes:
        same = {"": "none", engine_digest(): "the same"}.get(node.engine, "another")
        table.add_row(
            node.machine,
            "no" if node.unfit else "yes",
            node.python or "-",
            same if node.python else "-",
            str(node.cpus),
            "-" if node.memory_bytes is None else f"{node.memory_bytes / 2**30:.1f}",
            _word(node.writes, "written", "no"),
            _word(node.token, "asked", "not asked"),
            _word(node.compiled, "warm", "cold"),
            "-" if node.clock_s is None else f"{node.clock_s:+.3f} s",
        )
    output.print_rich(table)
    for node in nodes:
        for why in node.unfit:
            output.print_paragraph(f"{node.machine}: {why}")
    if open_to_all := [node.machine for node in nodes if node.token is False]:
        risk = "whoever reaches Ray's ports can run code there: set RAY_AUTH_MODE=token"
        output.print_paragraph(f"{', '.join(open_to_all)}: without a token, {risk}")


def _word(value: bool | None, yes: str, no: str) -> str:
    return "-" if value is None else yes if value else no
