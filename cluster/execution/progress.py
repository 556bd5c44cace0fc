"""How a sweep tells a person what it is doing, on stderr: a bar with an ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from coldfleet.cluster.stats.amounts import duration
from coldfleet.cluster.study.terminal import visible
from coldfleet.hostsim.spec.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_EVERY_S = 10.0


class Reporter(Protocol):
    """Is told what happens."""

    def say(self, text: str) -> None:
        """A line of news."""

    def begin(self, done: int, total: int) -> None:
        """The runs start; some may be done already."""

    def advance(self, runs: float, failed: int) -> None:
        """So many more runs ended, and so many of them failed.

        ``runs`` can be a fraction: of a run whose hosts are spread over workers, each group of hosts counts its part.
        """

    def end(self) -> None:
        """No more runs."""


def make_reporter(progress: Reporter | bool = True, what: str = "runs") -> Reporter:
    """True: the reporter that suits stderr; False: one that says nothing. A reporter stays as it is.

    ``what``: is counted.
    """
    if isinstance(progress, bool):
        shown = Bar(what) if sys.stderr.isatty() else Lines(what)
        return shown if progress else Silent()
    if not all(hasattr(progress, name) for name in ("say", "begin", "advance", "end")):
        raise UserError(f"progress = {progress!r:.80}: it should be True, False, or have the methods of Reporter")
    return progress


@contextmanager
def share_reported(what: str) -> Iterator[Callable[[float], None]]:
    """Inside, says on stderr how much was done of what has no runs: the function is told the share, 0..1."""
    reporter, told = make_reporter(what=f"% {what}"), 0.0

    def tell(share: float) -> None:
        nonlocal told
        reporter.advance(100 * (share - told), 0)
        told = share

    reporter.begin(0, 100)
    try:
        yield tell
    finally:
        reporter.end()


def say_on_stderr(text: str) -> None:
    """A line of news where no reporter is."""
    print(visible(text), file=sys.stderr, flush=True)


class Lines:
    """One line every ten seconds, for logs and pipes; what is done sooner has none."""

    def __init__(self, what: str = "runs") -> None:
        self._what = what
        self._failed = self._total = self._begun = 0
        self._done = 0.0
        self._start = self._last = 0.0

    def say(self, text: str) -> None:
        say_on_stderr(text)

    def begin(self, done: int, total: int) -> None:
        self._done = self._begun = done
        self._total = total
        self._start = self._last = time.monotonic()

    def advance(self, runs: float, failed: int) -> None:
        self._done = round(self._done + runs, 6)
        self._failed += failed
        now = time.monotonic()
        ended = self._done == self._total and self._last > self._start
        if now - self._last >= _EVERY_S or ended:
            self._last = now
            rate = (self._done - self._begun) / max(now - self._start, 1e-9)
            left = (self._total - self._done) / rate if rate else 0.0
            errors = f", {self._failed} failed" if self._failed else ""
            done = f"{int(self._done)}/{self._total} {self._what}{errors}"
            self.say(f"{done}, {duration(round(now - self._start))} gone, {duration(round(left))} left")

    def end(self) -> None:
        pass


class Bar:
    """A progress bar."""

    def __init__(self, what: str = "runs") -> None:
        self._what = what
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._failed = 0

    def say(self, text: str) -> None:
        if self._progress is not None:
            self._progress.console.print(visible(text), highlight=False, markup=False)
        else:
            say_on_stderr(text)

    def begin(self, done: int, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed
        from rich.progress import TimeRemainingColumn as Remaining

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Elapsed(),
            TextColumn("left"),
            Remaining(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), speed_estimate_period=120)
        self._task = self._progress.add_task(self._what, total=total, completed=done)
        self._progress.start()

    def advance(self, runs: float, failed: int) -> None:
        self._failed += failed
        if self._progress is not None and self._task is not None:
            text = f"{self._what} ({self._failed} failed)" if self._failed else self._what
            self._progress.update(self._task, advance=runs, description=text)

    def end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class Silent:
    """Says nothing."""

    def say(self, text: str) -> None: ...

    def begin(self, done: int, total: int) -> None: ...

    def advance(self, runs: float, failed: int) -> None: ...

    def end(self) -> None: ...
