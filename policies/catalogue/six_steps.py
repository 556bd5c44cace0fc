"""Houghton's answer in the same thread (11 June 2024): TDP first, six steps."""

from coldfleet.policies.policy import Enter, policy

POLICY = policy(
    "six-steps",
    summary="TDP MMU first and done if that decides; then the shadow MMU, unless only a fast answer is wanted.",
    source="J. Houghton, 11 Jun 2024, reply in the thread on v5 4/9 (mm: Add test_clear_young_fast_only MMU notifier)",
    date="2024-06-11",
    status="proposed",
    steps=(
        "if tdp: age tdp under rcu",
        "if young and not clearing: return fast",
        "if fast_only: return fast",
        "if no shadow sptes: return fast",
        "age shadow under mmu_lock write",
        "return slow",
    ),
    walk="clear fast_only",
    look_around="clear fast_only",
    evict="clear",
    enter=Enter.PRIMARY_OR_FAST,
)
