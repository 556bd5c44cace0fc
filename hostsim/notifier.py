"""The MMU notifier chain: is a page young? The one place where a policy's steps are run.

A site of MGLRU asks for up to 64 pages of one word at once; the kernel asks page by page, so calls,
locks and steps are counted by page. The answer is exact per page: pages of a word don't influence each
other. ``TOUCHED`` is the truth: a page is missed when it was touched since a site last asked for it and
is reported old, and falsely young when it was not touched and is reported young.
"""

from __future__ import annotations

import numpy as np

from hostsim.jit import inlined, popcount
from hostsim.state import BIT_COLUMNS, PRESENT, PRIMARY, SHADOW, SHADOW_MAPPED, TDP, TOUCHED, Machine
from policies import Action, Answer, Condition, Enter, Lock, Mmu, When

# --- what is counted at each site: the columns of Machine.sites ---------------------------------------
CALLS = 0  # calls of the notifier chain, one page each
FAILED = 1  # of these, answered "failed"
FLUSHES = 2  # remote TLB flushes
YOUNG = 3  # pages found young
MISSED = 4
FALSE = 5
LOCKS = 6  # acquisitions, one column for each policies.Lock
SITE_COLUMNS = LOCKS + len(Lock)

NONE = np.uint64(0)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)

_LOCK = int(Action.LOCK)
_AGE = int(Action.AGE)
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
_RMAP = int(Lock.RMAP)
_PRIMARY_OLD = int(When.PRIMARY_OLD)
_IF_YOUNG = int(When.YOUNG)
_IF_FAILED = int(When.FAILED)
_ENTER_YOUNG = int(Enter.YOUNG)
_ENTER_PRIMARY = int(Enter.PRIMARY)
_ENTER_PRIMARY_OR_FAST = int(Enter.PRIMARY_OR_FAST)


@inlined
def _count_lock(m: Machine, g: int, site: int, lock: int, pages: np.uint64, mapped: np.uint64) -> None:
    """Counts the acquisitions of one lock, one a page; a page without rmap entries needs no rmap lock."""
    if lock == _RMAP:
        pages &= mapped
    m.sites[g, site, LOCKS + lock] += popcount(pages)


@inlined
def call_kvm(
    m: Machine, g: int, site: int, word: int, pages: np.uint64, clear: bool, fast_only: bool
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """kvm_age_gfn / kvm_test_age_gfn as the policy has them, for the pages of one word.

    Returns the pages (uint64 masks) that are young, that carry "fast", and that answered "failed".
    """
    mm = m.mms[g]
    young = fast = failed = NONE
    row = np.uint64(word)
    state = 0
    if clear:
        state |= _CLEARING
    if fast_only:
        state |= _FAST_ONLY
    if mm.tdp:
        state |= _HAS_TDP
    if mm.had_rmaps or not mm.tdp:
        state |= _RMAPS
    if mm.indirect_shadow_pages or not mm.tdp:
        state |= _SHADOW_SPTES
    open_pages = pages
    for i in range(m.policy[0]):
        mask = m.steps[i, 3]
        value = m.steps[i, 4]
        if (state ^ value) & mask & ~_YOUNG:
            continue
        acting = open_pages
        if mask & _YOUNG:
            acting &= young if value & _YOUNG else ~young
        if not acting:
            continue
        m.step_pages[g, i] += popcount(acting)
        action = m.steps[i, 0]
        operand = m.steps[i, 1]
        if action == _AGE:
            column = TDP if operand == _TDP_MMU else SHADOW
            _count_lock(m, g, site, m.steps[i, 2], acting, m.bits[row, SHADOW_MAPPED])
            found = m.bits[row, column] & acting
            if clear:
                m.bits[row, column] &= ~acting
            young |= found
            if m.steps[i, 5]:
                fast |= found
        elif action == _LOCK:
            _count_lock(m, g, site, m.steps[i, 2], acting, ALL)
        else:
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
def ask(m: Machine, g: int, word: int, pages: np.uint64, site: int) -> tuple[np.uint64, np.uint64]:
    """Is a page young, and clear what says so: ptep_clear_young_notify as the policy's site has it.

    Returns masks of the pages that are young by any MMU asked, and (of use at eviction) of those whose youth
    calls for a look-around.
    """
    row = np.uint64(word)
    primary = m.bits[row, PRIMARY] & pages
    m.bits[row, PRIMARY] &= ~pages
    touched = m.bits[row, TOUCHED] & pages
    m.bits[row, TOUCHED] &= ~pages
    secondary = fast = failed = NONE
    counters = m.sites[g, site]
    if not m.mms[g].notifiers:
        if not primary | touched:
            return NONE, NONE  # the common case: nothing to say, nothing to count
    else:
        for c in range(m.calls.shape[1]):
            if not m.calls[site, c, 0]:
                break
            when = m.calls[site, c, 4]
            asked = pages
            if when == _PRIMARY_OLD:
                asked &= ~primary
            elif when == _IF_YOUNG:
                asked &= primary | secondary
            elif when == _IF_FAILED:
                asked &= failed
            if not asked:
                continue
            clear = m.calls[site, c, 1] != 0
            found, quick, unsure = call_kvm(m, g, site, word, asked, clear, m.calls[site, c, 2] != 0)
            secondary |= found
            fast = (fast & ~asked) | quick
            failed = (failed & ~asked) | unsure
            counters[CALLS] += popcount(asked)
            counters[FAILED] += popcount(unsure)
            if m.calls[site, c, 3]:
                counters[FLUSHES] += popcount(found)
    young = primary | secondary
    counters[YOUNG] += popcount(young)
    counters[MISSED] += popcount(touched & ~young)
    counters[FALSE] += popcount(young & ~touched)
    enter = m.policy[1]
    if enter == _ENTER_YOUNG or not m.mms[g].notifiers:
        return young, young
    if enter == _ENTER_PRIMARY:
        return young, primary
    if enter == _ENTER_PRIMARY_OR_FAST:
        return young, primary | (secondary & fast)
    return young, secondary & fast


@inlined
def unmap(m: Machine, page: int) -> bool:
    """invalidate_range: takes a page out of all page tables; true if the primary MMU had it."""
    word = np.uint64(page >> 6)
    bit = np.uint64(1) << np.uint64(page & 63)
    present = m.bits[word, PRESENT] & bit != NONE
    for column in range(BIT_COLUMNS):
        m.bits[word, column] &= ~bit
    return present
