"""Zhao's v1 (February 2023): one bitmap of Accessed bits for 64 pages, read and cleared without mmu_lock.

The mm asks only where KVM has the TDP MMU and Accessed bits (kvm_arch_has_test_clear_young). Whether its walk
also trusted the PMD is not in the mail: here it does not.
"""

from coldfleet.policies.policy import Enter, policy

POLICY = policy(
    "bitmap-v1",
    summary="Aging tests and clears 64 pages a call in the TDP MMU, but is refused once the VM ever ran a nested VM.",
    source="[PATCH v1 0/5] mm/kvm: lockless accessed bit harvest, Y. Zhao, 20230217041230.2417228-1-yuzhao@google.com",
    date="2023-02-17",
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
    walk="test fast_only batched if tdp and accessed mask; clear fast_only batched if found",
    look_around="test fast_only batched if tdp and accessed mask; clear fast_only batched if found",
    evict="clear",
    enter=Enter.PRIMARY_OR_FAST,
)
