"""The notifier chain answers for 64 pages at once what it would answer page by page, whatever the policy's steps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldfleet.hostsim.engine.state import BIT_COLUMNS, PRIMARY, SHADOW, TDP
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.policies import POLICIES, Enter, Policy, Site, policy
from tests.hostsim.one_word import ask_word, new_word, set_bits, under

WORDS = st.integers(0, 2**64 - 1)
STEPS = st.lists(
    st.builds(
        "{}{}".format,
        st.sampled_from(["", "if young: ", "if not young: ", "if clearing: ", "if young and not clearing: ",
                         "if fast_only: ", "if not fast_only and not young: ", "if rmaps: ", "if no shadow sptes: ",
                         "if single spte: ", "if no ad bits: ", "if accessed mask: "]),
        st.sampled_from(["age tdp under rcu", "age shadow under rmap lock", "age tdp, young is fast",
                         "age shadow under mmu_lock write, young is fast", "take mmu_lock for read",
                         "return", "return fast", "return slow", "return failed", "test shadow under rcu",
                          "age shadow, young is replaced", "try mmu_lock for write, or return failed"]),
    ),
    max_size=8,
)  # fmt: skip
CALL_TEXTS = st.sampled_from(
    ["clear", "test", "clear flush; test", "test fast_only if primary old; clear if young",
     "clear fast_only; clear if failed", "test; clear fast_only if young", "clear if failed; test if young"]
)  # fmt: skip
ANY_POLICY = st.builds(
    lambda steps, calls, enter: policy(
        "any", summary="", source="", date="", status="control", steps=tuple(steps),
        walk=calls, look_around=calls, evict=calls, enter=enter,
    ),
    STEPS,
    CALL_TEXTS,
    st.sampled_from(list(Enter)),
)  # fmt: skip

PAGE_BY_PAGE = [chosen for chosen in POLICIES.values() if not any(call.batched for call in chosen.walk)]


@pytest.fixture(scope="module")
def one_word() -> HostMemory:
    return new_word()


def asked_at_once_and_singly(
    memory: HostMemory, chosen: Policy, pages: int, site: Site, vm: dict[str, bool], words: dict[str, int]
) -> list[tuple[Any, ...]]:
    """What comes out when all pages of the word are asked for in one go, and when one after the other."""
    outcomes: list[tuple[Any, ...]] = []
    for masks in ([pages], [1 << i for i in range(64) if pages >> i & 1]):
        m = under(memory, chosen, **vm)
        set_bits(m, **words)
        answers = [ask_word(m, mask, site) for mask in masks]
        young = sum(answer[0] for answer in answers)
        enter = sum(answer[1] for answer in answers)
        outcomes.append((young, enter, m.bits[0].tolist(), m.sites.tolist(), m.step_pages.tolist()))
    return outcomes


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    chosen=ANY_POLICY | st.sampled_from(PAGE_BY_PAGE),
    pages=WORDS,
    site=st.sampled_from(list(Site)),
    vm=st.fixed_dictionaries(dict.fromkeys(("ever", "now", "tdp", "kvm"), st.booleans())),
    words=st.fixed_dictionaries(dict.fromkeys(("p", "t", "s", "mapped", "touched"), WORDS)),
)
def test_a_word_of_pages_is_asked_as_page_by_page(
    one_word: HostMemory, chosen: Policy, pages: int, site: Site, vm: dict[str, bool], words: dict[str, int]
) -> None:
    at_once, singly = asked_at_once_and_singly(one_word, chosen, pages, site, vm, words)
    assert at_once == singly
    bits_left = at_once[2]
    assert len(bits_left) == BIT_COLUMNS
    assert bits_left[PRIMARY] == words["p"] & ~pages
    assert bits_left[TDP] | pages == words["t"] | pages  # pages that weren't asked for keep their bits
    assert bits_left[SHADOW] | pages == words["s"] | pages
