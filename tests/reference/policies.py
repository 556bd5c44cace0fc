"""Six ways to ask a VM's MMUs whether a page was touched (policy catalogue, section 1).

A policy answers at MGLRU's three sites: (a) the aging walk, (b) look-around at a neighbour, (c) the
check of one page before eviction, which also says whether to look around. Memory without notifiers
never gets here: ``no_notifiers`` serves it under every policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from .folio import Folio
from .mmu import Mm


class Checked(NamedTuple):
    """Answer at site (c)."""

    young: bool
    look_around: bool


@dataclass(frozen=True)
class Policy:
    name: str
    walk_young: Callable[[Mm, Folio], bool]
    neighbour_young: Callable[[Mm, Folio], bool]
    eviction_check: Callable[[Mm, Folio], Checked]
    skips_old_pmd: bool = False
    """The walk trusts the PMD entry's Accessed bit although secondary MMUs never set it."""


# Without notifiers.
def p_only(mm: Mm, folio: Folio) -> bool:
    return mm.clear_p(folio)


def p_only_checked(mm: Mm, folio: Folio) -> Checked:
    young = mm.clear_p(folio)
    return Checked(young, young)


no_notifiers = Policy("no-notifiers", p_only, p_only, p_only_checked, skips_old_pmd=True)


def _call(mm: Mm, site: str) -> None:
    mm.notifier_calls[site] += 1


def _write_lock(mm: Mm) -> None:
    mm.locks["mmu_lock_write"] += 1


def _rcu(mm: Mm) -> None:
    mm.locks["rcu"] += 1


def _age_all_under_write_lock(mm: Mm, folio: Folio) -> bool:
    """Up to 6.14: the shadow MMU if it ever existed, and the TDP MMU, all under W()."""
    _write_lock(mm)
    young = mm.age_s(folio) if mm.shadow_root_ever else False
    if mm.tdp:
        young |= mm.age_t(folio)
    return young


# evict-only, B0: aging ignores KVM; the eviction check is exact (section 1.0).
def evict_only_checked(mm: Mm, folio: Folio) -> Checked:
    look_around = mm.clear_p(folio)
    _call(mm, "evict")
    return Checked(_age_all_under_write_lock(mm, folio) or look_around, look_around)


# locked-6.12: every site calls clear_young, exact, under W() (section 1.9).
def locked_young(site: str) -> Callable[[Mm, Folio], bool]:
    def young(mm: Mm, folio: Folio) -> bool:
        p = mm.clear_p(folio)
        _call(mm, site)
        return _age_all_under_write_lock(mm, folio) or p

    return young


def locked_checked(mm: Mm, folio: Folio) -> Checked:
    young = locked_young("evict")(mm, folio)
    return Checked(young, young)


# lockless-6.15: the same sites; TDP under RCU, rmaps under their own bit lock (section 1.11).
def lockless_young(site: str) -> Callable[[Mm, Folio], bool]:
    def young(mm: Mm, folio: Folio) -> bool:
        p = mm.clear_p(folio)
        _call(mm, site)
        _rcu(mm)
        secondary = mm.age_t(folio) if mm.tdp else False
        if mm.may_have_shadow:
            mm.locks["rmap"] += mm.rmaps(folio)
            secondary |= mm.age_s(folio)
        return secondary or p

    return young


def ask_only(policy: str, mm: Mm, folio: Folio) -> bool:
    """mmu_notifier_test_young under the policies of kernels."""
    if policy != "lockless-6.15":
        _write_lock(mm)
        return (folio.s and mm.shadow_root_ever) or (folio.t and mm.tdp)
    _rcu(mm)
    if folio.t:
        return True
    if mm.may_have_shadow:
        mm.locks["rmap"] += mm.rmaps(folio)
    return folio.s


def lockless_checked(mm: Mm, folio: Folio) -> Checked:
    young = lockless_young("evict")(mm, folio)
    return Checked(young, young)


# fast-only-v5: a separate op that fails once a shadow root was ever made (section 1.5).
FAST_FAILED = None


