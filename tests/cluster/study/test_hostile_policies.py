"""Policies of anything: one line, or a policy that hosts run lawfully, whatever it makes of their pages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldfleet.cluster.execution.work import simulate_run
from coldfleet.cluster.study.reader import read_study
from coldfleet.policies import Enter, Policy, PolicyError, get_policy, policy
from coldfleet.policies.installed import make
from tests.fuzzing import BOUNDED, JUNK, LONG, TEXTS, outcome

CONDITIONS = [
    "young", "clearing", "fast_only", "tdp", "rmaps", "shadow sptes", "accessed mask", "single spte", "ad bits",
]  # fmt: skip
ACTIONS = [
    "take mmu_lock for write", "take mmu_lock for read", "try mmu_lock for write, or return", "age tdp", "test tdp",
    "try mmu_lock for read, or return failed", "age shadow under rmap lock", "age shadow under mmu_lock write",
    "age tdp under rcu", "age shadow, young is replaced", "age tdp, young is fast", "test shadow under rcu", "return",
    "return fast", "return slow", "return failed",
]  # fmt: skip
CALLS = [
    "clear", "test", "clear fast_only", "test fast_only", "clear flush", "clear batched", "test if primary old",
    "clear; clear if failed", "test fast_only; clear if young and tdp", "clear if found and accessed mask", "",
]  # fmt: skip
TERMS = st.tuples(st.sampled_from(["", "not ", "no "]), st.sampled_from(CONDITIONS)).map("".join)
GUARDS = st.just("") | st.lists(TERMS, min_size=1, max_size=3).map(lambda terms: f"if {' and '.join(terms)}: ")
STEPS = st.lists(st.tuples(GUARDS, st.sampled_from(ACTIONS)).map("".join), max_size=10)
SITES = st.sampled_from(CALLS)
ENTER = st.sampled_from(["young", "primary", "primary or fast", "fast", "fast notifier", "never"])
TABLES = st.fixed_dictionaries(
    {"steps": STEPS, "evict": SITES},
    optional={
        "walk": SITES,
        "look_around": SITES,
        "enter": ENTER,
        "trusts_pmd": st.booleans(),
        "chain": st.sampled_from(["or", "assign"]),
        "fast_aging": st.just("") | TERMS,
    },
)
PLACES = st.sampled_from(["steps", "evict", "walk", "look_around", "enter", "trusts_pmd", "chain", "fast_aging", "x"])
SPOILT = st.tuples(TABLES, PLACES, JUNK | TEXTS | st.lists(TEXTS, max_size=3)).map(lambda t: {**t[0], t[1]: t[2]})
STUDY: dict[str, Any] = {
    "ticks": 3,
    "replicates": 1,
    "overcommit": 1.5,
    "nested_ratio": 0.5,
    "fleet": {"hosts": 1, "guests_per_host": 2},
    "guest": {"memory": "2 MiB", "accesses_per_tick": 700},
}


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """The first run takes a minute."""
    simulate_run(read_study({**STUDY, "policy": "six-steps"}).run(0), audit=True)


def check_table(name: str, table: Any) -> None:
    """A table is refused, or its policy runs on a host under audit; twice the same."""

    def use() -> None:
        plan = read_study({**STUDY, "policy": {name: table}})
        chosen = plan.own_policies[name]
        assert policy(**chosen.spelled()) == chosen
        simulate_run(plan.run(0), audit=True)

    outcome(use)


@settings(BOUNDED, max_examples=60)
@given(st.just("mine") | TEXTS, TABLES)
def test_a_policy_of_any_steps_is_lawful_or_one_line(name: str, table: dict[str, Any]) -> None:
    check_table(name, table)


@BOUNDED
@given(SPOILT)
def test_junk_in_a_policy_is_one_line(table: dict[str, Any]) -> None:
    check_table("mine", table)


@pytest.mark.slow
@LONG
@given(st.just("mine") | TEXTS, TABLES)
def test_fuzz_policies(name: str, table: dict[str, Any]) -> None:
    check_table(name, table)


@pytest.mark.slow
@LONG
@given(SPOILT)
def test_fuzz_junk_in_policies(table: dict[str, Any]) -> None:
    check_table("mine", table)


GOOD = get_policy("six-steps")


@BOUNDED
@given(st.sampled_from([*GOOD.__dataclass_fields__]), JUNK)
def test_a_policy_of_a_package_that_is_put_together_by_hand_is_one_line(field: str, value: Any) -> None:
    """What an entry point returns is a policy, whose fields may hold anything."""
    made = replace(GOOD, **{field: value})

    class Point:
        value = "some.where:MINE"

        def load(self) -> Any:
            return lambda: made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coldfleet.policies.installed.installed", lambda: {GOOD.name: Point()})
        try:
            found: Policy = make(GOOD.name)
            assert len(found.digest) == 16
            assert len(found.encode().control) == 1
            assert isinstance(found.enter, Enter)
        except PolicyError as error:
            assert str(error)  # noqa: PT017
