"""Policies that a study brings along: its tables ``[policy.NAME]``, in the notation of policies.steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from coldfleet.cluster.study.tables import Table, table_key
from coldfleet.policies import POLICIES, Chain, Enter, Policy, PolicyError, Step, policy
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


def build_all(tables: Mapping[str, Any]) -> dict[str, Policy]:
    """The policies of a study's tables, by name; the tables were checked before."""
    return {name: PolicyTable.model_validate(table).build(name) for name, table in tables.items()}
