"""Houghton's diff of 28 June 2024: TDP, then rmaps with one SPTE, and mmu_lock only if the page still is old."""

from coldfleet.policies.policy import Enter, policy

POLICY = policy(
    "three-steps",
    summary="TDP and rmaps with one SPTE under RCU; the shadow MMU under mmu_lock only for what is still old.",
    source="J. Houghton, 28 Jun 2024, diff attached to his reply in the thread on v5 4/9",
    date="2024-06-28",
    status="proposed",
    steps=(
        "if tdp: age tdp under rcu",
        "if single spte: age shadow under rcu",
        "if young: return fast",
        "if fast_only: return",
        "if no shadow sptes: return",
        "age shadow under mmu_lock write",
        "return slow",
    ),
    walk="clear fast_only",
    look_around="clear fast_only",
    evict="clear",
    enter=Enter.PRIMARY_OR_FAST,
)
