"""Christopherson's proposal of 14 June 2024: age the one SPTE of an rmap without a lock, skip rmaps with several."""

from coldfleet.policies.policy import Enter, policy

POLICY = policy(
    "single-rmap",
    summary="Fast is a property of the MMU: TDP and rmaps with one SPTE under RCU, rmaps with several not at all.",
    source="S. Christopherson, 14 Jun 2024, Message-ID ZmzPoW7K5GIitQ8B@google.com (v5 4/9)",
    date="2024-06-14",
    status="proposed",
    steps=(
        "if tdp: age tdp under rcu",
        "if tdp and single spte: age shadow under rcu",
        "if tdp: return fast",
        "if not fast_only: age shadow under mmu_lock write",
        "return slow",
    ),
    walk="clear fast_only",
    look_around="clear fast_only",
    evict="clear",
    enter=Enter.PRIMARY_OR_FAST,
)
