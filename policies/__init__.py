"""Aging policies: how MGLRU may ask KVM which pages are young. Imports nothing else of ours."""

from policies.catalogue import POLICIES, get_policy
from policies.policy import Call, Enter, Policy, PolicyCode, Site, When, policy
from policies.steps import Action, Answer, Condition, Lock, Mmu, PolicyError, Step

__all__ = [
    "POLICIES",
    "Action",
    "Answer",
    "Call",
    "Condition",
    "Enter",
    "Lock",
    "Mmu",
    "Policy",
    "PolicyCode",
    "PolicyError",
    "Site",
    "Step",
    "When",
    "get_policy",
    "policy",
]
