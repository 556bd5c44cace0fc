"""The access monitor of a host: who asks for Accessed bits beside MGLRU, as the host's spec names it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np

from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.monitors.damon import Damon
from coldfleet.hostsim.monitors.damos import Damos
from coldfleet.hostsim.monitors.page_idle import IdleTracking, Khugepaged
from coldfleet.hostsim.spec.host_spec import HostSpec

AccessMonitor = Callable[[], Iterator[int]]
"""Begins the monitor's work of a tick, which yields the guest that each part was for."""


def make_monitor(memory: HostMemory, spec: HostSpec, *, key: np.uint64, host: int) -> AccessMonitor:
    """The host's access monitor; it works after the ticks of all guests, on those that are there."""
    m = memory.machine
    online = m.mms["online"]
    guests = range(len(spec.guests))
    if spec.monitor in ("idle", "khugepaged"):
        each = [IdleTracking() if spec.monitor == "idle" else Khugepaged() for _ in guests]
        return lambda: chain.from_iterable(one.run(m, g, memory.words(g)) for g, one in enumerate(each) if online[g])
    everybody = {g: memory.pages(g) for g in guests}
    physical = spec.monitor == "damon-paddr"
    targets = [everybody] if physical else [{g: pages} for g, pages in everybody.items()]
    pageout = spec.damon.pageout
    damons = [
        Damon(target, spec.damon, Damos(pageout, physical, spec.memory_pages) if pageout else None, key=key, host=host)
        for target in targets
    ]
    return lambda: chain.from_iterable(damon.run(memory) for damon in damons if online[list(damon.targets)].any())
