"""Houghton's v3 (April 2024): test_young and clear_young with a bitmap, and flags YOUNG_FAST and BITMAP_UNRELIABLE.

The mm always asks; it is KVM that answers UNRELIABLE, which the walk takes for old.
"""

from coldfleet.policies.policy import Enter, policy

POLICY = policy(
    "young-flags-v3",
    summary="Bitmaps of the TDP MMU, answered 'unreliable' without Accessed bits or once the VM ever ran a nested VM.",
    source="[RFC PATCH v3 0/7] mm/kvm: Improve parallelism for access bit harvesting, J. Houghton, 1 Apr 2024",
    date="2024-04-01",
    status="proposed",
    steps=(
        "if fast_only and rmaps: return failed",
        "if fast_only and not accessed mask: return failed",
        "if not rmaps and accessed mask: age tdp under rcu",
        "if not rmaps and accessed mask: return fast",
        "take mmu_lock for write",
        "if rmaps: age shadow",
        "if tdp: age tdp",
        "return slow",
    ),
    walk="test fast_only batched; clear fast_only batched if found",
    look_around="test fast_only batched; clear fast_only batched if found",
    evict="clear",
    enter=Enter.PRIMARY_OR_FAST,
)
