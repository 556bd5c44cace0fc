"""The benchmark access_tracking_perf_test -p -l: every vCPU faults memory of its own while MGLRU ages the VM.

A fault takes longer the more vCPUs fault (hostsim.costs.scalability). Within that time it holds mmu_lock, and before
that waits for it: TDP faults read, faults of the shadow MMU write. An aging pass goes from page to page, and under
``W()`` takes the lock for write at each. hostsim.costs.rwlock says who waits how long. Whoever has waited is not in the
host's way meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

from coldfleet.hostsim.costs.constants import MMU_LOCK_NS, RMAP_ADD_NS, RMAP_LOCK_NS, SHADOW_FAULT_HOLD_NS
from coldfleet.hostsim.costs.mmu_lock import spin_ns
from coldfleet.hostsim.costs.qrwlock import Threads
from coldfleet.hostsim.costs.rwlock import solve
from coldfleet.hostsim.costs.scalability import fault_ns, remote_share
from coldfleet.hostsim.spec.calibration import Calibration
from coldfleet.policies import Lock, Policy

PAGES_PER_VCPU = 262_144  # -b 1G
REMOTE_LINE_NS = 100.0  # assumed: a modified cache line from the other socket
LOCKED_SHARE = 0.4  # assumed: of the aging of a page, the part under mmu_lock
MOST_HOLD = 0.9  # of a fault's time: a lock can't be held for longer than the fault lasts

_ROUNDS = 1_000
_TOLERANCE = 1e-6
_STEP = 0.9


@dataclass(frozen=True)
class Measured:
    """What the benchmark prints: s until all vCPUs have faulted everything, and s of an aging pass (None: no aging)."""

    vcpu_wall_s: float
    aging_pass_s: float | None


def run_benchmark(vcpus: int, policy: Policy | None, calibration: Calibration, *, tdp: bool = True) -> Measured:
    """Predicts the benchmark for a VM of ``vcpus`` with 1 GiB each; ``policy`` None: nobody ages.

    ``tdp``: the TDP MMU is on. A pass goes over all of the VM's pages; what the vCPUs leave of it is done alone.
    """
    locked = policy is not None and any(step.lock == Lock.MMU_WRITE for step in policy.steps)
    remote = remote_share(vcpus)
    page_ns = calibration.aging_page_ns + calibration.remote_page_ns * remote + (0 if tdp else RMAP_LOCK_NS)
    under_lock_ns = LOCKED_SHARE * page_ns + MMU_LOCK_NS + REMOTE_LINE_NS * remote
    ager = Threads(int(locked), (1 - LOCKED_SHARE) * page_ns, under_lock_ns)
    each_ns, ager_wait_ns = _settle(vcpus, ager, calibration, remote, tdp)
    wall_s = each_ns * PAGES_PER_VCPU / 1e9
    if policy is None:
        return Measured(wall_s, None)
    pages = vcpus * PAGES_PER_VCPU
    alone_ns = ager.think_ns + ager.hold_ns if locked else page_ns
    if not (tdp or locked):
        ager_wait_ns = spin_ns(pages, vcpus / each_ns, RMAP_ADD_NS)
    pass_s = (alone_ns + ager_wait_ns) * pages / 1e9
    if pass_s > wall_s:  # the vCPUs are done before it
        pass_s = wall_s + (1 - wall_s / pass_s) * alone_ns * pages / 1e9
    return Measured(wall_s, pass_s)


def _settle(vcpus: int, ager: Threads, calibration: Calibration, remote: float, tdp: bool) -> tuple[float, float]:
    """The ns of a fault with its wait, and the ager's wait, where the lock and the host's law agree."""
    work_ns, wait_ns, others = fault_ns(vcpus, calibration), 0.0, 0.0
    aging_wait_ns = 0.0
    for _ in range(_ROUNDS):
        work_ns = fault_ns(1 + (vcpus - 1) * work_ns / (work_ns + wait_ns), calibration)
        hold_ns = calibration.read_hold_ns if tdp else SHADOW_FAULT_HOLD_NS
        hold_ns += calibration.lock_transfer_ns * others + REMOTE_LINE_NS * remote
        hold_ns = min(hold_ns, MOST_HOLD * work_ns)
        faulting = Threads(vcpus, work_ns - hold_ns, hold_ns)
        if tdp:
            waits = solve(faulting, Threads(0, 1.0, 1.0), ager)
            rate, new_wait_ns = waits.reader_rate, waits.reader_wait_ns
        else:
            waits = solve(Threads(0, 1.0, 1.0), faulting, ager)
            rate, new_wait_ns = waits.writer_rate, waits.writer_wait_ns
        aging_wait_ns = waits.ager_wait_ns
        new_others = rate * hold_ns * (vcpus - 1) / vcpus + waits.ager_rate * ager.hold_ns
        change = abs(new_others - others) + abs(new_wait_ns - wait_ns) / (new_wait_ns + 1)
        others += _STEP * (new_others - others)
        wait_ns += _STEP * (new_wait_ns - wait_ns)
        if change < _TOLERANCE:
            break
    return work_ns + wait_ns, aging_wait_ns
