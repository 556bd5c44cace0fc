"""The command line: ``coldfleet COMMAND``. Each command has a file of its own in cluster/commands/.

Commands import what they need when they run, so that ``--help`` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache, wraps
from typing import Annotated, Any, NoReturn

import typer

from coldfleet.cluster.commands import (
    ablate,
    argue,
    calibrate,
    capacity,
    cluster,
    columns,
    compact,
    compare,
    diff,
    explain,
    fleet,
    job,
    map,
    new,
    plan,
    policies,
    query,
    replay,
    report,
    resume,
    retry,
    run,
    search,
    status,
    submit,
    sweep,
    trace,
    validate,
    verify,
)
from coldfleet.cluster.execution.interrupt import INTERRUPTED, SIGNALS, StoppedError, StopRequest, quiet_once_asked
from coldfleet.cluster.study.terminal import telling, visible

COMMANDS: tuple[Callable[..., Any], ...] = (
    new.new,
    plan.plan,
    sweep.sweep,
    status.status,
    resume.resume,
    retry.retry,
    verify.verify,
    compact.compact,
    submit.submit,
    job.job,
    cluster.cluster,
    run.run,
    query.query,
    columns.columns,
    explain.explain,
    fleet.fleet,
    ablate.ablate,
    replay.replay,
    trace.trace,
    policies.policies,
    argue.argue,
    validate.validate,
    calibrate.calibrate,
    compare.compare,
    diff.diff,
    capacity.capacity,
    map.map,
    search.search,
    report.report,
)
"""Every command, in the order of the help. A command's name is its function's, its help the docstring."""


def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from coldfleet import __version__

        print(f"coldfleet {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def _stoppable(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command that a signal ends at once, unless it asks for time to end well."""

    @wraps(command)
    def call(*arguments: Any, **options: Any) -> Any:
        with StopRequest(urgent=True):
            return command(*arguments, **options)

    return call


@cache
def command_line(name: str = "") -> Any:
    """All commands, or, where that is the name of one, that one alone: making all takes as long as some run."""
    app = typer.Typer(
        name="coldfleet",
        help="Simulates how hypervisor hosts find cold guest memory, page by page, over a whole fleet.\n\n"
        "Begin with:\n\n    coldfleet sweep configs/quickstart.toml",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback(invoke_without_command=True)(_options)
    for command in [command for command in COMMANDS if command.__name__ == name] or COMMANDS:
        app.command()(_stoppable(command))
    return typer.main.get_command(app)


_COMPLETE = "_COLDFLEET_COMPLETE"  # what shells ask for completion with
_SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")
MAX_MESSAGE = 2000  # characters of a message: an input may be longer


def main() -> NoReturn:
    """Runs a command. People see results or one line that says what is wrong, never a traceback.

    Exit code 0: done; 1: done, but something failed; 2: bad input, nothing written; 3: a bug; 4: Ray ended;
    128 and the number of a signal: stopped by it.
    """
    _open_streams()
    sys.unraisablehook = quiet_once_asked
    gc.set_threshold(100_000)  # looking for garbage while modules are loaded is a sixth of the start
    code = run_command(sys.argv[1:])
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # all is said
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # it is closed
            stream.flush()
    atexit._run_exitfuncs()
    os._exit(code)  # without the end of Arrow's threads, which may abort the process, seen once in 3,000 commands


def _open_streams() -> None:
    """Gives the null device to those of the three streams that the caller closed, as ``2>&-`` does.

    Otherwise the next file that is opened would be one of them, and be written to.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def run_command(arguments: list[str]) -> int:
    """Runs a command and returns its exit code."""
    try:
        _check_completion()
        with telling(_say):
            code = command_line(*arguments[:1])(arguments, prog_name="coldfleet", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except StoppedError as stopped:
        return _complain(str(stopped), stopped.code)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("COLDFLEET_DEBUG"):
            raise
        return _complain(*_explain(error))


def _check_completion() -> None:
    """Raises UserError if a shell asks for completion in a way that it doesn't have: click would write many lines."""
    from coldfleet.hostsim.spec.errors import UserError

    asked = os.environ.get(_COMPLETE, "")
    known = [f"{what}_{shell}" for shell in _SHELLS for what in ("complete", "source")]
    bash = asked == "complete_bash" and {"COMP_WORDS", "COMP_CWORD"} - os.environ.keys()
    if asked and (asked not in known or bash or not os.environ.get("COMP_CWORD", "0").isdecimal()):
        said = f"{_COMPLETE}={asked}" if asked not in known else "COMP_WORDS or COMP_CWORD"
        raise UserError(f"{said}: no shell asks so: `coldfleet --install-completion` sets up completion")


def _say(text: str) -> None:
    print(f"coldfleet: {text}", file=sys.stderr, flush=True)


def _explain(error: Exception) -> tuple[str, int]:
    if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # of the command line itself
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context is not None else ""
        return f"{error.format_message()}{hint}", int(error.exit_code)
    if isinstance(error, _user_errors()):
        return str(error), 2
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}", 2
    kind = type(error).__name__
    return f"a bug in coldfleet: {kind}: {error} (COLDFLEET_DEBUG=1 shows where; please report it)", 3


def _user_errors() -> tuple[type[Exception], ...]:
    from coldfleet.hostsim.spec.errors import UserError
    from coldfleet.policies import PolicyError

    return UserError, PolicyError


def _complain(message: str, code: int) -> int:
    text = visible(" ".join(message.split()))
    text = text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]} ..."
    with suppress(OSError, ValueError):  # stderr is closed
        print(f"coldfleet: {text}", file=sys.stderr)
    return code
