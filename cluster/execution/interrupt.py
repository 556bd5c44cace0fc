"""Ctrl-C, SIGTERM and SIGHUP as a request to stop at the next good moment, and soon."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from coldfleet.cluster.study.terminal import visible

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 128 + signal.SIGINT  # exit code; of the other signals accordingly: 143 and 129
LOST = 4  # exit code: what did the work has ended
PATIENCE_S = 4.0
AGAIN = "run the same command again"


class StoppedError(Exception):
    """A sweep ended before its last run: the message says why, and how to go on. ``code``: of the process's exit."""

    def __init__(self, why: str, go_on: str = AGAIN, code: int = INTERRUPTED) -> None:
        super().__init__(f"{why}; {go_on}")
        self.why = why
        self.code = code


_shutting_down = False  # inside uninterrupted(): what is half shut down must not be left so


_asked = False  # some signal has asked for the end


def quiet_once_asked(what: sys.UnraisableHookArgs) -> None:
    """``sys.unraisablehook`` of a process that ends when it is asked to: what a half imported or half shut down Ray
    raises then, in destructors, is of no use to anybody."""
    if not _asked:
        sys.__unraisablehook__(what)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Inside, a signal interrupts nothing: it only asks for the end, and starts the time that is left until then."""
    global _shutting_down
    before, _shutting_down = _shutting_down, True
    try:
        yield
    finally:
        _shutting_down = before


class StopRequest:
    """While it is entered, the first signal only sets ``requested``; a second one interrupts at once.

    Whatever then holds the process up, such as a compiler or a Ray that doesn't answer, it ends after
    :data:`PATIENCE_S` with ``last_words`` on stderr: the journal is good at any time. Left by an interrupt, or by
    any error after a request, it raises :class:`StoppedError`. ``urgent`` is set while an interrupt loses nothing: then
    the first signal interrupts at once.
    """

    def __init__(self, last_words: str = AGAIN, urgent: bool = False) -> None:
        self.requested = False
        self.urgent = urgent
        self.why = "interrupted"
        self.code: int = INTERRUPTED
        self.last_words = last_words
        self._before: dict[int, object] = {}
        self._timer: threading.Timer | None = None

    def ask(self, why: str, code: int, patience_s: float = PATIENCE_S) -> None:
        """Asks for the end; only the first to ask is heard."""
        if self.requested:
            return
        self.requested, self.why, self.code = True, why, code
        self._timer = threading.Timer(patience_s, self._leave)
        self._timer.daemon = True
        self._timer.start()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in SIGNALS}
        if self._before.get(signal.SIGHUP) is signal.SIG_IGN:  # as nohup has it
            del self._before[signal.SIGHUP]
        for number in self._before:
            signal.signal(number, self._handle)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # type: ignore[arg-type]
        sys.unraisablehook = self._hook
        if isinstance(error, KeyboardInterrupt) or (
            self.requested and isinstance(error, Exception) and not isinstance(error, StoppedError)
        ):
            raise StoppedError(self.why, self.last_words, self.code) from None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        global _asked
        _asked = True
        again = self.requested
        self.ask("interrupted", 128 + number)
        if (again or self.urgent) and not _shutting_down:
            raise KeyboardInterrupt

    def _unraisable(self, what: sys.UnraisableHookArgs) -> None:
        """An interrupt can't leave a callback: Python would print a traceback of it instead."""
        if not (self.requested and what.exc_type is KeyboardInterrupt):
            self._hook(what)

    def _leave(self) -> None:
        print(visible(f"coldfleet: {self.why}; {self.last_words}"), file=sys.stderr, flush=True)
        os._exit(self.code)
