"""The MMU notifier chain: is a page young? MGLRU's sites, the subscribers of an mm, and how their answers combine.

A site asks for up to 64 pages of one word at once; the kernel asks page by page, so calls are counted by page.
``TOUCHED`` is the truth: a page is missed when it was touched since a site last asked for it and is reported old, and
falsely young when it was not touched and is reported young.
"""

from __future__ import annotations

import numpy as np

from coldfleet.hostsim.engine.jit import inlined, popcount
from coldfleet.hostsim.engine.state import (
    BIT_COLUMNS,
    CACHED,
    CALLS,
    DEVICE_BITS,
    EXTRA_COLUMNS,
    FAILED,
    FALSE,
    FLUSHES,
    IDLE,
    KVM,
    MISSED,
    PG_YOUNG,
    PRESENT,
    PRIMARY,
    SHADOW,
    SHADOW_MAPPED,
    SLOW_DEVICE,
    TDP,
    TOUCHED,
    YOUNG,
    Machine,
)
from coldfleet.hostsim.kvm.age_gfn import NONE, call_kvm, vm_state
from coldfleet.hostsim.kvm.ask_log import note_answer, note_ask
from coldfleet.policies import Chain, Enter, When

_PRIMARY_OLD = int(When.PRIMARY_OLD)
_IF_YOUNG = int(When.YOUNG)
_IF_FOUND = int(When.FOUND)
_IF_FAILED = int(When.FAILED)
_IF_TDP = int(When.TDP)
_IF_ACCESSED_MASK = int(When.ACCESSED_MASK)
_ASSIGN = int(Chain.ASSIGN)
_ENTER_YOUNG = int(Enter.YOUNG)
_ENTER_PRIMARY = int(Enter.PRIMARY)
_ENTER_PRIMARY_OR_FAST = int(Enter.PRIMARY_OR_FAST)
_ENTER_FAST = int(Enter.FAST)
_ENTER_FAST_NOTIFIER = int(Enter.FAST_NOTIFIER)


@inlined
def kvm_has_fast_aging(m: Machine, state: int) -> bool:
    """Whether KVM's subscription has the flag has_fast_aging, given the state of its VM."""
    return (state ^ m.policy[0].fast_value) & m.policy[0].fast_mask == 0


@inlined
def _ask_device(m: Machine, row: np.uint64, who: int, pages: np.uint64, clear: bool) -> np.uint64:
    """A device's MMU: its Accessed bits, which it tests and clears by itself."""
    column = DEVICE_BITS + who - SLOW_DEVICE
    found = m.extra_bits[row, column] & pages
    if clear:
        m.extra_bits[row, column] &= ~found
    return found


