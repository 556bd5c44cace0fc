"""When the CPU switches away from a task and back to it: then its mm is worth a walk again ("used").

Whoever else wants the CPU decides, which no recording tells. Here a rule stands for what usually happens: after so
many faults, after so many pages checked in one reclaim call, or after a long walk, the CPU has switched. Where it is
drawn, each decision of the rule comes out the other way with a probability, and kswapd runs some pages later than it
was woken.
"""

from __future__ import annotations

import numpy as np

from coldfleet.hostsim.engine.jit import compiled, inlined
from coldfleet.hostsim.engine.philox import philox
from coldfleet.hostsim.engine.state import TASK, Machine, Record
from coldfleet.hostsim.engine.streams import Purpose

_SCHEDULER = np.uint64(Purpose.SCHEDULER)
_32 = np.uint64(32)


@inlined
def _number(m: Machine, g: int, below: int) -> int:
    """A random number of a guest: each decision has its own, so that all policies have the same luck."""
    vm = m.vms[g]
    block = np.uint64(m.mms[g].decisions)
    m.mms[g].decisions += 1
    number, _, _, _ = philox(vm.key, block, _SCHEDULER, np.uint64(vm.host), np.uint64(vm.guest))
    return np.int64(number * np.uint64(below) >> _32)  # type: ignore[return-value]


@inlined
def _happens(m: Machine, g: int, usually: bool, permille: int) -> bool:
    """What usually happens, or, drawn, the contrary once in a while."""
    if not m.node[0].scheduler_drawn:
        return usually
    return usually != (_number(m, g, 1000) < permille)


@compiled
def switch_after_faults(m: Machine, g: int) -> None:
    """A task goes into reclaim: it was switched away from if it has had so many faults since the last aging."""
    f = m.features[0]
    usually = m.events[g].pgfault - m.mms[g].aged_at >= f.switch_after_faults
    if _happens(m, g, usually, f.luck_of_faults):
        m.mms[g].used = 1


@compiled
def switch_before_aging(m: Machine, g: int, reclaim: Record) -> None:
    """The same for an aging in the course of reclaim. kswapd is a task of its own: a process runs between any two
    agings of it; the recordings of guests don't show that."""
    f = m.features[0]
    if reclaim.kswapd:
        switched = _happens(m, g, not m.mms[g].notifiers, f.luck_of_kswapd)
    else:
        switched = reclaim.task == g and _happens(m, g, reclaim.checked >= f.switch_after_checks, f.luck_of_checks)
    if switched:
        m.mms[g].used = 1


@compiled
def switch_after_walk(m: Machine, g: int, force_scan: bool, walked_ptes: int) -> None:
    """A walk may last long enough itself; that is found out at the next aging of the same call."""
    f = m.features[0]
    if walked_ptes < f.long_walk:
        return
    guest = m.mms[g].notifiers != 0
    lasting = f.switch_after_guest_walk if guest else f.switch_after_process_walk
    usually = lasting >= (2 if force_scan else 1)
    if _happens(m, g, usually, f.luck_of_guest_walk if guest else f.luck_of_process_walk):
        m.reclaim[TASK].checked = f.switch_after_checks


@compiled
def kswapd_waits(m: Machine, task: int) -> bool:
    """Whether kswapd, woken by the guest ``task`` with this page or one before, has still not got the CPU."""
    node = m.node[0]
    if not node.scheduler_drawn:
        return False
    if not node.kswapd_woken:
        node.kswapd_woken = task + 1
        node.kswapd_delay = _number(m, task, m.features[0].kswapd_delay + 1)
    if node.kswapd_delay:
        node.kswapd_delay -= 1
        return True
    node.kswapd_woken = 0
    return False
