"""coldfleet map: which policy wins where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldfleet.cluster.commands.execution import Address, At, ExecutorName, ExecutorOption, Runs, Workers

if TYPE_CHECKING:
    from coldfleet.cluster.answers.study_map import MapAnswer, MapPoint, Range


RANGE = typer.Option(
    metavar="FROM:TO",
    help="From where to where.  [default: what is usual for the key, else the study's values]",
    show_default=False,
)


def map(
    study: Annotated[Path, typer.Argument(help="The study file.", metavar="STUDY.toml")],
    x: Annotated[str, typer.Option(help="The key from left to right.", metavar="KEY")],
    y: Annotated[str, typer.Option(help="The key from bottom to top.", metavar="KEY")],
    x_range: Annotated[str, RANGE] = ":",
    y_range: Annotated[str, RANGE] = ":",
    metric: Annotated[str, typer.Option(help="What decides: a metric, a column, a sum, or a ratio.")] = "refaults",
    highest: Annotated[bool, typer.Option("--highest", help="The highest figure wins, not the lowest.")] = False,
    depth: Annotated[int, typer.Option(min=0, max=3, help="How often squares on a border are cut.")] = 2,
    at: At = None,
    confidence: Annotated[float, typer.Option(min=50, max=99.99, help="Of each win over another, in percent.")] = 95.0,
    budget: Annotated[str, typer.Option(help="When to stop refining: a time, such as 4m, or a number of runs.")] = "4m",
    picture: Annotated[Path | None, typer.Option(help="Draw it to this file too: .png or .svg.")] = None,
    executor: ExecutorOption = ExecutorName.RAY,
    workers: Workers = None,
    address: Address = None,
    out: Runs = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Draw a map of which policy wins where.

    Two keys of the study vary, all policies of the study compete on identical accesses, and the map becomes finer
    where the winner changes. Policies that can't be told apart tie, and the map says so.

    \b
    Examples:
      coldfleet map configs/quickstart.toml --x nested_ratio --y exposed_share
      coldfleet map configs/quickstart.toml --x nested_ratio --y overcommit --y-range 1.1:2 --metric reclaim_cpu_s
      coldfleet map configs/quickstart.toml --x nested_ratio --y skew --y-range 0.5:1.3 --picture map.svg --json
    """
    from coldfleet.cluster.answers.study_map import policy_map
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.commands.execution import settings
    from coldfleet.cluster.report.map_picture import check_picture, draw_picture

    if picture is not None:
        check_picture(picture)
    answer = policy_map(
        study,
        x,
        y,
        x_range=_range(x_range),
        y_range=_range(y_range),
        metric=metric,
        highest=highest,
        depth=depth,
        at=settings(at),
        confidence=confidence,
        budget=budget,
        executor=executor,
        workers=workers,
        address=address,
        out=out,
        progress=True,
    )
    name = answer.title or answer.study
    if picture is not None:
        draw_picture(picture, _squares(answer), (answer.x, answer.y), f"{name}: {answer.question}")
    if json:
        output.print_json(asdict(answer))
    else:
        output.print_paragraph(f"{name}\n{answer.question}, with {confidence:g} % confidence\n")
        output.print_text("\n".join(_picture(answer)))
        output.print_paragraph("\n".join(_legend(answer)))
    return 0


def _range(text: str) -> Range:
    """``FROM:TO``, of which either may be missing; raises UserError."""
    from coldfleet.hostsim.spec.errors import UserError

    try:
        low, high = (float(end) if end.strip() else None for end in text.split(":"))
    except ValueError:
        raise UserError(f"{text!r} is not a range: write FROM:TO, such as 0.1:0.9") from None
    return low, high


def _squares(answer: MapAnswer) -> list[dict[str, Any]]:
    """Every point that can be with who wins there, for a picture."""
    return [
        {"x": each.x, "y": each.y, "winners": " = ".join(each.winners), "simulated": each.simulated}
        for each in answer.points
        if each.possible
    ]


def _letters(answer: MapAnswer) -> dict[tuple[str, ...], str]:
    """What stands for the winners of each region."""
    names = ascii_uppercase.ljust(len(answer.regions), "#")
    return {region.winners: letter for region, letter in zip(answer.regions, names, strict=False)}


def _picture(answer: MapAnswer) -> list[str]:
    """The map in characters: capitals where it was simulated, small letters where the nearest capital decides."""
    size, letters = answer.size, _letters(answer)
    scales = [f"{answer.point(n, 0).x:.3g}" for n in range(size)], [f"{answer.point(0, n).y:.3g}" for n in range(size)]
    width = max(len(label) for label in scales[1])
    lines = [answer.y]
    for row in reversed(range(size)):
        label = scales[1][row] if row % 2 == 0 else ""
        marks = (_mark(answer.point(column, row), letters) for column in range(size))
        lines.append(f"{label:>{width}} | {' '.join(marks)}".rstrip())
    lines.append(f"{'':{width}} +{'-' * (2 * size)}")
    scale = ""
    for column in range(0, size, 4):
        scale = f"{scale:<{2 * column}}{scales[0][column]}"
    return [*lines, f"{'':{width}}   {scale}  {answer.x}", ""]


def _legend(answer: MapAnswer) -> list[str]:
    """What the characters of the map stand for."""
    letters, lines = _letters(answer), []
    for region in answer.regions:
        tie = " (tie)" if len(region.winners) > 1 else ""
        lines.append(f"{letters[region.winners]}  {region.share:4.0%}  {' = '.join(region.winners)}{tie}")
    lines.append("capitals were simulated; a small letter is that of the nearest capital")
    if not all(point.possible for point in answer.points):
        lines.append(".  the study allows no such cell")
    return lines


def _mark(point: MapPoint, letters: Mapping[tuple[str, ...], str]) -> str:
    mark = letters.get(point.winners, ".")
    return mark if point.simulated else mark.lower()
