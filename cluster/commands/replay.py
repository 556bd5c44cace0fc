"""coldfleet replay: real kernels' recordings through the engine, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from hostsim.compare import Comparison
    from hostsim.recording import Recording


def replay(
    recordings: Annotated[
        list[Path], typer.Argument(help="Recordings, or folders of them.", metavar="RECORDING...", show_default=False)
    ],
    out: Annotated[Path | None, typer.Option(help="Write the simulator's own recordings there.", metavar="DIR")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> int:
    """Replay recordings of real kernels, and compare every step.

    The schedule is made again from a recording's header and runs through the same engine that sweeps use.
    Folders are summed up by kernel, kind and mode.
    Exit code 0: every step of every recording is exact; 1: not all are; 2: bad input.

    \b
    Examples:
      coldfleet replay tests/recordings/k6.12_host_hotcold_debugfs_r1.jsonl.gz
      coldfleet replay tests/recordings --json
      coldfleet replay tests/recordings --out simulated
    """
    from cluster import output
    from cluster.progress import make_reporter
    from cluster.versions import versions
    from hostsim.compare import compare_recording
    from hostsim.recording_writer import write_recording

    chosen = _read_all(recordings)
    if out is not None:
        _check_out(out, chosen)
    results = []
    reporter = make_reporter()
    reporter.begin(0, len(chosen))
    for recording in chosen:
        result = compare_recording(recording)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            simulator = f"coldfleet {versions()['coldfleet']}".strip()
            write_recording(out / recording.path.name, recording, result.simulated, simulator)
        result.simulated.clear()
        results.append(result)
        reporter.advance(1, 0)
    reporter.end()
    if json:
        output.print_json([_as_json(result) for result in results])
    elif any(path.is_dir() for path in recordings):
        _print_matrix(results)
    else:
        _print(results)
    return 0 if all(result.exact == result.steps for result in results) else 1


def _read_all(paths: list[Path]) -> list[Recording]:
    """All recordings, each checked before the first is replayed."""
    from hostsim.errors import UserError
    from hostsim.recording import read_recording
    from hostsim.replay import check_replayable

    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(path.glob("*.jsonl.gz"))
            if not inside:
                raise UserError(f"{path}: no recordings (*.jsonl.gz) in this folder")
            files += inside
        else:
            files.append(path)
    recordings = []
    for file in files:
        recording = read_recording(file)
        check_replayable(recording)
        recordings.append(recording)
    return recordings


def _check_out(out: Path, recordings: list[Recording]) -> None:
    from hostsim.errors import UserError

    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; name a folder")
    names = [recording.path.name for recording in recordings]
    if len(set(names)) < len(names):
        raise UserError(f"--out {out}: two of the recordings have the same file name; replay them apart")
    for name in names:
        if (out / name).exists():
            raise UserError(f"--out {out}: {name} is there already; name a new folder")


def _as_json(result: Comparison) -> dict[str, object]:
    first = result.first
    return {
        "recording": str(result.recording.path),
        "steps": result.steps,
        "exact_steps": result.exact,
        "worst_pages": result.worst_pages,
        "first_difference": None
        if first is None
        else {
            "step": first.step,
            "event": first.event,
            "round": first.round,
            "field": first.field,
            "kernel": first.kernel,
            "ours": first.ours,
        },
    }


def _print(results: list[Comparison], of: int | None = None) -> None:
    """A line for each recording; ``of``: how many there were in all, if these are only the different ones."""
    from cluster import output
    from cluster.summary import WIDTH

    table = _table("recording", "steps", "exact", "pages off", "first difference")
    for result in results:
        name = result.recording.path.name.removesuffix(".jsonl.gz")
        difference = "" if result.first is None else str(result.first)
        table.add_row(name, str(result.steps), str(result.exact), str(result.worst_pages), difference)
    output.print_rich(table, WIDTH)
    exact = sum(result.exact == result.steps for result in results)
    total = len(results) if of is None else of
    output.print_text(f"{exact + total - len(results)} of {total} recordings are exact at every step")


def _print_matrix(results: list[Comparison]) -> None:
    """A line for each kernel, kind and mode, then the recordings that aren't exact."""
    from cluster import output
    from cluster.summary import WIDTH

    groups: dict[tuple[str, str, str], list[Comparison]] = {}
    for result in results:
        header = result.recording.header
        groups.setdefault((header.kernel, header.label, header.mode), []).append(result)
    table = _table("kernel", "kind", "mode", "recordings", "exact", "steps", "exact steps", "pages off")
    for (kernel, label, mode), group in sorted(groups.items(), key=lambda item: _by_version(item[0])):
        exact = sum(result.exact == result.steps for result in group)
        steps = sum(result.steps for result in group)
        exact_steps = sum(result.exact for result in group)
        worst = max(result.worst_pages for result in group)
        table.add_row(kernel, label, mode, *map(str, (len(group), exact, steps, exact_steps, worst)))
    output.print_rich(table, WIDTH)
    output.print_text("")
    _print([result for result in results if result.first is not None], of=len(results))


def _by_version(key: tuple[str, str, str]) -> tuple[list[int], str, str]:
    return [int(part) for part in key[0].split(".")], key[1], key[2]


def _table(*titles: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        text = title in ("recording", "kernel", "kind", "mode", "first difference")
        table.add_column(title, justify="left" if text else "right", overflow="fold")
    return table
