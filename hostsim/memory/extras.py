"""Guests that are more than plain VMs: other MMU modes, devices, TLBs and races, and the truth about every page.

Plain guests run hostsim.mm.faults.touch_guest, and this costs them nothing. A guest with extras makes the same
accesses one by one, with what its :class:`hostsim.spec.host_spec.VmSpec` adds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled, inlined, page_row
from coldfleet.hostsim.engine.philox import CERTAIN, philox, random_words
from coldfleet.hostsim.engine.state import (
    ACCESS_L2,
    ACCESS_PAGE,
    ACCESS_WRITE,
    CACHED,
    DEVICE_BITS,
    DIRTY,
    FAST_DEVICE,
    MANY_SPTES,
    NO_AD,
    PMD_POPULATED,
    PMD_YOUNG,
    PRESENT,
    PRIMARY,
    PTRS_PER_PTE,
    SHADOW,
    SHADOW_MAPPED,
    SLOW_DEVICE,
    TDP,
    TDP_MAPPED,
    TOUCHED,
    WORDS_PER_TABLE,
    Machine,
)
from coldfleet.hostsim.engine.streams import Purpose
from coldfleet.hostsim.mm.faults import fault_in_process, fault_in_vm, mark_accessed, return_to_process, return_to_vm
from coldfleet.hostsim.mm.oom_kill import exit_mmap
from coldfleet.hostsim.mm.workingset import NEVER
from coldfleet.hostsim.spec.host_spec import SUBSCRIBERS, VmSpec

NEVER_TOUCHED = -1  # a tick
_ACCESS = np.uint64(Purpose.ACCESS)


def set_up(m: Machine, guest: int, spec: VmSpec, *, key: np.uint64, host: int, number: int) -> None:
    """Makes a guest what its spec says; ``key`` (philox.study_key), ``host`` and ``number`` name its random numbers."""
    vm, mm = m.vms[guest], m.mms[guest]
    vm["accessed_mask"] = spec.accessed_bits
    vm["l1_shadow_paging"] = spec.l1_shadow_paging
    vm["rmap_entries"] = spec.shared_by
    chain = [SUBSCRIBERS.index(name) for name in spec.subscribers]
    vm["subscribers"] = len(chain)
    vm["chain"][: len(chain)] = chain
    vm["fast_devices"] = chain.count(FAST_DEVICE)
    for name, share in (("tlb_hit", spec.tlb_hit), ("race", spec.race), ("contended", spec.lock_contended)):
        vm[name] = round(share * CERTAIN)
    vm["key"], vm["host"], vm["guest"] = key, host, number
    if not mm["extras"]:
        return
    first, pages = int(mm["first"]), int(mm["pages"])
    m.last_touch[first : first + pages] = NEVER_TOUCHED
    for column, share, purpose in (
        (MANY_SPTES, spec.shared_share, Purpose.MANY_SPTES),
        (NO_AD, spec.no_ad_share, Purpose.NO_AD),
    ):
        numbers = np.empty(pages, np.uint64)
        random_words(numbers, key, (np.uint64(host), np.uint64(number)), int(purpose))
        chosen = np.zeros(-(-len(numbers) // 64) * 64, bool)
        chosen[: len(numbers)] = numbers >> np.uint64(32) < np.uint64(round(share * CERTAIN))
        words = slice(first // 64, first // 64 + len(chosen) // 64)
        m.extra_bits[words, column] = np.packbits(chosen, bitorder="little").view(np.uint64)


@inlined
def _note_touch(m: Machine, g: int, page: int, present: bool) -> bool:
    """Writes down when the page was touched; true if it is a refault that a memory of this size could have avoided."""
    vm = m.vms[g]
    wrong = not present and page_row(m, page).shadow != NEVER and m.last_touch[page] > vm.hot_since
    m.last_touch[page] = vm.tick
    return wrong


@inlined
def _is_hidden(m: Machine, g: int, word: np.uint64, bit: np.uint64, number: np.uint64) -> bool:
    """Whether a TLB serves an access to a page whose Accessed bit was cleared, so that it stays clear."""
    if m.extra_bits[word, CACHED] & bit and number < np.uint64(m.vms[g].tlb_hit):
        m.events[g].tlb_hidden += 1
        return True
    m.extra_bits[word, CACHED] &= ~bit
    return False


@compiled
def touch_with_extras(m: Machine, g: int, accesses: npt.NDArray[np.uint32], first_number: int) -> int:
    """The accesses of a guest with extras, in order; returns how many it has made. ``first_number``: and before."""
    mm = m.mms[g]
    vm = m.vms[g]
    events = m.events[g]
    chancy = vm.tlb_hit or vm.race
    tlb_number = race_number = np.uint64(CERTAIN)
    made = len(accesses)
    for i in range(len(accesses)):
        access = accesses[i]
        page = mm.first + np.int64(access & ACCESS_PAGE)
        word = np.uint64(page) >> np.uint64(6)
        bit = np.uint64(1) << np.uint64(page & 63)
        by_l2 = access & ACCESS_L2 != 0
        write = access & ACCESS_WRITE != 0
        if chancy:
            number = np.uint64((first_number + i) & 0xFFFFFFFF)
            tlb_number, race_number, _, _ = philox(vm.key, number, _ACCESS, np.uint64(vm.host), np.uint64(vm.guest))
        wrong = _note_touch(m, g, page, m.bits[word, PRESENT] & bit != 0)
        shadow = False
        if not mm.notifiers:
            accessed, mapped = PRIMARY, PRESENT
        elif mm.tdp and not (by_l2 and not vm.l1_shadow_paging):
            accessed, mapped = TDP, TDP_MAPPED
        else:
            accessed, mapped = SHADOW, SHADOW_MAPPED
            shadow = True
        hidden = False
        if not m.bits[word, mapped] & bit:
            if mm.notifiers:
                fault_in_vm(m, g, page, shadow, write)
                events.nested_faults += by_l2 and shadow and not mm.oom_reason
                if mm.over_high:
                    return_to_vm(m, g, page, shadow, write)
            else:
                fault_in_process(m, g, page, write)
                if mm.over_high:
                    return_to_process(m, g, page, write)
            if mm.oom_reason:
                made = i
                break
            events.wrong_evictions += wrong
            if shadow and m.extra_bits[word, MANY_SPTES] & bit:
                events.shadow_faults += vm.rmap_entries - 1
        elif not m.bits[word, accessed] & bit:
            hidden = _is_hidden(m, g, word, bit, tlb_number)
            without_ad = not vm.accessed_mask or (shadow and m.extra_bits[word, NO_AD] & bit)
            if not hidden and mm.notifiers and without_ad:
                events.access_track_faults += 1
        m.bits[word, TOUCHED] |= bit
        if not hidden and (m.bits[word, accessed] & bit or race_number >= np.uint64(vm.race)):
            m.bits[word, accessed] |= bit
        if not mm.notifiers:
            m.pmds[page // PTRS_PER_PTE] = PMD_YOUNG | PMD_POPULATED
        if write:
            m.bits[word, DIRTY] |= bit
        if mm.notifiers and by_l2:
            events.l2_accesses += 1
    events.accesses += made
    return made


@compiled
def touch_by_device(m: Machine, g: int, device: int, accesses: npt.NDArray[np.uint32]) -> None:
    """A device reads and writes the guest's memory through its own MMU; a page that is away is faulted in."""
    column = DEVICE_BITS + device - SLOW_DEVICE
    first = m.mms[g].first
    if m.mms[g].oom_reason:
        return
    for access in accesses:
        page = first + np.int64(access & ACCESS_PAGE)
        word = np.uint64(page) >> np.uint64(6)
        bit = np.uint64(1) << np.uint64(page & 63)
        present = m.bits[word, PRESENT] & bit != 0
        wrong = _note_touch(m, g, page, present)
        if not present:
            fault_in_process(m, g, page, True)
            if m.mms[g].oom_reason:
                exit_mmap(m, g)
                return
            m.events[g].wrong_evictions += wrong
        m.extra_bits[word, column] |= bit
        m.bits[word, TOUCHED] |= bit
        m.events[g].device_accesses += 1


@compiled
def zap_table(m: Machine, g: int, table: int) -> None:
    """NUMA balancing makes 2 MiB PROT_NONE: KVM zaps the SPTEs, and what their Accessed bits said is lost.

    Kernels before 6.13 mark such a page accessed (66bc627e7fee took that away).
    """
    for word in range(table * WORDS_PER_TABLE, (table + 1) * WORDS_PER_TABLE):
        accessed = m.bits[word, TDP] | m.bits[word, SHADOW]
        if m.features[0].zap_marks_accessed:
            for i in range(64):
                if accessed >> np.uint64(i) & np.uint64(1):
                    mark_accessed(m, g, word * 64 + i)
        for column in (TDP, TDP_MAPPED, SHADOW, SHADOW_MAPPED):
            m.bits[word, column] = 0
