"""What waiting for mmu_lock costs a VM's vCPUs and the thread that ages it, from the rates of the last tick.

TDP faults read, shadow faults write, and so does an aging step under ``W()``. An aging pass takes the lock for page
after page, so there are three kinds of time: while somebody else ages the VM (kswapd, user space, reclaim by other
guests), while one of its vCPUs does so as it reclaims its own memory, and the rest. Each is a steady state of
hostsim.costs.rwlock; the means of a tick are weighted with how long each lasts. A vCPU that reclaims does not fault
meanwhile: only the others share the lock with it, and nobody if there are none. Aging without mmu_lock takes the locks
of rmaps instead, at which shadow faults can meet it (:func:`spin_ns`).

A steady state takes long to solve, and the rates of a guest come again and again, as two digits of them count. So
compiled code looks it up by its key, and Python solves those that are missing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.costs.constants import LOCKED_SHARE, MMU_LOCK_NS, RMAP_LOCK_NS, SHADOW_FAULT_HOLD_NS
from coldfleet.hostsim.costs.qrwlock import Threads
from coldfleet.hostsim.costs.rwlock import solve
from coldfleet.hostsim.engine.jit import compiled, inlined
from coldfleet.hostsim.spec.calibration import Calibration

MOST_HOLD = 0.9  # of a fault's time: a lock can't be held for longer than the fault lasts
# Assumed: of the holders that one more makes of those after it, by longer holds. Beyond, the waits of a tick would go
# up and down, since they follow from the rates of the one before, which they lower.
MOST_LONGER = 0.75
SOLUTION = np.dtype(
    [
        ("key", np.int64),  # of _key; 0: nothing is here
        ("tdp_fault_ns", np.float64),  # mean waits: of a TDP fault, ...
        ("shadow_fault_ns", np.float64),  # ... of a shadow fault, ...
        ("aging_ns", np.float64),  # ... and of an aging step
    ],
    align=True,
)
"""The steady state of a lock."""

_PLACE_BITS = 13  # of the places for solutions; a key has one place, and takes it from another one
_TIMES = 1 << 11  # more than there are times of two digits from 1 ns to 10^18 ns
_NUMBERS = 90  # of two digits
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio
FOUND = 0


class Locks(NamedTuple):
    """How often a VM's ``vcpus`` and who ages it took its mmu_lock in a tick of ``tick_ns``.

    ``aging_writes``: times that aging by others than its vCPUs took it; ``rmap_locks``: times that this took the lock
    of one of the VM's ``rmaps``. ``own_writes``, ``own_rmap_locks``: the same by its vCPUs, which reclaim its memory.
    ``aging_page_ns``: how long it takes to age a page under mmu_lock, but for the wait (:func:`aging_page_ns`).
    """

    vcpus: int
    tick_ns: int
    aging_page_ns: float
    tdp_faults: float
    shadow_faults: float
    aging_writes: float
    rmap_locks: float
    own_writes: float
    own_rmap_locks: float
    rmaps: float


class LockWaits(NamedTuple):
    """Mean waits, ns, of a TDP fault, of a shadow fault, and of an aging step, by others or by a vCPU that reclaims.

    ``missing``: FOUND, or the key of a steady state that has to be solved first (:func:`solve_missing`).
    """

    tdp_fault_ns: float
    shadow_fault_ns: float
    aging_ns: float
    own_aging_ns: float
    missing: int


def aging_page_ns(calibration: Calibration) -> float:
    """How long it takes to age a page under the lock, but for the wait."""
    return calibration.aging_page_ns + MMU_LOCK_NS


def aging_hold_ns(calibration: Calibration) -> float:
    """How long aging a page holds the lock."""
    return ager(1, calibration.aging_page_ns).hold_ns


def ager(count: int, page_ns: float) -> Threads:
    """Whoever ages page after page under the lock, each in ``page_ns``: part of them before it takes it, part within.

    ``count``: 0 if nobody does.
    """
    return Threads(count, max((1 - LOCKED_SHARE) * page_ns, 1.0), LOCKED_SHARE * page_ns + MMU_LOCK_NS)


@lru_cache(maxsize=16)
def solutions(_calibration: Calibration) -> npt.NDArray[Any]:
    """What this process has solved under a calibration, for all of its hosts: SOLUTION."""
    return np.zeros(1 << _PLACE_BITS, SOLUTION)


@compiled
def lock_waits(solved: npt.NDArray[Any], locks: Locks) -> LockWaits:
    """The mean waits at these rates. ``solved``: of :func:`solutions`."""
    vcpus = locks.vcpus
    to_others = (vcpus - 1) / vcpus  # of what a vCPU does, what one of them meets: another one does it
    tdp, shadow = _every(locks, locks.tdp_faults), _every(locks, locks.shadow_faults)
    spin = 0.0
    if shadow:
        spin = spin_ns(locks.rmaps, (locks.rmap_locks + to_others * locks.own_rmap_locks) / locks.tick_ns, RMAP_LOCK_NS)
    calm_tdp_ns, calm_shadow_ns = 0.0, spin
    if shadow and vcpus > 1:  # a lone vCPU has its faults one after the other, and does not wait for itself
        key = _key(vcpus, tdp, shadow, 0)
        calm = solved[_place(key)]
        if calm.key != key:
            return LockWaits(0.0, 0.0, 0.0, 0.0, key)
        calm_tdp_ns, calm_shadow_ns = calm.tdp_fault_ns, calm.shadow_fault_ns + spin
    tdp_ns = shadow_ns = aging_ns = own_aging_ns = share = own_share = 0.0
    if locks.aging_writes:
        key = _key(vcpus, tdp, shadow, 1)
        beside = solved[_place(key)]
        if beside.key != key:
            return LockWaits(0.0, 0.0, 0.0, 0.0, key)
        aging_ns = beside.aging_ns
        share = min(locks.aging_writes * (locks.aging_page_ns + aging_ns) / locks.tick_ns, 1.0)
        tdp_ns, shadow_ns = share * beside.tdp_fault_ns, share * (beside.shadow_fault_ns + spin)
    if locks.own_writes and vcpus > 1:
        key = _key(vcpus - 1, tdp, shadow, 1)
        own = solved[_place(key)]
        if own.key != key:
            return LockWaits(0.0, 0.0, 0.0, 0.0, key)
        own_aging_ns = own.aging_ns
        own_share = to_others * locks.own_writes * (locks.aging_page_ns + own_aging_ns) / locks.tick_ns
        own_share = min(own_share, 1.0 - share)
        tdp_ns += own_share * own.tdp_fault_ns
        shadow_ns += own_share * (own.shadow_fault_ns + spin)
    rest = 1 - share - own_share
    return LockWaits(tdp_ns + rest * calm_tdp_ns, shadow_ns + rest * calm_shadow_ns, aging_ns, own_aging_ns, FOUND)


@inlined
def _every(locks: Locks, faults: float) -> int:
    """A vCPU's time from one of its faults to the next, by its number; 0: it has none."""
    return time_number(locks.vcpus * locks.tick_ns / faults) if faults else 0


