"""An aging policy: KVM's steps, and how MGLRU calls them at its three sites.

The sites are those of mm/vmscan.c and mm/rmap.c:

* ``walk``: the aging walk over page tables (walk_pte_range);
* ``look_around``: the neighbours of a page that was found young at eviction (lru_gen_look_around);
* ``evict``: the last check of the page that is about to go (folio_referenced_one).

A site's calls are text too: ``"clear"``, ``"clear fast_only"``, or several one after the other,
``"test fast_only if primary old; clear fast_only if young"``. An empty text asks no secondary MMU.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from policies.steps import PolicyError, Step

MAX_CALLS = 2  # calls that one site may make for one page
MAX_STEPS = 16


class Site(IntEnum):
    """A place in MGLRU that asks whether a page is young."""

    WALK = 0
    LOOK_AROUND = 1
    EVICT = 2


class When(IntEnum):
    """For which pages a site makes a call."""

    ALWAYS = 0
    PRIMARY_OLD = 1  # the primary PTE is not young
    YOUNG = 2  # young by the primary PTE or by an earlier call
    FAILED = 3  # an earlier call answered "failed"


class Enter(IntEnum):
    """When a page found young at eviction leads to a look-around."""

    YOUNG = 0  # found young by anyone (since 6.12)
    PRIMARY = 1  # the primary PTE was young (up to 6.11)
    PRIMARY_OR_FAST = 2  # the primary PTE was young, or the secondary MMU said so, fast
    FAST = 3  # the secondary MMU said "young, and a fast MMU had it"


@dataclass(frozen=True)
class Call:
    """One call of the notifier chain for one page."""

    clear: bool
    fast_only: bool = False
    flush: bool = False
    when: When = When.ALWAYS

    @classmethod
    def parse(cls, text: str) -> Call:
        """Reads ``(clear|test) [fast_only] [flush] [if CONDITION]``; raises :class:`PolicyError`."""
        head, condition, name = text.strip().partition(" if ")
        when = {"primary old": When.PRIMARY_OLD, "young": When.YOUNG, "failed": When.FAILED}.get(name)
        words = head.split()
        if (condition and when is None) or words[:1] not in (["clear"], ["test"]):
            raise PolicyError(
                f"call {text!r}: write 'clear' or 'test', then maybe 'fast_only', 'flush' and "
                "'if primary old', 'if young' or 'if failed'"
            )
        unknown = set(words[1:]) - {"fast_only", "flush"}
        if unknown:
            raise PolicyError(f"call {text!r}: unknown word {unknown.pop()!r}: only 'fast_only' and 'flush'")
        return cls(words[0] == "clear", "fast_only" in words, "flush" in words, when or When.ALWAYS)


class PolicyCode(NamedTuple):
    """A policy as arrays, for the compiled kernels.

    steps: int64 (MAX_STEPS, 6): action, operand, lock, mask, value, young_is_fast; rows behind ``length`` are 0.
    calls: int64 (3 sites, MAX_CALLS, 5): present, clear, fast_only, flush, when.
    """

    steps: npt.NDArray[np.int64]
    length: int
    calls: npt.NDArray[np.int64]
    enter: int
    trusts_pmd: bool


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

    @property
    def digest(self) -> str:
        """A hash of what the policy does (not of its name or its prose), 16 hex digits."""
        what = repr((self.steps, self.walk, self.look_around, self.evict, self.enter, self.trusts_pmd))
        return hashlib.sha256(what.encode()).hexdigest()[:16]

    def encode(self) -> PolicyCode:
        """The arrays that the compiled kernels interpret."""
        steps = np.zeros((MAX_STEPS, 6), np.int64)
        for row, s in zip(steps, self.steps, strict=False):
            row[:] = s.action, s.operand, s.lock, s.mask, s.value, s.young_is_fast
        calls = np.zeros((len(Site), MAX_CALLS, 5), np.int64)
        for site, made in zip(calls, (self.walk, self.look_around, self.evict), strict=True):
            for row, c in zip(site, made, strict=False):
                row[:] = 1, c.clear, c.fast_only, c.flush, c.when
        return PolicyCode(steps, len(self.steps), calls, int(self.enter), self.trusts_pmd)


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
) -> Policy:
    """Builds a policy from its text; raises :class:`PolicyError` naming the policy and the bad line."""
    try:
        parsed = tuple(Step.parse(text) for text in steps)
        calls = {site: _parse_calls(text) for site, text in zip(Site, (walk, look_around, evict), strict=True)}
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
    )


def _parse_calls(text: str) -> tuple[Call, ...]:
    return tuple(Call.parse(call) for call in text.split(";") if call.strip())
