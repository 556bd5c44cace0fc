"""Mainline since 6.15: the same calls as 6.12, without mmu_lock."""

from coldfleet.policies.policy import Enter, policy

POLICY = policy(
    "lockless-6.15",
    summary="Every site asks every MMU: TDP under RCU, shadow under a per-rmap lock, and only while it has SPTEs.",
    source="commits b146a9b34aed, 8c403cf23119, af3b6a9eba48 (KVM: x86/mmu: age SPTEs without mmu_lock), v6.15",
    date="2025-02-04",
    status="merged",
    steps=(
        "if tdp: age tdp under rcu",
        "if young and not clearing: return fast",
        "if shadow sptes: age shadow under rmap lock",
        "return fast",
    ),
    walk="clear",
    look_around="clear",
    evict="clear",
    enter=Enter.YOUNG,
)
