"""A control (Christopherson, 14 June 2024): test slowly everywhere, clear fast in the TDP MMU alone."""

from coldfleet.policies.policy import Enter, policy

POLICY = policy(
    "test-all-clear-tdp",
    summary="Control: tests every MMU, clears only the TDP MMU, so any page that L2 ever touched stays hot.",
    source="S. Christopherson, 14 Jun 2024, ZmzPoW7K5GIitQ8B@google.com: pages that L2 accessed always appear hot",
    date="2024-06-14",
    status="control",
    steps=(
        "if tdp: age tdp under rcu",
        "if young and not clearing: return",
        "if not clearing and shadow sptes: test shadow under mmu_lock write",
        "return",
    ),
    walk="test if primary old; clear if young",
    look_around="test if primary old; clear if young",
    evict="test if primary old; clear if young",
    enter=Enter.YOUNG,
)
