"""Mainline 6.12 to 6.14: every site asks every MMU, each time under mmu_lock."""

from coldfleet.policies.policy import Enter, policy

POLICY = policy(
    "locked-6.12",
    summary="Aging, look-around and eviction ask every MMU, each call under mmu_lock for write.",
    source="commit 1d4832becdc2 (mm: multi-gen LRU: use {ptep,pmdp}_clear_young_notify()), v6.12",
    date="2024-11-03",
    status="merged",
    steps=(
        "take mmu_lock for write",
        "if rmaps: age shadow",
        "if tdp: age tdp",
        "return slow",
    ),
    walk="clear",
    look_around="clear",
    evict="clear",
    enter=Enter.YOUNG,
)
