"""An aging policy: KVM's steps, and how MGLRU calls them at its three sites.

The sites are those of mm/vmscan.c and mm/rmap.c:

* ``walk``: the aging walk over page tables (walk_pte_range);
* ``look_around``: the neighbours of a page that was found young at eviction (lru_gen_look_around);
* ``evict``: the last check of the page that is about to go (folio_referenced_one).

A site's calls are text too: ``"clear"``, ``"clear fast_only"``, or several one after the other,
``"test fast_only if primary old; clear fast_only if young"``. An empty text asks no secondary MMU. A ``batched`` call
is one for all pages of a word of 64, as v1 to v3 made it with a bitmap.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.policies.steps import PER_CALL, PER_PAGE, PolicyError, Step, parse_conditions

MAX_CALLS = 2  # calls that one site may make for one page
MAX_STEPS = 16


class Site(IntEnum):
    """A place in MGLRU that asks whether a page is young."""

    WALK = 0
    LOOK_AROUND = 1
    EVICT = 2


class When(IntFlag):
    """For which pages, and in which VMs, a site makes a call; all of them must hold."""

    ALWAYS = 0
    PRIMARY_OLD = 1  # the primary PTE is not young
    YOUNG = 2  # young by the primary PTE or by an earlier call
    FOUND = 4  # young by an earlier call
    FAILED = 8  # no earlier call was made, or it answered "failed"
    TDP = 16  # tdp_mmu_enabled
    ACCESSED_MASK = 32  # KVM uses Accessed bits


WHEN = {
    "primary old": When.PRIMARY_OLD,
    "young": When.YOUNG,
    "found": When.FOUND,
    "failed": When.FAILED,
    "tdp": When.TDP,
    "accessed mask": When.ACCESSED_MASK,
}


class Enter(IntEnum):
    """When a page found young at eviction leads to a look-around."""

    YOUNG = 0  # found young by anyone (since 6.12)
    PRIMARY = 1  # the primary PTE was young (up to 6.11)
    PRIMARY_OR_FAST = 2  # the primary PTE was young, or the secondary MMU said so, fast
    FAST = 3  # the secondary MMU said "young, and a fast MMU had it"
    NEVER = 4  # not for an mm that has notifiers
    FAST_NOTIFIER = 5  # the primary PTE was young, or anyone said so while some subscriber has_fast_aging


class Chain(IntEnum):
    """How the notifier chain combines what several subscribers of one mm answer to a fast_only call."""

    OR = 0  # subscribers without has_fast_aging are skipped, the answers are ORed
    ASSIGN = 1  # v5: the last answer counts, the first "failed" ends the loop


@dataclass(frozen=True)
class Call:
    """One call of the notifier chain for one page."""

    clear: bool
    fast_only: bool = False
    flush: bool = False
    batched: bool = False
    when: When = When.ALWAYS

    @classmethod
    def parse(cls, text: str) -> Call:
        """Reads ``(clear|test) [fast_only] [flush] [batched] [if CONDITION and ...]``; raises :class:`PolicyError`."""
        head, condition, names = text.strip().partition(" if ")
        when = When.ALWAYS
        for name in names.split(" and ") if condition else ():
            if name not in WHEN:
                known = ", ".join(f"'if {known}'" for known in WHEN)
                raise PolicyError(f"call {text!r}: unknown condition {name!r}: one of: {known}")
            when |= WHEN[name]
        words = head.split()
        if words[:1] not in (["clear"], ["test"]):
            raise PolicyError(f"call {text!r}: write 'clear' or 'test', then maybe 'fast_only', 'flush' and 'batched'")
        unknown = set(words[1:]) - {"fast_only", "flush", "batched"}
        if unknown:
            raise PolicyError(f"call {text!r}: unknown word {unknown.pop()!r}: one of 'fast_only', 'flush', 'batched'")
        return cls(words[0] == "clear", "fast_only" in words, "flush" in words, "batched" in words, when)

    def __str__(self) -> str:
        """The text that :meth:`parse` reads back."""
        words = ["clear" if self.clear else "test"]
        words += [name for name in ("fast_only", "flush", "batched") if getattr(self, name)]
        conditions = " and ".join(name for name, bit in WHEN.items() if self.when & bit)
        return " ".join(words) + (f" if {conditions}" if conditions else "")


STEP = np.dtype([(name, np.int64) for name in ("action", "operand", "lock", "mask", "value", "note")])
"""A step, with the fields of :class:`coldfleet.policies.Step` as integers."""

CALL = np.dtype([(name, np.int64) for name in ("present", "clear", "fast_only", "flush", "batched", "when")])
"""A call, with the fields of :class:`Call`; ``present`` is 0 in a row that has none."""

CONTROL = np.dtype(
    [
        ("steps", np.int64),  # how many there are
        ("enter", np.int64),  # an Enter
        ("trusts_pmd", np.int64),
        ("chain", np.int64),  # a Chain
        ("fast_mask", np.int64),  # KVM has_fast_aging if the VM's state & fast_mask ...
        ("fast_value", np.int64),  # ... is this (bits of policies.Condition)
    ]
)
"""What a policy has beside steps and calls."""


class PolicyCode(NamedTuple):
    """A policy as arrays, for the compiled kernels.

    steps: STEP (MAX_STEPS,), those behind the last one all 0. calls: CALL (sites, MAX_CALLS). control: CONTROL (1,).
    """

    steps: npt.NDArray[Any]
    calls: npt.NDArray[Any]
    control: npt.NDArray[Any]


@dataclass(frozen=True)
class Policy:
    """How MGLRU may ask KVM which pages are young.

    ``source`` names the mail or commit; ``status`` is one of merged, proposed, control.
    """

    name: str
    summary: str
    source: str
    date: str
    status: str
    steps: tuple[Step, ...]
    walk: tuple[Call, ...]
    look_around: tuple[Call, ...]
    evict: tuple[Call, ...]
    enter: Enter
    trusts_pmd: bool = False
    """The walk skips a VM's table whose PMD is not young, though secondary MMUs never set that bit."""
    chain: Chain = Chain.OR
    fast_aging: str = ""
    """When KVM's subscription has_fast_aging, in the words of a step's condition; empty: always."""

    @property
    def digest(self) -> str:
        """A hash of what the policy does (not of its name or its prose), 16 hex digits."""
        steps = [(int(s.action), s.operand, int(s.lock), s.mask, s.value, int(s.note)) for s in self.steps]
        sites = [[str(call) for call in calls] for calls in (self.walk, self.look_around, self.evict)]
        what = repr((steps, sites, int(self.enter), self.trusts_pmd, int(self.chain), self._fast_aging()))
        return hashlib.sha256(what.encode()).hexdigest()[:16]

    def spelled(self) -> dict[str, Any]:
        """The arguments of :func:`policy` that make this policy again: steps and calls as text."""
        sites = {"walk": self.walk, "look_around": self.look_around, "evict": self.evict}
        return {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "steps": tuple(step.text for step in self.steps),
            **{site: "; ".join(map(str, calls)) for site, calls in sites.items()},
        }

    def encode(self) -> PolicyCode:
        """The arrays that the compiled kernels interpret."""
        steps = np.zeros(MAX_STEPS, STEP)
        for i, s in enumerate(self.steps):
            steps[i] = s.action, s.operand, s.lock, s.mask, s.value, s.note
        calls = np.zeros((len(Site), MAX_CALLS), CALL)
        for site, made in enumerate((self.walk, self.look_around, self.evict)):
            for i, c in enumerate(made):
                calls[site, i] = 1, c.clear, c.fast_only, c.flush, c.batched, c.when
        control = (len(self.steps), self.enter, self.trusts_pmd, self.chain, *self._fast_aging())
        return PolicyCode(steps, calls, np.array([control], CONTROL))

    def _fast_aging(self) -> tuple[int, int]:
        return parse_conditions(self.fast_aging, "fast_aging") if self.fast_aging else (0, 0)