@compiled
def time_number(ns: float) -> int:
    """The number of the time that two digits of this one say, at least 1 ns, which has number 1.

    Rounded as decimal numbers are, half to even, and exactly: up to 10^18 all of this is exact in float64.
    """
    if ns < 1.0:
        return 1
    power, bound = 0, 10.0
    while ns >= bound:
        power += 1
        bound *= 10.0
    unit = bound / 100  # of the second digit
    number = int(ns / unit) if power else int(ns * 10)
    half = (2 * number + 1) * unit if power else 2.0 * number + 1  # twice what is half way to the next number, ...
    twice, rest = 2 * ns, 0.0
    if not power:  # ... or 20 times, as a tenth isn't exact: a sum and its error
        twice = 16 * ns + 4 * ns
        rest = 4 * ns - (twice - 16 * ns)
    if twice > half or (twice == half and (rest > 0 or (rest == 0 and number % 2))):
        number += 1
    return 1 + _NUMBERS * power + number - 10


@inlined
def _key(vcpus: int, tdp: int, shadow: int, aging: int) -> int:
    return ((vcpus * _TIMES + tdp) * _TIMES + shadow) * 2 + aging


@inlined
def _place(key: int) -> int:
    return np.int64(np.uint64(key) * _SPREAD >> np.uint64(64 - _PLACE_BITS))  # type: ignore[return-value]