@inlined
def consult(
    m: Machine,
    g: int,
    site: int,
    word: int,
    pages: np.uint64,
    clear: bool,
    fast_only: bool,
    flush: bool,
    batched: bool,
    times: int,
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """One call of the chain: __mmu_notifier_clear_young, _test_young, and the proposed ones (mm/mmu_notifier.c).

    The subscribers are asked in the order of the list; a test of a page stops at the first that says young. To a
    fast_only call a subscriber without has_fast_aging is skipped, or, in v5's chain, answers "failed".
    ``times``: as for :func:`ask`. Returns the pages that are young, that carry "fast", and that answered "failed".
    """
    row = np.uint64(word)
    vm = m.vms[g]
    state = vm_state(m, g)
    assigns = fast_only and m.policy[0].chain == _ASSIGN
    young = fast = failed = NONE
    asked = pages
    for s in range(vm.subscribers):
        who = vm.chain[s]
        unsure = NONE
        if who == KVM:
            if fast_only and not kvm_has_fast_aging(m, state):
                continue
            found, quick, unsure = call_kvm(m, g, site, word, asked, clear, fast_only, batched, state, times)
        elif who != SLOW_DEVICE or not fast_only:
            found = _ask_device(m, row, who, asked, clear)
            quick = NONE if who == SLOW_DEVICE else asked if assigns else found
        elif assigns:
            found = quick = NONE
            unsure = asked
        else:
            continue
        if assigns:
            young &= ~asked
            fast &= ~asked
        young |= found
        fast |= quick
        failed |= unsure
        if assigns:
            asked &= ~unsure
        if not clear:
            asked &= ~found
        if not asked:
            break
    counters = m.sites[g, np.uint64(site)]
    counters[CALLS] += times if batched else times * popcount(pages)
    if failed:
        counters[FAILED] += times if batched else times * popcount(failed)
        by_shadow_alone = m.bits[row, SHADOW] & ~m.bits[row, TDP] & ~young
        m.events[g].failed_pages += times * popcount(failed)
        m.events[g].failed_needlessly += times * popcount(failed & ~by_shadow_alone)
    if flush:
        counters[FLUSHES] += times * popcount(young)
        if m.mms[g].extras:
            m.extra_bits[row, CACHED] &= ~young
    return young, fast, failed


@inlined
def _looks_around(m: Machine, g: int, primary: np.uint64, secondary: np.uint64, fast: np.uint64) -> np.uint64:
    """Of the pages found young at eviction, those whose youth calls for a look-around."""
    enter = m.policy[0].enter
    if enter == _ENTER_YOUNG or not m.mms[g].notifiers:
        return primary | secondary
    if enter == _ENTER_PRIMARY:
        return primary
    if enter == _ENTER_PRIMARY_OR_FAST:
        return primary | (secondary & fast)
    if enter == _ENTER_FAST:
        return secondary & fast
    if enter == _ENTER_FAST_NOTIFIER:
        if m.vms[g].fast_devices or kvm_has_fast_aging(m, vm_state(m, g)):
            return primary | secondary
        return primary
    return NONE


@inlined
def ask(m: Machine, g: int, word: int, pages: np.uint64, site: int, times: int) -> tuple[np.uint64, np.uint64]:
    """Is a page young, and clear what says so: ptep_clear_young_notify as the policy's site has it.

    ``times``: what is counted is multiplied by it, for as many pages with the same answers. Returns masks of the pages
    that are young by any MMU asked, and (of use at eviction) of those whose youth calls for a look-around.
    """
    row = np.uint64(word)
    if len(m.followed):
        note_ask(m, word, pages, site)
    primary = m.bits[row, PRIMARY] & pages
    m.bits[row, PRIMARY] &= ~pages
    touched = m.bits[row, TOUCHED] & pages
    m.bits[row, TOUCHED] &= ~pages
    secondary = fast = NONE
    failed = pages
    if not m.mms[g].notifiers:
        if not primary | touched:
            return NONE, NONE  # the common case: nothing to say, nothing to count
    else:
        for c in range(m.calls.shape[1]):
            call = m.calls[site, c]
            if not call.present:
                break
            when = call.when
            asked = pages
            if when:
                if (when & _IF_TDP and not m.mms[g].tdp) or (when & _IF_ACCESSED_MASK and not m.vms[g].accessed_mask):
                    continue
                if when & _PRIMARY_OLD:
                    asked &= ~primary
                if when & _IF_YOUNG:
                    asked &= primary | secondary
                if when & _IF_FOUND:
                    asked &= secondary
                if when & _IF_FAILED:
                    asked &= failed
            if not asked:
                continue
            clear = call.clear != 0
            fast_only, flush, batched = call.fast_only != 0, call.flush != 0, call.batched != 0
            found, quick, unsure = consult(m, g, site, word, asked, clear, fast_only, flush, batched, times)
            secondary |= found
            fast = (fast & ~asked) | quick
            failed = (failed & ~asked) | unsure
    young = primary | secondary
    if len(m.followed):
        note_answer(m, word, pages, young, fast, failed if m.mms[g].notifiers else NONE)
    counters = m.sites[g, np.uint64(site)]
    counters[YOUNG] += times * popcount(young)
    counters[MISSED] += times * popcount(touched & ~young)
    counters[FALSE] += times * popcount(young & ~touched)
    return young, _looks_around(m, g, primary, secondary, fast)


@inlined
def answers_alike(m: Machine, g: int) -> bool:
    """Whether all pages of a guest that are untouched (:func:`is_untouched`) get the same answers: no chance and no
    other MMU has a say, and nobody writes down who was asked."""
    return not (len(m.followed) or len(m.extra_bits) or len(m.huge) or m.vms[g].contended)


@inlined
def is_untouched(m: Machine, page: int) -> bool:
    """Whether a page is mapped by the primary MMU, has no Accessed bit, really is old, and has no rmap entry."""
    word = np.uint64(page) >> np.uint64(6)
    accessed = m.bits[word, PRIMARY] | m.bits[word, TDP] | m.bits[word, SHADOW] | m.bits[word, TOUCHED]
    quiet = m.bits[word, PRESENT] & ~(accessed | m.bits[word, SHADOW_MAPPED])
    return quiet >> np.uint64(page & 63) & np.uint64(1) != NONE


@inlined
def take_pg_young(m: Machine, word: np.uint64, bit: np.uint64, young: np.uint64) -> np.uint64:
    """folio_test_clear_young, and a page that is young is idle no more: what access monitors have recorded."""
    young |= m.extra_bits[word, PG_YOUNG] & bit
    m.extra_bits[word, PG_YOUNG] &= ~bit
    m.extra_bits[word, IDLE] &= ~young
    return young


@inlined
def is_mapped(m: Machine, page: int) -> bool:
    """Whether the primary MMU maps a page."""
    return m.bits[np.uint64(page) >> np.uint64(6), PRESENT] >> np.uint64(page & 63) & np.uint64(1) != 0


@inlined
def unmap(m: Machine, page: int) -> bool:
    """invalidate_range: takes a page out of all page tables; true if the primary MMU had it."""
    word = np.uint64(page) >> np.uint64(6)
    bit = np.uint64(1) << np.uint64(page & 63)
    present = m.bits[word, PRESENT] & bit != NONE
    for column in range(BIT_COLUMNS):
        m.bits[word, column] &= ~bit
    if len(m.extra_bits):
        for column in range(CACHED, EXTRA_COLUMNS):
            m.extra_bits[word, column] &= ~bit
    return present
