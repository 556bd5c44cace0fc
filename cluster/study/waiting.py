"""Says on stderr what is being done if it takes long, so that nobody looks at an empty screen."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SAY_AFTER_S = 1.5
SAY_AGAIN_S = 15.0


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Says ``what`` after :data:`SAY_AFTER_S`, and again every :data:`SAY_AGAIN_S`, until it is done."""
    done = threading.Event()

    def say() -> None:
        pause = SAY_AFTER_S
        while not done.wait(pause):
            print(f"coldfleet: {what} ...", file=sys.stderr, flush=True)
            pause = SAY_AGAIN_S

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
