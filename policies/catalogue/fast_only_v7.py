"""Houghton's v7 (September 2024): fast_only asks the shadow MMU too, by a lock of each rmap.

An SPTE without A/D bits is reported young by a fast_only call and not cleared.
"""

from coldfleet.policies.policy import Enter, policy

POLICY = policy(
    "fast-only-v7",
    summary="fast_only asks TDP under RCU and shadow under a per-rmap lock; only the eviction check takes mmu_lock.",
    source="[PATCH v7 00/18] mm: multi-gen LRU: Walk secondary MMU page tables while aging, J. Houghton, 26 Sep 2024",
    date="2024-09-26",
    status="proposed",
    steps=(
        "if tdp: age tdp under rcu",
        "if young and not clearing: return",
        "if no shadow sptes: return",
        "if not clearing: test shadow under rmap lock",
        "if fast_only and clearing and ad bits: age shadow under rmap lock",
        "if fast_only and clearing and no ad bits: test shadow under rmap lock",
        "if not fast_only and clearing: age shadow under mmu_lock write",
        "return",
    ),
    walk="clear fast_only",
    look_around="clear fast_only",
    evict="clear",
    enter=Enter.FAST_NOTIFIER,
)
