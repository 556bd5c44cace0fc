"""The notifier chain: what the six policies answer, clear, call and lock, for every state of a page and its VM.

The plain functions below are written from the mails and commits that the policies cite, page by page, and
share nothing with policies/.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from hostsim.machine import HostMemory
from hostsim.notifier import CALLS, FAILED, FALSE, FLUSHES, LOCKS, MISSED, YOUNG
from hostsim.state import PRIMARY, SHADOW, SHADOW_MAPPED, TDP, TOUCHED
from policies import POLICIES, Enter, Lock, Site, get_policy, policy
from tests.hostsim.one_word import ask_word, new_word, set_bits, under

PAGE = 37  # any bit of the word
BOOLS = (False, True)


class Page:
    """One page of a VM: its Accessed bits, the VM's state, and what was spent on asking."""

    def __init__(self, p: bool, t: bool, s: bool, mapped: bool, ever: bool, now: bool, tdp: bool) -> None:
        self.p, self.t, self.s, self.mapped = p, t, s, mapped
        self.tdp = tdp
        self.rmaps = ever or not tdp  # kvm_memslots_have_rmaps()
        self.sptes = now or not tdp  # kvm_may_have_shadow_mmu_sptes()
        self.calls = self.failed = self.flushes = 0
        self.locks: Counter[str] = Counter()

    def primary(self) -> bool:
        young, self.p = self.p, False
        return young

    def age_tdp(self) -> bool:
        young, self.t = self.t, False
        return young

    def age_shadow(self) -> bool:
        young, self.s = self.s, False
        return young


Answer = tuple[bool, bool]  # young; and, at the eviction check, look around


def evict_only(page: Page, site: Site) -> Answer:
    """Up to 6.11: only the eviction check asks KVM, under mmu_lock; only the primary PTE leads to look-around."""
    p = page.primary()
    if site != Site.EVICT:
        return p, False
    page.calls += 1
    page.locks["mmu_lock write"] += 1
    s = page.age_shadow() if page.rmaps else False
    t = page.age_tdp() if page.tdp else False
    page.flushes += s or t  # clear_flush_young
    return p or s or t, p


def fast_only_v5(page: Page, site: Site) -> Answer:
    """A VM that ever had rmaps fails the fast call before its TDP MMU is read; only eviction asks again, slowly.

    Without the TDP MMU the fast call is not even made (kvm_arch_young_notifier_likely_fast).
    """

    def fast(clear: bool) -> bool:
        if not page.tdp:
            return False
        page.calls += 1
        page.failed += page.rmaps
        if page.rmaps:
            return False
        page.locks["rcu"] += 1
        return page.age_tdp() if clear else page.t

    p = page.primary()
    if site != Site.EVICT:  # one clear for a page that is young already, else a test and maybe a clear
        young = p or fast(clear=False)
        if young:
            fast(clear=True)
        return young, False
    k = fast(clear=True)
    if not page.rmaps:
        return p or k, p or k
    page.calls += 1
    page.locks["mmu_lock write"] += 1
    s = page.age_shadow()
    page.locks["rcu"] += page.tdp
    t = page.age_tdp() if page.tdp else False
    return p or s or t, p


def was_fast(page: Page, site: Site) -> Answer:
    """The TDP MMU always answers and marks what it found as fast; eviction also asks the shadow MMU."""
    p = page.primary()
    page.calls += 1
    s = False
    if site == Site.EVICT and page.sptes:
        page.locks["mmu_lock write"] += 1
        s = page.age_shadow()
    page.locks["rcu"] += page.tdp
    t = page.age_tdp() if page.tdp else False
    return p or s or t, t  # a page that is young in the primary PTE alone carries no WAS_FAST


def six_steps(page: Page, site: Site) -> Answer:
    """The TDP MMU first; only eviction goes on to the shadow MMU, and is slow then."""
    p = page.primary()
    page.calls += 1
    page.locks["rcu"] += page.tdp
    k = page.age_tdp() if page.tdp else False
    if site != Site.EVICT:
        return p or k, False
    if not page.sptes:
        return p or k, p or k
    page.locks["mmu_lock write"] += 1
    k = page.age_shadow() or k
    return p or k, p


def locked_6_12(page: Page, site: Site) -> Answer:
    """Every site asks every MMU under mmu_lock; whatever was young leads to look-around."""
    p = page.primary()
    page.calls += 1
    page.locks["mmu_lock write"] += 1
    s = page.age_shadow() if page.rmaps else False
    t = page.age_tdp() if page.tdp else False
    return (p or s or t,) * 2


