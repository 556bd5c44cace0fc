"""The six steps with an early return for clear too: what Christopherson warned of on 14 June 2024."""

from coldfleet.policies.policy import Enter, policy

POLICY = policy(
    "six-steps-early",
    summary="Control: done as soon as the TDP MMU has the page, so a stale Accessed bit stays in the shadow MMU.",
    source="S. Christopherson, 14 Jun 2024, ZmzPoW7K5GIitQ8B@google.com: clear must process both MMUs",
    date="2024-06-14",
    status="control",
    steps=(
        "if tdp: age tdp under rcu",
        "if young: return fast",
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
