"""The benchmark access_tracking_perf_test -p -l: every vCPU faults memory of its own while MGLRU ages the VM.

A fault takes longer the more vCPUs fault (hostsim.costs.scalability). Within that time it holds mmu_lock, and before
that waits for it: TDP faults read, faults of the shadow MMU write. An aging pass goes from page to page, and under
``W()`` takes the lock for write at each. hostsim.costs.rwlock says who waits how long. Whoever has waited is not in the
host's way meanwhile.

Passes follow each other until all vCPUs are done, and what the benchmark prints is the time until the last one has
ended over their number (run_benchmark in the series' access_tracking_perf_test.c). So a pass goes over what is
populated by then, from vCPU to vCPU, and while it is with one, that one populates more: each pass ends so many times
later than it began. If a vCPU faults faster than pages are aged, the first pass stays with it until all are done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from coldfleet.hostsim.costs.constants import MMU_LOCK_NS, RMAP_ADD_NS, RMAP_LOCK_NS, SHADOW_FAULT_HOLD_NS
from coldfleet.hostsim.costs.mmu_lock import MOST_HOLD, ager, spin_ns
from coldfleet.hostsim.costs.qrwlock import Threads
from coldfleet.hostsim.costs.rwlock import solve
from coldfleet.hostsim.costs.scalability import fault_ns
from coldfleet.hostsim.spec.calibration import Calibration
from coldfleet.policies import Lock, Policy

PAGES_PER_VCPU = 262_144  # -b 1G
LOCKS_OF_A_MOVE = 2 / 64  # a walk that has moved MAX_LRU_BATCH pages takes the lruvec's lock, and mmap_lock anew

_ROUNDS = 1_000
_TOLERANCE = 1e-6
_STEP = 0.9
_BISECTIONS = 60


@dataclass(frozen=True)
class Measured:
    """What the benchmark prints: s until all vCPUs have faulted everything, and s of an aging pass (None: no aging)."""

    vcpu_wall_s: float
    aging_pass_s: float | None


def run_benchmark(vcpus: int, policy: Policy | None, calibration: Calibration, *, tdp: bool = True) -> Measured:
    """Predicts the benchmark for a VM of ``vcpus`` with 1 GiB each; ``policy`` None: nobody ages.

    ``tdp``: the TDP MMU is on.
    """
    locked = policy is not None and any(step.lock == Lock.MMU_WRITE for step in policy.steps)
    page_ns = calibration.aging_page_ns + (0 if tdp else RMAP_LOCK_NS)
    lock_ns = MMU_LOCK_NS if locked else 0.0
    work_ns, wait_ns, ager_wait_ns = _settle(vcpus, ager(int(locked), page_ns), calibration, tdp)
    each_ns = work_ns + wait_ns
    wall_ns = each_ns * PAGES_PER_VCPU
    if policy is None:
        return Measured(wall_ns / 1e9, None)
    pages = vcpus * PAGES_PER_VCPU
    if not (tdp or locked):
        ager_wait_ns = spin_ns(pages, vcpus / each_ns, RMAP_ADD_NS)
    known_ns = page_ns + lock_ns + ager_wait_ns
    new_ns = known_ns + LOCKS_OF_A_MOVE * (work_ns - calibration.fault_ns)
    passes = count_passes(vcpus, wall_ns / calibration.pass_start_ns, known_ns / each_ns, new_ns / each_ns)
    counted = max(passes + 0.5, 1.0)  # on average half of the last one is left when the vCPUs are done
    rest_ns = (counted - passes) * pages * (page_ns + lock_ns)
    return Measured(wall_ns / 1e9, (wall_ns + rest_ns) / counted / 1e9)


def count_passes(vcpus: int, starts: float, known: float, new: float) -> float:
    """How many passes end before the vCPUs are done, and what share of the next has been done by then.

    ``starts``: times that a pass could be started in the vCPUs' time, if it had nothing to do. ``known`` and ``new``:
    the time of aging a page that the pass before has seen, and one that was faulted since, over a vCPU's fault time.

    At a vCPU a pass ages what was there when the last one left it, and what was faulted since, of which more comes
    until it has caught up. So it ends ``exp(growth)`` times later than it began, the same for all but the first ones.
    """
    if new >= 1:
        return 0.0
    all_new = -vcpus * math.log1p(-new)  # the growth, if the last pass had seen nothing: of the time that a start takes
    low, high = 0.0, all_new
    for _ in range(_BISECTIONS):
        growth = (low + high) / 2
        seen = math.exp(-growth * (1 - 1 / vcpus))
        if vcpus * math.log1p((known * seen + new * (1 - seen)) / (1 - new)) > growth:
            low = growth
        else:
            high = growth
    return math.log1p(starts * (math.exp(high - all_new) - math.exp(-all_new))) / high


def _settle(vcpus: int, aging: Threads, calibration: Calibration, tdp: bool) -> tuple[float, float, float]:
    """The ns of a fault, of its wait, and of the ager's wait, where the lock and the host's law agree."""
    work_ns, wait_ns, others = fault_ns(vcpus, calibration), 0.0, 0.0
    aging_wait_ns = 0.0
    for _ in range(_ROUNDS):
        work_ns = fault_ns(1 + (vcpus - 1) * work_ns / (work_ns + wait_ns), calibration)
        hold_ns = calibration.read_hold_ns if tdp else SHADOW_FAULT_HOLD_NS
        hold_ns = min(hold_ns + calibration.lock_transfer_ns * others, MOST_HOLD * work_ns)
        faulting = Threads(vcpus, work_ns - hold_ns, hold_ns)
        if tdp:
            waits = solve(faulting, Threads(0, 1.0, 1.0), aging)
            rate, new_wait_ns = waits.reader_rate, waits.reader_wait_ns
        else:
            waits = solve(Threads(0, 1.0, 1.0), faulting, aging)
            rate, new_wait_ns = waits.writer_rate, waits.writer_wait_ns
        aging_wait_ns = waits.ager_wait_ns
        new_others = rate * hold_ns * (vcpus - 1) / vcpus + waits.ager_rate * aging.hold_ns
        change = abs(new_others - others) + abs(new_wait_ns - wait_ns) / (new_wait_ns + 1)
        others += _STEP * (new_others - others)
        wait_ns += _STEP * (new_wait_ns - wait_ns)
        if change < _TOLERANCE:
            break
    return work_ns, wait_ns, aging_wait_ns
