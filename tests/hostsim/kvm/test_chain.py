"""Several subscribers on one mm: KVM, a slow device's MMU and a fast one's, asked and combined as each version does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import CALLS, DEVICE_BITS, FAILED, TDP, Machine
from coldfleet.hostsim.memory.extras import set_up
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.hostsim.spec.host_spec import VmSpec
from coldfleet.policies import Chain, Policy, Site, get_policy
from tests.hostsim.one_word import ask_word, consult_word, set_bits, under

PAGE = 1 << 5
SLOW, FAST = DEVICE_BITS, DEVICE_BITS + 1
V5_ORED = replace(get_policy("fast-only-v5"), chain=Chain.OR)


def word(policy: str | Policy, *subscribers: str, slow: bool = False, fast: bool = False, **bits: int) -> Machine:
    """One page of a VM with these subscribers; ``now``: shadow SPTEs exist."""
    memory = HostMemory([Memslot(64, extras=True)], KERNELS["6.12"], get_policy("locked-6.12"))
    set_up(memory.machine, 0, VmSpec(subscribers=subscribers), key=np.uint64(1), host=0, number=0)
    now = bool(bits.pop("now", 0))
    chosen = get_policy(policy) if isinstance(policy, str) else policy
    m = under(memory, chosen, now=now, ever=now)
    set_bits(m, **{name: PAGE * bit for name, bit in bits.items()})
    m.extra_bits[0, SLOW] = np.uint64(PAGE * slow)
    m.extra_bits[0, FAST] = np.uint64(PAGE * fast)
    return m


def left(m: Machine) -> tuple[bool, bool, bool]:
    """Accessed bits that are left: TDP, slow device, fast device."""
    return bool(m.bits[0, TDP]), bool(m.extra_bits[0, SLOW]), bool(m.extra_bits[0, FAST])


@pytest.mark.parametrize("chain", [("kvm", "slow device", "fast device"), ("fast device", "slow device", "kvm")])
@pytest.mark.parametrize("name", ["evict-only", "every-mmu-v4", "fast-only-v5", "fast-only-v7", "lockless-6.15"])
def test_a_slow_clear_asks_everybody_and_ors_the_answers(name: str, chain: tuple[str, ...]) -> None:
    for who in ({"t": 1}, {"slow": True}, {"fast": True}, {"t": 1, "slow": True, "fast": True}):
        m = word(name, *chain, **who)
        assert consult_word(m, PAGE, clear=True, fast_only=False)[0] == PAGE
        assert left(m) == (False, False, False)
    assert consult_word(word(name, *chain), PAGE, clear=True, fast_only=False)[0] == 0


def test_a_test_stops_at_the_first_that_says_young() -> None:
    m = word("lockless-6.15", "fast device", "kvm", fast=True, t=1)
    assert consult_word(m, PAGE, clear=False, fast_only=False)[0] == PAGE
    assert not m.step_pages.any()  # KVM was not asked
    assert m.sites[0, Site.EVICT, CALLS] == 1


@pytest.mark.parametrize(
    ("chain", "who"), [(("kvm", "fast device"), {"t": 1}), (("fast device", "kvm"), {"fast": True})]
)
def test_v5_forgets_what_an_earlier_subscriber_said(chain: tuple[str, str], who: dict[str, Any]) -> None:
    m = word("fast-only-v5", *chain, **who)
    assert consult_word(m, PAGE, clear=True, fast_only=True)[0] == 0
    assert left(m) == (False, False, False)  # and its bit is gone
    m = word(V5_ORED, *chain, **who)
    assert consult_word(m, PAGE, clear=True, fast_only=True)[0] == PAGE


def test_v5_s_test_keeps_what_an_earlier_subscriber_said() -> None:
    m = word("fast-only-v5", "kvm", "fast device", t=1)
    assert consult_word(m, PAGE, clear=False, fast_only=True)[0] == PAGE


def test_in_v5_one_subscriber_s_failure_blocks_all() -> None:
    m = word("fast-only-v5", "slow device", "kvm", t=1)
    young, _, failed = consult_word(m, PAGE, clear=True, fast_only=True)
    assert (young, failed) == (0, PAGE)
    assert left(m)[0]  # KVM was not asked
    assert m.sites[0, Site.EVICT, FAILED] == 1


@pytest.mark.parametrize("name", ["was-fast", "six-steps", "fast-only-v6", "fast-only-v7"])
def test_since_then_a_fast_only_call_skips_the_slow_one(name: str) -> None:
    m = word(name, "slow device", "kvm", t=1, slow=True)
    young, fast, failed = consult_word(m, PAGE, clear=True, fast_only=True)
    assert (young, failed) == (PAGE, 0)
    assert name.startswith("fast-only") or fast == PAGE
    assert left(m) == (False, True, False)


@pytest.mark.parametrize(
    ("name", "now", "subscribers", "enters"),
    [
        ("fast-only-v6", 1, ("kvm", "slow device"), True),  # KVM's flag is always set
        ("toggled-flag", 0, ("kvm", "slow device"), True),
        ("toggled-flag", 1, ("kvm", "slow device"), False),  # its flag is off while L2 runs
        ("toggled-flag", 1, ("kvm", "slow device", "fast device"), True),
        ("was-fast", 0, ("kvm", "slow device"), False),  # nobody fast had it
        ("lockless-6.15", 0, ("kvm", "slow device"), True),
    ],
)
def test_a_page_young_to_a_slow_device_alone_leads_to_look_around(
    name: str, now: int, subscribers: tuple[str, ...], enters: bool
) -> None:
    m = word(name, *subscribers, slow=True, now=now)
    assert ask_word(m, PAGE, Site.EVICT) == (PAGE, PAGE * enters)
