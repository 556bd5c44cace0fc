"""Ctrl-C and SIGTERM as a request to stop at the next good moment, and soon."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType

INTERRUPTED = 130  # exit code
PATIENCE_S = 4.0


class StoppedError(Exception):
    """A sweep ended before its last run: the message says why, and how to go on."""

    def __init__(self, message: str, code: int = INTERRUPTED) -> None:
        super().__init__(message)
        self.code = code


class StopRequest:
    """While it is entered, the first Ctrl-C or SIGTERM only sets ``requested``; a second Ctrl-C interrupts at once.

    Whatever then holds the process up, such as a compiler or a Ray that doesn't answer, it ends after
    :data:`PATIENCE_S` with ``last_words`` on stderr: the journal is good at any time.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, last_words: str = "") -> None:
        self.requested = False
        self.urgent = False  # set while an interrupt loses nothing: then the first one interrupts at once
        self.last_words = last_words
        self._before: dict[int, object] = {}
        self._timer: threading.Timer | None = None

    def __enter__(self) -> StopRequest:
        for number in self._SIGNALS if threading.current_thread() is threading.main_thread() else ():
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.requested = self.requested, True
        if not again and self.last_words:
            self._timer = threading.Timer(PATIENCE_S, self._leave)
            self._timer.daemon = True
            self._timer.start()
        if again or self.urgent:
            raise KeyboardInterrupt

    def _leave(self) -> None:
        print(f"coldfleet: {self.last_words}", file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)
