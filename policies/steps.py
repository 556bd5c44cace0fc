"""The step notation: what KVM does when it is asked for the age of a page.

A step is one line of text, as the mail thread of June 2024 writes it:

    take mmu_lock for write                       hold it until the end of the call
    try mmu_lock for write, or return             the same, but a page whose lock is contended is done
    age tdp under rcu                             test the TDP MMU's Accessed bits, and clear them if asked to
    test shadow under rmap lock                   test the shadow MMU's, and never clear them
    if rmaps: age shadow under mmu_lock write     only if the VM has rmaps
    age tdp under rcu, young is fast              pages found young here carry MMU_NOTIFY_WAS_FAST
    age shadow, young is replaced                 forgets what earlier steps found: '=' where '|=' was meant
    if young and not clearing: return fast        done with the pages that are young
    return failed                                 answer "can't tell"

Steps act on 64 pages at a time: ``young``, ``single spte`` and ``ad bits`` are conditions on each page, the others
are conditions on the call or on the VM. So a policy is data: it travels, is hashed, and needs no compilation.
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
    TEST = 3
    TRY = 4


class Mmu(IntEnum):
    """Whose Accessed bits an AGE or TEST step looks at."""

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
    ACCESSED_MASK = 64  # shadow_accessed_mask is not 0: KVM uses Accessed bits at all
    SINGLE_SPTE = 128  # of the page: its rmap has at most one SPTE
    AD_BITS = 256  # of the page: spte_ad_enabled() for its shadow SPTEs


PER_PAGE = Condition.YOUNG | Condition.SINGLE_SPTE | Condition.AD_BITS
PER_CALL = Condition.CLEARING | Condition.FAST_ONLY


class Note(IntEnum):
    """What else an AGE or TEST step does with the pages that it finds young."""

    NONE = 0
    YOUNG_IS_FAST = 1
    YOUNG_IS_REPLACED = 2


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
    "accessed mask": Condition.ACCESSED_MASK,
    "single spte": Condition.SINGLE_SPTE,
    "ad bits": Condition.AD_BITS,
}
_NOTES = {"young is fast": Note.YOUNG_IS_FAST, "young is replaced": Note.YOUNG_IS_REPLACED}
_LOOKS = {"age": Action.AGE, "test": Action.TEST}


@dataclass(frozen=True)
class Step:
    """One step of a policy.

    ``operand`` is a :class:`Mmu` for AGE and TEST, and an :class:`Answer` for RETURN and TRY. The step acts on the
    pages for which ``state & mask == value`` (bits of :class:`Condition`).
    """

    text: str
    action: Action
    operand: int = 0
    lock: Lock = Lock.NONE
    mask: int = 0
    value: int = 0
    note: Note = Note.NONE

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
            mask, value = parse_conditions(conditions, f"step {text!r}")
            action = action.strip()
        verb, _, body = action.partition(" ")
        where = f"step {text!r}"
        if verb == "take":
            return cls(text, Action.LOCK, 0, _look_up(body, _TAKEN, "lock", where), mask, value)
        if verb == "try":
            name, _, otherwise = body.partition(", or ")
            word, _, answer = otherwise.partition(" ")
            if word != "return":
                raise PolicyError(f"{where}: says nothing of a contended lock: end it with ', or return'")
            lock = _look_up(name, _TAKEN, "lock", where)
            return cls(text, Action.TRY, _look_up(answer, _ANSWERS, "answer", where), lock, mask, value)
        if verb == "return":
            return cls(text, Action.RETURN, _look_up(body, _ANSWERS, "answer", where), Lock.NONE, mask, value)
        if verb in _LOOKS:
            body, comma, note = body.partition(", ")
            name, under, lock_name = body.partition(" under ")
            mmu = _look_up(name, _MMUS, "MMU", where)
            lock = _look_up(lock_name, _LOCKS, "lock", where) if under else Lock.NONE
            noted = _look_up(note, _NOTES, "note", where) if comma else Note.NONE
            return cls(text, _LOOKS[verb], mmu, lock, mask, value, noted)
        raise PolicyError(f"{where}: starts with none of 'take', 'try', 'age', 'test', 'return' (after 'if ...:')")


def parse_conditions(conditions: str, where: str) -> tuple[int, int]:
    """Reads ``rmaps and not fast_only`` as (mask, value); raises :class:`PolicyError` that begins with ``where``."""
    mask = value = 0
    for word in conditions.split(" and "):
        name, negated = re.subn(r"^(not|no) ", "", word.strip())
        bit = _look_up(name, _CONDITIONS, "condition", where)
        if mask & bit:
            raise PolicyError(f"{where}: condition {name!r} stands twice")
        mask |= bit
        if not negated:
            value |= bit
    return mask, value


def _look_up(name: str, table: dict[str, _T], what: str, where: str) -> _T:
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "one of: " + ", ".join(repr(k) for k in table if k)
    raise PolicyError(f"{where}: unknown {what} {name!r}: {hint}")
