"""Policies that a study brings along: its tables ``[policy.NAME]``, in the notation of policies.steps.

Those of other packages come along too, as texts, so that results can be read where the package isn't installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from coldfleet.cluster.study.tables import Table, table_key
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.policies import POLICIES, Chain, Enter, Policy, PolicyError, Step, policy
from coldfleet.policies.installed import installed, make
from coldfleet.policies.policy import parse_calls

ENTER = {
    "young": Enter.YOUNG,
    "primary": Enter.PRIMARY,
    "primary or fast": Enter.PRIMARY_OR_FAST,
    "fast": Enter.FAST,
    "fast notifier": Enter.FAST_NOTIFIER,
    "never": Enter.NEVER,
}
_MAX_NAME = 100  # characters
CHAIN = {"or": Chain.OR, "assign": Chain.ASSIGN}


def _step(text: str) -> str:
    Step.parse(text)
    return text


def _calls(text: str) -> str:
    parse_calls(text)
    return text


StepText = Annotated[str, AfterValidator(_step)]
CallsText = Annotated[str, AfterValidator(_calls)]


class PolicyTable(Table):
    """A policy of one's own. Everything is text, in the notation of the catalogue."""

    summary: str = table_key("one line, shown by `coldfleet policies --study`", default="")
    steps: list[StepText] = table_key("what KVM does when it is asked, a step a line")
    walk: CallsText = table_key("how the aging walk asks; empty: it doesn't ask", default="")
    look_around: CallsText = table_key("how the look-around asks for neighbours", default="")
    evict: CallsText = table_key("how the eviction check asks")
    enter: Literal["young", "primary", "primary or fast", "fast", "fast notifier", "never"] = table_key(
        "which pages found young at eviction lead to a look-around", default="young"
    )
    trusts_pmd: bool = table_key("whether the walk skips a VM's tables whose PMD is not young", default=False)
    chain: Literal["or", "assign"] = table_key("how several subscribers' answers are combined", default="or")
    fast_aging: str = table_key("when a fast_only call asks KVM; empty: always", default="")

    def build(self, name: str) -> Policy:
        """The policy; raises :class:`PolicyError`."""
        if len(name) > _MAX_NAME:
            raise PolicyError(f"policy {name[:_MAX_NAME]!r}...: a name has at most {_MAX_NAME} characters")
        if name in POLICIES:
            raise PolicyError(f"policy {name!r} is in the catalogue: give yours another name")
        return policy(
            name,
            summary=self.summary,
            source="the study",
            date="",
            status="mine",
            steps=tuple(self.steps),
            walk=self.walk,
            look_around=self.look_around,
            evict=self.evict,
            enter=ENTER[self.enter],
            trusts_pmd=self.trusts_pmd,
            chain=CHAIN[self.chain],
            fast_aging=self.fast_aging,
        )


def build_all(tables: Mapping[str, Any], packaged: Iterable[Mapping[str, Any]] = ()) -> dict[str, Policy]:
    """The policies of a study's tables, and of the :func:`texts_of` those of packages, by name; all checked before."""
    policies = [PolicyTable.model_validate(table).build(name) for name, table in tables.items()]
    policies += [
        policy(
            **{**texts, "steps": tuple(texts["steps"]), "enter": Enter[texts["enter"]], "chain": Chain[texts["chain"]]}
        )
        for texts in packaged
    ]
    return {each.name: each for each in policies}


def texts_of(made: Policy) -> dict[str, Any]:
    """A policy as plain data, from which :func:`build_all` makes it again."""
    spelled = made.spelled()
    return {**spelled, "steps": list(spelled["steps"]), "enter": made.enter.name, "chain": made.chain.name}


def check_installed(policies: Mapping[str, Policy]) -> None:
    """Raises :class:`UserError` if a package is installed that has one of these policies with other steps."""
    for name, mine in policies.items():
        if name in installed() and (theirs := make(name)).digest != mine.digest:
            raise UserError(
                f"policy {name!r} is {mine.digest} there, but {theirs.digest} in {installed()[name].value}, which is "
                "installed: install the version that the sweep was begun with, or give another --out"
            )
