"""Houghton's v6 (July 2024), word for word: '=' where '|=' was meant loses what the TDP MMU said."""

from coldfleet.policies.policy import Enter, policy

POLICY = policy(
    "fast-only-v6-posted",
    summary="Control: as v6, but the shadow MMU's answer replaces the TDP MMU's, whose bits are cleared already.",
    source="[PATCH v6 08/11] and [PATCH v6 09/11] KVM: x86, J. Houghton, 24 Jul 2024, kvm_age_gfn",
    date="2024-07-24",
    status="control",
    steps=(
        "if tdp: age tdp under rcu",
        "if young and not clearing: return",
        "if not fast_only and shadow sptes: age shadow under mmu_lock write, young is replaced",
        "return",
    ),
    walk="clear fast_only",
    look_around="clear fast_only",
    evict="clear",
    enter=Enter.FAST_NOTIFIER,
)
