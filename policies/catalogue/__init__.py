"""The catalogue: one file a policy, in the order of their dates."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from coldfleet.policies.catalogue import (
    bitmap_v1,
    every_mmu_v4,
    evict_only,
    fast_only_v5,
    fast_only_v6,
    fast_only_v6_posted,
    fast_only_v7,
    locked_6_12,
    lockless_6_15,
    single_rmap,
    six_steps,
    six_steps_early,
    test_all_clear_tdp,
    test_clear_v2,
    three_steps,
    toggled_flag,
    try_lock,
    was_fast,
    was_fast_mended,
    young_flags_v3,
)
from coldfleet.policies.installed import installed, make
from coldfleet.policies.policy import Policy
from coldfleet.policies.steps import PolicyError

POLICIES: dict[str, Policy] = {
    module.POLICY.name: module.POLICY
    for module in (
        evict_only,
        bitmap_v1,
        test_clear_v2,
        young_flags_v3,
        every_mmu_v4,
        try_lock,
        fast_only_v5,
        was_fast,
        six_steps,
        was_fast_mended,
        six_steps_early,
        test_all_clear_tdp,
        single_rmap,
        three_steps,
        toggled_flag,
        fast_only_v6_posted,
        fast_only_v6,
        fast_only_v7,
        locked_6_12,
        lockless_6_15,
    )
}


def get_policy(name: str, own: Mapping[str, Policy] | None = None) -> Policy:
    """The policy of that name: of the catalogue, one's ``own``, or one that another package brings.

    Raises :class:`PolicyError` with a suggestion.
    """
    if not isinstance(name, str):
        raise PolicyError(f"{name!r:.80} is not the name of a policy")
    known = {**POLICIES, **(own or {})}
    if name in known:
        return known[name]
    if name in installed():
        return make(name)
    names = [*known, *installed()]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "one of: " + ", ".join(names)
    raise PolicyError(f"unknown policy {name!r}: {hint}")
