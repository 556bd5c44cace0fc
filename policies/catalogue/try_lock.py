"""Try mmu_lock and bail out (3 June 2024): accepted at first, then called semi-random and hard to debug."""

from coldfleet.policies.policy import Enter, policy

POLICY = policy(
    "try-lock",
    summary="Aging asks the shadow MMU only if mmu_lock is free at that moment; the eviction check waits for it.",
    source="S. Christopherson, 3 Jun 2024, in the thread on v4 (mm: multi-gen LRU: Walk secondary MMUs)",
    date="2024-06-03",
    status="proposed",
    steps=(
        "if tdp: age tdp under rcu",
        "if young and not clearing: return",
        "if no shadow sptes: return fast",
        "if fast_only: try mmu_lock for write, or return",
        "if not fast_only: take mmu_lock for write",
        "age shadow",
        "return slow",
    ),
    walk="clear fast_only",
    look_around="clear fast_only",
    evict="clear",
    enter=Enter.PRIMARY_OR_FAST,
)
