"""All that a guest's accesses can be, behind one function each: to its memory, and to its file.

A guest that the OOM killer has killed, or that isn't there, makes none; one that is killed for a page of its own is
gone when it leaves the fault, here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import int64, uint32

from coldfleet.hostsim.engine.far_calls import apart
from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.engine.state import Machine
from coldfleet.hostsim.memory import extras
from coldfleet.hostsim.mm import faults, filemap
from coldfleet.hostsim.mm.oom_kill import exit_mmap


@apart(int64, uint32[::1], needed=lambda m: bool(m.mms["extras"].any()))
def _access_with_extras(m: Machine, g: int, accesses: npt.NDArray[np.uint32]) -> int:
    return extras.touch_with_extras(m, g, accesses, m.events[g].accesses)


@apart(int64, uint32[::1])
def _access(m: Machine, g: int, accesses: npt.NDArray[np.uint32]) -> int:
    if m.mms[g].exited:
        return 0
    if m.mms[g].extras:
        made = _access_with_extras(m, g, accesses)
    elif m.mms[g].notifiers:
        made = faults.touch_guest(m, g, accesses)
    else:
        made = faults.touch_process(m, g, accesses)
    if m.mms[g].oom_reason:
        exit_mmap(m, g)
    return made


@apart(int64, uint32[::1], needed=lambda m: bool(m.mms["file_pages"].any()))
def _access_file(m: Machine, g: int, accesses: npt.NDArray[np.uint32]) -> int:
    if m.mms[g].exited:
        return 0
    made = filemap.access_file(m, g, accesses)
    if m.mms[g].oom_reason:
        exit_mmap(m, g)
    return made


@compiled
def access(m: Machine, g: int, accesses: npt.NDArray[np.uint32]) -> int:
    """The guest makes these accesses in order (uint32: page of the guest, bit 31 by L2, bit 30 a write); returns how
    many it has made."""
    return _access(m, g, accesses)


@compiled
def access_file(m: Machine, g: int, accesses: npt.NDArray[np.uint32]) -> int:
    """The guest's process accesses its file (uint32: page of the file, bit 31 by the mapping, bit 30 a write); returns
    how many it has made."""
    return _access_file(m, g, accesses)
