"""64 pages of one VM in any state: set their bits, ask for them, look at what is left and counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import PRESENT, PRIMARY, SHADOW, SHADOW_MAPPED, TDP, TOUCHED, Machine
from coldfleet.hostsim.kvm.mmu_notifier import ask, consult
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.policies import Policy, Site, get_policy


def new_word() -> HostMemory:
    return HostMemory([Memslot(64)], KERNELS["6.12"], get_policy("locked-6.12"))


def under(memory: HostMemory, chosen: Policy, *, kvm: bool = True, **vm: bool) -> Machine:
    """The memory with all of its counters at 0, under another policy, with a VM in the given state."""
    code = chosen.encode()
    m = memory.machine
    m.sites[:] = 0
    m.step_pages[:] = 0
    m.bits[:] = 0
    m.mms[0]["notifiers"] = kvm
    m.mms[0]["tdp"] = vm.get("tdp", True)
    m.mms[0]["had_rmaps"] = vm.get("ever", False)
    m.mms[0]["indirect_shadow_pages"] = 4 * vm.get("now", False)
    return replace(m, steps=code.steps, calls=code.calls, policy=code.control)


def set_bits(m: Machine, **words: int) -> None:
    columns = {"p": PRIMARY, "t": TDP, "s": SHADOW, "mapped": SHADOW_MAPPED, "touched": TOUCHED}
    m.bits[0, PRESENT] = np.uint64(2**64 - 1)
    for name, word in words.items():
        m.bits[0, columns[name]] = np.uint64(word)


@compiled
def compiled_ask(m: Machine, g: int, word: int, pages: np.uint64, site: int) -> tuple[np.uint64, np.uint64]:
    return ask(m, g, word, pages, site, 1)


def ask_word(m: Machine, pages: int, site: Site) -> tuple[int, int]:
    young, enter = compiled_ask(m, 0, 0, np.uint64(pages), int(site))
    return int(young), int(enter)


@compiled
def compiled_consult(
    m: Machine, g: int, word: int, pages: np.uint64, site: int, clear: bool, fast_only: bool
) -> tuple[np.uint64, np.uint64, np.uint64]:
    return consult(m, g, site, word, pages, clear, fast_only, False, False, 1)


def consult_word(m: Machine, pages: int, *, clear: bool, fast_only: bool) -> tuple[int, int, int]:
    """One call of the chain, counted at the eviction check: pages young, fast, failed."""
    young, fast, failed = compiled_consult(m, 0, 0, np.uint64(pages), int(Site.EVICT), clear, fast_only)
    return int(young), int(fast), int(failed)