def policy(
    name: str,
    *,
    summary: str,
    source: str,
    date: str,
    status: str,
    steps: tuple[str, ...],
    walk: str,
    look_around: str,
    evict: str,
    enter: Enter,
    trusts_pmd: bool = False,
    chain: Chain = Chain.OR,
    fast_aging: str = "",
) -> Policy:
    """Builds a policy from its text; raises :class:`PolicyError` naming the policy and the bad line."""
    for text in (name, summary, source, date, status, *steps, walk, look_around, evict, fast_aging):
        if not isinstance(text, str):
            raise PolicyError(f"policy {name!r:.80}: {text!r:.80} is not a text")
    if not isinstance(trusts_pmd, bool):
        raise PolicyError(f"policy {name!r:.80}: trusts_pmd is {trusts_pmd!r:.80}: it must be True or False")
    for kind, given in ((Enter, enter), (Chain, chain)):
        if not isinstance(given, kind):
            raise PolicyError(f"policy {name!r:.80}: {given!r:.80} is not a member of policies.{kind.__name__}")
    try:
        if fast_aging and parse_conditions(fast_aging, f"fast_aging {fast_aging!r}")[0] & (PER_PAGE | PER_CALL):
            raise PolicyError(f"fast_aging {fast_aging!r}: is a property of the VM, not of a page or a call")
        parsed = tuple(Step.parse(text) for text in steps)
        calls = {site: parse_calls(text) for site, text in zip(Site, (walk, look_around, evict), strict=True)}
    except PolicyError as error:
        raise PolicyError(f"policy {name!r}: {error}") from None
    if len(parsed) > MAX_STEPS or max(map(len, calls.values())) > MAX_CALLS:
        raise PolicyError(f"policy {name!r}: at most {MAX_STEPS} steps and {MAX_CALLS} calls a site")
    if not calls[Site.EVICT]:
        raise PolicyError(f"policy {name!r}: the eviction check asks nobody, so KVM's hot pages would be lost")
    return Policy(
        name,
        summary,
        source,
        date,
        status,
        parsed,
        walk=calls[Site.WALK],
        look_around=calls[Site.LOOK_AROUND],
        evict=calls[Site.EVICT],
        enter=enter,
        trusts_pmd=trusts_pmd,
        chain=chain,
        fast_aging=fast_aging,
    )


def parse_calls(text: str) -> tuple[Call, ...]:
    """Reads the calls of one site, separated by semicolons; raises :class:`PolicyError`."""
    return tuple(Call.parse(call) for call in text.split(";") if call.strip())
