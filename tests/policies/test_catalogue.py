"""Policies: their sites' calls, their arrays, their digests, and those of the catalogue."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coldfleet.policies import (
    POLICIES,
    Action,
    Call,
    Chain,
    Enter,
    Lock,
    Policy,
    PolicyError,
    Site,
    Step,
    When,
    get_policy,
    policy,
)
from coldfleet.policies.policy import MAX_CALLS, MAX_STEPS

PLAIN: dict[str, Any] = {
    "summary": "all MMUs, always",
    "source": "this test",
    "date": "2024-06-11",
    "status": "control",
    "steps": ("if rmaps: age shadow under mmu_lock write", "if tdp: age tdp under rcu", "return slow"),
    "walk": "clear",
    "look_around": "clear",
    "evict": "clear",
    "enter": Enter.YOUNG,
}


def make(name: str = "plain", **changes: Any) -> Policy:
    return policy(name, **{**PLAIN, **changes})


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("clear", Call(True)),
        ("test", Call(False)),
        ("clear fast_only", Call(True, fast_only=True)),
        ("clear flush", Call(True, flush=True)),
        ("clear flush fast_only", Call(True, fast_only=True, flush=True)),
        ("test fast_only if primary old", Call(False, fast_only=True, when=When.PRIMARY_OLD)),
        ("clear fast_only if young", Call(True, fast_only=True, when=When.YOUNG)),
        (
            "test fast_only batched if tdp and accessed mask",
            Call(False, True, batched=True, when=When.TDP | When.ACCESSED_MASK),
        ),
        ("clear fast_only batched if found", Call(True, True, batched=True, when=When.FOUND)),
        ("  clear if failed ", Call(True, when=When.FAILED)),
    ],
)
def test_a_call_is_text(text: str, call: Call) -> None:
    assert Call.parse(text) == call
    assert Call.parse(str(call)) == call


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ask", "write 'clear' or 'test'"),
        ("fast_only", "write 'clear' or 'test'"),
        ("clear if hot", "unknown condition 'hot': one of: 'if primary old', 'if young'"),
        ("clear fast", "unknown word 'fast': one of 'fast_only', 'flush', 'batched'"),
    ],
)
def test_a_bad_call_is_named_with_its_mend(text: str, why: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Call.parse(text)
    assert str(caught.value).startswith(f"call {text!r}: ")
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"steps": ("age tdp", "retrun")}, "step 'retrun': starts with none of"),
        ({"steps": ("if rmap: age shadow",)}, "step 'if rmap: age shadow': unknown condition 'rmap': did you mean"),
        ({"walk": "clear; clera"}, "call ' clera': write 'clear' or 'test'"),
        ({"look_around": "clear slowly"}, "call 'clear slowly': unknown word 'slowly'"),
        ({"evict": ""}, "the eviction check asks nobody"),
        ({"evict": " ; "}, "the eviction check asks nobody"),
        ({"walk": "clear; clear; clear"}, f"at most {MAX_STEPS} steps and {MAX_CALLS} calls a site"),
        (
            {"fast_aging": "no shadow spte"},
            "fast_aging 'no shadow spte': unknown condition 'shadow spte': did you mean",
        ),
        ({"fast_aging": "young"}, "fast_aging 'young': is a property of the VM"),
        ({"steps": ("age tdp",) * (MAX_STEPS + 1)}, f"at most {MAX_STEPS} steps and {MAX_CALLS} calls a site"),
    ],
)
def test_a_bad_policy_says_which_line_and_why(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(PolicyError) as caught:
        make("mine", **changes)
    assert str(caught.value).startswith("policy 'mine': ")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_encode_has_a_row_a_step_and_a_row_a_call() -> None:
    code = make(
        walk="test fast_only batched if primary old; clear if young", look_around="", evict="clear flush",
        enter=Enter.FAST, chain=Chain.ASSIGN, fast_aging="tdp and no shadow sptes",
    ).encode()  # fmt: skip
    assert code.control.tolist() == [(3, Enter.FAST, 0, Chain.ASSIGN, 8 | 32, 8)]
    assert code.steps.shape == (MAX_STEPS,)
    assert code.steps["action"][:3].tolist() == [Action.AGE, Action.AGE, Action.RETURN]
    assert code.steps["lock"][:3].tolist() == [Lock.MMU_WRITE, Lock.RCU, Lock.NONE]
    assert code.steps[:3].tolist() == [(1, 1, 4, 16, 16, 0), (1, 0, 1, 8, 8, 0), (2, 1, 0, 0, 0, 0)]
    assert not code.steps[3:].view(np.int64).any()
    walk, look_around, evict = code.calls
    assert walk.tolist() == [(1, 0, 1, 0, 1, When.PRIMARY_OLD), (1, 1, 0, 0, 0, When.YOUNG)]
    assert walk["when"].tolist() == [When.PRIMARY_OLD, When.YOUNG]
    assert not look_around["present"].any()
    assert evict.tolist() == [(1, 1, 0, 1, 0, When.ALWAYS), (0, 0, 0, 0, 0, 0)]


def test_the_same_behaviour_has_the_same_digest() -> None:
    reworded = make("other", summary="other words", source="elsewhere", date="2025-01-01", status="merged",
                    steps=tuple(text.replace(" ", "  ") for text in PLAIN["steps"]))  # fmt: skip
    assert make().digest == reworded.digest
    assert len(make().digest) == 16
    assert int(make().digest, 16) >= 0


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": PLAIN["steps"][1:]},
        {"steps": (*PLAIN["steps"][1::-1], PLAIN["steps"][2])},
        {"walk": "clear fast_only"},
        {"look_around": ""},
        {"evict": "clear flush"},
        {"enter": Enter.PRIMARY},
        {"trusts_pmd": True},
        {"chain": Chain.ASSIGN},
        {"fast_aging": "no shadow sptes"},
    ],
)
def test_another_behaviour_has_another_digest(changes: dict[str, Any]) -> None:
    assert make(**changes).digest != make().digest


def test_the_catalogue_is_in_the_order_of_dates() -> None:
    dates = [p.date for p in POLICIES.values()]
    assert dates == sorted(dates)


def test_only_v1_and_v2_do_the_same_to_a_guest() -> None:
    names: dict[str, list[str]] = {}
    for name, found in POLICIES.items():
        names.setdefault(found.digest, []).append(name)
    assert [same for same in names.values() if len(same) > 1] == [["bitmap-v1", "test-clear-v2"]]


@pytest.mark.parametrize(
    ("status", "names"),
    [
        ("merged", ["evict-only", "locked-6.12", "lockless-6.15"]),
        ("control", ["six-steps-early", "test-all-clear-tdp", "fast-only-v6-posted"]),
    ],
)
def test_what_was_merged_and_what_is_known_to_be_wrong(status: str, names: list[str]) -> None:
    assert [p.name for p in POLICIES.values() if p.status == status] == names


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_cites_its_source_and_date(name: str) -> None:
    found = get_policy(name)
    assert found.name == name
    assert found.status in ("merged", "proposed", "control")
    assert found.summary.endswith(".")
    assert len(found.source) > 20
    assert datetime.date.fromisoformat(found.date).year >= 2022
    mails = ("[PATCH", "[RFC", "2024", "@google.com")
    commits = ("commit", "mainline")
    assert any(word in found.source for word in (commits if found.status == "merged" else mails))


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_reads_back_from_its_own_text(name: str) -> None:
    found = get_policy(name)
    again = replace(found, steps=tuple(Step.parse(step.text) for step in found.steps))
    assert again == found
    assert again.digest == found.digest
    assert found.encode().control[0]["steps"] == len(found.steps)
    assert found.encode().calls[Site.EVICT, 0]["present"] == 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lockles-6.15", "did you mean 'lockless-6.15'?"),
        ("sixsteps", "did you mean 'six-steps'?"),
        ("", "one of: " + ", ".join(POLICIES)),
    ],
)
def test_an_unknown_policy_gets_a_suggestion(name: str, hint: str) -> None:
    with pytest.raises(PolicyError) as caught:
        get_policy(name)
    assert str(caught.value) == f"unknown policy {name!r}: {hint}"


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_made_again_from_its_texts(name: str) -> None:
    assert policy(**POLICIES[name].spelled()) == POLICIES[name]
