"""Policies of other packages: what is installed under the entry point group ``coldfleet.policies``."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from coldfleet.policies.policy import Policy, policy
from coldfleet.policies.steps import PolicyError

GROUP = "coldfleet.policies"


class PolicyMaker(Protocol):
    """What an entry point names: something that makes the policy when it is called, such as a function.

    It is called once, in the process that reads the study; workers get the policy, not the package. The policy's
    name is the entry point's.
    """

    def __call__(self) -> Policy: ...


@cache
def installed() -> dict[str, EntryPoint]:
    """The entry points by name; none is loaded yet."""
    return {point.name: point for point in entry_points(group=GROUP)}


def make(name: str) -> Policy:
    """The policy of an installed entry point; raises :class:`PolicyError` if it can't be had."""
    point = installed()[name]
    where = f"policy {name!r} of entry point {point.value}"
    try:
        made = point.load()()
        if isinstance(made, Policy):
            again = policy(**made.spelled())  # one that was put together by hand may hold anything
            if again != made:
                raise PolicyError(f"{where} isn't what its steps and calls say: build it with policies.policy()")
    except PolicyError:
        raise
    except Exception as error:
        raise PolicyError(f"{where} can't be made: {type(error).__name__}: {error}") from None
    if not isinstance(made, Policy) or made.name != name:
        raise PolicyError(f"{where} is {made!r}: it must be a policies.Policy named {name!r}")
    return made
