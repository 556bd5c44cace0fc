"""Mainline up to 6.11: aging is blind to KVM, only the eviction check asks it."""

from coldfleet.policies.policy import Enter, policy

POLICY = policy(
    "evict-only",
    summary="Aging sees only the primary MMU; the eviction check asks every MMU under mmu_lock.",
    source="mainline up to v6.11: folio_referenced_one (mm/rmap.c), kvm_mmu_notifier_clear_flush_young",
    date="2022-09-18",
    status="merged",
    steps=(
        "take mmu_lock for write",
        "if rmaps: age shadow",
        "if tdp: age tdp",
        "return slow",
    ),
    walk="",
    look_around="",
    evict="clear flush",
    enter=Enter.PRIMARY,
    trusts_pmd=True,
)
