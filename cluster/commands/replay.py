"""coldfleet replay: real kernels' recordings through the engine, step by step."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coldfleet.cluster.commands.execution import Json

if TYPE_CHECKING:
    from coldfleet.cluster.validation.matrix import Group
    from coldfleet.cluster.validation.replays import Refusal
    from coldfleet.hostsim.replay.comparison import Comparison

MOST_MEMBERS = 1000
MOST_SEED = 2**31 - 1
MOST_LISTED = 20  # recordings that differ, or are refused, below a matrix


def replay(
    recordings: Annotated[
        list[Path], typer.Argument(help="Recordings, or folders of them.", metavar="RECORDING...", show_default=False)
    ],
    out: Annotated[Path | None, typer.Option(help="Write the simulator's own recordings there.", metavar="DIR")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Recordings at a time.  [default: all CPUs]")] = None,
    ensemble: Annotated[
        int,
        typer.Option(min=0, max=MOST_MEMBERS, help="Simulate each recording N times, with luck drawn.", metavar="N"),
    ] = 0,
    seed: Annotated[
        int | None, typer.Option(min=0, max=MOST_SEED, help="Seed of that luck.  [default: 1]", metavar="SEED")
    ] = None,
    control: Annotated[
        str, typer.Option(help="With --ensemble: one wrong rule, blind, no-look-around or birth.", metavar="RULE")
    ] = "",
    json: Json = False,
) -> int:
    """Replay recordings of real kernels, and compare every step.

    The schedule is made again from a recording's header and runs through the same engine that sweeps use. Folders are
    summed up in a matrix of kernel, kind and mode: how far each counter was off in the worst step, and, where steps
    are not exact, how many are inside the range that the kernel's own repeats in the folder cover, widened by 3 %.
    With --ensemble, recordings in which a kernel doesn't repeat itself are ranked among runs whose luck is drawn: p is
    the share of runs, itself among them, that are further from the mean of all, and a random part of those that are as
    far. Right rules give p up to 0.1 in 10 % of recordings, 0.5 on average, and runs that spread as wide as the
    kernel's. If all runs equal the recording p is luck alone; "p_range" of --json says what it could be, "low" and
    "high" are the quantiles 5 and 95 % of the runs after the last step.
    Exit code 0: every step of every recording is exact; 1: not all are; 2: bad input. With --ensemble it
    is 0, or 2 for bad input.

    \b
    Examples:
      coldfleet replay tests/recordings/k6.12_host_hotcold_debugfs_r1.jsonl.gz
      coldfleet replay tests/recordings --json
      coldfleet replay tests/recordings --out simulated
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.execution.compiling import compiling_is_said
    from coldfleet.cluster.execution.progress import make_reporter
    from coldfleet.cluster.results.versions import versions
    from coldfleet.cluster.validation.matrix import group_up
    from coldfleet.cluster.validation.replays import Refusal, check_all, replay_all
    from coldfleet.hostsim.spec.errors import UserError

    files = _files(recordings)
    if ensemble:
        if out is not None:
            raise UserError("--out has one run of each recording: leave out --ensemble")
        return _ensembles(files, ensemble, 1 if seed is None else seed, control, workers, json)
    if control or seed is not None:
        raise UserError(f"--{'control' if control else 'seed'} is of an ensemble: add --ensemble 19")
    if out is not None:
        _check_out(out, files)
        check_all(files)
    results: list[Comparison] = []
    refused: list[Refusal] = []
    reporter = make_reporter(what="recordings")
    simulator = f"coldfleet {versions()['coldfleet']}".strip()
    with compiling_is_said(reporter.say):
        for number, answer in enumerate(replay_all(files, workers, out, simulator)):
            if number == 0:  # now everything is compiled
                reporter.begin(0, len(files))
            if isinstance(answer, Refusal):
                refused.append(answer)
            else:
                results.append(answer)
            reporter.advance(1, int(isinstance(answer, Refusal)))
    reporter.end()
    if not results:
        raise UserError(refused[0].reason)
    groups = group_up(results)
    if json:
        matrix = [group.as_json() for group in groups]
        listed = [_as_json(result) for result in results]
        output.print_json({"matrix": matrix, "recordings": listed, "refused": [each.reason for each in refused]})
    elif any(path.is_dir() for path in recordings):
        _print_matrix(groups)
        _print([result for result in results if result.first is not None], of=len(results))
    else:
        _print(results, of=len(results))
    for each in refused[:MOST_LISTED]:
        reporter.say(f"coldfleet: {each.reason}")
    if refused:
        reporter.say(f"{len(refused)} of {len(files)} recordings were refused")
        return 2
    return 0 if all(result.exact == result.steps for result in results) else 1


