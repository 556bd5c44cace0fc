"""All that a guest's accesses can be, behind one function each: to its memory, and to its file."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import int64, uint32

from coldfleet.hostsim.engine.far_calls import apart
from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.engine.state import Machine
from coldfleet.hostsim.memory import extras
from coldfleet.hostsim.mm import faults, filemap


@apart(int64, uint32[::1])
def _access(m: Machine, g: int, accesses: npt.NDArray[np.uint32]) -> None:
    if m.mms[g].extras:
        extras.touch_with_extras(m, g, accesses, m.events[g].accesses)
    elif m.mms[g].notifiers:
        faults.touch_guest(m, g, accesses)
    else:
        faults.touch_process(m, g, accesses)


@apart(int64, uint32[::1])
def _access_file(m: Machine, g: int, accesses: npt.NDArray[np.uint32]) -> None:
    filemap.access_file(m, g, accesses)


@compiled
def access(m: Machine, g: int, accesses: npt.NDArray[np.uint32]) -> None:
    """The guest makes these accesses in order (uint32: page of the guest, bit 31 by L2, bit 30 a write)."""
    _access(m, g, accesses)


@compiled
def access_file(m: Machine, g: int, accesses: npt.NDArray[np.uint32]) -> None:
    """The guest's process accesses its file (uint32: page of the file, bit 31 by the mapping, bit 30 a write)."""
    _access_file(m, g, accesses)
