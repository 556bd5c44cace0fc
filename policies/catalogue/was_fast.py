"""Christopherson's sketch (11 June 2024): say whether a fast MMU had the page, never fail.

As sketched in the mail, a page that is young only in the primary MMU does not carry WAS_FAST, so it
is kept without a look-around.
"""

from coldfleet.policies.policy import Enter, policy

POLICY = policy(
    "was-fast",
    summary="clear_young answers young|WAS_FAST; the shadow MMU is asked at eviction only, while it has SPTEs.",
    source="S. Christopherson, 11 Jun 2024, Message-ID ZmioedgEBptNoz91@google.com (v5 4/9)",
    date="2024-06-11",
    status="proposed",
    steps=(
        "if not fast_only and shadow sptes: age shadow under mmu_lock write",
        "if tdp: age tdp under rcu, young is fast",
        "return",
    ),
    walk="clear fast_only",
    look_around="clear fast_only",
    evict="clear",
    enter=Enter.FAST,
)