def _ensembles(files: list[Path], members: int, seed: int, control: str, workers: int | None, json: bool) -> int:
    """Draws, judges and prints the ensembles of the recordings."""
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.execution.compiling import compiling_is_said
    from coldfleet.cluster.execution.progress import make_reporter
    from coldfleet.cluster.validation.ensembles import CONTROLS, UNLIKELY, Ensemble, draw_all, judge
    from coldfleet.cluster.validation.replays import Refusal
    from coldfleet.hostsim.spec.errors import UserError

    if control and control not in CONTROLS:
        raise UserError(f"--control {control}: known are {', '.join(CONTROLS)}")
    drawn: list[Ensemble] = []
    refused: list[Refusal] = []
    reporter = make_reporter(what="recordings")
    with compiling_is_said(reporter.say):
        for number, answer in enumerate(draw_all(files, members, seed, workers, control)):
            if number == 0:
                reporter.begin(0, len(files))
            if isinstance(answer, Refusal):
                refused.append(answer)
            elif answer is not None:
                drawn.append(answer)
            reporter.advance(1, int(isinstance(answer, Refusal)))
    reporter.end()
    if not drawn:
        others = f" and in the {len(files) - 1} others" if len(files) > 1 else ""
        raise UserError(
            refused[0].reason if refused else f"{files[0]}: a kernel repeats itself there{others}: leave out --ensemble"
        )
    names = sorted({each.group for each in drawn})
    groups = [judge(", ".join(name), [each for each in drawn if each.group == name]) for name in names]
    total = judge("all", drawn)
    if json:
        output.print_json(
            {
                "members": members,
                "seed": seed,
                "control": control,
                "all": asdict(total),
                "groups": [asdict(group) for group in groups],
                "recordings": [each.as_json() for each in drawn],
                "refused": [each.reason for each in refused],
            }
        )
    else:
        titles = ("recs", f"p <= {UNLIKELY}", "mean p", "rejected at", "spread")
        table = output.make_table("mode, kernel, kind", *titles, numbers=titles)
        for group in (*groups, total):
            spread = "-" if group.spread is None else f"{group.spread:.2f}"
            rejected = "-" if group.rejected_at is None else f"{group.rejected_at:.1g}"
            shown = f"{100 * group.unlikely:.0f} %", f"{group.mean_p:.2f}", rejected, spread
            table.add_row(group.name, str(group.recordings), *shown)
        output.print_rich(table)
        output.print_paragraph(
            "p: the share of runs, the recording among them, further from the mean of all than it is, and a random "
            "part of those as far; of a single recording half of these; rejected at: the probability that right rules "
            "give so small a mean p, - where all runs equal the recordings; spread: the standard deviation of the runs "
            "over that of the kernel's own repeats, - where it has none or they are equal"
        )
        if len(drawn) == 1:
            low, high = drawn[0].p_range
            output.print_paragraph(f"p of this recording is between {low:.2f} and {high:.2f}")
    for each in refused[:MOST_LISTED]:
        reporter.say(f"coldfleet: {each.reason}")
    return 2 if refused else 0


def _files(paths: list[Path]) -> list[Path]:
    from coldfleet.hostsim.spec.errors import UserError

    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(path.glob("*.jsonl.gz"))
            if not inside:
                raise UserError(f"{path}: no recordings (*.jsonl.gz) in this folder")
            files += inside
        else:
            files.append(path)
    return list(dict.fromkeys(files))  # one that is named twice counts once