def time_of(number: int) -> float:
    """The time of a number, ns; 0: none."""
    power, digits = divmod(number - 1, _NUMBERS)
    return float(f"{digits + 10}e{power - 1}") if number else 0.0


def sharers(
    vcpus: int, tdp_ns: float, shadow_ns: float, aging: bool, calibration: Calibration
) -> tuple[Threads, Threads, Threads]:
    """Who shares the lock: vCPUs that read, vCPUs that write, and whoever ages.

    ``tdp_ns``, ``shadow_ns``: a vCPU's time from one such fault to the next; 0: it has none. Each other holder makes a
    hold longer, and longer holds make more holders, which is one equation for their number. Only vCPUs count in it: the
    ager is one among many. hostsim.published.access_tracking finds rates and waits together instead, without ticks.
    """
    kinds = [(tdp_ns, calibration.read_hold_ns), (shadow_ns, SHADOW_FAULT_HOLD_NS)]
    others = (vcpus - 1) * sum(hold_ns / every_ns for every_ns, hold_ns in kinds if every_ns)
    longer = (vcpus - 1) * sum(calibration.lock_transfer_ns / every_ns for every_ns, _ in kinds if every_ns)
    others = min(others / (1 - min(longer, MOST_LONGER)), vcpus - 1)
    faulting = []
    for every_ns, alone_ns in kinds:
        hold_ns = min(alone_ns + calibration.lock_transfer_ns * others, MOST_HOLD * (every_ns or 1.0))
        faulting.append(Threads(vcpus if every_ns else 0, (every_ns or 1.0) - hold_ns, hold_ns))
    return faulting[0], faulting[1], ager(int(aging), calibration.aging_page_ns)


def solve_missing(solved: npt.NDArray[Any], key: int, calibration: Calibration) -> None:
    """Finds the waits while an aging pass takes the lock again and again, or while none does."""
    rest, aging = divmod(key, 2)
    rest, shadow = divmod(rest, _TIMES)
    vcpus, tdp = divmod(rest, _TIMES)
    waits = solve(*sharers(vcpus, time_of(tdp), time_of(shadow), bool(aging), calibration))
    place = int(key * int(_SPREAD) % (1 << 64)) >> (64 - _PLACE_BITS)
    solved[place] = key, waits.reader_wait_ns, waits.writer_wait_ns, waits.ager_wait_ns


@compiled
def spin_ns(rmaps: float, rate_per_ns: float, hold_ns: float) -> float:
    """Mean ns to wait for an rmap's lock, for whoever shares all of them with one other who holds them for a while.

    That one takes a lock at this rate, any of so many, and holds it for an exponential time: so it has this one with
    the probability rate x hold / rmaps, and will have it for another ``hold_ns``.

    The lock is KVM_RMAP_LOCKED (arch/x86/kvm/mmu/mmu.c since 6.15). Aging without mmu_lock takes it for each gfn that
    the shadow MMU maps, and a shadow fault as it adds an SPTE. Shadow faults exclude each other by mmu_lock, so at most
    one of them meets the one ager, and only at the same of many rmaps.
    """
    return min(rate_per_ns * hold_ns, 1.0) / max(rmaps, 1.0) * hold_ns
