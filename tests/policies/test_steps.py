"""The step notation: one line of text is one step, and a bad line says what is wrong with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfleet.policies import Action, Answer, Condition, Lock, Mmu, Note, PolicyError, Step

C = Condition


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("take mmu_lock for write", (Action.LOCK, 0, Lock.MMU_WRITE, 0, 0, Note.NONE)),
        ("take mmu_lock for read", (Action.LOCK, 0, Lock.MMU_READ, 0, 0, Note.NONE)),
        ("age tdp", (Action.AGE, Mmu.TDP, Lock.NONE, 0, 0, Note.NONE)),
        ("age tdp under rcu", (Action.AGE, Mmu.TDP, Lock.RCU, 0, 0, Note.NONE)),
        ("age tdp under rcu, young is fast", (Action.AGE, Mmu.TDP, Lock.RCU, 0, 0, Note.YOUNG_IS_FAST)),
        ("age shadow under rmap lock", (Action.AGE, Mmu.SHADOW, Lock.RMAP, 0, 0, Note.NONE)),
        ("age shadow under mmu_lock read", (Action.AGE, Mmu.SHADOW, Lock.MMU_READ, 0, 0, Note.NONE)),
        ("if rmaps: age shadow under mmu_lock write", (Action.AGE, 1, Lock.MMU_WRITE, C.RMAPS, C.RMAPS, Note.NONE)),
        ("if no shadow sptes: return fast", (Action.RETURN, Answer.FAST, 0, C.SHADOW_SPTES, 0, Note.NONE)),
        ("if not tdp: return", (Action.RETURN, Answer.FOUND, 0, C.TDP, 0, Note.NONE)),
        ("test shadow", (Action.TEST, Mmu.SHADOW, Lock.NONE, 0, 0, Note.NONE)),
        ("age shadow, young is replaced", (Action.AGE, Mmu.SHADOW, Lock.NONE, 0, 0, Note.YOUNG_IS_REPLACED)),
        ("try mmu_lock for write, or return", (Action.TRY, Answer.FOUND, Lock.MMU_WRITE, 0, 0, Note.NONE)),
        ("try mmu_lock for read, or return failed", (Action.TRY, Answer.FAILED, Lock.MMU_READ, 0, 0, Note.NONE)),
        ("if single spte and no ad bits: age shadow", (1, 1, 0, C.SINGLE_SPTE | C.AD_BITS, C.SINGLE_SPTE, Note.NONE)),
        ("return slow", (Action.RETURN, Answer.SLOW, 0, 0, 0, Note.NONE)),
        ("return failed", (Action.RETURN, Answer.FAILED, 0, 0, 0, Note.NONE)),
        ("if young and not clearing: return fast", (Action.RETURN, 2, 0, C.YOUNG | C.CLEARING, C.YOUNG, Note.NONE)),
        (
            "if fast_only and tdp and no rmaps: return",
            (Action.RETURN, 0, 0, C.FAST_ONLY | C.TDP | C.RMAPS, C.FAST_ONLY | C.TDP, False),
        ),
    ],
)
def test_a_line_is_a_step(text: str, step: tuple[int, int, int, int, int, int]) -> None:
    found = Step.parse(text)
    assert (found.action, found.operand, found.lock, found.mask, found.value, found.note) == step
    assert found.text == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "starts with none of 'take', 'try', 'age', 'test', 'return'"),
        ("ask tdp", "starts with none of"),
        ("returnfast", "starts with none of"),
        ("if young return", "a condition ends with a colon"),
        ("if yuong: return", "unknown condition 'yuong': did you mean 'young'"),
        ("if : return", "unknown condition '': one of: 'young', 'clearing'"),
        ("if young and young: return", "condition 'young' stands twice"),
        ("if young and not young: return", "condition 'young' stands twice"),
        ("if not not young: return", "unknown condition 'not young': did you mean 'young'"),
        ("age tpd", "unknown MMU 'tpd': did you mean 'tdp'"),
        ("age ept", "unknown MMU 'ept'"),
        ("age tdp under", "unknown MMU 'tdp under'"),
        ("age tdp under spinlock", "unknown lock 'spinlock': one of: 'rcu', 'rmap lock'"),
        ("age tdp under mmu_lock", "unknown lock 'mmu_lock'"),
        ("age tdp, young is slow", "unknown note 'young is slow': did you mean 'young is fast'"),
        ("try mmu_lock for write", "says nothing of a contended lock: end it with ', or return'"),
        ("try mmu_lock, or return", "unknown lock 'mmu_lock'"),
        ("take mmu_lock for writing", "unknown lock 'mmu_lock for writing': did you mean 'mmu_lock for write'"),
        ("take rcu", "unknown lock 'rcu'"),
        ("return fats", "unknown answer 'fats': did you mean 'fast'"),
        ("return maybe", "unknown answer 'maybe': one of: 'slow', 'fast', 'failed'"),
    ],
)
def test_a_bad_line_is_named_with_its_mend(text: str, why: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Step.parse(text)
    assert str(caught.value).startswith(f"step {text!r}: ")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


LOCKS = {"": Lock.NONE, " under rcu": Lock.RCU, " under rmap lock": Lock.RMAP,
         " under mmu_lock read": Lock.MMU_READ, " under mmu_lock write": Lock.MMU_WRITE}  # fmt: skip
ACTIONS = (
    st.sampled_from(["take mmu_lock for read", "try mmu_lock for write, or return slow", "return", "return slow",
                     "return fast"])
    | st.just("return failed")
    | st.builds("{} {}{}{}".format, st.sampled_from(["age", "test"]), st.sampled_from(["tdp", "shadow"]),
                st.sampled_from(sorted(LOCKS)), st.sampled_from(["", ", young is fast", ", young is replaced"]))
)  # fmt: skip
CONDITIONS = st.dictionaries(
    st.sampled_from(
        ["young", "clearing", "fast_only", "tdp", "rmaps", "shadow sptes", "accessed mask", "single spte", "ad bits"]
    ),
    st.sampled_from(["", "not ", "no "]),
    max_size=9,
)


def _spaced(text: str, gap: str) -> str:
    return gap + text.replace(" ", gap)


@given(CONDITIONS, ACTIONS, st.sampled_from([" ", "  ", "\t", "\n "]))
def test_a_step_s_text_reads_back_as_the_same_step(conditions: dict[str, str], action: str, gap: str) -> None:
    words = " and ".join(negation + name for name, negation in conditions.items())
    text = f"if {words}: {action}" if words else action
    step = Step.parse(text)
    assert step.text == text
    assert Step.parse(step.text) == step
    assert Step.parse(_spaced(text, gap)) == step  # blanks don't matter
    assert step.mask.bit_count() == len(conditions)
    assert step.value.bit_count() == sum(not negation for negation in conditions.values())


def _complaint(text: str) -> str:
    try:
        Step.parse(text)
    except PolicyError as error:
        return str(error)
    return ""


@given(st.text(max_size=60) | st.text("if andotgeryus:, ", max_size=40))
def test_any_text_is_a_step_or_a_one_line_error(text: str) -> None:
    assert len(_complaint(text).splitlines()) <= 1
