"""coldfleet replay: real kernels' recordings through the engine, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
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


def _print(results: list[Comparison]) -> None:
    from rich.table import Table

    from cluster import output
    from cluster.summary import WIDTH

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("recording", overflow="fold")
    for title in ("steps", "exact", "pages off"):
        table.add_column(title, justify="right")
    table.add_column("first difference", overflow="fold")
    for result in results:
        name = result.recording.path.name.removesuffix(".jsonl.gz")
        difference = "" if result.first is None else str(result.first)
        table.add_row(name, str(result.steps), str(result.exact), str(result.worst_pages), difference)
    output.print_rich(table, WIDTH)
    exact = sum(result.exact == result.steps for result in results)
    output.print_text(f"{exact} of {len(results)} recordings are exact at every step")
