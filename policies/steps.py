"""The step notation: what KVM does when it is asked for the age of a page.

A step is one line of text, as the mail thread of June 2024 writes it:

    take mmu_lock for write                       hold it until the end of the call
    age tdp under rcu                             test the TDP MMU's Accessed bits, and clear them if asked to
    if rmaps: age shadow under mmu_lock write     the same for the shadow MMU, only if the VM has rmaps
    age tdp under rcu, young is fast              pages found young here carry MMU_NOTIFY_WAS_FAST
    if young and not clearing: return fast        done with the pages that are young
    return failed                                 answer "can't tell"

Steps act on 64 pages at a time: ``young`` is a condition on each page, the others are conditions on
the call or on the VM. So a policy is data: it travels, is hashed, and needs no compilation.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

_T = TypeVar("_T")


class PolicyError(ValueError):
    """A policy, step or site that can't be understood; the message says which and why."""


class Action(IntEnum):
    """What a step does."""

    LOCK = 0
    AGE = 1
    RETURN = 2


class Mmu(IntEnum):
    """Whose Accessed bits an AGE step looks at."""

    TDP = 0
    SHADOW = 1


class Answer(IntEnum):
    """How a RETURN step answers: as found so far, slow, fast, or "failed, can't tell"."""

    FOUND = 0
    SLOW = 1
    FAST = 2
    FAILED = 3


class Lock(IntEnum):
    """What protects a step; the index of its counter in the results."""

    NONE = 0
    RCU = 1
    RMAP = 2
    MMU_READ = 3
    MMU_WRITE = 4


class Condition(IntEnum):
    """A bit of the state that a step's ``if`` looks at."""

    YOUNG = 1  # of the page, as found so far in this call
    CLEARING = 2  # the call is clear_young, not test_young
    FAST_ONLY = 4  # the caller wants only what is quick
    TDP = 8  # tdp_mmu_enabled
    RMAPS = 16  # kvm_memslots_have_rmaps(): sticky, true once a shadow root was made, or without the TDP MMU
    SHADOW_SPTES = 32  # indirect_shadow_pages > 0 now, or no TDP MMU


_LOCKS = {
    "rcu": Lock.RCU,
    "rmap lock": Lock.RMAP,
    "mmu_lock read": Lock.MMU_READ,
    "mmu_lock write": Lock.MMU_WRITE,
}
_TAKEN = {"mmu_lock for read": Lock.MMU_READ, "mmu_lock for write": Lock.MMU_WRITE}
_MMUS = {"tdp": Mmu.TDP, "shadow": Mmu.SHADOW}
_ANSWERS = {"": Answer.FOUND, "slow": Answer.SLOW, "fast": Answer.FAST, "failed": Answer.FAILED}
_CONDITIONS = {
    "young": Condition.YOUNG,
    "clearing": Condition.CLEARING,
    "fast_only": Condition.FAST_ONLY,
    "tdp": Condition.TDP,
    "rmaps": Condition.RMAPS,
    "shadow sptes": Condition.SHADOW_SPTES,
}


@dataclass(frozen=True)
class Step:
    """One step of a policy.

    ``operand`` is a :class:`Mmu` for AGE and an :class:`Answer` for RETURN. The step acts on the pages
    for which ``state & mask == value`` (bits of :class:`Condition`).
    """

    text: str
    action: Action
    operand: int = 0
    lock: Lock = Lock.NONE
    mask: int = 0
    value: int = 0
    young_is_fast: bool = False

    @classmethod
    def parse(cls, text: str) -> Step:
        """Reads one line of the notation; raises :class:`PolicyError` with the mend."""
        text = " ".join(text.split())
        mask = value = 0
        action = text
        if text.startswith("if "):
            conditions, colon, action = text[3:].partition(":")
            if not colon:
                raise PolicyError(f"step {text!r}: a condition ends with a colon, as in 'if fast_only: return'")
            mask, value = _parse_conditions(conditions, text)
            action = action.strip()
        if action.startswith("take "):
            lock = _look_up(action[5:], _TAKEN, "lock", text)
            return cls(text, Action.LOCK, 0, lock, mask, value)
        if action == "return" or action.startswith("return "):
            answer = _look_up(action[6:].strip(), _ANSWERS, "answer", text)
            return cls(text, Action.RETURN, answer, Lock.NONE, mask, value)
        if action.startswith("age "):
            body, comma, note = action[4:].partition(", ")
            if comma and note != "young is fast":
                raise PolicyError(f"step {text!r}: unknown note {note!r}: the one that exists is 'young is fast'")
            name, under, lock_name = body.partition(" under ")
            mmu = _look_up(name, _MMUS, "MMU", text)
            lock = _look_up(lock_name, _LOCKS, "lock", text) if under else Lock.NONE
            return cls(text, Action.AGE, mmu, lock, mask, value, bool(comma))
        raise PolicyError(f"step {text!r}: starts with none of 'take', 'age', 'return' (after 'if ...:')")


def _parse_conditions(conditions: str, text: str) -> tuple[int, int]:
    mask = value = 0
    for word in conditions.split(" and "):
        name, negated = re.subn(r"^(not|no) ", "", word.strip())
        bit = _look_up(name, _CONDITIONS, "condition", text)
        if mask & bit:
            raise PolicyError(f"step {text!r}: condition {name!r} stands twice")
        mask |= bit
        if not negated:
            value |= bit
    return mask, value


def _look_up(name: str, table: dict[str, _T], what: str, text: str) -> _T:
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "one of: " + ", ".join(repr(k) for k in table if k)
    raise PolicyError(f"step {text!r}: unknown {what} {name!r}: {hint}")
