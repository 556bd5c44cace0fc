"""Christopherson's proposal of 12 July 2024: a flag on the subscription, off while the VM has shadow pages."""

from coldfleet.policies.policy import Enter, policy

POLICY = policy(
    "toggled-flag",
    summary="fast_only calls skip a VM while it has shadow pages; the eviction check asks every MMU.",
    source="S. Christopherson, 12 Jul 2024, Message-ID ZpFGYvCAQWhldWJZ@google.com (v5 4/9)",
    date="2024-07-12",
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
    fast_aging="no shadow sptes",
)