def _fast_only(mm: Mm, folio: Folio, clear: bool, site: str) -> bool | None:
    _call(mm, site)
    if mm.shadow_root_ever:
        return FAST_FAILED  # before the TDP MMU is even read
    _rcu(mm)
    return mm.age_t(folio) if clear else folio.t


def fast_only_young(site: str) -> Callable[[Mm, Folio], bool]:
    def young(mm: Mm, folio: Folio) -> bool:
        gate = mm.tdp
        # A page that is young in P needs no test (table 1.12).
        if not folio.p and not (gate and _fast_only(mm, folio, False, site)):
            return False
        if gate:
            _fast_only(mm, folio, True, site)
        mm.clear_p(folio)
        return True

    return young


def fast_only_checked(mm: Mm, folio: Folio) -> Checked:
    fast = _fast_only(mm, folio, True, "evict") if mm.tdp else FAST_FAILED
    if fast is FAST_FAILED:
        _call(mm, "evict")
        _write_lock(mm)
        secondary = mm.age_s(folio) if mm.shadow_root_ever else False
        if mm.tdp:
            _rcu(mm)
            secondary |= mm.age_t(folio)
    else:
        secondary = fast
    p = mm.clear_p(folio)
    return Checked(p or secondary, p or (secondary and fast is not FAST_FAILED))


# was-fast, S1 as sketched: the TDP answer is always used, and marked as fast (section 1.6).
def _was_fast_age(mm: Mm, folio: Folio, fast_only: bool, site: str) -> tuple[bool, bool]:
    _call(mm, site)
    young = fast = False
    if not fast_only and mm.may_have_shadow:
        _write_lock(mm)
        young = mm.age_s(folio)
    if mm.tdp:
        _rcu(mm)
        if mm.age_t(folio):
            young = fast = True
    return young, fast


def was_fast_young(site: str) -> Callable[[Mm, Folio], bool]:
    def young(mm: Mm, folio: Folio) -> bool:
        p = mm.clear_p(folio)
        return _was_fast_age(mm, folio, True, site)[0] or p

    return young


def was_fast_checked(mm: Mm, folio: Folio) -> Checked:
    p = mm.clear_p(folio)
    young, fast = _was_fast_age(mm, folio, False, "evict")
    return Checked(young or p, fast)  # a page young in P alone carries no WAS_FAST: known hole


# six-steps, S2 literal: 1 TDP, 2 test may stop, 3 fast_only stops, 4 no shadow, 5 shadow, 6 slow.
def _six_steps_age(mm: Mm, folio: Folio, fast_only: bool, site: str) -> tuple[bool, bool]:
    _call(mm, site)
    young = False
    if mm.tdp:
        _rcu(mm)
        young = mm.age_t(folio)
    # Step 2 returns early only when testing; MGLRU always clears.
    if fast_only or not mm.may_have_shadow:
        return young, True
    _write_lock(mm)
    young |= mm.age_s(folio)
    return young, False


def six_steps_young(site: str) -> Callable[[Mm, Folio], bool]:
    def young(mm: Mm, folio: Folio) -> bool:
        p = mm.clear_p(folio)
        return _six_steps_age(mm, folio, True, site)[0] or p

    return young


def six_steps_checked(mm: Mm, folio: Folio) -> Checked:
    p = mm.clear_p(folio)
    secondary, fast = _six_steps_age(mm, folio, False, "evict")
    return Checked(secondary or p, p or (secondary and fast))  # the mail is silent on P: as in v5


POLICIES = {
    policy.name: policy
    for policy in (
        Policy("evict-only", p_only, p_only, evict_only_checked, skips_old_pmd=True),
        Policy("fast-only-v5", fast_only_young("walk"), fast_only_young("look_around"), fast_only_checked),
        Policy("was-fast", was_fast_young("walk"), was_fast_young("look_around"), was_fast_checked),
        Policy("six-steps", six_steps_young("walk"), six_steps_young("look_around"), six_steps_checked),
        Policy("locked-6.12", locked_young("walk"), locked_young("look_around"), locked_checked),
        Policy("lockless-6.15", lockless_young("walk"), lockless_young("look_around"), lockless_checked),
    )
}
