"""A page's row by an index that is known not to be negative: a fifth off the time of everything that works on pages."""

from __future__ import annotations

import numpy as np

from coldfleet.hostsim.engine.jit import inlined
from coldfleet.hostsim.engine.state import Machine, Record


@inlined
def page_row(m: Machine, page: int) -> Record:
    """The PAGE row of a page, or that of a list's head."""
    return m.pages[np.uint64(page)]
