"""Aging policies: how MGLRU may ask KVM which pages are young. Imports nothing else of ours."""

from coldfleet.policies.catalogue import POLICIES, get_policy
from coldfleet.policies.installed import PolicyMaker
from coldfleet.policies.policy import WHEN, Call, Chain, Enter, Policy, PolicyCode, Site, When, policy
from coldfleet.policies.steps import Action, Answer, Condition, Lock, Mmu, Note, PolicyError, Step

__all__ = [
    "POLICIES",
    "WHEN",
    "Action",
    "Answer",
    "Call",
    "Chain",
    "Condition",
    "Enter",
    "Lock",
    "Mmu",
    "Note",
    "Policy",
    "PolicyCode",
    "PolicyError",
    "PolicyMaker",
    "Site",
    "Step",
    "When",
    "get_policy",
    "policy",
]

if __name__ == "policies":  # a second name would load every module twice
    raise ImportError("policies is a part of coldfleet: import coldfleet.policies")
