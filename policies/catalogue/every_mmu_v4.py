"""Houghton's v4 (May 2024): no new notifier; aging asks every MMU, the shadow MMU under mmu_lock."""

from coldfleet.policies.policy import Enter, policy

POLICY = policy(
    "every-mmu-v4",
    summary="Aging tests, then clears, in every MMU: exact, but under mmu_lock once the VM ever ran a nested VM.",
    source="[PATCH v4 0/7] mm: multi-gen LRU: Walk secondary MMU page tables while aging, J. Houghton, "
    "Message-ID 20240529180510.2295118-1-jthoughton@google.com",
    date="2024-05-29",
    status="proposed",
    steps=(
        "if rmaps: age shadow under mmu_lock write",
        "if tdp: age tdp under rcu",
        "return",
    ),
    walk="test if primary old; clear if young",
    look_around="test if primary old; clear if young",
    evict="clear",
    enter=Enter.NEVER,
)
