"""The spinlock of one rmap (KVM_RMAP_LOCKED, arch/x86/kvm/mmu/mmu.c since 6.15): whom does it make wait?

Aging without mmu_lock takes it for each gfn that the shadow MMU maps, and a shadow fault as it adds an SPTE. Shadow
faults exclude each other by mmu_lock, so at most one of them meets the one ager, and only at the same of many rmaps.
"""

from __future__ import annotations


def spin_ns(rmaps: float, rate_per_ns: float, hold_ns: float) -> float:
    """Mean ns to wait for an rmap's lock, for whoever shares all of them with one other who holds them for a while.

    That one takes a lock at this rate, any of so many, and holds it for an exponential time: so it has this one with
    the probability rate x hold / rmaps, and will have it for another ``hold_ns``.
    """
    return min(rate_per_ns * hold_ns, 1.0) / max(rmaps, 1.0) * hold_ns
