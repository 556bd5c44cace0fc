"""The notifier chain: what is asked of whom, how several answers make one, and what is counted.

What each policy decides is in tests/policies/decisions.txt.
"""

from __future__ import annotations

import pytest

from coldfleet.hostsim.engine.state import CALLS, FALSE, LOCKS, MISSED, PRIMARY, SHADOW, TDP, TOUCHED, YOUNG
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.policies import POLICIES, Enter, Site, get_policy, policy
from tests.hostsim.one_word import ask_word, new_word, set_bits, under


@pytest.fixture(scope="module")
def one_word() -> HostMemory:
    return new_word()


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
