"""coldfleet trace: traces of memory accesses and measured heat, imported and shown."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from coldfleet.hostsim.trace.table import Trace


class TraceAction(StrEnum):
    """What to do with a trace."""

    IMPORT = "import"
    SHOW = "show"
    RECORD = "record"


def trace(
    action: Annotated[TraceAction, typer.Argument(help="import, show or record.", metavar="import|show|record")],
    file: Annotated[
        list[str],
        typer.Argument(
            help="The trace; several files continue each other. show: builtin:NAME is one that comes along. record: "
            "the command, after --.",
            metavar="FILE...",
        ),
    ],
    format: Annotated[
        str | None, typer.Option("--as", metavar="FORMAT", help="Its format.  [default: by its content]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="import, record: the Parquet file to make.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT=NAME",
            help="csv, parquet: the column of time, page, address, obj_id, rw or process; may be"
            " repeated. NAME is its name or, in a csv, its number from 1.",
        ),
    ] = None,
    time_unit: Annotated[str, typer.Option(help="csv, parquet: unit of times: s, ms, us or ns.")] = "s",
    window: Annotated[
        int,
        typer.Option(metavar="ACCESSES", help="import, record: keep a page once in each window of so many accesses."),
    ] = 1,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="SIZE", help='show: one more point of the curve, such as "64 MiB"; may be repeated.'),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="show: no sampling; takes memory for every page.")] = False,
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="show: write pictures there too, as SVG and PNG.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Import traces of other tools into Parquet, show what they are like, and record programs.

    Formats: oracle-general, csv, txt, vscsi, lackey, perf-script, damon, lru-gen, page-idle, parquet; packed by gzip,
    zstd, xz, bzip2 or zlib, too. What a format doesn't know is said as a note. record runs a command under valgrind.

    \b
    Examples:
      coldfleet trace import web.oracleGeneral.bin.zst --out web.parquet
      coldfleet trace import blocks.csv --column obj_id=lbn --column time=2 --time-unit us --out blocks.parquet
      coldfleet trace import idle.0 idle.1 idle.2 --as page-idle --out idle.parquet
      coldfleet trace show web.oracleGeneral.bin.zst --size "64 MiB" --export pictures
      coldfleet trace show builtin:sqlite
      coldfleet trace record --window 1000 --out ls.parquet -- ls -l /
    """  # fmt: skip
    from coldfleet.hostsim.spec.errors import UserError

    files = [Path(each) for each in file]
    if action is not TraceAction.SHOW:
        if out is None:
            raise UserError(f"trace {action}: name the file to make: --out FILE.parquet")
        if size or exact or export is not None:
            raise UserError("--size, --exact and --export are for trace show")
        if action is TraceAction.IMPORT:
            return _say(_imported(files, out, format, _columns(column), time_unit, window), json)
        if format is not None or column or time_unit != "s":
            raise UserError("--as, --column and --time-unit are for trace import and show")
        return _say(_recorded(file, out, window), json)
    if out is not None or window != 1:
        raise UserError("--out and --window are for trace import and record")
    return _show(file, format, _columns(column), time_unit, size or [], exact, export, json)


def _columns(column: list[str] | None) -> dict[str, str]:
    """What the options ``--column WHAT=NAME`` say."""
    from coldfleet.hostsim.spec.errors import UserError

    found: dict[str, str] = {}
    for each in column or ():
        what, equals, name = each.partition("=")
        if not equals or what in found:
            raise UserError(
                f"--column {each}: write WHAT=NAME, once for each of time, page, address, obj_id, rw, process"
            )
        found[what] = name
    return found


def _say(made: Trace, json: bool) -> int:
    from dataclasses import asdict

    from coldfleet.cluster.commands import output

    if json:
        output.print_json({**asdict(made), "path": str(made.path)})
        return 0
    what = "accesses" if made.kind == "accesses" else "ranges of pages with their heat"
    output.print_text(f"{made.path}: {made.rows:,} {what}, from {made.source} ({made.format})")
    for note in made.notes:
        output.print_paragraph(f"note: {note}")
    return 0


def _imported(
    files: list[Path], out: Path, format: str | None, columns: dict[str, str], unit: str, window: int
) -> Trace:
    from coldfleet.cluster.execution.progress import share_reported
    from coldfleet.hostsim.trace.importing import ImportProgress, import_trace

    with share_reported("imported") as tell:

        def told(progress: ImportProgress) -> None:
            tell(progress.bytes_read / max(progress.bytes_total, 1))

        return import_trace(
            list(files), out, format=format, columns=columns, time_unit=unit, window=window, progress=told
        )


def _recorded(command: list[str], out: Path, window: int) -> Trace:
    from coldfleet.cluster.execution.progress import say_on_stderr
    from coldfleet.cluster.stats.amounts import duration
    from coldfleet.hostsim.trace.importing import ImportProgress
    from coldfleet.hostsim.trace.record import record_trace

    last = 0.0

    def told(progress: ImportProgress) -> None:
        nonlocal last
        if progress.seconds >= last + 10:
            last = progress.seconds
            say_on_stderr(f"{progress.rows:,} accesses kept after {duration(round(last))}")

    return record_trace(command, out, window=window, progress=told)


def _show(
    names: list[str], format: str | None, columns: dict[str, str], unit: str, sizes: list[str], exact: bool,
    export: Path | None, json: bool,
) -> int:  # fmt: skip
    """Of a file that isn't imported, an import is made and removed again."""
    from importlib.util import find_spec
    from tempfile import TemporaryDirectory

    from coldfleet.hostsim.spec.errors import UserError
    from coldfleet.hostsim.spec.input_file import open_input
    from coldfleet.hostsim.spec.units import MEMORY
    from coldfleet.hostsim.trace.programs import find_program
    from coldfleet.hostsim.trace.table import Trace, is_trace

    if export is not None and not all(map(find_spec, ("altair", "vl_convert"))):
        raise UserError("pictures need Altair and vl-convert: pip install 'coldfleet[report]'")
    files = [find_program(each) or Path(each) for each in names]
    pages = [MEMORY.parse(int(each) if each.isdigit() and len(each) < 19 else each) for each in sizes]
    open_input(files[0]).close()
    if len(files) == 1 and is_trace(files[0]):
        if format is not None or columns or unit != "s":
            raise UserError(f"{files[0]}: is imported already: leave out --as, --column and --time-unit")
        _print(Trace.open(files[0]), pages, exact, export, json)
        return 0
    with TemporaryDirectory(prefix="coldfleet-trace-") as folder:
        made = _imported(files, Path(folder) / "trace.parquet", format, columns, unit, 1)
        _print(made, pages, exact, export, json)
    return 0


def _print(made: Trace, sizes: list[int], exact: bool, export: Path | None, json: bool) -> None:
    from dataclasses import asdict

    from coldfleet.cluster.commands import output
    from coldfleet.cluster.execution.progress import share_reported
    from coldfleet.cluster.inspection.trace_text import trace_lines
    from coldfleet.hostsim.trace.summarize import summarize_trace

    with share_reported("measured") as tell:
        summary = summarize_trace(made, sizes=sizes, exact=exact, progress=tell)
    files = []
    if export is not None:
        from coldfleet.cluster.report.trace_pictures import export_trace

        files = export_trace(made, summary, export)
    if json:
        told: dict[str, Any] = {name: value for name, value in asdict(made).items() if name != "path"}
        output.print_json({**told, **asdict(summary)})
        return
    output.print_text("\n".join([*trace_lines(made, summary, output.width(), sizes), *map(str, files)]))
