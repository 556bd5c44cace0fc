"""The lock of one rmap: the probability of meeting somebody at it, against the queue's events."""

from __future__ import annotations

import pytest

from coldfleet.hostsim.costs.constants import RMAP_ADD_NS, RMAP_LOCK_NS
from coldfleet.hostsim.costs.mmu_lock import spin_ns
from coldfleet.hostsim.costs.qrwlock import Threads, simulate


@pytest.mark.parametrize("rmaps", [8, 64])
def test_an_ager_waits_as_the_events_of_one_rmap_say(rmaps: int) -> None:
    """A thread that takes one of many locks by chance is at a given one as rarely as one that thinks so much longer."""
    period_ns = 1_000.0
    fault = Threads(1, period_ns * rmaps - RMAP_ADD_NS, RMAP_ADD_NS)
    ager = Threads(1, 997.0, RMAP_LOCK_NS)
    exact = simulate(Threads(0, 1.0, 1.0), fault, ager, requests=40_000, seed=5)
    assert spin_ns(rmaps, 1 / period_ns, RMAP_ADD_NS) == pytest.approx(exact.ager_wait_ns, rel=0.1)


def test_one_rmap_that_is_always_held_makes_everybody_wait() -> None:
    assert spin_ns(1, 1.0, 100.0) == spin_ns(0, 1.0, 100.0) == 100.0


def test_threads_hardly_ever_meet_at_an_rmap() -> None:
    """A nested VM of 64 MiB that faults a million times a second costs an ager far less than taking the lock."""
    assert spin_ns(64 * 256, 1e-3, RMAP_ADD_NS) < RMAP_LOCK_NS / 1_000
