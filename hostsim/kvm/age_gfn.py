"""KVM asked for the age of pages: the one place where a policy's steps are run.

64 pages of one word at once; the kernel goes page by page, so locks and steps are counted by page. The answer is exact
per page: pages of a word don't influence each other.
"""

from __future__ import annotations

import numpy as np

from coldfleet.hostsim.engine.jit import inlined, popcount
from coldfleet.hostsim.engine.philox import happens
from coldfleet.hostsim.engine.state import CACHED, LOCKS, MANY_SPTES, NO_AD, SHADOW, SHADOW_MAPPED, TDP, Machine
from coldfleet.policies import Action, Answer, Condition, Lock, Mmu, Note
from coldfleet.policies.steps import PER_PAGE

NONE = np.uint64(0)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)

_LOCK = int(Action.LOCK)
_AGE = int(Action.AGE)
_TEST = int(Action.TEST)
_TRY = int(Action.TRY)
_TDP_MMU = int(Mmu.TDP)
_FAILED_ANSWER = int(Answer.FAILED)
_SLOW_ANSWER = int(Answer.SLOW)
_FAST_ANSWER = int(Answer.FAST)
_YOUNG = int(Condition.YOUNG)
_CLEARING = int(Condition.CLEARING)
_FAST_ONLY = int(Condition.FAST_ONLY)
_HAS_TDP = int(Condition.TDP)
_RMAPS = int(Condition.RMAPS)
_SHADOW_SPTES = int(Condition.SHADOW_SPTES)
_ACCESSED_MASK = int(Condition.ACCESSED_MASK)
_SINGLE_SPTE = int(Condition.SINGLE_SPTE)
_AD_BITS = int(Condition.AD_BITS)
_PER_PAGE = int(PER_PAGE)
_RMAP = int(Lock.RMAP)
_YOUNG_IS_FAST = int(Note.YOUNG_IS_FAST)
_YOUNG_IS_REPLACED = int(Note.YOUNG_IS_REPLACED)


@inlined
def vm_state(m: Machine, g: int) -> int:
    """The bits of policies.Condition that hold for the VM as a whole."""
    mm = m.mms[g]
    state = 0
    if mm.tdp:
        state |= _HAS_TDP
    if mm.had_rmaps or not mm.tdp:
        state |= _RMAPS
    if mm.indirect_shadow_pages or not mm.tdp:
        state |= _SHADOW_SPTES
    if m.vms[g].accessed_mask:
        state |= _ACCESSED_MASK
    return state


@inlined
def _acting(m: Machine, g: int, row: np.uint64, pages: np.uint64, young: np.uint64, mask: int, value: int) -> np.uint64:
    """Of these pages, those on which a step with conditions on the page acts."""
    if mask & _YOUNG:
        pages &= young if value & _YOUNG else ~young
    if mask & _SINGLE_SPTE:
        many = m.extra_bits[row, MANY_SPTES] & m.bits[row, SHADOW_MAPPED] if m.mms[g].extras else NONE
        pages &= ~many if value & _SINGLE_SPTE else many
    if mask & _AD_BITS:
        without = _without_ad(m, g, row, True)
        pages &= ~without if value & _AD_BITS else without
    return pages


@inlined
def _without_ad(m: Machine, g: int, row: np.uint64, shadow: bool) -> np.uint64:
    """The pages whose SPTEs have no A/D bits: KVM ages them by making them fault."""
    if not m.mms[g].extras:
        return NONE
    if not m.vms[g].accessed_mask:
        return ALL
    return m.extra_bits[row, NO_AD] if shadow else NONE


@inlined
def _count_lock(
    m: Machine, g: int, site: int, lock: int, pages: np.uint64, mapped: np.uint64, batched: bool, times: int
) -> None:
    """Counts the acquisitions of one lock, one a page; a page without rmap entries needs no rmap lock."""
    if lock == _RMAP:
        pages &= mapped
    m.sites[g, np.uint64(site), np.uint64(LOCKS + lock)] += times if batched and pages else times * popcount(pages)


