"""Houghton's v5 (June 2024): a fast_only notifier that fails for a VM that ever had rmaps."""

from coldfleet.policies.policy import Chain, Enter, policy

_LIKELY_FAST = "tdp and accessed mask"  # kvm_arch_young_notifier_likely_fast()

POLICY = policy(
    "fast-only-v5",
    summary="A fast-only call reads the TDP MMU without mmu_lock, but fails once the VM ever ran a nested VM.",
    source="[PATCH v5 4/9] mm: Add test_clear_young_fast_only MMU notifier, J. Houghton, 11 Jun 2024",
    date="2024-06-11",
    status="proposed",
    steps=(
        "if fast_only and rmaps: return failed",
        "if rmaps: age shadow under mmu_lock write",
        "if tdp: age tdp under rcu",
        "if fast_only: return fast",
        "return slow",
    ),
    walk=f"test fast_only if primary old and {_LIKELY_FAST}; clear fast_only if young and {_LIKELY_FAST}",
    look_around=f"test fast_only if primary old and {_LIKELY_FAST}; clear fast_only if young and {_LIKELY_FAST}",
    evict=f"clear fast_only if {_LIKELY_FAST}; clear if failed",
    enter=Enter.PRIMARY_OR_FAST,
    chain=Chain.ASSIGN,
)
