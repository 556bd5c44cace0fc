"""Christopherson's sketch as he mended it (14 June 2024): a page that is young in the primary MMU is fast too."""

from dataclasses import replace

from coldfleet.policies.catalogue import was_fast
from coldfleet.policies.policy import Enter

POLICY = replace(
    was_fast.POLICY,
    name="was-fast-mended",
    summary="As was-fast, and a page that is young in the primary MMU alone is kept with a look-around too.",
    source="S. Christopherson, 14 Jun 2024, Message-ID ZmzPoW7K5GIitQ8B@google.com (v5 4/9)",
    date="2024-06-14",
    enter=Enter.PRIMARY_OR_FAST,
)