def lockless_6_15(page: Page, site: Site) -> Answer:
    """The same calls; the shadow MMU only while it has SPTEs, each rmap that isn't empty under its own lock."""
    p = page.primary()
    page.calls += 1
    page.locks["rcu"] += page.tdp
    t = page.age_tdp() if page.tdp else False
    s = False
    if page.sptes:
        page.locks["rmap"] += page.mapped
        s = page.age_shadow()
    return (p or t or s,) * 2


PLAIN: dict[str, Callable[[Page, Site], Answer]] = {
    "evict-only": evict_only,
    "fast-only-v5": fast_only_v5,
    "was-fast": was_fast,
    "six-steps": six_steps,
    "locked-6.12": locked_6_12,
    "lockless-6.15": lockless_6_15,
}
LOCK_NAMES = {Lock.RCU: "rcu", Lock.RMAP: "rmap", Lock.MMU_READ: "mmu_lock read", Lock.MMU_WRITE: "mmu_lock write"}


@pytest.fixture(scope="module")
def one_word() -> HostMemory:
    return new_word()


@pytest.mark.parametrize("site", Site)
@pytest.mark.parametrize("name", POLICIES)
def test_decisions_are_those_of_the_mails_and_commits(one_word: HostMemory, name: str, site: Site) -> None:
    bit = 1 << PAGE
    for state in itertools.product(BOOLS, repeat=7):
        page = Page(*state)
        _, _, _, _, ever, now, tdp = state
        m = under(one_word, get_policy(name), ever=ever, now=now, tdp=tdp)
        set_bits(m, p=bit * page.p, t=bit * page.t, s=bit * page.s, mapped=bit * page.mapped)
        young, enter = ask_word(m, bit, site)
        plain_young, plain_enter = PLAIN[name](page, site)
        assert young == bit * plain_young, state
        if site == Site.EVICT:
            assert enter == bit * plain_enter, state
        left = [int(m.bits[0, column]) // bit for column in (PRIMARY, TDP, SHADOW, SHADOW_MAPPED)]
        assert left == [page.p, page.t, page.s, page.mapped], state
        counted = m.sites[0, site]
        if tdp or name != "fast-only-v5":  # the notation can't say "no call at all": it makes one that fails
            assert counted[[CALLS, FAILED]].tolist() == [page.calls, page.failed], state
        assert counted[FLUSHES] == page.flushes, state
        locks = {word: int(counted[LOCKS + lock]) for lock, word in LOCK_NAMES.items()}
        assert locks == {word: page.locks[word] for word in LOCK_NAMES.values()}, state
        assert not np.delete(m.sites[0], site, axis=0).any(), state


@pytest.mark.parametrize("site", Site)
@pytest.mark.parametrize("name", POLICIES)
def test_memory_without_kvm_is_judged_by_its_own_ptes(one_word: HostMemory, name: str, site: Site) -> None:
    m = under(one_word, get_policy(name), kvm=False)
    set_bits(m, p=0b0110, t=0b1010, s=0b1100)
    assert ask_word(m, 0b1111, site) == (0b0110, 0b0110)
    assert m.bits[0, [PRIMARY, TDP, SHADOW]].tolist() == [0, 0b1010, 0b1100]
    assert not m.sites[0, :, CALLS].any()
    assert not m.sites[0, :, LOCKS:].any()


@pytest.mark.parametrize("site", Site)
@pytest.mark.parametrize("name", POLICIES)
def test_a_page_is_missed_or_falsely_young_against_what_was_touched(
    one_word: HostMemory, name: str, site: Site
) -> None:
    m = under(one_word, get_policy(name), ever=True, now=True)
    set_bits(m, p=0b0001_0001, t=0b0010_0010, s=0b0100_0100, touched=0b0000_1111)
    young, _ = ask_word(m, 0xFF, site)
    assert m.sites[0, site, YOUNG] == young.bit_count()
    assert m.sites[0, site, MISSED] == (0b0000_1111 & ~young).bit_count()
    assert m.sites[0, site, FALSE] == (young & 0b1111_0000).bit_count()
    assert m.bits[0, TOUCHED] == 0  # from now on it counts anew


def test_a_later_call_s_answer_replaces_that_of_an_earlier_one(one_word: HostMemory) -> None:
    asks_twice = policy(
        "asks-twice",
        summary="", source="", date="", status="control",
        steps=("if tdp: age tdp", "if fast_only: return fast", "return slow"),
        walk="", look_around="", evict="clear fast_only; clear if young", enter=Enter.PRIMARY_OR_FAST,
    )  # fmt: skip
    m = under(one_word, asks_twice)
    set_bits(m, t=0b01, p=0b10)
    young, look_around = ask_word(m, 0b111, Site.EVICT)
    assert young == 0b011
    assert look_around == 0b010  # the first page was young fast, but the second call had the last word: slow
    assert m.sites[0, Site.EVICT, CALLS] == 3 + 2