def _check_out(out: Path, files: list[Path]) -> None:
    from coldfleet.hostsim.spec.errors import UserError

    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; name a folder")
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        raise UserError(f"--out {out}: two of the recordings have the same file name; replay them apart")
    for name in names:
        if (out / name).exists():
            raise UserError(f"--out {out}: {name} is there already; name a new folder")


def _as_json(result: Comparison) -> dict[str, object]:
    from coldfleet.cluster.validation.replays import ReplayAnswer

    data = asdict(ReplayAnswer.of(result))
    del data["figures"]  # of every step: Python has them
    return data


def _print(results: list[Comparison], of: int) -> None:
    """A line for each recording; ``of``: how many there were in all, if these are only the different ones."""
    from coldfleet.cluster.commands import output

    if results:
        table = output.make_table(
            "recording", "steps", "exact", "pages off", "first difference", numbers=("steps", "exact", "pages off")
        )
        for result in results[:MOST_LISTED]:
            name = result.recording.path.name.removesuffix(".jsonl.gz")
            difference = "" if result.first is None else str(result.first)
            table.add_row(name, str(result.steps), str(result.exact), str(result.worst_pages), difference)
        output.print_rich(table)
    if len(results) > MOST_LISTED:
        output.print_paragraph(f"and {len(results) - MOST_LISTED} more, which --json has")
    if any(result.worst_pages for result in results):
        output.print_paragraph("pages off: in the worst step, in residency or in a generation, whichever is more")
    exact = sum(result.exact == result.steps for result in results)
    output.print_paragraph(f"{exact + of - len(results)} of {of} recordings are exact at every step")


def _percent(inside: int, steps: int) -> str:
    return str(100 * inside // steps) if steps else "-"


def _print_matrix(groups: list[Group]) -> None:
    """For each mode and LRU, a line a kernel and kind."""
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.stats.statistics import short
    from coldfleet.cluster.validation.matrix import LEGEND, NARROW

    for section in dict.fromkeys(group.section for group in groups):
        block = [group for group in groups if group.section == section]
        shown = [figure for figure in NARROW if any(group.worst[figure] for group in block)]
        titles = ["recs", "exact", *(NARROW[figure] for figure in shown)]
        table = output.make_table("kernel, kind", *titles, numbers=titles)
        for group in block:
            off = (short(group.worst[figure], 2) if group.has(figure) else "-" for figure in shown)
            table.add_row(group.name, str(group.recordings), f"{group.exact}/{group.steps}", *off)
        output.print_paragraph(f"{section}: recordings, exact steps, and how far each counter is off in the worst step")
        output.print_rich(table)
        compared = [figure for figure in NARROW if any(group.has(figure) for group in block)]
        if never := [figure for figure in compared if figure not in shown]:
            output.print_rich(f"never off: {', '.join(NARROW[figure] for figure in never)}")
        if inexact := [group for group in block if group.inside]:
            figures = [figure for figure in inexact[0].inside if any(group.inside[figure][1] for group in inexact)]
            titles = ["recs", *(NARROW[figure] for figure in figures)]
            table = output.make_table("kernel, kind", *titles, numbers=titles)
            for group in inexact:
                ours, own = ([_percent(*counts[figure]) for figure in figures] for counts in (group.inside, group.own))
                table.add_row(group.name, str(group.recordings), *ours)
                table.add_row("  the kernel itself", str(group.repeated), *own)
            output.print_text("")
            output.print_paragraph(
                f"{section}: percentage of the steps inside the kernels' own range; the kernel itself: of each "
                "recording's, inside the range of its repeats, where it has any: with 0 recordings there the row above "
                "is of 3 % around the recorded values"
            )
            output.print_rich(table)
        output.print_text("")
    output.print_paragraph("What the columns and figures are; docs/truth.md has the kinds")
    legend = output.make_table("", "")
    legend.show_header = False
    for title, meaning in {"recs": "recordings", "exact": "steps that are exact, of all", **LEGEND}.items():
        legend.add_row(title, meaning)
    output.print_rich(legend)
    output.print_text("")
