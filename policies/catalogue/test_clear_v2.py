"""Zhao's v2 (May 2023): test_clear_young supersedes both notifiers; its bitmap now is plain, not toggled.

To a guest's pages it does what v1 does: the digests are equal. It differs in how the bitmap is coded, and in the
names that the answer has (MMU_NOTIFIER_RANGE_LOCKLESS, MMU_NOTIFIER_RANGE_YOUNG).
"""

from dataclasses import replace

from coldfleet.policies.catalogue import bitmap_v1

POLICY = replace(
    bitmap_v1.POLICY,
    name="test-clear-v2",
    summary="As v1, by one notifier test_clear_young whose answer tells the lockless path from the locked one.",
    source="[PATCH v2] mm/kvm: locklessly clear the accessed bit, Y. Zhao, 20230526234435.662652-1-yuzhao@google.com",
    date="2023-05-26",
)