@inlined
def _free_of_contention(m: Machine, g: int, pages: np.uint64) -> np.uint64:
    """The pages for which a trylock of mmu_lock succeeds."""
    free = pages
    if m.vms[g].contended:
        rest = pages
        while rest:
            bit = rest & (~rest + np.uint64(1))
            rest ^= bit
            if happens(m, g, m.vms[g].contended):
                free ^= bit
    return free


@inlined
def _clear(m: Machine, g: int, row: np.uint64, column: int, found: np.uint64) -> None:
    """Clears the Accessed bits that were found; a racing writer may put one back, and TLBs still have the pages."""
    m.bits[row, column] &= ~found
    if not m.mms[g].extras:
        return
    m.extra_bits[row, CACHED] |= found
    if m.vms[g].race:
        while found:
            bit = found & (~found + np.uint64(1))
            found ^= bit
            if happens(m, g, m.vms[g].race):
                m.bits[row, column] |= bit


@inlined
def call_kvm(
    m: Machine,
    g: int,
    site: int,
    word: int,
    pages: np.uint64,
    clear: bool,
    fast_only: bool,
    batched: bool,
    state: int,
    times: int,
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """kvm_age_gfn / kvm_test_age_gfn as the policy has them, for the pages of one word.

    ``state``: what :func:`vm_state` says. ``times``: as for :func:`~coldfleet.hostsim.kvm.mmu_notifier.ask`. Returns
    the pages (uint64 masks) that are young, that carry "fast", and that answered "failed".
    """
    young = fast = failed = NONE
    row = np.uint64(word)
    if clear:
        state |= _CLEARING
    if fast_only:
        state |= _FAST_ONLY
    open_pages = pages
    for i in range(m.policy[0].steps):
        step = m.steps[np.uint64(i)]
        mask = step.mask
        value = step.value
        if (state ^ value) & mask & ~_PER_PAGE:
            continue
        acting = open_pages
        if mask & _PER_PAGE:
            acting = _acting(m, g, row, acting, young, mask, value)
        if not acting:
            continue
        m.step_pages[g, np.uint64(i)] += times * popcount(acting)
        action = step.action
        operand = step.operand
        if action in (_AGE, _TEST):
            column = TDP if operand == _TDP_MMU else SHADOW
            mapped = m.bits[row, SHADOW_MAPPED]
            _count_lock(m, g, site, step.lock, acting, mapped, batched, times)
            if column == SHADOW:
                _count_sptes(m, g, row, acting & mapped, times)
            found = m.bits[row, column] & acting
            if clear and action == _AGE:
                _clear(m, g, row, column, found)
            note = step.note
            if note == _YOUNG_IS_REPLACED:
                young &= ~acting
            young |= found
            if note == _YOUNG_IS_FAST:
                fast |= found
        elif action == _LOCK:
            _count_lock(m, g, site, step.lock, acting, ALL, batched, times)
        else:
            if action == _TRY:
                free = _free_of_contention(m, g, acting)
                _count_lock(m, g, site, step.lock, free, ALL, batched, times)
                acting &= ~free
            if operand == _FAST_ANSWER:
                fast |= acting
            elif operand == _SLOW_ANSWER:
                fast &= ~acting
            elif operand == _FAILED_ANSWER:
                failed |= acting
            open_pages &= ~acting
            if not open_pages:
                break
    return young, fast, failed


@inlined
def _count_sptes(m: Machine, g: int, row: np.uint64, mapped: np.uint64, times: int) -> None:
    """Counts the SPTEs that a look through these pages' rmaps meets."""
    if mapped:
        m.events[g].rmap_sptes += times * popcount(mapped)
        if m.mms[g].extras:
            many = popcount(mapped & m.extra_bits[row, MANY_SPTES])
            m.events[g].rmap_sptes += times * many * (m.vms[g].rmap_entries - 1)
