"""The catalogue: one file a policy, in the order of their dates."""

from __future__ import annotations

import difflib

from policies.catalogue import (
    evict_only,
    fast_only_v5,
    locked_6_12,
    lockless_6_15,
    six_steps,
    was_fast,
)
from policies.policy import Policy
from policies.steps import PolicyError

POLICIES: dict[str, Policy] = {
    module.POLICY.name: module.POLICY
    for module in (evict_only, fast_only_v5, was_fast, six_steps, locked_6_12, lockless_6_15)
}


def get_policy(name: str) -> Policy:
    """The policy of that name; raises :class:`PolicyError` with a suggestion."""
    if name in POLICIES:
        return POLICIES[name]
    near = difflib.get_close_matches(name, POLICIES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "one of: " + ", ".join(POLICIES)
    raise PolicyError(f"unknown policy {name!r}: {hint}")
