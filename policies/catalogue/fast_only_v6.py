"""Houghton's v6 (July 2024) as it was meant: fast_only asks the TDP MMU, the eviction check every MMU.

has_fast_aging is set for every x86-64 VM, with or without the TDP MMU, which can be switched at any time.
"""

from coldfleet.policies.policy import Enter, policy

POLICY = policy(
    "fast-only-v6",
    summary="fast_only asks the TDP MMU without mmu_lock; the eviction check asks the shadow MMU too, under mmu_lock.",
    source="[PATCH v6 00/11] mm: multi-gen LRU: Walk secondary MMU page tables while aging, J. Houghton, 24 Jul 2024",
    date="2024-07-24",
    status="proposed",
    steps=(
        "if tdp: age tdp under rcu",
        "if young and not clearing: return",
        "if not fast_only and shadow sptes: age shadow under mmu_lock write",
        "return",
    ),
    walk="clear fast_only",
    look_around="clear fast_only",
    evict="clear",
    enter=Enter.FAST_NOTIFIER,
)
